-- Forget who read a stream in a consumer group and is gone: idle for so long, and nothing that it read is left with it (who
-- takes that over needs its name). One step: a name that reads meanwhile is not idle, and a forgotten one that reads again
-- is made anew. ARGV: stream, group, idle_ms. Answer: how many.
local forgotten = 0
for _, fields in ipairs(redis.pcall('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])) do  -- none where there is no such group
  local one = {}
  for index = 1, #fields, 2 do one[fields[index]] = fields[index + 1] end
  if one.pending == 0 and one.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], one.name)
    forgotten = forgotten + 1
  end
end
return forgotten
