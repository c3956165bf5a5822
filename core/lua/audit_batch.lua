-- Set counts of a batch that were recounted, if they are still what the recount began with. ARGV: batch, how many of its
-- jobs were counted, four counts as they were ('' = none), four as they are: total, SUCCEEDED, DEAD, CANCELED. Answer: 1 or 0.
local NAMES = {'total', 'SUCCEEDED', 'DEAD', 'CANCELED'}
local batch = PREFIX .. 'batch:' .. ARGV[1]
if redis.call('ZCARD', PREFIX .. 'batch_jobs:' .. ARGV[1]) ~= tonumber(ARGV[2]) then return 0 end
for index, name in ipairs(NAMES) do
  if (redis.call('HGET', batch, name) or '') ~= ARGV[2 + index] then return 0 end
end
for index, name in ipairs(NAMES) do
  if ARGV[6 + index] ~= (redis.call('HGET', batch, name) or '0') then redis.call('HSET', batch, name, ARGV[6 + index]) end
end
return 1
