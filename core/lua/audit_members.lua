-- Jobs that take a place which they do not hold. ARGV: repair (1/0), run, held or shelf, whose, ids. Answer: such ids.
-- run: counts to its tenant's cap; held: takes a seat of its worker; shelf: its picture waits on its worker's disk.
local repair, kind, name = ARGV[1] == '1', ARGV[2], ARGV[3]
local key = PREFIX .. kind .. ':' .. name

local function belongs(job)
  if not job then return false end
  if kind == 'run' then
    return job.tenant == name and (job.state == 'RELEASED' or (job.state == 'RUNNING' and not is_shelved(job)))
  end
  return job.state == 'RUNNING' and job.worker == name and is_shelved(job) == (kind == 'shelf')
end

local strays = {}
for index = 4, #ARGV do
  local id = ARGV[index]
  local is_member = kind == 'run' and redis.call('ZSCORE', key, id) or kind ~= 'run' and redis.call('SISMEMBER', key, id) == 1
  if is_member and not belongs(read_job(id)) then
    strays[#strays + 1] = id
    if repair then redis.call(kind == 'run' and 'ZREM' or 'SREM', key, id) end
  end
end
if repair and #strays > 0 then
  if kind == 'run' then unpark(name) end
  wake()
end
return strays
