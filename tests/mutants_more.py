# ruff: noqa: E501
"""Further guards for tests/mutants.py: name, old, new, tests, and the places if it stands in more than one."""

MORE = [
    # Who shows an object, and who names it
    ("share-removed-owner", "if kept[1] and not kept[2] then redis.call('SADD', refs, owner) end", "redis.call('SADD', refs, owner)", "shared_objects"),
    ("share-removed-record", "if kept[1] and not kept[2] then redis.call('SADD', refs, owner)", "if not kept[2] then redis.call('SADD', refs, owner)", "shared_objects"),
    ("share-removed-picture", "if kept[1] and not kept[2] then redis.call('SADD', refs, owner)", "if kept[1] then redis.call('SADD', refs, owner)", "shared_objects"),
    ("share-owner", "if kept[1] and not kept[2] then redis.call('SADD', refs, owner) end", "", "followers shared_objects"),
    ("complete-owner", "mirror_success(job, picture, first)", "mirror_success(job, picture, job.id)", "shared_objects"),
    ("hand-on-deleted", "hand_on_fingerprint(job)\n  redis.call('DEL'", "forget_fingerprint(job)\n  redis.call('DEL'", "shared_objects"),
    ("hand-on-expired", "'picture_removed', 1)\n    hand_on_fingerprint(job)", "'picture_removed', 1)\n    forget_fingerprint(job)", "shared_objects"),
    ("hand-on-named", "if not forget_fingerprint(job) or not job.picture then return end", "if not job.picture or not job.fingerprint then return end", "shared_objects"),
    ("hand-on-longest", "if until_ms > expires then heir, expires = id, until_ms end", "heir, expires = id, until_ms", "shared_objects"),
    ("hand-on-expiry", "job.fingerprint, heir, 'PXAT', expires)", "job.fingerprint, heir)", "shared_objects"),
    ("orphan-lost-claim", "and (job.attempt or job.state ~= 'FOLLOWING') then", "and job.attempt then", "shared_objects"),
    ("orphan-follower", "and (job.attempt or job.state ~= 'FOLLOWING') then", "then", "shared_objects"),
    ("remove-dead-letter", "redis.call('ZREM', PREFIX .. 'dlq', id)\n", "", "shared_objects"),
    ("remove-due-picture", "redis.call('ZREM', PREFIX .. 'pictures', id)\n  redis", "redis", "shared_objects"),
    ("remove-due-record", "redis.call('ZREM', PREFIX .. 'records', id)\n  if job.batch", "if job.batch", "shared_objects"),
    # Small ones
    ("lift-running", "if leader.state ~= 'QUEUED' then return end", "", "small_guards"),
    ("arrival-across-calls", "if #news > 0 then redis.call('SET', arrival_key, exact(last_arrival)) end", "", "small_guards"),
    ("repeat-kept", "now .. '|' .. new.id, 'PX', REPEAT_KEPT_MS)", "now .. '|' .. new.id)", "small_guards"),
    ("promote-canceled-count", "then promote(job, job.promoted or '0') end", "then promote(job, '0') end", "small_guards"),
    ("promote-leader", "redis.call('HDEL', job_key(heir.id), 'leader')", "", "small_guards"),
    ("park-virtual-time", "redis.call('HSET', PREFIX .. 'vt', entity, exact(virtual))\n  redis.call('SADD'", "redis.call('SADD'", "small_guards"),
    ("fail-progress", "'failure', ARGV[3])\n  redis.call('HDEL', job_key(job.id), 'progress')", "'failure', ARGV[3])", "small_guards"),
    ("submit-key-of-removed", "if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return id, 'removed' end", "", "submit"),
    # Lists that are stopped, bans, pauses
    ("list-stopped", "{is_stopped and 'list_stopped' or 'hold_gone', ''}", "{'hold_gone', ''}", "stopped_lists"),
    ("list-stopped-not", "{is_stopped and 'list_stopped' or 'hold_gone', ''}", "{'list_stopped', ''}", "long_lists"),
    ("stop-tenant", "if redis.call('HGET', PREFIX .. 'hold:' .. list, 'tenant') == ARGV[1] then", "if true then", "stopped_lists"),
    ("stop-closes", "    close_hold(list)\n    redis.call('SET', PREFIX .. 'stopped:'", "    redis.call('SET', PREFIX .. 'stopped:'", "stopped_lists"),
    ("stop-told-for-a-while", "list, 1, 'PX', TOLD_MS)", "list, 1)", "stopped_lists"),
    ("submit-banned", "if ban and ban ~= '' then return {'banned', ban} end", "", "stopped_lists"),
    ("submit-banned-before", "if ban and ban ~= '' then return", "if ban then return", "stopped_lists"),
    ("submit-banned-replay", "if asked > 0 then  -- a ban", "if true then  -- a ban", "stopped_lists"),
    ("submit-banned-portion", "if asked > 0 then  -- a ban", "if asked > 0 and not is_drawn then  -- a ban", "stopped_lists"),
    ("list-rest-service", "local of_each = asked > #news and {job_at(1), unpack(news)} or news", "local of_each = news", "stopped_lists"),
    ("lift-into-pause", "if redis.call('SISMEMBER', PREFIX .. 'paused', 'lane:interactive') == 1 then return end", "", "small_guards"),
]  # fmt: skip
