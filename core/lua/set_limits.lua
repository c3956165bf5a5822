-- A tenant's limits, preset or lanes were set. ARGV: tenant, its weight and cap of running jobs, then fields and values of
-- what is kept of it. They hold at once: its turns are of the new length, and its queues are looked at again.
reweigh(ARGV[1], ARGV[2])
redis.call('HSET', PREFIX .. 'lim:' .. ARGV[1], 'weight', ARGV[2], 'running', ARGV[3])
if #ARGV > 3 then redis.call('HSET', PREFIX .. 'tenant:' .. ARGV[1], unpack(ARGV, 4)) end
redis.call('SADD', PREFIX .. 'tenants', ARGV[1])
unpark(ARGV[1])
return 1
