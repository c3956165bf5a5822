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
]  # fmt: skip
