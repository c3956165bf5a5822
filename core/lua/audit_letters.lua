-- Dead jobs that are no dead letters though nobody tried them again. ARGV: repair (1/0), then (id, id of its next try)*.
-- Answer: such ids.
local repair = ARGV[1] == '1'
local found = {}
for index = 2, #ARGV, 2 do
  local id, again = ARGV[index], ARGV[index + 1]
  local job = redis.call('HMGET', job_key(id), 'state', 'finished')
  if job[1] == 'DEAD' and not redis.call('ZSCORE', PREFIX .. 'dlq', id)
    and redis.call('EXISTS', job_key(again), PREFIX .. 'tombstone:' .. again) == 0 then
    found[#found + 1] = id
    if repair then redis.call('ZADD', PREFIX .. 'dlq', job[2] or server_ms(), id) end
  end
end
return found
