-- End a pause: back into the race with what was parked. ARGV: kind (lane, tenant, worker), name.
-- A tenant that is at its cap as well is parked again by the next release. That release would also put right what the two
-- conditions below keep out, entities that were parked for another reason and empty ones; they spare it the work.
redis.call('SREM', PREFIX .. 'paused', ARGV[1] .. ':' .. ARGV[2])
for _, entity in ipairs(redis.call('SMEMBERS', PREFIX .. 'parked')) do
  local tenant, lane = parts_of(entity)
  if (ARGV[1] == 'lane' and lane == ARGV[2]) or (ARGV[1] == 'tenant' and tenant == ARGV[2]) then
    redis.call('SREM', PREFIX .. 'parked', entity)
    if redis.call('EXISTS', PREFIX .. 'tq:' .. entity) == 1 then activate(entity) end
  end
end
wake()
return 1
