#!lua name=limiter

-- Exact sliding-window limits over sorted sets.
--
-- A limit's key holds one member for each unit that was used within the window.
-- Its score is the time of use in microseconds since 1970: a unit used at t
-- counts until t + window, and not at t + window. So a limit of N admits N in any
-- window and never N + 1, and what is refused costs nothing.
--
--   FCALL decide         n key ... key  quota window_ms cost ... quota window_ms cost
--   FCALL sliding_window 1 key          quota window_ms cost
--
-- Keys       one for each limit, each different.
-- Arguments  three for each key, in the same order: whole numbers as text.
--            quota      units that the window allows
--            window_ms  milliseconds that a unit counts
--            cost       units that this call would use; 0 looks without charging
-- Reply      for each key { admitted, remaining, reset_after_ms, retry_after_ms };
--            `decide` answers a list of those, `sliding_window` its only one.
--            admitted        1 if this limit has room. The call is charged, on
--                            all keys, only if every limit has room.
--            remaining       units left after this call
--            reset_after_ms  until the oldest unit leaves the window; 0 if none
--            retry_after_ms  0 if admitted; else after so long the same cost fits
--                            if nothing else is used; -1 if it never fits,
--                            because the cost is over the quota
-- Cost       TIME, then at most four commands to look at a limit and two to
--            charge it; O(log n) for n members, and O(units that have left).
-- Memory     one member of 16 bytes for each unit in the window; a key expires
--            when its last unit leaves.

-- Names members: rises with the clock and runs ahead of it when several units
-- fall into one microsecond. NX notices a name that is taken after all, as it may
-- be when this library was loaded anew; the next one is tried.
local last_member = 0

-- Units added by one ZADD.
local BATCH = 1000

-- `call` is redis.call, looked up once for each decision.

-- Milliseconds, rounded up, until the unit at `rank` from the oldest has left.
local function leaves_after(call, key, rank, window_us, now)
  local unit = call('ZRANGE', key, rank, rank, 'WITHSCORES')
  local us = unit[2] + window_us - now + 999
  return (us - us % 1000) / 1000
end

-- What one limit says, without charging it.
local function look(call, key, quota, window_ms, cost, now)
  local window_us = window_ms * 1000
  call('ZREMRANGEBYSCORE', key, '-inf', now - window_us)
  local used = call('ZCARD', key)
  local remaining, reset_after, retry_after = quota - used, 0, 0
  if used > 0 then
    reset_after = leaves_after(call, key, 0, window_us, now)
  end
  if cost <= remaining then
    return { 1, remaining, reset_after, 0 }
  end
  if cost > quota then
    retry_after = -1
  elseif cost - remaining == 1 then
    retry_after = reset_after
  else
    retry_after = leaves_after(call, key, cost - remaining - 1, window_us, now)
  end
  return { 0, remaining > 0 and remaining or 0, reset_after, retry_after }
end

-- Adds `count` units with names that no other unit has.
local function add_units(call, key, count, now)
  if last_member < now then
    last_member = now - 1
  end
  while count > 1 do
    local batch = { 'ZADD', key, 'NX' }
    for _ = 1, count < BATCH and count or BATCH do
      last_member = last_member + 1
      batch[#batch + 1] = now
      batch[#batch + 1] = last_member
    end
    count = count - call(unpack(batch))
  end
  while count == 1 do
    last_member = last_member + 1
    count = count - call('ZADD', key, 'NX', now, last_member)
  end
end

-- Charges one limit and brings its outcome up to date.
local function charge(call, outcome, key, window_ms, cost, now)
  if cost == 0 then
    return
  end
  add_units(call, key, cost, now)
  call('PEXPIRE', key, window_ms + 1)
  outcome[2] = outcome[2] - cost
  if outcome[3] == 0 then
    outcome[3] = window_ms
  end
end

-- Whole numbers by their text: limits come again and again, and reading their
-- numbers anew would cost more than a command. Emptied when it grows.
local wholes, whole_count = {}, 0

-- The whole number that `text` says, or nil.
local function whole(text)
  local number = tonumber(text)
  if not number or number < 0 or number % 1 ~= 0 then
    return nil
  end
  if whole_count == 1000 then
    wholes, whole_count = {}, 0
  end
  wholes[text], whole_count = number, whole_count + 1
  return number
end

-- What is wrong with the call, or nil. Makes numbers of the arguments.
local function check(keys, args)
  if #keys == 0 or #args ~= 3 * #keys then
    return 'ERR each key takes three arguments: quota window_ms cost'
  end
  for i = 1, #args do
    args[i] = wholes[args[i]] or whole(args[i])
    if not args[i] then
      return 'ERR quota, window_ms and cost must be whole numbers'
    end
  end
  for i = 1, #keys do
    if args[3 * i - 1] == 0 then
      return 'ERR window_ms must be at least 1'
    end
    for j = 1, i - 1 do
      if keys[i] == keys[j] then
        return 'ERR each limit needs a key of its own'
      end
    end
  end
end

local function decide(keys, args)
  local problem = check(keys, args)
  if problem then
    return redis.error_reply(problem)
  end
  local call = redis.call
  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]

  local outcomes, admitted = {}, true
  for i = 1, #keys do
    outcomes[i] = look(call, keys[i], args[3 * i - 2], args[3 * i - 1], args[3 * i], now)
    admitted = admitted and outcomes[i][1] == 1
  end
  if admitted then
    for i = 1, #keys do
      charge(call, outcomes[i], keys[i], args[3 * i - 1], args[3 * i], now)
    end
  end
  return outcomes
end

local function sliding_window(keys, args)
  if #keys ~= 1 then
    return redis.error_reply('ERR sliding_window takes one key')
  end
  local outcomes = decide(keys, args)
  return outcomes.err and outcomes or outcomes[1]
end

redis.register_function{
  function_name = 'decide',
  callback = decide,
  description = 'Looks at every limit, then charges all or none',
}

redis.register_function{
  function_name = 'sliding_window',
  callback = sliding_window,
  description = 'One limit: an exact sliding window',
}
