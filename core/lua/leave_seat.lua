-- The job that had the engine for itself was drawn, or not; others come next. ARGV: worker, token. Answer: 1.
-- A seat that was taken since stays.
local key = PREFIX .. 'solo:' .. ARGV[1]
if redis.call('GET', key) == ARGV[2] then redis.call('DEL', key) end
return 1
