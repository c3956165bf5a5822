-- Pause or drain a lane, a tenant or a worker, also while the server is full. ARGV: 'paused' or 'draining', kind:name.
return redis.call('SADD', PREFIX .. ARGV[1], ARGV[2])
