-- Lists that would keep their units for ever. ARGV: repair (1/0), lists. Answer: such lists; a repair gives theirs back soon.
local found = {}
for index = 2, #ARGV do
  local list = ARGV[index]
  if redis.call('EXISTS', PREFIX .. 'hold:' .. list) == 1 and not redis.call('ZSCORE', PREFIX .. 'holds', list) then
    found[#found + 1] = list
    if ARGV[1] == '1' then redis.call('ZADD', PREFIX .. 'holds', server_ms(), list) end
  end
end
return found
