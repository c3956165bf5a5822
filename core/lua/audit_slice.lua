-- A part of a long queue. ARGV: entity, first and last place, repair (1/0). Answer: {its work, entries that are no
-- waiting jobs…}; these are taken out if `repair`.
local queue = PREFIX .. 'tq:' .. ARGV[1]
local strays, work = {}, 0
for _, id in ipairs(redis.call('ZRANGE', queue, ARGV[2], ARGV[3])) do
  local job = redis.call('HMGET', job_key(id), 'state', 'work')
  if job[1] == 'QUEUED' then work = work + (tonumber(job[2]) or 0) else strays[#strays + 1] = id end
end
if ARGV[4] == '1' then
  for _, stray in ipairs(strays) do redis.call('ZREM', queue, stray) end
end
return {exact(work), unpack(strays)}
