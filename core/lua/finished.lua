-- Which pictures a submit would hand out again. ARGV: tenant, fingerprint*.
-- Answer: for each fingerprint the job that it names and the key of its picture, '' and '' where there is none to share.
local answer = {}
for index = 2, #ARGV do
  local id = redis.call('GET', PREFIX .. 'fp:' .. ARGV[1] .. ':' .. ARGV[index])
  local job = id and redis.call('HMGET', job_key(id), 'picture', 'picture_removed') or {}
  local is_shared = job[1] and not job[2] and is_whole(job[1])
  answer[#answer + 1] = is_shared and id or ''
  answer[#answer + 1] = is_shared and object_of(job[1]) or ''
end
return answer
