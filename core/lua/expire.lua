-- Remove what has outlived its retention. ARGV: most. Answer: {pictures expired, how many of them could not be read, ids of
-- these…, ids of records due…}.
-- A picture's record says so first (410), its object is deleted afterwards: never a link into nothing.
local now = server_ms()
local most = tonumber(ARGV[1])
local broken = {}

-- Answer: whether the picture could be read.
local function expire(id)
  local job = read_job(id)
  if not job then return true end
  redis.call('HSET', job_key(id), 'picture_removed', 1)
  local is_read = drop_picture(job)
  hand_on_fingerprint(job)
  return is_read
end

local due = redis.call('ZRANGEBYSCORE', PREFIX .. 'pictures', '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  redis.call('ZREM', PREFIX .. 'pictures', id)  -- first, and whatever follows: what can not be read is due once
  local is_done, is_read = pcall(expire, id)
  if not (is_done and is_read) then broken[#broken + 1] = id end
end
local records = redis.call('ZRANGEBYSCORE', PREFIX .. 'records', '-inf', now, 'LIMIT', 0, most)
local answer = {#due, #broken}
for _, ids in ipairs({broken, records}) do
  for _, id in ipairs(ids) do answer[#answer + 1] = id end
end
return answer
