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

-- A note on speed: a global costs a look-up through the sandbox at each use, and
-- a number in a text is parsed at each use. So the commands of a decision go
-- through one local, `call`, and texts that come again are parsed once.

local function whole_ms(us)
  local ms = us / 1000
  local rest = ms % 1
  return rest > 0 and ms - rest + 1 or ms
end

-- Milliseconds until the unit at `rank`, counted from the oldest, has left.
local function leaves_after(call, key, rank, window_us, now)
  local unit = call('ZRANGE', key, rank, rank, 'WITHSCORES')
  return whole_ms(unit[2] + window_us - now)
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

-- Whole numbers by their texts. Policies repeat theirs; a caller that does not
-- must not fill the memory.
local NUMBERS_KEPT = 1000
local number_of, numbers_kept = {}, 0

-- The whole number that `text` says, or nil.
local function whole(text)
  local number = tonumber(text)
  if not number or number < 0 or number % 1 ~= 0 then
    return nil
  end
  if numbers_kept == NUMBERS_KEPT then
    number_of, numbers_kept = {}, 0
  end
  number_of[text], numbers_kept = number, numbers_kept + 1
  return number
end

-- What is wrong with a call; nil if nothing is. Makes numbers of the arguments.
local function problem(keys, args)
  local count = #keys
  if count == 0 or #args ~= 3 * count then
    return 'ERR each key takes three arguments: quota window_ms cost'
  end
  for i = 1, 3 * count do
    local number = number_of[args[i]] or whole(args[i])
    if not number then
      return 'ERR quota, window_ms and cost must be whole numbers'
    end
    args[i] = number
  end
  for i = 1, count do
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

-- The second of the last call, as text and in microseconds.
local second_text, second_us

local function microseconds(time)
  if time[1] ~= second_text then
    second_text, second_us = time[1], time[1] * 1000000
  end
  return second_us + time[2]
end

local function decide(keys, args)
  local wrong = problem(keys, args)
  if wrong then
    return redis.error_reply(wrong)
  end
  local call = redis.call
  local now = microseconds(call('TIME'))

  local outcomes, admitted = { true }, true
  for i = 1, #keys do
    local outcome = look(call, keys[i], args[3 * i - 2], args[3 * i - 1], args[3 * i], now)
    outcomes[i] = outcome
    admitted = admitted and outcome[1] == 1
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
