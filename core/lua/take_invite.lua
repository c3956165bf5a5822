-- Use an invite once: a new tenant with its first key. ARGV: invite's id, tenant, key's id, created_ms, number of tenant
-- fields, then those fields and values, then the key's. Answer: ok, unknown, expired, spent or taken.
-- Replay-safe: the same key came before through the same invite.
local invite, tenant, key = PREFIX .. 'invite:' .. ARGV[1], ARGV[2], PREFIX .. 'key:' .. ARGV[3]
if redis.call('HGET', key, 'invite') == ARGV[1] then return 'ok' end
local kept = redis.call('HMGET', invite, 'left', 'expires_ms')
if not kept[1] then return 'unknown' end
if tonumber(kept[2]) > 0 and tonumber(kept[2]) <= server_ms() then return 'expired' end
if tonumber(kept[1]) < 1 then return 'spent' end
local is_taken = redis.call('EXISTS', PREFIX .. 'tenant:' .. tenant, PREFIX .. 'lim:' .. tenant) > 0
if is_taken or redis.call('SISMEMBER', PREFIX .. 'tenants', tenant) == 1 then return 'taken' end

local last = 5 + 2 * tonumber(ARGV[5])
redis.call('HINCRBY', invite, 'left', -1)
redis.call('SADD', PREFIX .. 'tenants', tenant)
for at = 6, last, 2 do redis.call('HSET', PREFIX .. 'tenant:' .. tenant, ARGV[at], ARGV[at + 1]) end
redis.call('HSET', key, 'invite', ARGV[1], unpack(ARGV, last + 1))
redis.call('ZADD', PREFIX .. 'keys', ARGV[4], ARGV[3])
return 'ok'
