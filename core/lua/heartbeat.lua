-- A worker lives. ARGV: name, started_ms, then its fields and values. A new start under an old name frees the seats of
-- the old one in the release window; the old leases still have to run out.
local name = ARGV[1]
local key = PREFIX .. 'worker:' .. name
local started = redis.call('HGET', key, 'started')
if started and started ~= ARGV[2] then redis.call('DEL', PREFIX .. 'held:' .. name, PREFIX .. 'shelf:' .. name) end
if not started then wake() end
redis.call('HSET', key, 'started', ARGV[2], unpack(ARGV, 3))
redis.call('PEXPIRE', key, 86400000)
redis.call('ZADD', PREFIX .. 'workers', server_ms(), name)
redis.call('HSET', PREFIX .. 'heard', redis.call('HGET', key, 'queue') or '', server_ms())
return 1
