# ruff: noqa: E501
"""Guards taken out of the Lua scripts one by one: a test fails for each. `python -m tests.mutants [NAME]`.

As a pytest plugin (`-p tests.mutants --mutant NAME`) it changes the scripts' text at load and touches no file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import core.scripts

ROOT = Path(__file__).parent.parent
TESTS = "tests/unit/core/queue/test_"
INVITES = "tests/unit/scheduler/test_invites.py"


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` everywhere in the scripts; `tests` names the files that must notice (short, or with .py)."""

    name: str
    old: str
    new: str
    tests: str


MUTANTS = [
    Mutant("submit-replay-by-id", "if state then return new.id, state end", "", "submit"),
    Mutant("submit-idempotency-key", "if new.idempotency_key == '' then return repeated(new) end", "if true then return nil end", "submit"),
    Mutant("submit-idempotency-body", "if body_hash ~= new.body_hash then", "if false then", "submit"),
    Mutant("submit-idempotency-removed", "state = redis.call('HGET', job_key(id), 'state')\n  if state then return id, state end\n  return nil", "return id, 'QUEUED'", "submit"),
    Mutant("submit-idempotency-tenant", "PREFIX .. 'idem:' .. tenant .. ':' .. new", "PREFIX .. 'idem:' .. new", "submit"),
    Mutant("submit-burst", "if emission > 0 and burst_until > most then", "if false then", "submit"),
    Mutant("submit-burst-replay", "math.min(#news, tonumber(ARGV[11]))", "tonumber(ARGV[11])", "submit"),
    Mutant("submit-daily", "+ cost > tonumber(ARGV[4]) then", "+ cost > 1e18 then", "submit"),
    Mutant("submit-daily-reserved", "(tonumber(use[1]) or 0) + (tonumber(use[2]) or 0) + cost", "(tonumber(use[1]) or 0) + cost", "submit"),
    Mutant("submit-tenant-cap", "if waiting + #news > tonumber(ARGV[7]) then", "if false then", "submit"),
    Mutant("submit-service-cap", "if (tonumber(all[1]) or 0) + (tonumber(all[2]) or 0) + #news > tonumber(ARGV[8]) then", "if false then", "submit"),
    Mutant("models-window", "local slots, held = seats_of(model).slots, seats_of(model).held", "local slots, held = 0, 0\n  for _, one in pairs(seats) do slots, held = slots + one.slots, held + one.held end", "models"),
    Mutant("models-worker", "local own = seats_of(worker[2] or '')", "local own = seats_of('')", "models"),
    Mutant("models-race", "local race, clock, rel = PREFIX .. of_model('act', model)", "local race, clock, rel = PREFIX .. 'act'", "models"),
    Mutant("models-release-rest", "for _, model in ipairs(all_models()) do release_of(model) end", "release_of('')", "models"),
    Mutant("models-limit", "tonumber(ARGV[1]) - #answer / 2", "tonumber(ARGV[1])", "models"),
    Mutant("models-claim", "if (ARGV[6] or '') ~= (job.model or '') then", "if false then", "models"),
    Mutant("models-leave-released", "of_model('rel', job.model), job.id)", "'rel', job.id)", "models"),
    Mutant("models-reap", "local rel = of_model('rel', model)", "local rel = 'rel'", "models"),
    Mutant("models-unpark", "for _, entity in ipairs(entities_of(job.tenant)) do  -- the", "for _, entity in ipairs({job.tenant .. '|interactive', job.tenant .. '|batch'}) do  -- the", "models"),
    Mutant("models-tenant-cap", "for _, entity in ipairs(entities_of(tenant)) do waiting", "for _, entity in ipairs({tenant .. '|interactive', tenant .. '|batch'}) do waiting", "models"),
    Mutant("models-pace", "local pace = PREFIX .. of_model('pace', job.model)\n", "local pace = PREFIX .. 'pace'\n", "models"),
    Mutant("models-place-workers", "if (worker[2] or '') == (job.model or '') then", "if true then", "models"),
    Mutant("models-clock", "redis.call('GET', PREFIX .. of_model('V', model))", "redis.call('GET', PREFIX .. 'V')", "models"),
    Mutant("submit-draining-lane", "if queued[lane] > 0 and redis.call('SISMEMBER', PREFIX .. 'draining', 'lane:' .. lane) == 1 then", "if false then", "submit"),
    Mutant("submit-draining-own-lane", "if queued[lane] > 0 and redis.call('SISMEMBER'", "if redis.call('SISMEMBER'", "submit"),
    Mutant("submit-draining-tenant", "if redis.call('SISMEMBER', PREFIX .. 'draining', 'tenant:' .. tenant) == 1 then return {'draining', 'tenant:' .. tenant} end", "", "submit"),
    Mutant("submit-draining-replay", "if #news > 0 then\n  -- The operator", "if true then\n  -- The operator", "submit"),
    Mutant("submit-arrival", "last_arrival + 1 / 1024", "now", "release"),
    Mutant("leader-tenant", "PREFIX .. 'fp:' .. tenant .. ':' .. new.fingerprint", "PREFIX .. 'fp:' .. new.fingerprint", "followers"),
    Mutant("leader-ended", "if not job or job.state == 'DEAD' or job.state == 'CANCELED' then return nil end", "if not job then return nil end", "followers"),
    Mutant("leader-removed-picture", "(job.picture_removed or tonumber(job.expires)", "(tonumber(job.expires)", "followers"),
    Mutant("leader-expiring-picture", "tonumber(job.expires) < now + REUSE_MARGIN_MS", "false", "followers"),
    Mutant("lift-queued", "if new.lane == 'interactive' then lift(leader) end", "", "followers"),
    Mutant("lift-batch", "if new.lane == 'interactive' then lift(leader) end", "lift(leader)", "followers"),
    Mutant("lift-leaves", "dequeue(leader)\n  rise", "rise", "followers"),
    Mutant("lift-later", "if job.rises then rise(job) end", "", "followers"),
    Mutant("lift-heir", "if job.lane == 'interactive' or job.rises then heir.rises = '1' end", "", "followers"),
    Mutant("release-no-worker", "if slots == 0 then return end", "", "release"),
    Mutant("release-live-workers", "redis.call('ZRANGEBYSCORE', PREFIX .. 'workers', now - tonumber(ARGV[3]), '+inf')", "redis.call('ZRANGE', PREFIX .. 'workers', 0, -1)", "release"),
    Mutant("release-window", "local window = math.floor(1.5 * slots) + 2", "local window = 1000", "release"),
    Mutant("release-window-held", "- redis.call('ZCARD', rel) - held)", "- redis.call('ZCARD', rel))", "release"),
    Mutant("release-window-released", "window - redis.call('ZCARD', rel) - held", "window - held", "release"),
    Mutant("release-new-start", "if started and started ~= ARGV[2] then", "if false then", "release"),
    Mutant("release-cap", "if tenant.running >= tenant.most or", "if", "release"),
    Mutant("release-cap-unpark", "if redis.call('SREM', PREFIX .. 'parked', entity) == 1 and", "if false and", "release"),
    Mutant("release-paused-tenant", "or is_paused('tenant', name)", "", "release"),
    Mutant("release-paused-lane", "or is_paused('lane', lane)", "", "release"),
    Mutant("release-paused-worker", "if not is_paused('worker', name) then", "if true then", "release"),
    Mutant("claim-paused-worker", "if redis.call('SISMEMBER', PREFIX .. 'paused', 'worker:' .. worker) == 1 then", "if false then", "release"),
    Mutant("release-cap-within-call", "tenant.running = tenant.running + 1", "", "release"),
    Mutant("release-counts-lane", "redis.call('HINCRBY', PREFIX .. 'nq', lane, 0 - count)", "", "model"),
    Mutant("release-counts-work", "count_queued_work(entity, -work)", "", "model"),
    Mutant("release-forgets-worker", "if worker then redis.call('HDEL', job_key(id), 'worker') end", "", "reap release"),
    Mutant("reap-tick", "if now - last >= TICK_KEPT_MS or last == now then", "if last == now then", "reap"),
    Mutant("reap-tick-first", ">= TICK_KEPT_MS or last == now then", ">= TICK_KEPT_MS then", "reap"),
    Mutant("release-weight", "(tenant.weight * WORK_WEIGHT[lane])", "1", "release"),
    Mutant("release-work", "virtual + work / (tenant", "virtual + 1 / (tenant", "release"),
    Mutant("release-idle-credit", "exact(math.max(present, own))", "exact(own)", "release"),
    Mutant("release-own-virtual-time", "exact(math.max(present, own))", "exact(present)", "release"),
    Mutant("release-lanes", "{interactive = 4, batch = 1}", "{interactive = 1, batch = 1}", "place model release"),
    Mutant("release-claim-deadline", "math.max(tonumber(ARGV[2]), 3 * measured)", "tonumber(ARGV[2])", "runs"),
    Mutant("release-wake", "if redis.call('LLEN', PREFIX .. 'wake') == 0 then", "if true then", "release"),
    Mutant("claim-replay", "if job.state == 'RUNNING' and job.token == token then return", "if false then return", "runs"),
    Mutant("claim-state", "if job.state ~= 'RELEASED' then return false end\nif ARGV[2]", "if ARGV[2]", "runs"),
    Mutant("claim-epoch", "if ARGV[2] ~= '' and job.epoch ~= ARGV[2] then return false end", "", "runs"),
    Mutant("move-state", "if job.state ~= 'QUEUED' then return job.state end\nlocal queue", "local queue", "move"),
    Mutant("move-replay", "if not edge[1] or edge[1] == job.id then", "if not edge[1] then", "move"),
    Mutant("move-kept", "redis.call('HSET', job_key(job.id), 'head_start', exact(tonumber(job.arrival) - score))", "", "move"),
    Mutant("claim-queue-seconds", "if not job.started then observe('queue'", "if true then observe('queue'", "tallies"),
    Mutant("claim-no-epoch", "if ARGV[2] ~= '' and job.epoch ~= ARGV[2] then", "if job.epoch ~= ARGV[2] then", "runs"),
    Mutant("renew-state", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[index + 1] then", "if not job or job.token ~= ARGV[index + 1] then", "runs"),
    Mutant("renew-token", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[index + 1] then", "if not job or job.state ~= 'RUNNING' then", "runs"),
    Mutant("renew-cancel", "job.cancel and not has_followers(job)) and 'cancel' or 'held'", "false) and 'cancel' or 'held'", "runs"),
    Mutant("renew-cancel-followers", "(job.cancel and not has_followers(job)) and 'cancel'", "job.cancel and 'cancel'", "followers"),
    Mutant("progress-token", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end", "if not job or job.state ~= 'RUNNING' then return 0 end", "runs"),
    Mutant("progress-state", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end", "if not job or job.token ~= ARGV[2] then return 0 end", "runs"),
    Mutant("complete-token", "if not job or job.token ~= ARGV[2] then return 0 end\nif job.state == 'SUCCEEDED'", "if not job then return 0 end\nif job.state == 'SUCCEEDED'", "runs"),
    Mutant("complete-replay", "if job.state == 'SUCCEEDED' then return 1 end", "", "runs"),
    Mutant("complete-terminal", "if TERMINAL[job.state] then return 0 end\n\n-- A picture", "-- A picture", "runs"),
    Mutant("complete-for-followers", "if job.cancel and has_followers(job) then", "if false then", "followers"),
    Mutant("late-leaves-queue", "if job.state == 'QUEUED' then\n    dequeue(job)", "if job.state == 'QUEUED' then", "runs"),
    Mutant("leave-released", "redis.call('ZREM', PREFIX .. of_model('rel', job.model), job.id)\n    free_slot(job)", "", "runs"),
    Mutant("leave-lease", "redis.call('ZREM', PREFIX .. 'lease', job.id)\n    free_slot(job)", "free_slot(job)", "runs"),
    Mutant("leave-retry", "    redis.call('ZREM', PREFIX .. 'retry', job.id)\n  elseif", "  elseif", "cancel"),
    Mutant("leave-following", "redis.call('ZREM', PREFIX .. 'fol:' .. job.flight, job.id)\n  end\nend\n\nlocal function back", "end\nend\n\nlocal function back", "followers"),
    Mutant("free-held", "if job.worker then redis.call('SREM', PREFIX .. 'held:' .. job.worker, job.id) end", "", "runs"),
    Mutant("free-run", "redis.call('ZREM', PREFIX .. 'run:' .. job.tenant, job.id)", "", "reap"),
    Mutant("settle-once", "if redis.call('HSETNX', job_key(job.id), 'settled', kind) == 0 then return end", "", "settle"),
    Mutant("settle-charge", "if kind == 'charge' then redis.call('HINCRBY', use, 'used', cost) end", "", "runs"),
    Mutant("settle-reserved", "redis.call('HINCRBY', use, 'reserved', 0 - cost)", "", "runs"),
    Mutant("fail-token", "if not job or job.token ~= ARGV[2] then return false end\nif job.state ~= 'RUNNING' then\n  if job.state == 'RETRY'", "if not job then return false end\nif job.state ~= 'RUNNING' then\n  if job.state == 'RETRY'", "runs"),
    Mutant("fail-state", "if job.state == 'RETRY' or TERMINAL[job.state] then return job.state end\n  return false", "if job.state == 'RETRY' or TERMINAL[job.state] then return job.state end", "runs"),
    Mutant("fail-replay", "if job.state == 'RETRY' or TERMINAL[job.state] then return job.state end", "", "runs"),
    Mutant("fail-cancel", "if job.cancel then\n  cancel_as_leader(job)\n  return 'CANCELED'\nend", "", "cancel"),
    Mutant("fail-permanent", "if ARGV[4] == '1' and failures", "if failures", "runs"),
    Mutant("fail-attempts", "failures < tonumber(job.max_attempts) and left > 0", "left > 0", "runs"),
    Mutant("fail-deadline", "< tonumber(job.max_attempts) and left > 0", "< tonumber(job.max_attempts)", "runs"),
    Mutant("fail-wait-in-deadline", "math.min(delay, math.floor(left / 2))", "delay", "runs"),
    Mutant("fail-backoff", "ARGV[4 + math.min(failures, #ARGV - 4)]", "ARGV[5]", "runs"),
    Mutant("shelve-token", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end\nif is_shelved", "if not job or job.state ~= 'RUNNING' then return 0 end\nif is_shelved", "shelve"),
    Mutant("shelve-state", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end\nif is_shelved", "if not job or job.token ~= ARGV[2] then return 0 end\nif is_shelved", "shelve"),
    Mutant("shelve-replay", "if is_shelved(job) then return 1 end\nmeasure", "measure", "shelve"),
    Mutant("shelve-seat", "'shelved', job.token)\nfree_slot(job)", "'shelved', job.token)", "shelve"),
    Mutant("shelve-pace", "if job.state == 'RUNNING' and not is_shelved(job) then measure(job) end", "if job.state == 'RUNNING' then measure(job) end", "shelve"),
    Mutant("shelve-this-claim", "return job.shelved ~= nil and job.shelved == job.token", "return job.shelved ~= nil", "shelve"),
    Mutant("shelve-late", "if is_shelved(job) and tonumber(job.deadline) < now then", "if tonumber(job.deadline) < now then", "shelve"),
    Mutant("shelve-never-late", "if is_shelved(job) and tonumber(job.deadline) < now then", "if false then", "shelve"),
    Mutant("shelve-no-suspect", "if not is_shelved(job) then crashes, lost = suspect(job) end", "crashes, lost = suspect(job)", "shelve"),
    Mutant("shelve-leaves", "if job.shelved and job.worker then redis.call('SREM', PREFIX .. 'shelf:' .. job.worker, job.id) end", "", "shelve"),
    Mutant("give-back-token", "if not job or job.token ~= ARGV[2] then return 0 end\nif job.state == 'QUEUED'", "if not job then return 0 end\nif job.state == 'QUEUED'", "runs"),
    Mutant("give-back-state", "if job.state ~= 'RUNNING' then return 0 end", "", "runs"),
    Mutant("give-back-replay", "if job.state == 'QUEUED' then return 1 end", "", "runs"),
    Mutant("give-back-attempt", "redis.call('HINCRBY', job_key(job.id), 'attempt', -1)", "", "runs"),
    Mutant("give-back-alone", "redis.call('HDEL', job_key(job.id), 'ran_alone')", "", "reap"),
    Mutant("give-back-cancel", "if job.cancel and not has_followers(job) then\n  cancel_as_leader(job)", "if false then\n  cancel_as_leader(job)", "runs"),
    Mutant("give-back-followers", "if job.cancel and not has_followers(job) then\n  cancel_as_leader(job)", "if job.cancel then\n  cancel_as_leader(job)", "followers"),
    Mutant("cancel-terminal", "if TERMINAL[job.state] then return job.state end\nif job.state == 'RUNNING'", "if job.state == 'RUNNING'", "cancel"),
    Mutant("cancel-once", "if redis.call('HSETNX', job_key(job.id), 'cancel', 1) == 1 then", "redis.call('HSET', job_key(job.id), 'cancel', 1)\n  if true then", "cancel"),
    Mutant("cancel-orphan", "if state ~= 'SUCCEEDED' and job.attempt then", "if false then", "cancel"),
    Mutant("reap-stall", "if now - last > tonumber(ARGV[3]) then", "if false then", "reap"),
    Mutant("reap-always-stalled", "if now - last > tonumber(ARGV[3]) then", "if true then", "reap"),
    Mutant("reap-grace", "if now >= tonumber(redis.call('GET', PREFIX .. 'grace') or '0') then", "if true then", "reap"),
    Mutant("reap-due", "PREFIX .. name, '-inf', now, 'LIMIT'", "PREFIX .. name, '-inf', '+inf', 'LIMIT'", "reap"),
    Mutant("reap-limit", "'LIMIT', 0, most)", "'LIMIT', 0, 100000)", "reap"),
    Mutant("reap-alone", "redis.call('HSET', job_key(job.id), 'alone', 1)", "", "reap"),
    Mutant("reap-innocent", "if not job.ran_alone then return false end", "", "reap"),
    Mutant("reap-waited", "return tonumber(job.started) <= first", "return true", "reap"),
    Mutant("reap-waited-held", "first = math.min(first, tonumber(redis.call('HGET', job_key(id), 'started') or first))", "", "reap"),
    Mutant("reap-waited-crashed", "remember_crash(job)\n", "\n", "reap"),
    Mutant("repeat-window", "if now - tonumber(at) > new.repeat_ms then return nil end", "", "submit"),
    Mutant("repeat-own-key", "if new.idempotency_key == '' then return repeated(new) end", "local id0, state0 = repeated(new) if id0 then return id0, state0 end if new.idempotency_key == '' then return nil end", "submit"),
    Mutant("reap-poison", "elseif crashes >= tonumber(ARGV[2]) or", "elseif", "reap"),
    Mutant("reap-hopeless", "or lost >= HOPELESS * tonumber(ARGV[2]) then", "then", "reap"),
    Mutant("reap-canceled", "if job.cancel then\n    cancel_as_leader(job)\n  elseif", "if", "cancel"),
    Mutant("reap-unclaimed", "due(rel)", "{}", "reap"),
    Mutant("reap-retry", "due('retry')", "{}", "reap"),
    Mutant("reap-deadline", "due('deadline')", "{}", "reap"),
    Mutant("reap-running-deadline", "or TERMINAL[job.state] or job.state == 'RUNNING' then", "or TERMINAL[job.state] then", "reap"),
    Mutant("reap-deadline-again", "redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)\n  activate", "activate", "reap"),
    Mutant("reap-mirror", "mirrored = mirrored + mirror(flight)", "mirrored = mirrored", "followers"),
    Mutant("reap-mirror-deadline", "redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then", "false then", "followers"),
    Mutant("mirror-portion", "local MIRRORED_AT_ONCE = 100", "local MIRRORED_AT_ONCE = 1000", "followers"),
    Mutant("mirror-share", "share_picture(how[1], how[3], id)", "", "followers"),
    Mutant("reuse-share", "share_picture(leader.picture, leader.id, new.id)", "", "followers"),
    Mutant("promote-ours", "if ours and promotions < 1 then", "if false then", "followers"),
    Mutant("promote-once", "if ours and promotions < 1 then", "if ours then", "followers"),
    Mutant("promote-permanent", "if ours and promotions < 1 then", "if promotions < 1 then", "followers"),
    Mutant("promote-fingerprint", "redis.call('SET', PREFIX .. 'fp:' .. heir.tenant .. ':' .. heir.fingerprint, heir.id)", "", "followers"),
    Mutant("promote-canceled", "if was_leader and has_followers(job) then promote", "if false then promote", "followers"),
    Mutant("cancel-follower", "if was_leader and has_followers(job)", "if has_followers(job)", "followers"),
    Mutant("forget-fingerprint-dead", "redis.call('ZADD', PREFIX .. 'dlq', server_ms(), job.id)\n  forget_fingerprint(job)", "redis.call('ZADD', PREFIX .. 'dlq', server_ms(), job.id)", "followers"),
    Mutant("forget-fingerprint-expired", "if redis.call('GET', key) == job.id then", "if true then", "followers"),
    Mutant("remove-ended", "if not TERMINAL[job.state] then return 0 end", "", "records"),
    Mutant("remove-tombstone", "redis.call('SET', PREFIX .. 'tombstone:' .. id, 1, 'PX', ARGV[2])", "", "records"),
    Mutant("remove-twice", "if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return 1 end", "", "records"),
    Mutant("remove-picture", "if not job.picture_removed then drop_picture(job) end", "", "records"),
    Mutant("expire-due", "PREFIX .. 'pictures', '-inf', now,", "PREFIX .. 'pictures', '-inf', '+inf',", "records"),
    Mutant("place-in-flight", "local busy = redis.call('ZCARD', PREFIX .. of_model('rel', job.model)) + held", "local busy = 0", "place"),
    Mutant("place-pace", "'gap_ms', exact(gap_ms)", "'gap_ms', exact(gap_ms / 2)", "place"),
    Mutant("trash-shared", "if redis.call('EXISTS', refs) == 0 then redis.call('ZADD'", "if true then redis.call('ZADD'", "followers"),
    Mutant("invite-replay", "if redis.call('HGET', key, 'invite') == ARGV[1] then return 'ok' end", "", INVITES),
    Mutant("invite-replay-same", "if redis.call('HGET', key, 'invite') == ARGV[1] then", "if redis.call('EXISTS', key) == 1 then", INVITES),
    Mutant("invite-unknown", "if not kept[1] then return 'unknown' end", "if not kept[1] then kept = {'9', '0'} end", INVITES),
    Mutant("invite-expired", "if tonumber(kept[2]) > 0 and tonumber(kept[2]) <= server_ms() then return 'expired' end", "", INVITES),
    Mutant("invite-no-expiry", "if tonumber(kept[2]) > 0 and tonumber(kept[2]) <= server_ms()", "if tonumber(kept[2]) <= server_ms()", INVITES),
    Mutant("invite-spent", "if tonumber(kept[1]) < 1 then return 'spent' end", "", INVITES),
    Mutant("invite-taken", "if is_taken or redis.call('SISMEMBER', PREFIX .. 'tenants', tenant) == 1 then return 'taken' end", "", INVITES),
    Mutant("invite-taken-by-key", "if is_taken or redis.call('SISMEMBER'", "if redis.call('SISMEMBER'", INVITES),
    Mutant("invite-taken-by-name", "if is_taken or redis.call('SISMEMBER', PREFIX .. 'tenants', tenant) == 1 then return", "if is_taken then return", INVITES),
    Mutant("invite-uses", "redis.call('HINCRBY', invite, 'left', -1)", "", INVITES),
]  # fmt: skip


def mutate(mutant: Mutant) -> dict[str, str]:
    """The scripts without the guard; fails if the guard is not there."""
    texts = {name: text.replace(mutant.old, mutant.new) for name, text in core.scripts.script_texts().items()}
    assert texts != dict(core.scripts.script_texts()), f"{mutant.name}: nothing to take out"
    return texts


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", default="", help="take this guard out of the Lua scripts")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--mutant")
    if name:
        texts = mutate(next(one for one in MUTANTS if one.name == name))
        core.scripts.script_texts = lambda: texts  # type: ignore[assignment]


def is_noticed(mutant: Mutant) -> bool:
    """Whether a test fails without the guard."""
    files = [name if name.endswith(".py") else f"{TESTS}{name}.py" for name in mutant.tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants", "--mutant", mutant.name, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1


def main() -> int:
    """Try all, or those named; 1 if one goes unnoticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        epilog="example: python -m tests.mutants shelve invite-uses",
    )
    parser.add_argument("names", nargs="*", help="how the guards to try begin; all of them without")
    names = parser.parse_args().names
    chosen = [one for one in MUTANTS if not names or any(one.name.startswith(name) for name in names)]
    begun, unnoticed = time.monotonic(), []
    for number, mutant in enumerate(chosen, start=1):
        print(f"\r{number}/{len(chosen)} {mutant.name:40}", end="", file=sys.stderr, flush=True)
        if not is_noticed(mutant):
            unnoticed.append(mutant.name)
            print(f"\nUNNOTICED {mutant.name}", flush=True)
    print(f"\n{len(chosen) - len(unnoticed)} of {len(chosen)} guards noticed in {time.monotonic() - begun:.0f} s")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
