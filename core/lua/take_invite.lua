-- Use an invite once: a new tenant with its first key. ARGV: invite's id, tenant, key's id, created_ms, number of tenant
-- fields, then those fields and values, then the key's. Answer: ok, unknown, expired, spent or taken.
-- Replay-safe: the same key came before through the same invite. Where the answer that showed the first key was lost, the
-- same invite and name get another in its place: within an hour, and only while nobody has used the first.
local LOST_ANSWER_MS = 60 * 60 * 1000
local invite, tenant, key = PREFIX .. 'invite:' .. ARGV[1], ARGV[2], PREFIX .. 'key:' .. ARGV[3]
if redis.call('HGET', key, 'invite') == ARGV[1] then return 'ok' end
local kept = redis.call('HMGET', invite, 'left', 'expires_ms')
if not kept[1] then return 'unknown' end
local last = 5 + 2 * tonumber(ARGV[5])
local function give_key()
  redis.call('HSET', key, 'invite', ARGV[1], unpack(ARGV, last + 1))
  redis.call('ZADD', PREFIX .. 'keys', ARGV[4], ARGV[3])
  redis.call('HSET', invite, 'key:' .. tenant, ARGV[3])
  return 'ok'
end

local given = redis.call('HGET', invite, 'key:' .. tenant)
if given then
  local first = PREFIX .. 'key:' .. given
  local was = redis.call('HMGET', first, 'created_ms', 'last_used_ms', 'revoked_ms')
  local is_unused = was[1] and tonumber(was[2] or 0) == 0 and tonumber(was[3] or 0) == 0
  if is_unused and server_ms() - tonumber(was[1]) < LOST_ANSWER_MS then
    redis.call('HSET', first, 'revoked_ms', server_ms())
    return give_key()
  end
end
if tonumber(kept[2]) > 0 and tonumber(kept[2]) <= server_ms() then return 'expired' end
if tonumber(kept[1]) < 1 then return 'spent' end
local is_taken = redis.call('EXISTS', PREFIX .. 'tenant:' .. tenant, PREFIX .. 'lim:' .. tenant) > 0
if is_taken or redis.call('SISMEMBER', PREFIX .. 'tenants', tenant) == 1 then return 'taken' end

redis.call('HINCRBY', invite, 'left', -1)
redis.call('SADD', PREFIX .. 'tenants', tenant)
for at = 6, last, 2 do redis.call('HSET', PREFIX .. 'tenant:' .. tenant, ARGV[at], ARGV[at + 1]) end
return give_key()
