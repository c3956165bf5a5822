-- Lengthen the leases of one worker. ARGV: lease_ms, (id, token)*. Answer: held | lost | cancel | late for each.
-- Late: a drawn picture for which the storage did not come back before the job's deadline, nor is anybody waiting for it
-- who still has time.
local now = server_ms()
local until_ms = now + tonumber(ARGV[1])
local answer = {}
for index = 2, #ARGV, 2 do
  local job = read_job(ARGV[index])
  if not job or job.state ~= 'RUNNING' or job.token ~= ARGV[index + 1] then
    answer[#answer + 1] = 'lost'
  else
    redis.call('ZADD', PREFIX .. 'lease', until_ms, job.id)
    -- A leader goes on for its followers, canceled or late; of a canceled one its own record is canceled at the end.
    answer[#answer + 1] = 'held'
    if not has_followers(job) then
      if job.cancel then answer[#answer] = 'cancel' end
      if is_shelved(job) and tonumber(job.deadline) < now then answer[#answer] = 'late' end
    end
  end
end
return answer
