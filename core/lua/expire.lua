-- Remove what has outlived its retention. ARGV: most. Answer: {pictures expired, ids of records due…}.
-- A picture's record says so first (410), its object is deleted afterwards: never a link into nothing.
local now = server_ms()
local most = tonumber(ARGV[1])
local due = redis.call('ZRANGEBYSCORE', PREFIX .. 'pictures', '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  local job = read_job(id)
  redis.call('ZREM', PREFIX .. 'pictures', id)
  if job then
    drop_picture(job)
    redis.call('HSET', job_key(id), 'picture_removed', 1)
    hand_on_fingerprint(job)
  end
end
local answer = {#due}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'records', '-inf', now, 'LIMIT', 0, most)) do
  answer[#answer + 1] = id
end
return answer
