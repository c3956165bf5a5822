-- Lengthen the leases of one worker. ARGV: lease_ms, (id, token)*. Answer: held | lost | cancel for each.
local until_ms = server_ms() + tonumber(ARGV[1])
local answer = {}
for index = 2, #ARGV, 2 do
  local job = read_job(ARGV[index])
  if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[index + 1] then
    answer[#answer + 1] = 'lost'
  else
    redis.call('ZADD', PREFIX .. 'lease', until_ms, job.id)
    -- A canceled leader goes on for its followers; only its own record is canceled at the end.
    answer[#answer + 1] = (job.cancel and not has_followers(job)) and 'cancel' or 'held'
  end
end
return answer
