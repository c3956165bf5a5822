-- The picture is drawn and waits on its worker's disk for the storage: still RUNNING under its lease, but it takes no
-- seat of the window and counts to no cap any more. ARGV: id, token. Answer: 1, or 0 if fenced off.
local KEPT_MS = 172800000
local job = read_job(ARGV[1])
if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[2] then return 0 end
if is_shelved(job) then return 1 end
measure(job)
redis.call('HSET', job_key(job.id), 'shelved', job.token)
free_slot(job)
redis.call('SADD', PREFIX .. 'shelf:' .. job.worker, job.id)
redis.call('PEXPIRE', PREFIX .. 'shelf:' .. job.worker, KEPT_MS)
return 1
