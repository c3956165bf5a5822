-- Close the holds of lists whose caller went away in the middle. ARGV: most. Answer: how many.
-- The rows that were stored stay jobs; the call, sent again with its Idempotency-Key, stores the rest.
local due = redis.call('ZRANGEBYSCORE', PREFIX .. 'holds', '-inf', server_ms(), 'LIMIT', 0, ARGV[1])
for _, list in ipairs(due) do close_hold(list) end
return #due
