-- Put entries back that the ledger lost; the caller has looked for others of the same job. ARGV: ids. Answer: how many.
local done = 0
for _, id in ipairs(ARGV) do
  local job = read_job(id)
  local kept = redis.call('HMGET', job_key(id), 'settled', 'entry')
  local is_there = kept[2] and string.match(kept[2], '^%d+%-%d+$') and #redis.call('XRANGE', PREFIX .. 'ledger', kept[2], kept[2]) > 0
  if job and kept[1] and not is_there then
    local key = job.key and {'key', job.key} or {}
    local entry = redis.call('XADD', PREFIX .. 'ledger', '*', 'job', id, 'tenant', job.tenant, 'kind', kept[1],
      'cost', job.cost, 'day', job.day, unpack(key))
    redis.call('HSET', job_key(id), 'entry', entry)
    done = done + 1
  end
end
return done
