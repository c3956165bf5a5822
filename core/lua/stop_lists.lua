-- Let no further portion of a tenant's lists come in. ARGV: tenant. Answer: how many lists were coming in.
-- The rows that were stored stay jobs; the call that stores the rest is told so, and the list sent again goes on.
local TOLD_MS = 900000
local stopped = 0
for _, list in ipairs(redis.call('ZRANGE', PREFIX .. 'holds', 0, -1)) do
  if redis.call('HGET', PREFIX .. 'hold:' .. list, 'tenant') == ARGV[1] then
    close_hold(list)
    redis.call('SET', PREFIX .. 'stopped:' .. list, 1, 'PX', TOLD_MS)
    stopped = stopped + 1
  end
end
return stopped
