-- What usage says at one moment, and which moment that is. ARGV: how many purses, each as purse:day, then lists that the
-- caller knows to keep something. Answer: {last entry of the ledger, arrival of the last job ('' = unknown), corrections
-- made so far, and of each purse: 1 if it is there, used, reserved, units that lists keep}.
local many = tonumber(ARGV[1])
local kept, seen = {}, {}

local function add(list)
  if seen[list] then return end
  seen[list] = true
  local hold = redis.call('HMGET', PREFIX .. 'hold:' .. list, 'tenant', 'day', 'units', 'key')
  if not hold[1] or not hold[2] then return end
  for _, purse in ipairs(purses_of(hold[1], hold[4])) do
    local name = purse .. ':' .. hold[2]
    kept[name] = (kept[name] or 0) + (tonumber(hold[3]) or 0)
  end
end

for _, list in ipairs(redis.call('ZRANGE', PREFIX .. 'holds', 0, -1)) do add(list) end
for index = many + 2, #ARGV do add(ARGV[index]) end
local last = redis.call('XREVRANGE', PREFIX .. 'ledger', '+', '-', 'COUNT', 1)[1]
local answer = {last and last[1] or '0-0', redis.call('GET', PREFIX .. 'arrival') or '',
  redis.call('GET', PREFIX .. 'audit_repairs') or '0'}
for index = 2, many + 1 do
  local use = redis.call('HMGET', PREFIX .. 'use:' .. ARGV[index], 'used', 'reserved')
  answer[#answer + 1] = redis.call('EXISTS', PREFIX .. 'use:' .. ARGV[index])
  answer[#answer + 1] = tonumber(use[1] or '0')
  answer[#answer + 1] = tonumber(use[2] or '0')
  answer[#answer + 1] = kept[ARGV[index]] or 0
end
return answer
