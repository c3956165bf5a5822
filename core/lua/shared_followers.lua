-- Followers: equal requests share one run.

-- A picture with several records is deleted with the last of them. Who drew it may have been canceled or removed meanwhile.
local function share_picture(picture, owner, id)
  local object = object_of(picture)
  if not object then return end
  local refs = PREFIX .. 'ref:' .. object
  redis.call('SADD', refs, id)
  local kept = redis.call('HMGET', job_key(owner), 'state', 'picture_removed')
  if kept[1] == 'SUCCEEDED' and not kept[2] then redis.call('SADD', refs, owner) end
end

-- The oldest follower takes the place of a leader that ended for no fault of the request. (A failover that lost the last
-- writes may have left entries of jobs that are gone or follow no more.)
local function promote(job, promotions)
  local heir
  repeat
    local id = redis.call('ZPOPMIN', PREFIX .. 'fol:' .. job.flight)[1]
    if not id then return end
    heir = read_job(id)
    if heir and not has_numbers(heir, TO_WAIT) then
      broken[#broken + 1] = id
      heir = nil
    end
  until heir and heir.state == 'FOLLOWING'
  redis.call('HSET', job_key(heir.id), 'promoted', promotions)
  redis.call('HDEL', job_key(heir.id), 'leader')
  if job.lane == 'interactive' or job.rises then  -- somebody may be waiting for it
    heir.rises = '1'
    redis.call('HSET', job_key(heir.id), 'rises', heir.rises)
  end
  redis.call('SET', PREFIX .. 'fp:' .. heir.tenant .. ':' .. heir.fingerprint, heir.id)
  back_to_queue(heir)
end

-- All of its followers have ended: the picture is no longer kept for them.
local function close_mirror(flight, picture)
  local name = 'mirror:' .. flight
  redis.call('DEL', PREFIX .. name)
  redis.call('SREM', PREFIX .. 'mirrors', flight)
  local object = object_of(picture)
  if object and redis.call('SREM', PREFIX .. 'ref:' .. object, name) == 1 then trash_unshown(object) end
end

local function end_as_leader(id, flight, how)
  local job = read_job(id)
  if not job or job.state ~= 'FOLLOWING' then
    redis.call('ZREM', PREFIX .. 'fol:' .. flight, id)
  elseif how[1] then
    check_end(job)
    local pays = how[4]
    if pays then
      redis.call('HDEL', PREFIX .. 'mirror:' .. flight, 'owed')
      how[4] = false
    end
    if how[3] then
      redis.call('HSET', job_key(id), 'leader', how[3])  -- who drew it: another than before, where a follower took over
    end
    succeed(job, how[1], not pays)
    share_picture(how[1], how[3], id)
  else
    die(job, how[2])
  end
end

-- End followers of a flight as its leader ended, as many as this call may; what is left waits for the reaper. A picture that
-- can not be read is nobody's: a follower draws it anew for all.
local function mirror(flight)
  if ends_left <= 0 then return 0 end
  local how = redis.call('HMGET', PREFIX .. 'mirror:' .. flight, 'picture', 'failure', 'owner', 'owed')
  if how[1] and not is_whole(how[1]) then
    broken[#broken + 1] = how[3] or flight
    close_mirror(flight, how[1])
    promote({flight = flight}, 0)
    return 0
  end
  local ids = redis.call('ZRANGE', PREFIX .. 'fol:' .. flight, 0, ends_left - 1)
  for _, id in ipairs(ids) do
    if not pcall(end_as_leader, id, flight, how) then
      redis.call('ZREM', PREFIX .. 'fol:' .. flight, id)  -- where the server refuses writes this says so
      broken[#broken + 1] = id
    end
  end
  if redis.call('EXISTS', PREFIX .. 'fol:' .. flight) == 0 then close_mirror(flight, how[1]) end
  return #ids
end

local function has_followers(job)
  return job.flight and redis.call('EXISTS', PREFIX .. 'fol:' .. job.flight) == 1
end

-- `is_owed`: who drew it does not pay for it, so the first who is shown it does.
local function mirror_success(job, picture, owner, is_owed)
  if not has_followers(job) then return end
  if is_owed then redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'owed', 1) end
  redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'picture', picture, 'owner', owner)
  share_picture(picture, owner, 'mirror:' .. job.flight)  -- it is kept for those who wait, whoever is removed meanwhile
  redis.call('SADD', PREFIX .. 'mirrors', job.flight)
  mirror(job.flight)
end

local function mirror_failure(job, failure)
  redis.call('HSET', PREFIX .. 'mirror:' .. job.flight, 'failure', failure)
  redis.call('SADD', PREFIX .. 'mirrors', job.flight)
  mirror(job.flight)
end

-- DEAD, with the flight: a reason of ours promotes a follower once, a permanent one is everybody's. A deadline is
-- everybody's own, so one that is over promotes as often as it happens.
local function die_as_leader(job, failure, ours, is_late)
  die(job, failure)
  if not has_followers(job) then return end
  local promotions = tonumber(job.promoted or '0')
  if ours and is_late then
    promote(job, promotions)
  elseif ours and promotions < 1 then
    promote(job, promotions + 1)
  else
    mirror_failure(job, failure)
  end
end

local function cancel_as_leader(job)
  local was_leader = job.state ~= 'FOLLOWING'
  cancel_now(job)
  if was_leader and has_followers(job) then promote(job, job.promoted or '0') end
end

-- Objects of pictures that no record shows any more; the scheduler deletes them when due. Answer: whether the picture could
-- be read; where it could not, what the job itself stored goes.
local function drop_picture(job)
  if not job.picture then return true end
  local object = object_of(job.picture)
  if not object then
    trash_runs_of(job, server_ms())
    return false
  end
  redis.call('SREM', PREFIX .. 'ref:' .. object, job.id)
  -- An older release's reaper ends the last followers and leaves behind that the picture was kept for them.
  if job.flight and redis.call('EXISTS', PREFIX .. 'mirror:' .. job.flight) == 0 then
    redis.call('SREM', PREFIX .. 'ref:' .. object, 'mirror:' .. job.flight)
  end
  trash_unshown(object)
  return true
end
