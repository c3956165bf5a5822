# ruff: noqa: E501
"""Further guards for tests/mutants.py, as in tests/mutants_more.py: whose fault a crash is, clocks that jump, odd ends."""

LIVES = [
    # Whose fault a crash is
    ("seat-token", "job.token ~= ARGV[2] then return 0 end\nredis.call('SET', PREFIX .. 'solo:'", "false then return 0 end\nredis.call('SET', PREFIX .. 'solo:'", "blame"),
    ("seat-state", "if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end\nredis.call('SET', PREFIX .. 'solo:'", "if not job or job.token ~= ARGV[2] then return 0 end\nredis.call('SET', PREFIX .. 'solo:'", "blame"),
    ("seat-kept", "job.token, 'PX', KEPT_MS)", "job.token)", "blame"),
    ("seat-left", "if redis.call('GET', key) == ARGV[2] then redis.call('DEL', key) end", "", "blame"),
    ("seat-left-late", "if redis.call('GET', key) == ARGV[2] then redis.call('DEL', key) end", "redis.call('DEL', key)", "blame"),
    ("reap-bystander", "if rider and rider ~= job.token then return 0, 0 end", "", "blame"),
    ("reap-rode", "local crashes = rider and redis.call", "local crashes = redis.call", "blame"),
    ("reap-seat-worker", "'GET', PREFIX .. 'solo:' .. job.worker)", "'GET', PREFIX .. 'solo:w1')", "blame"),
    ("claim-replay-alone", "return lease_of(job.attempt, job.alone) end", "return lease_of(job.attempt) end", "blame"),
    # Clocks that jump
    ("clock-lease", "pull_in('lease', now + tonumber(ARGV[4]))\n", "", "clock reap"),
    ("clock-workers", "pull_in('workers', now)\n", "", "clock"),
    ("clock-retry", "{retry = ARGV[6], holds = ARGV[7]}", "{holds = ARGV[7]}", "clock"),
    ("clock-holds", "{retry = ARGV[6], holds = ARGV[7]}", "{retry = ARGV[6]}", "clock"),
    ("clock-rel", "pull_in(of_model('rel', model), claim", "pull_in('none', claim", "clock"),
    ("clock-rel-model", "pull_in(of_model('rel', model), claim", "pull_in('rel', claim", "clock"),
    ("clock-rel-apart", "ARGV[5], model) + CLAIMS_APART_MS)", "ARGV[5], model))", "clock"),
    ("clock-rel-pace", "claim_until(now, ARGV[5], model)", "now + tonumber(ARGV[5])", "clock"),
    ("clock-at-once", "'LIMIT', 0, PULLED_IN_AT_ONCE)", "'LIMIT', 0, 100)", "clock"),
    ("clock-no-run", "if lasted < 0 then return end", "", "clock"),
    ("clock-longest-run", "usual > 0 and math.min(lasted, LONGEST_RUN * usual) or lasted", "lasted", "clock"),
    ("clock-first-run", "usual > 0 and math.min(lasted, LONGEST_RUN * usual) or lasted", "math.min(lasted, LONGEST_RUN * usual)", "clock"),
    ("clock-usual-size", "* work / known_work\n  local run", "\n  local run", "clock"),
    ("clock-gap", "math.max(last <= now and last or 0, ", "math.max(last, ", "clock"),
    ("clock-longest-gap", "math.min(run, now - math.max(last", "math.min(lasted, now - math.max(last", "clock"),
    ("clock-company", "math.max(0, now - tonumber(kept[1] or now))", "now - tonumber(kept[1] or now)", "clock"),
    ("clock-company-lasted", "/ lasted_ms + 0.5", "/ run_ms + 0.5", "clock"),
    ("clock-waited", "  ms = math.max(0, ms)\n", "", "clock"),
    ("clock-burst", "return ends - math.max(0, used_at - now),", "return ends,", "clock"),
    ("clock-burst-later", "return ends - math.max(0, used_at - now),", "return ends - (used_at - now),", "clock"),
    ("clock-burst-kept", "if was_set_back then", "if false then", "clock"),
    ("clock-burst-used", "'running', running, 'at', now)", "'running', running)", "clock"),
    ("clock-repeat", "if math.abs(now - tonumber(at)) > new.repeat_ms then", "if now - tonumber(at) > new.repeat_ms then", "clock"),
    ("clock-repeat-moment", "if math.abs(now - tonumber(at)) > new.repeat_ms then", "if tonumber(at) > now or now - tonumber(at) > new.repeat_ms then", "clock"),
    # Odd ends
    ("renew-late-followers", "if not has_followers(job) then\n      if job.cancel", "if true then\n      if job.cancel", "odd_ends"),
    ("give-back-hands-over", "if job.cancel then\n  cancel_as_leader(job)\n  return 1", "if job.cancel then\n  cancel_now(job)\n  return 1", "odd_ends"),
]  # fmt: skip
