#!lua name=mylimiter

-- The sliding window of the textbook, to copy and to change.
--
--   FCALL allow 1 key quota window_ms cost   ->  1 admitted, 0 refused
--
-- Scores are microseconds, so that hits within one millisecond keep their order;
-- members are numbers that only rise, so that no two are the same. A member that is
-- its score, or close to it, takes the least memory.

local last = 0

redis.register_function('allow', function(keys, args)
  local call = redis.call
  local key, quota, window_ms, cost = keys[1], args[1] + 0, args[2] + 0, args[3] + 0
  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]

  call('ZREMRANGEBYSCORE', key, '-inf', now - window_ms * 1000)
  if call('ZCARD', key) + cost > quota then
    return 0
  end
  for _ = 1, cost do
    last = last < now and now or last + 1
    call('ZADD', key, now, last)
  end
  call('PEXPIRE', key, window_ms)
  return 1
end)
