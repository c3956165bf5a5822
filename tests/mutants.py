# ruff: noqa: E501
"""Guards taken out of the Lua scripts one by one: a test fails for each. `python -m tests.mutants [NAME]`.

As a pytest plugin (`-p tests.mutants --mutant NAME`) it changes the scripts' text at load and touches no file. A test proves
something only if it passes without a mutant and the mutant is a script that runs: both are checked before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from lupa.lua51 import LuaRuntime

import core.scripts
from tests.mutants_lives import LIVES
from tests.mutants_more import MORE

ROOT = Path(__file__).parent.parent
TESTS = "tests/unit/core/queue/test_"
INVITES = "tests/unit/scheduler/test_invites.py"
AUDITOR = "tests/unit/scheduler/test_auditor.py"


@dataclass(frozen=True)
class Mutant:
    """`old`, found in `places` places of all scripts, becomes `new`.

    `tests` names the files that must notice (short, or with .py).
    """

    name: str
    old: str
    new: str
    tests: str
    places: int = 1

    @property
    def files(self) -> list[str]:
        return [name if name.endswith(".py") else f"{TESTS}{name}.py" for name in self.tests.split()]


MUTANTS = [
    Mutant("submit-replay-by-id", "if state then return new.id, state end", "", "submit"),
    Mutant("submit-idempotency-key", "if new.idempotency_key == '' then return repeated(new) end", "if true then return nil end", "submit"),
    Mutant("submit-idempotency-body", "if body_hash ~= new.body_hash then", "if false then", "submit"),
    Mutant("submit-idempotency-removed", "  if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return id, 'removed' end\n  return nil\nend\n\nlocal news", "  return id, 'QUEUED'\nend\n\nlocal news", "submit"),
    Mutant("submit-idempotency-tenant", "PREFIX .. 'idem:' .. tenant .. ':' .. new", "PREFIX .. 'idem:' .. new", "submit"),
    Mutant("submit-burst", "if wait > 0 then return {'rate_limited'", "if false then return {'rate_limited'", "submit"),
    Mutant("submit-burst-replay", "math.min(asked, tonumber(ARGV[11]))", "tonumber(ARGV[11])", "submit"),
    Mutant("submit-daily", "+ cost + rest.units > purse.daily then", "+ cost > 1e18 then", "submit"),
    Mutant("submit-daily-reserved", "(tonumber(use[1]) or 0) + (tonumber(use[2]) or 0) + cost", "(tonumber(use[1]) or 0) + cost", "submit"),
    Mutant("submit-tenant-cap", "if places > 0 and over > 0 then return {'queue_full'", "if false then return {'queue_full'", "submit"),
    Mutant("submit-places-none", "if places > 0 and over > 0 then return {'queue_full'", "if over > 0 then return {'queue_full'", "places"),
    Mutant("submit-places-hit", "new.waits = not leader and (", "new.waits = (", "places"),
    Mutant("submit-places-same", "or not is_known[new.fingerprint])", "or true)", "places"),
    Mutant("submit-places-service", "if (new.waits or is_rest) and not looked_at", "if not looked_at", "places"),
    Mutant("submit-tenant-places", "tostring(waiting), tostring(over)}", "tostring(waiting), '1'}", "submit"),
    Mutant("collect-sooner", "if collectgarbage then collectgarbage('setpause', 125) end\n", "", "tests/integration/queue/test_script_cost.py"),
    Mutant("submit-never-fits", "  if never then return never end\n", "", "never_fits"),
    Mutant("submit-never-first", "  if never then return never end\n", "  if never and purses[1].burst_until <= now + purses[1].emission * math.max(purses[1].burst, burst_cost) then return never end\n", "never_fits"),
    Mutant("submit-never-daily", "{{'daily', cost + rest.units, ARGV[4]}, ", "{", "never_fits"),
    Mutant("submit-never-daily-rest", "{'daily', cost + rest.units, ARGV[4]}", "{'daily', cost, ARGV[4]}", "never_fits"),
    Mutant("submit-never-queue", "{'queue', places, ARGV[7]}, ", "", "never_fits"),
    Mutant("submit-never-queue-rest", "{'queue', places, ARGV[7]}", "{'queue', #news, ARGV[7]}", "never_fits"),
    Mutant("submit-never-service", "{'service', places, ARGV[8]},\n", "\n", "never_fits"),
    Mutant("submit-never-service-rest", "{'service', places, ARGV[8]}", "{'service', #news, ARGV[8]}", "never_fits"),
    Mutant("submit-never-new-only", "{{'daily', cost + rest.units, ARGV[4]}, {'queue', places,", "{{'daily', count, ARGV[4]}, {'queue', count,", "never_fits"),
    Mutant("submit-never-exactly", "if one[2] > most and", "if one[2] >= most and", "never_fits"),
    Mutant("submit-never-narrowest", "(not narrowest or most < tonumber(narrowest[4]))", "not narrowest", "never_fits"),
    Mutant("submit-service-cap", "if (new.waits or is_rest) and not looked_at[new.model] then", "if false then", "submit"),
    Mutant("submit-service-places", "{'overloaded', '0', tostring(over)}", "{'overloaded', '0', '1'}", "submit"),
    Mutant("models-service-cap", "waiting_of(new.model) + (held", "waiting_of('') + (held", "models"),
    Mutant("models-window", "local slots, held = seats_of(model).slots, seats_of(model).held", "local slots, held = 0, 0\n  for _, one in pairs(seats) do slots, held = slots + one.slots, held + one.held end", "models"),
    Mutant("models-worker", "local own = seats_of(worker[2] or '')", "local own = seats_of('')", "models"),
    Mutant("models-race", "local race, clock, rel = PREFIX .. of_model('act', model)", "local race, clock, rel = PREFIX .. 'act'", "models"),
    Mutant("models-release-rest", "for _, model in ipairs(all_models()) do release_of(model) end", "release_of('')", "models"),
    Mutant("models-limit", "tonumber(ARGV[1]) - #answer / 2", "tonumber(ARGV[1])", "models"),
    Mutant("models-claim", "if (ARGV[6] or '') ~= (job.model or '') then", "if false then", "models"),
    Mutant("models-leave-released", "of_model('rel', job.model), job.id)", "'rel', job.id)", "models"),
    Mutant("models-reap", "local rel = of_model('rel', model)", "local rel = 'rel'", "models"),
    Mutant("models-unpark", "local function unpark(tenant)\n  for _, entity in ipairs(entities_of(tenant)) do", "local function unpark(tenant)\n  for _, entity in ipairs({tenant .. '|interactive', tenant .. '|batch'}) do", "models"),
    Mutant("models-tenant-cap", "for _, entity in ipairs(entities_of(tenant)) do waiting", "for _, entity in ipairs({tenant .. '|interactive', tenant .. '|batch'}) do waiting", "models"),
    Mutant("models-pace", "local pace = PREFIX .. of_model('pace', job.model)\n", "local pace = PREFIX .. 'pace'\n", "models"),
    Mutant("models-place-workers", "if (worker[2] or '') == (job.model or '') then", "if true then", "models"),
    Mutant("models-clock", "redis.call('GET', PREFIX .. of_model('V', model))", "redis.call('GET', PREFIX .. 'V')", "models"),
    Mutant("submit-draining-lane", "if queued[lane] + rest[lane] > 0 and redis.call('SISMEMBER', PREFIX .. 'draining', 'lane:' .. lane) == 1 then", "if false then", "submit"),
    Mutant("submit-draining-own-lane", "if queued[lane] + rest[lane] > 0 and redis.call('SISMEMBER'", "if redis.call('SISMEMBER'", "submit"),
    Mutant("submit-draining-tenant", "if redis.call('SISMEMBER', PREFIX .. 'draining', 'tenant:' .. tenant) == 1 then return {'draining', 'tenant:' .. tenant} end", "", "submit"),
    Mutant("submit-draining-replay", "if asked > 0 and not is_drawn then\n  local never", "if true then\n  local never", "submit"),
    Mutant("submit-arrival", "last_arrival + math.max(1 / 1024, passed / 2)", "now", "order"),
    Mutant("leader-tenant", "PREFIX .. 'fp:' .. tenant .. ':' .. new.fingerprint", "PREFIX .. 'fp:' .. new.fingerprint", "followers takeover", places=2),
    Mutant("leader-ended", "if not job or job.state == 'DEAD' or job.state == 'CANCELED' then return nil end", "if not job then return nil end", "followers takeover"),
    Mutant("leader-removed-picture", "if job.picture_removed or (tonumber(job.expires)", "if (tonumber(job.expires)", "followers takeover"),
    Mutant("leader-expiring-picture", "(tonumber(job.expires) or 0) < now + REUSE_MARGIN_MS", "not job.expires", "followers takeover"),
    Mutant("list-rest-units", "+ cost + rest.units > purse.daily", "+ cost > purse.daily", "long_lists"),
    Mutant("list-rest-jobs", "local asked = #news + rest.interactive + rest.batch", "local asked = #news", "long_lists"),
    Mutant("list-rest-lane", "if queued[lane] + rest[lane] > 0", "if queued[lane] > 0", "long_lists"),
    Mutant("list-held-own", "if kept[1] == tenant then own = own + jobs end", "", "long_lists"),
    Mutant("list-held-tenant", "if kept[1] == tenant then own = own +", "if true then own = own +", "long_lists"),
    Mutant("list-held-all", "waiting_of(new.model) + (held[new.model] or 0)", "waiting_of(new.model)", "long_lists"),
    Mutant("list-held-model", "of_model[model] = (of_model[model] or 0) + jobs", "of_model[''] = (of_model[''] or 0) + jobs", "models long_lists"),
    Mutant("list-held-model-kept", "'model', job_at(1).model, 'key', key)", "'model', '', 'key', key)", "models long_lists"),
    Mutant("usage-held", "if kept[1] == ARGV[1] then held = held + (tonumber(kept[2]) or 0) end", "", "long_lists"),
    Mutant("usage-held-tenant", "if kept[1] == ARGV[1] then held = held +", "if true then held = held +", "long_lists"),
    Mutant("list-draws-unasked", "if asked > 0 and not is_drawn then\n  local never", "if asked > 0 then\n  local never", "long_lists"),
    Mutant("list-open-again", "if step == 'open' and not held_day then", "if step == 'open' then", "long_lists"),
    Mutant("list-hold-gone", "if is_drawn and not held_day and #news > 0 then\n", "if false then\n", "long_lists"),
    Mutant("list-day", "if is_drawn and held_day then day = held_day end", "", "long_lists"),
    Mutant("list-draws", "'units', math.max(0, kept[1] - cost), 'jobs', math.max(0, kept[2] - #news))", "'units', kept[1], 'jobs', kept[2])", "long_lists"),
    Mutant("list-draws-more", "'reserved', math.max(0, cost - kept[1]))", "'reserved', 0)", "long_lists"),
    Mutant("list-lengthens", "if held_day then redis.call('ZADD', PREFIX .. 'holds', now + LIST.keep_ms, list) end", "if step == 'open' then redis.call('ZADD', PREFIX .. 'holds', now + LIST.keep_ms, list) end", "long_lists"),
    Mutant("list-closes", "if step == 'close' then close_hold(list) end", "", "long_lists"),
    Mutant("list-expected", "'tenant', tenant, 'expected', LIST.total)", "'tenant', tenant)", "long_lists"),
    Mutant("hold-refund", "'reserved', 0 - kept[3])", "'reserved', 0)", "long_lists"),
    Mutant("hold-due", "PREFIX .. 'holds', '-inf', server_ms(),", "PREFIX .. 'holds', '-inf', '+inf',", "long_lists"),
    Mutant("lift-queued", "    lift(leader, job)\n", "", "lift"),
    Mutant("lift-batch", "local rises = job.lane == 'interactive' and leader.lane", "local rises = leader.lane", "lift"),
    Mutant("lift-leaves", "dequeue(leader)\n  if rises then rise", "if rises then rise", "lift"),
    Mutant("lift-later", "if job.rises then rise(job) end", "", "lift"),
    Mutant("lift-heir", "    heir.rises = '1'\n    redis.call('HSET', job_key(heir.id), 'rises', heir.rises)\n", "", "lift"),
    Mutant("reuse-forgets-another", "if redis.call('GET', entry) == ARGV[index + 1] then forgotten", "if redis.call('GET', entry) then forgotten", "reuse"),
    Mutant("reuse-removed", "local is_shared = job[1] and not job[2]", "local is_shared = job[1]", "reuse"),
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
    Mutant("release-counts-lane", "count_waiting(lane, model, 0 - count)", "", "model"),
    Mutant("release-counts-work", "count_queued_work(entity, -work)", "", "model"),
    Mutant("release-forgets-worker", "if worker then redis.call('HDEL', job_key(id), 'worker') end", "", "reap release"),
    Mutant("reap-tick", "if gap >= TICK_KEPT_MS or last == now then", "if last == now then", "reap"),
    Mutant("reap-tick-first", ">= TICK_KEPT_MS or last == now then", ">= TICK_KEPT_MS then", "reap"),
    Mutant("release-weight", "(tenant.weight * WORK_WEIGHT[lane])", "1", "order"),
    Mutant("release-work", "local turn = work / (tenant", "local turn = 1 / (tenant", "order"),
    Mutant("release-idle-credit", "exact(math.max(present_of(model), own))", "exact(own)", "order"),
    Mutant("release-own-virtual-time", "exact(math.max(present_of(model), own))", "exact(present_of(model))", "order"),
    Mutant("release-lanes", "{interactive = 4, batch = 1}", "{interactive = 1, batch = 1}", "place model order"),
    Mutant("release-claim-deadline", "math.max(tonumber(claim_ms), 3 * measured)", "tonumber(claim_ms)", "runs"),
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
    Mutant("renew-cancel", "if job.cancel then answer[#answer] = 'cancel' end", "", "runs"),
    Mutant("renew-cancel-followers", "if not has_followers(job) then\n      if job.cancel", "if true then\n      if job.cancel", "followers takeover"),
    Mutant("progress-token", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end\nredis.call('HSET', job_key(job.id), 'progress'", "if not job or job.state ~= 'RUNNING' then return 0 end\nredis.call('HSET', job_key(job.id), 'progress'", "runs"),
    Mutant("progress-state", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end\nredis.call('HSET', job_key(job.id), 'progress'", "if not job or job.token ~= ARGV[2] then return 0 end\nredis.call('HSET', job_key(job.id), 'progress'", "runs"),
    Mutant("complete-token", "if not job or job.token ~= ARGV[2] then return 0 end\nif job.state == 'SUCCEEDED'", "if not job then return 0 end\nif job.state == 'SUCCEEDED'", "runs"),
    Mutant("complete-replay", "if job.state == 'SUCCEEDED' then return 1 end", "", "runs"),
    Mutant("complete-terminal", "if TERMINAL[job.state] then return 0 end\n\n-- A picture", "-- A picture", "runs"),
    Mutant("complete-for-followers", "if job.cancel and has_followers(job) then", "if false then", "followers takeover"),
    Mutant("late-leaves-queue", "if job.state == 'QUEUED' then\n    dequeue(job)", "if job.state == 'QUEUED' then", "runs"),
    Mutant("leave-released", "redis.call('ZREM', PREFIX .. of_model('rel', job.model), job.id)\n    free_slot(job)", "", "runs"),
    Mutant("leave-lease", "redis.call('ZREM', PREFIX .. 'lease', job.id)\n    free_slot(job)", "free_slot(job)", "runs"),
    Mutant("leave-retry", "    redis.call('ZREM', PREFIX .. 'retry', job.id)\n  elseif", "  elseif", "cancel"),
    Mutant("leave-following", "    redis.call('ZREM', PREFIX .. 'fol:' .. job.flight, job.id)\n", "", "followers takeover"),
    Mutant("free-held", "    redis.call('SREM', PREFIX .. 'held:' .. job.worker, job.id)\n", "", "runs"),
    Mutant("free-run", "redis.call('ZREM', PREFIX .. 'run:' .. job.tenant, job.id)", "", "reap"),
    Mutant("settle-once", "if redis.call('HSETNX', job_key(job.id), 'settled', kind) == 0 then return end", "", "settle"),
    Mutant("settle-charge", "if kind == 'charge' then redis.call('HINCRBY', use, 'used', cost) end", "", "runs"),
    Mutant("settle-reserved", "redis.call('HINCRBY', use, 'reserved', 0 - reserved)", "", "runs"),
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
    Mutant("give-back-cancel", "if job.cancel then\n  cancel_as_leader(job)\n  return 1", "if false then\n  cancel_as_leader(job)\n  return 1", "runs"),
    Mutant("give-back-followers", "if job.cancel then\n  cancel_as_leader(job)\n  return 1", "if job.cancel and not has_followers(job) then\n  cancel_as_leader(job)\n  return 1", "odd_ends"),
    Mutant("cancel-terminal", "if TERMINAL[job.state] then return job.state end\n  if job.state == 'RUNNING'", "if job.state == 'RUNNING'", "cancel"),
    Mutant("cancel-once", "if redis.call('HSETNX', job_key(job.id), 'cancel', 1) == 1 then", "redis.call('HSET', job_key(job.id), 'cancel', 1)\n  if true then", "cancel"),
    Mutant("cancel-orphan", "if state ~= 'SUCCEEDED' and job.epoch ~= '0' then", "if false then", "cancel"),
    Mutant("reap-stall", "if gap > tonumber(ARGV[3]) then", "if false then", "reap"),
    Mutant("reap-clock-back", "local gap = math.abs(now - last)", "local gap = now - last", "reap"),
    Mutant("reap-always-stalled", "if gap > tonumber(ARGV[3]) then", "if true then", "reap"),
    Mutant("reap-grace", "if now >= tonumber(redis.call('GET', PREFIX .. 'grace') or '0') then", "if true then", "reap"),
    Mutant("reap-due", "PREFIX .. name, '-inf', now, 'LIMIT'", "PREFIX .. name, '-inf', '+inf', 'LIMIT'", "reap"),
    Mutant("reap-limit", "'LIMIT', 0, math.max(0, ends_left))) do\n    if ends_left <= 0 then return end", "'LIMIT', 0, 100000)) do", "reap"),
    Mutant("reap-alone", "redis.call('HSET', job_key(job.id), 'alone', 1)", "", "reap"),
    Mutant("repeat-window", "if math.abs(now - tonumber(at)) > new.repeat_ms then return nil end", "", "submit"),
    Mutant("repeat-own-key", "if new.idempotency_key == '' then return repeated(new) end", "local id0, state0 = repeated(new) if id0 then return id0, state0 end if new.idempotency_key == '' then return nil end", "submit"),
    Mutant("reap-poison", "elseif crashes >= tonumber(ARGV[2]) or", "elseif", "blame"),
    Mutant("reap-hopeless", "or lost >= HOPELESS * tonumber(ARGV[2]) then", "then", "blame"),
    Mutant("reap-canceled", "if job.cancel then\n    cancel_as_leader(job)\n  elseif", "if", "cancel"),
    Mutant("reap-unclaimed", "for_due(rel, function", "for_due('none', function", "reap"),
    Mutant("reap-retry", "for_due('retry', function", "for_due('none', function", "reap"),
    Mutant("reap-deadline", "for_due('deadline', function", "for_due('none', function", "reap"),
    Mutant("reap-running-deadline", "or TERMINAL[job.state] or job.state == 'RUNNING' then", "or TERMINAL[job.state] then", "reap"),
    Mutant("reap-deadline-again", "redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)\n  activate", "activate", "reap"),
    Mutant("reap-mirror", "mirrored = mirrored + mirror(flight)", "mirrored = mirrored", "followers takeover"),
    Mutant("reap-mirror-deadline", "elseif job.state == 'FOLLOWING' and redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then", "elseif false then", "followers takeover"),
    Mutant("mirror-portion", "local ENDED_AT_ONCE = 100", "local ENDED_AT_ONCE = 1000", "followers takeover"),
    Mutant("mirror-most", "'fol:' .. flight, 0, ends_left - 1)", "'fol:' .. flight, 0, 99)", "followers takeover"),
    Mutant("mirror-none-left", "if ends_left <= 0 then return 0 end", "", "followers takeover"),
    Mutant("ends-counted", "  ends_left = ends_left - 1\n", "", "followers takeover"),
    Mutant("reap-work-counted", "if ends_left == before then ends_left = before - 1 end", "", "reap"),
    Mutant("reap-budget", "ends_left = tonumber(ARGV[1])", "ends_left = 1000", "reap"),
    Mutant("reap-full", "ends_left <= 0 and 1 or 0, unpack", "0, unpack", "reap"),
    Mutant("mirror-share", "share_picture(how[1], how[3], id)", "", "followers takeover"),
    Mutant("reuse-share", "share_picture(leader.picture, leader.id, new.id)", "", "followers takeover"),
    Mutant("promote-ours", "elseif ours and promotions < 1 then", "elseif false then", "followers takeover"),
    Mutant("promote-once", "elseif ours and promotions < 1 then", "elseif ours then", "followers takeover"),
    Mutant("promote-permanent", "elseif ours and promotions < 1 then", "elseif promotions < 1 then", "followers takeover"),
    Mutant("promote-late", "if ours and is_late then", "if false then", "followers takeover"),
    Mutant("promote-late-permanent", "if ours and is_late then", "if is_late then", "followers takeover"),
    Mutant("promote-failed-late", "ARGV[4] == '1', left <= 0)", "ARGV[4] == '1')", "followers takeover"),
    Mutant("promote-failed-in-time", "ARGV[4] == '1', left <= 0)", "ARGV[4] == '1', true)", "followers takeover"),
    Mutant("promote-known", "until heir and heir.state == 'FOLLOWING'", "until heir", "followers takeover"),
    Mutant("promote-nobody", "    if not id then return end\n    heir", "    heir", "followers takeover"),
    Mutant("promote-fingerprint", "redis.call('SET', PREFIX .. 'fp:' .. heir.tenant .. ':' .. heir.fingerprint, heir.id)", "", "followers takeover"),
    Mutant("promote-canceled", "if was_leader and has_followers(job) then promote", "if false then promote", "followers takeover"),
    Mutant("cancel-follower", "if was_leader and has_followers(job)", "if has_followers(job)", "followers takeover"),
    Mutant("forget-fingerprint-dead", "redis.call('ZADD', PREFIX .. 'dlq', server_ms(), job.id)\n  forget_fingerprint(job)", "redis.call('ZADD', PREFIX .. 'dlq', server_ms(), job.id)", "followers takeover"),
    Mutant("forget-fingerprint-expired", "if redis.call('GET', key) == job.id then", "if true then", "followers takeover"),
    Mutant("remove-ended", "if not TERMINAL[job.state] then return 0 end", "", "records"),
    Mutant("remove-tombstone", "redis.call('SET', PREFIX .. 'tombstone:' .. id, 1, 'PX', tombstone_ms)", "", "records"),
    Mutant("remove-twice", "if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return 1 end", "", "records"),
    Mutant("remove-picture", "local is_read = job.picture_removed or drop_picture(job)", "local is_read = true", "records"),
    Mutant("expire-due", "PREFIX .. 'pictures', '-inf', now,", "PREFIX .. 'pictures', '-inf', '+inf',", "records"),
    Mutant("place-in-flight", "local busy = riding", "local busy = 0", "place"),
    Mutant("place-in-flight-work", "exact(busy * mean_work)", "exact(busy)", "place"),
    Mutant("place-run-of-its-size", "pace.run_ms * tonumber(job.work) / mean_work", "pace.run_ms", "place"),
    Mutant("place-mean-work", "'mean_work', exact(mean_work),", "", "place"),
    Mutant("place-pace", "exact(end_gap_ms / mean_work)", "exact(end_gap_ms / mean_work / 2)", "place"),
    Mutant("company-measured", "(company_sum(job.worker) - tonumber(job.ride)) / lasted_ms", "redis.call('SCARD', PREFIX .. 'held:' .. job.worker)", "company"),
    Mutant("company-claimed-before", "if not job.ride then return end", "", "company"),
    Mutant("company-left", "company_sum(job.worker)\n    redis", "redis", "company"),
    Mutant("company-kept", "redis.call('PEXPIRE', key, RIDE_KEPT_MS)", "", "company"),
    Mutant("company-mean-work", "exact(tonumber(kept[2] or '0') * (1 - share) + work * share)", "1", "company"),
    Mutant("company-of-its-size", "by_company) * tonumber(job.work)", "by_company)", "company"),
    Mutant("company-riding", "local found = riding", "local found = 0", "company"),
    Mutant("company-waiting", "found = found + redis.call('ZCARD', PREFIX .. 'tq:' .. name)", "found = found + 1", "company"),
    Mutant("company-seats", "math.min(company, slots) / workers", "company / workers", "company"),
    Mutant("company-workers", "math.min(company, slots) / workers", "math.min(company, slots)", "company"),
    Mutant("company-rises", "math.min(by_company[index][2], by_company[index + 1][2])", "by_company[index][2]", "company"),
    Mutant("company-pace", "gap_ms = math.min(gap_ms, largest[2] / largest[1] / math.max(1, workers))", "", "company"),
    Mutant("company-pace-workers", "largest[2] / largest[1] / math.max(1, workers))", "largest[2] / largest[1])", "company"),
    Mutant("company-pace-faster", "gap_ms = math.min(gap_ms, largest[2]", "gap_ms = math.min(1e9, largest[2]", "company"),
    Mutant("company-seatless", "workers + (seats > 0 and 1 or 0)", "workers + 1", "company"),
    Mutant("company-nobody-lives", "or math.min(company, largest[1])", "or company", "company"),
    Mutant("company-line", "(company - below[1]) / (above[1] - below[1])", "1", "company"),
    Mutant("company-beyond", "return below[2] * company / below[1]", "return below[2]", "company"),
    Mutant("place-few", "> FEW then return exact(tag) end", "> FEW then return '' end", "crowd"),
    Mutant("crowd-model", "PREFIX .. of_model('act', ARGV[1])", "PREFIX .. 'act'", "crowd"),
    Mutant("crowd-front", "local rank = FRONT + math.floor(", "local rank = math.floor(", "crowd"),
    Mutant("crowd-stands-for", "rank, 'WITHSCORES'), behind / sampled)", "rank, 'WITHSCORES'), 1)", "crowd"),
    Mutant("crowd-portion", "math.min(first - FRONT + AT_ONCE, sampled) - 1", "sampled - 1", "crowd"),
    Mutant("crowd-weight", "'weight') or '1') * WORK_WEIGHT[lane]\n    local length", "'weight') or '1')\n    local length", "crowd"),
    Mutant("trash-shared", "if redis.call('EXISTS', PREFIX .. 'ref:' .. object) == 0 then\n", "if true then\n", "followers takeover"),
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
    Mutant("turn-returned", "if turn_of then return_turn(job, turn_of) end", "", "order"),
    Mutant("turn-never-ran", "local turn_of = job.state == 'RELEASED' and job.lane", "local turn_of = job.lane", "order"),
    Mutant("turn-out-of-race", "    redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))\n  end\nend", "  end\nend", "order"),
    Mutant("turn-lane", "return_turn(job, turn_of)", "return_turn(job, job.lane)", "order"),
    Mutant("models-waiting", "if model and model ~= '' then redis.call('HINCRBY', PREFIX .. 'nq', of_model('', model), change) end", "", "models"),
    Mutant("models-waiting-default", "all = all + (is_model and -1 or 1)", "all = all + (is_model and 0 or 1)", "models"),
    Mutant("audit-counts-model", "if lengths[own] then lengths[own] = lengths[own] + waiting end", "", AUDITOR),
    Mutant("place-paused", "(is_paused('lane:' .. job.lane) or is_paused('tenant:' .. job.tenant))", "false", "place"),
    Mutant("place-paused-released", "local stopped = waits and (", "local stopped = (", "place"),
    Mutant("place-paused-workers", "if slots == 0 and resting > 0 then stopped = true end", "", "place"),
    Mutant("place-cap", "if not waits or ends <= 0 or most < 1 then return 0, 0 end", "if true then return 0, 0 end", "place"),
    Mutant("place-cap-below", "if not waits or ends <= 0 or most < 1", "if not waits or most < 1", "place"),
    Mutant("place-cap-own", "own_ahead = rank + before(other,", "own_ahead = rank + 0 * before(other,", "place"),
    Mutant("place-cap-passed", "local function wait(run_ms) return math.max(0, run_ms - passed)", "local function wait(run_ms) return run_ms", "place"),
    Mutant("turn-weight", "tonumber(job.work) / (weight * WORK_WEIGHT[lane])", "tonumber(job.work) / WORK_WEIGHT[lane]", "order"),
    Mutant("turn-work", "tonumber(job.work) / (weight * WORK_WEIGHT[lane])", "1 / (weight * WORK_WEIGHT[lane])", "order"),
    Mutant("settle-day", "local use = PREFIX .. 'use:' .. purse .. ':' .. job.day", "local use = PREFIX .. 'use:' .. purse .. ':' .. day_of(server_ms())", "settle"),
    Mutant("reap-leads", "if leads then die_as_leader(job, LATE, true, true) else die(job, LATE) end", "die_as_leader(job, LATE, true, true)", "followers takeover"),
    Mutant("reap-lease-state", "if job and job.state == 'RUNNING' then\n", "if job then\n", "reap"),
    Mutant("reap-rel-state", "if job and job.state == 'RELEASED' then\n", "if job then\n", "reap"),
    Mutant("reap-retry-state", "if job and job.state == 'RETRY' then\n", "if job then\n", "reap"),
    Mutant("mirror-state", "if not job or job.state ~= 'FOLLOWING' then", "if not job then", "followers takeover"),
    Mutant("reuse-longest", "if kept[2] and tonumber(kept[2]) > expires then return end", "", "followers takeover"),
    Mutant("submit-removed-id", "if redis.call('EXISTS', PREFIX .. 'tombstone:' .. new.id) == 1 then return new.id, 'CANCELED' end", "", "submit"),
    Mutant("submit-repeat-ended", "state ~= 'CANCELED' and state ~= 'DEAD' and not is_stopping then", "not is_stopping then", "submit"),
    Mutant("submit-repeat-failed", "state ~= 'CANCELED' and state ~= 'DEAD' and not is_stopping then", "state ~= 'CANCELED' and not is_stopping then", "submit"),
    Mutant("reuse-expiry", "job.id, 'PXAT', expires)", "job.id)", "records"),
    Mutant("succeed-failure-cleared", "  redis.call('HDEL', job_key(job.id), 'failure')\n", "", "runs"),
    Mutant("events-expire", "  redis.call('PEXPIRE', PREFIX .. 'ev:' .. job.id, EVENTS_AFTER_END_MS)\n", "", "records"),
    Mutant("events-capped", "'MAXLEN', EVENTS_KEPT,", "", "records"),
    Mutant("lane-event", "if new.lane == 'interactive' then emit_status(new.id, 'queued') end", "emit_status(new.id, 'queued')", "submit"),
    Mutant("use-expire", "    redis.call('EXPIRE', purse.use, USE_KEPT_SECONDS)\n", "", "submit"),
    Mutant("remove-batch-left", "if redis.call('EXISTS', PREFIX .. 'batch_jobs:' .. job.batch) == 0 then forget", "if true then forget", "records"),
    Mutant("resume-wake", "wake()\nreturn next_cursor", "return next_cursor", "pauses"),
    Mutant("heartbeat-heard", "redis.call('HSET', PREFIX .. 'heard', redis.call('HGET', key, 'queue') or '', server_ms())", "", "tests/unit/scheduler/test_submission.py"),
    Mutant("heartbeat-wake", "if not started then wake() end", "", "release"),
    Mutant("audit-readonly-1", "if repair then enqueue(job) end", "enqueue(job)", AUDITOR),
    Mutant("audit-readonly-2", "if repair then redis.call('ZADD', PREFIX .. place, now, job.id) end", "redis.call('ZADD', PREFIX .. place, now, job.id)", AUDITOR),
    Mutant("audit-readonly-3", "if repair then settle(job,", "if true then settle(job,", AUDITOR),
    Mutant("audit-readonly-4", "if repair then redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id) end", "redis.call('ZADD', PREFIX .. 'deadline', job.deadline, job.id)", AUDITOR),
    Mutant("audit-readonly-5", "if repair then\n  redis.call('HDEL', job_key(job.id), 'leader')", "if true then\n  redis.call('HDEL', job_key(job.id), 'leader')", AUDITOR),
    Mutant("audit-readonly-6", "if repair then\n  for _, id in ipairs(strays)", "if true then\n  for _, id in ipairs(strays)", AUDITOR),
    Mutant("audit-readonly-7", "if ARGV[1] == '1' then redis.call('HSET', PREFIX .. 'nq'", "if true then redis.call('HSET', PREFIX .. 'nq'", AUDITOR),
    Mutant("audit-deadline", "if job.state ~= 'RUNNING' and missing('deadline') then", "if false then", AUDITOR),
    Mutant("audit-deadline-running", "if job.state ~= 'RUNNING' and missing('deadline') then", "if missing('deadline') then", AUDITOR),
    Mutant("audit-settled", "if redis.call('HEXISTS', job_key(job.id), 'settled') == 1 then return '' end", "", AUDITOR),
    Mutant("audit-is-led", "local is_led = led and led.id ~= job.id and (led.flight == job.flight) and not TERMINAL[led.state]", "local is_led = led", AUDITOR),
    Mutant("audit-is-led-itself", "led.id ~= job.id and (led.flight", "(led.flight", AUDITOR),
    Mutant("audit-is-led-flight", "led.id ~= job.id and (led.flight == job.flight) and", "led.id ~= job.id and", AUDITOR),
    Mutant("audit-is-led-ended", "(led.flight == job.flight) and not TERMINAL[led.state]", "(led.flight == job.flight)", AUDITOR),
    Mutant("audit-mirror", "or redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 1 then return wrong", "then return wrong", AUDITOR),
    Mutant("audit-strays", "for _, id in ipairs(strays) do redis.call('ZREM', queue, id) end", "", AUDITOR),
    Mutant("audit-work", "redis.call('HSET', PREFIX .. 'queued_work', entity, exact(truth))", "return {'0'}", AUDITOR),
    Mutant("audit-work-empty", "if redis.call('EXISTS', queue) == 0 then\n    redis.call('HDEL', PREFIX .. 'queued_work', entity)\n  elseif", "if", AUDITOR),
    Mutant("audit-counts", "if ARGV[1] == '1' then redis.call('HSET', PREFIX .. 'nq', name, lengths[name]) end", "", AUDITOR),
    Mutant("unpark", "unpark(ARGV[1])\nreturn 1", "return 1", "tests/unit/scheduler/test_tenants.py"),
    Mutant("audit-counts-parked", "add(redis.call('SMEMBERS', PREFIX .. 'parked'))\n", "", AUDITOR),
    Mutant("audit-counts-once", "and not seen[entity] then", "then", AUDITOR),
    Mutant("release-gone", "elseif tonumber(job[1]) and tonumber(job[2]) then", "elseif true then", "release"),
    Mutant("release-gone-counted", "count_queued_work(entity, 0)\n        popped_of[lane] = (popped_of[lane] or 0) + 1", "count_queued_work(entity, 0)", "release"),
    Mutant("release-gone-work", "        count_queued_work(entity, 0)\n", "", "release"),
    Mutant("remove-due-again", "  redis.call('ZREM', PREFIX .. 'records', id)  -- else", "  -- else", "records"),
    *(Mutant(*row) for row in [*MORE, *LIVES]),
]  # fmt: skip


def mutate(mutant: Mutant) -> Mapping[str, str]:
    """The scripts without the guard; fails if it stands elsewhere than said, or what is left is no Lua."""
    sources, whole, lua = _sources(), core.scripts.script_texts(), LuaRuntime()
    found = sum(source.count(mutant.old) for source in sources.values())
    assert found == mutant.places, f"{mutant.name}: in {found} places, not in {mutant.places}"
    changed = {name: text.replace(mutant.old, mutant.new) for name, text in sources.items() if mutant.old in text}
    is_shared = not changed.keys().isdisjoint(core.scripts.SHARED)  # then any script may be another one
    anew = sources if is_shared else {name: sources[name] for name in [*core.scripts.SHARED, *changed]}
    texts = core.scripts.assembled({**anew, **changed})
    for name, text in texts.items():
        if text != whole[name]:
            lua.compile(text)
    return {**whole, **texts}


@cache
def _sources() -> Mapping[str, str]:
    return core.scripts.sources()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", default="", help="take this guard out of the Lua scripts")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--mutant")
    if name:
        texts = mutate(next(one for one in MUTANTS if one.name == name))
        core.scripts.script_texts = lambda: texts  # type: ignore[assignment]


def run_tests(files: Sequence[str], *more: str) -> int:
    """pytest's exit status: 0 or 1."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants", *more, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode


def is_noticed(mutant: Mutant) -> bool:
    """Whether a test fails without the guard."""
    mutate(mutant)
    return run_tests(mutant.files, "--mutant", mutant.name) == 1


def red_without_a_mutant(mutants: Iterable[Mutant]) -> list[str]:
    """Test files that fail with all guards in place: they would notice anything."""
    return [file for file in sorted({file for one in mutants for file in one.files}) if run_tests([file]) != 0]


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
    if red := red_without_a_mutant(chosen):
        print(f"RED with all guards in place: {' '.join(red)}")
        return 1
    for number, mutant in enumerate(chosen, start=1):
        print(f"\r{number}/{len(chosen)} {mutant.name:40}", end="", file=sys.stderr, flush=True)
        if not is_noticed(mutant):
            unnoticed.append(mutant.name)
            print(f"\nUNNOTICED {mutant.name}", flush=True)
    print(f"\n{len(chosen) - len(unnoticed)} of {len(chosen)} guards noticed in {time.monotonic() - begun:.0f} s")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
