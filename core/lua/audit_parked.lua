-- Queues that stand aside though nothing keeps their jobs back. ARGV: repair (1/0), entities. Answer: such entities.
local repair = ARGV[1] == '1'

local function is_paused(what) return redis.call('SISMEMBER', PREFIX .. 'paused', what) == 1 end

local found = {}
for index = 2, #ARGV do
  local entity = ARGV[index]
  local tenant, lane = parts_of(entity)
  if redis.call('SISMEMBER', PREFIX .. 'parked', entity) == 1 and redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 1 then
    local most = tonumber(redis.call('HGET', PREFIX .. 'lim:' .. tenant, 'running') or '1000000')
    local is_full = redis.call('ZCARD', PREFIX .. 'run:' .. tenant) >= most
    if not (is_full or is_paused('tenant:' .. tenant) or is_paused('lane:' .. lane)) then
      found[#found + 1] = entity
      if repair then
        redis.call('SREM', PREFIX .. 'parked', entity)
        activate(entity)
      end
    end
  end
end
if repair and #found > 0 then wake() end
return found
