-- Share the pictures of these jobs no more: the next job with their fingerprint draws. ARGV: tenant, (fingerprint, job)*.
-- Answer: how many were forgotten.
local forgotten = 0
for index = 2, #ARGV, 2 do
  local entry = PREFIX .. 'fp:' .. ARGV[1] .. ':' .. ARGV[index]
  -- Since it was looked at, another job may have begun to draw it.
  if redis.call('GET', entry) == ARGV[index + 1] then forgotten = forgotten + redis.call('DEL', entry) end
end
return forgotten
