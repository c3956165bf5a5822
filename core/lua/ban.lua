-- Close all keys of a tenant, or open them again, also while the server is full. ARGV: tenant, reason ('' = welcome).
redis.call('HSET', PREFIX .. 'tenant:' .. ARGV[1], 'ban_reason', ARGV[2])
redis.call('SADD', PREFIX .. 'tenants', ARGV[1])
return 1
