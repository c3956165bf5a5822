-- Take what an audit found too much off usage. ARGV: corrections made when it looked, the last entry of the ledger and the
-- arrival of the last job that it saw, seconds that usage is kept, then (purse:day, kind, too much, 1 if it was there)*.
-- Answer: corrections made now; -1: another repair came first, or the server lost its last writes: nothing was done.
-- Work goes on meanwhile and changes both sides alike, so a difference stays true until somebody corrects it.
if (redis.call('GET', PREFIX .. 'audit_repairs') or '0') ~= ARGV[1] then return -1 end
if ARGV[2] ~= '0-0' and #redis.call('XRANGE', PREFIX .. 'ledger', ARGV[2], ARGV[2]) == 0 then return -1 end
if tonumber(redis.call('GET', PREFIX .. 'arrival') or '0') < tonumber(ARGV[3]) then return -1 end
for index = 5, #ARGV, 4 do
  local use = PREFIX .. 'use:' .. ARGV[index]
  if redis.call('EXISTS', use) == 1 or ARGV[index + 3] == '0' then  -- else its time was over meanwhile
    redis.call('HINCRBY', use, ARGV[index + 1], 0 - ARGV[index + 2])
    if redis.call('TTL', use) < 0 then redis.call('EXPIRE', use, ARGV[4]) end
  end
end
return redis.call('INCR', PREFIX .. 'audit_repairs')
