-- Keep and tell how far a running job is. ARGV: id, token, progress JSON (kept), event JSON. Answer: 1, or 0 if fenced off.
local job = read_job(ARGV[1])
if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end
redis.call('HSET', job_key(job.id), 'progress', ARGV[3])
emit(job.id, 'progress', ARGV[4])
return 1
