-- Stop jobs for their owner. ARGV: ids. Answer: for each the state it is in now (RUNNING: asked to stop), nil if unknown, also
-- where its record can not be read: such a one is kept for a person to look at.
local function stop(id)
  local job = read_job(id)
  if not job then return false end
  if TERMINAL[job.state] then return job.state end
  if job.state == 'RUNNING' then
    if redis.call('HSETNX', job_key(job.id), 'cancel', 1) == 1 then emit_status(job.id, 'canceling') end
    return 'RUNNING'
  end
  if not can_end(job) then return false end
  cancel_as_leader(job)
  return 'CANCELED'
end

local answer = {}
for index, id in ipairs(ARGV) do answer[index] = stop(id) end
return answer
