-- Forget ended jobs: the record goes, its picture too unless another record shows it, a tombstone stays.
-- ARGV: tombstone_ms, ids. Answer: for each 1 removed (now or before), 2 removed though its picture could not be read,
-- 0 not ended, -1 such that it can not be removed, nil unknown.
local tombstone_ms = ARGV[1]

-- The counts of a batch go with its last row. Where rows of the list were never stored they are kept for a while: it may
-- still be coming in, or be sent again, and goes on with them.
local function forget_batch(batch)
  local counts = PREFIX .. 'batch:' .. batch
  local kept = redis.call('HMGET', counts, 'total', 'again', 'expected')
  if (tonumber(kept[1]) or 0) - (tonumber(kept[2]) or 0) < (tonumber(kept[3]) or 0) then
    redis.call('PEXPIRE', counts, tombstone_ms)
  else
    redis.call('DEL', counts)
  end
end

local function remove(id)
  local job = read_job(id)
  if not job then
    redis.call('ZREM', PREFIX .. 'records', id)  -- else the sweep would find it due for ever
    if redis.call('EXISTS', PREFIX .. 'tombstone:' .. id) == 1 then return 1 end
    return false
  end
  if not TERMINAL[job.state] then return 0 end
  local shown_in = PREFIX .. 'jobs:' .. job.tenant  -- before any write: who has no tenant stays for a person to look at
  local is_read = job.picture_removed or drop_picture(job)
  hand_on_fingerprint(job)
  redis.call('DEL', job_key(id), PREFIX .. 'ev:' .. id)
  redis.call('ZREM', shown_in, id)
  redis.call('ZREM', PREFIX .. 'dlq', id)
  redis.call('ZREM', PREFIX .. 'pictures', id)
  redis.call('ZREM', PREFIX .. 'records', id)
  if job.batch then
    redis.call('ZREM', PREFIX .. 'batch_jobs:' .. job.batch, id)
    if redis.call('EXISTS', PREFIX .. 'batch_jobs:' .. job.batch) == 0 then forget_batch(job.batch) end
  end
  redis.call('SET', PREFIX .. 'tombstone:' .. id, 1, 'PX', tombstone_ms)
  return is_read and 1 or 2
end

local answer = {}
for index = 2, #ARGV do
  local is_done, how = pcall(remove, ARGV[index])
  if not is_done then
    redis.call('ZREM', PREFIX .. 'records', ARGV[index])  -- where the server refuses writes this says so
    how = -1
  end
  answer[index - 1] = how
end
return answer
