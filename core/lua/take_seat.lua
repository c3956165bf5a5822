-- A job that must be alone gets its worker's engine for itself, now: until leave_seat.lua the worker's end is its fault,
-- and nobody else's. ARGV: id, token. Answer: 1, or 0 if fenced off.
local KEPT_MS = 86400000  -- of a worker that died: longer than any lease
local job = read_job(ARGV[1])
if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end
redis.call('SET', PREFIX .. 'solo:' .. job.worker, job.token, 'PX', KEPT_MS)
return 1
