-- Put a waiting job before or behind all others of its tenant's lane. ARGV: id, 'front' or 'back'.
-- Answer: the state it is in (only QUEUED was moved), or nil if unknown. What other tenants get is not touched: their
-- entities keep their virtual times, and this one still gives one job for each of its turns.
local job = read_job(ARGV[1])
if not job then return false end
if job.state ~= 'QUEUED' then return job.state end
local queue = PREFIX .. 'tq:' .. entity_of(job.tenant, job.lane, job.model)
local is_front = ARGV[2] == 'front'
local edge = redis.call(is_front and 'ZRANGE' or 'ZREVRANGE', queue, 0, 0, 'WITHSCORES')
if not edge[1] or edge[1] == job.id then return job.state end
local score = tonumber(edge[2]) + (is_front and -1 or 1) / 1024
-- As a head start it is kept over a release that nobody claims, or a retry.
redis.call('HSET', job_key(job.id), 'head_start', exact(tonumber(job.arrival) - score))
redis.call('ZADD', queue, 'XX', exact(score), job.id)
return job.state
