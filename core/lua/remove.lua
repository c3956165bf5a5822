-- Forget ended jobs: the record goes, its picture too unless another record shows it, a tombstone stays.
-- ARGV: tombstone_ms, ids. Answer: for each 1 removed (now or before), 0 not ended, nil unknown.
local tombstone_ms = ARGV[1]

local function remove(id)
  local job = read_job(id)
  if not job then
    redis.call('ZREM', PREFIX .. 'records', id)  -- else the sweep would find it due for ever
    if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return 1 end
    return false
  end
  if not TERMINAL[job.state] then return 0 end
  if not job.picture_removed then drop_picture(job) end
  hand_on_fingerprint(job)
  redis.call('DEL', job_key(id), PREFIX .. 'ev:' .. id)
  redis.call('ZREM', PREFIX .. 'jobs:' .. job.tenant, id)
  redis.call('ZREM', PREFIX .. 'dlq', id)
  redis.call('ZREM', PREFIX .. 'pictures', id)
  redis.call('ZREM', PREFIX .. 'records', id)
  if job.batch then
    redis.call('ZREM', PREFIX .. 'batch_jobs:' .. job.batch, id)
    if redis.call('EXISTS', PREFIX .. 'batch_jobs:' .. job.batch) == 0 then redis.call('DEL', PREFIX .. 'batch:' .. job.batch) end
  end
  redis.call('SET', PREFIX .. 'tombstone:' .. id, 1, 'PX', tombstone_ms)
  return 1
end

local answer = {}
for index = 2, #ARGV do answer[index - 1] = remove(ARGV[index]) end
return answer
