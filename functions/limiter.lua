#!lua name=limiter

-- Limits over keys: five algorithms, and one decision over any number of limits.
--
--   FCALL decide  n key ...  algorithm quota window_ms cost option group ...
--   FCALL sliding_window|sliding_counter|token_bucket|fixed_window|concurrency
--                 1 key      quota window_ms cost [option]
--   FCALL peek    n key ...  algorithm quota window_ms cost option group ...
--   FCALL adjust  n key ...  algorithm quota window_ms units option charged_at_us ...
--   FCALL release n key ...  lease ...
--   FCALL reset   n key ...
--   FCALL penalty, penalize, bans, banned, pardon, decide_reserving, settle,
--         abandoned, claim, override, unoverride, overrides, guard: see there
--
-- Keys       one for each limit, each different.
-- Arguments  six for each key, in the same order; numbers are whole, as text.
--            algorithm  one of the five, or `penalty`
--            quota      units that the window allows
--            window_ms  milliseconds that a unit counts; of a lease, how long it
--                       lasts unless released
--            cost       units that this call would use; 0 looks without charging
--            option     sliding_window: `KEPT_MS/KEPT` where calls with other
--                       windows share the key, the longest of these and the
--                       largest quota (see there), or anything else
--                       token_bucket: burst, the units a full bucket holds
--                       fixed_window: `first_hit`, or anything else for windows
--                       that begin on whole multiples of their length since 1970
--                       concurrency: the lease, a name that no other request has
--            group      `0`: a limit that refuses when it has no room.
--                       Any other name: limits tried beside those, charged if
--                       they all would admit and those of `0` do; they never
--                       change what `0` says.
--                       `=name`: as `0`, and group `name` is tried in its place:
--                       what this limit says does not count for that group.
-- Reply      for each key { admitted, remaining, reset_after_ms, retry_after_ms,
--            now_us }; `decide` and `peek` answer a list of those.
--            admitted        1 if this limit has room. A group is charged, on all
--                            its keys, only if every limit of it has room.
--            remaining       units left after this call
--            reset_after_ms  until there is more quota; 0 if none is used, or if
--                            it cannot be known (concurrency)
--            retry_after_ms  0 if admitted; else after so long the same cost fits
--                            if nothing else is used; -1 if it never fits,
--                            because the cost is over the quota. A lease may come
--                            back at any moment, so there it is 0.
--            now_us          when, for `adjust`
--
--   algorithm        state of a key                       commands     bytes
--   sliding_window   sorted set: a member for each unit   3 to 8       16 a unit
--   sliding_counter  text: two counts                     GET SET      40
--   token_bucket     text: a level and its time           GET SET      50
--   fixed_window     text: a count and its start          GET SET      40
--   concurrency      sorted set: a member for each lease  3 to 4       30 a lease
--
-- A sliding window costs O(log n) for n units in it, and O(units that have left);
-- the others O(1). A key expires when it says nothing any more.
--
-- Exactness. sliding_window: a unit used at t counts until t + window, and not at
-- t + window; so N admits N in any window, never N + 1. fixed_window: N in each of
-- its windows, which lets 2N pass around a border. sliding_counter: assumes that
-- the units of the window before came evenly. token_bucket: burst at once, and
-- quota per window in the long run. What is refused costs nothing.
--
-- Edits. A state says under which numbers it was written. When a limit's window,
-- quota or algorithm changes, the units in use go on: a sliding window keeps each
-- hit and its time, and only counts it for the new length, as far as the old one has
-- kept it. All others count them by the rule that wrote them until they are charged,
-- and take over then how many are in use, as used now. So nobody starts full, and
-- what is refused changes nothing.

-- A note on speed: a global costs a look-up through the sandbox at each use, and
-- a number in a text is parsed at each use. So commands go through these locals,
-- which are filled at the first call because a library that loads sees neither
-- commands nor strings yet, and texts that come again are parsed once.
local call, try, find, format, kind_of, sub

local function whole_up(number)
  local rest = number % 1
  return rest > 0 and number - rest + 1 or number
end

local function whole_ms(us)
  return whole_up(us / 1000)
end

-- The second of the last call, as text and in microseconds.
local second_text, second_us

local function now_us()
  local time = call('TIME')
  if time[1] ~= second_text then
    second_text, second_us = time[1], time[1] * 1000000
  end
  return second_us + time[2]
end

------------------------------------------------------------------------- states
--
-- The three algorithms of constant memory keep a text: a letter and numbers.
--
--   c:<window_ms>:<index>:<previous>:<current>   sliding_counter
--   b:<window_ms>:<quota>:<level>:<at_us>        token_bucket
--   f:<window_ms>:<start_us>:<count>             fixed_window
--
-- A level is in units times window, so that it falls by `quota` a microsecond
-- and stays a whole number (exact up to 2^53; beyond, to a few microseconds).

local COUNTER = '^c:(%d+):(%d+):(%d+):(%d+)$'
local BUCKET = '^b:(%d+):(%d+):(%d+):(%d+)$'
local FIXED = '^f:(%d+):(%d+):(%d+)$'

-- Units of a sliding counter, times its window.
local function counter_level(window_us, index, previous, current, now)
  local at = (now - now % window_us) / window_us
  if at == index then
    return current * window_us + previous * (window_us - now % window_us), previous, current
  elseif at == index + 1 then
    return current * (window_us - now % window_us), current, 0
  end
  return 0, 0, 0
end

-- Microseconds until no more than `target` of a sliding counter is in use, as units
-- times window.
local function counter_falls_after(window_us, previous, current, now, target)
  local elapsed = now % window_us
  local rest = window_us - elapsed
  local level = current * window_us + previous * rest
  if level <= target then
    return 0
  end
  if current * window_us <= target then
    return (level - target) / previous
  end
  return rest + window_us - target / current
end

local function bucket_level(quota, level, at, now)
  local left = level - (now - at) * quota
  return left > 0 and left or 0
end

-- Units in use under a state that another algorithm, or other numbers, wrote.
-- `key` holds hits when `text` is nil.
local function units_in_use(key, text, window_us, now)
  if not text then
    return call('ZCOUNT', key, '(' .. format('%.0f', now - window_us), '+inf')
  end
  local _, _, window_ms, a, b, c = find(text, COUNTER)
  if window_ms then
    local us = window_ms * 1000
    return whole_up((counter_level(us, a + 0, b + 0, c + 0, now)) / us)
  end
  _, _, window_ms, a, b, c = find(text, BUCKET)
  if window_ms then
    return whole_up(bucket_level(a + 0, b + 0, c + 0, now) / (window_ms * 1000))
  end
  _, _, window_ms, a, b = find(text, FIXED)
  if window_ms and now < a + window_ms * 1000 then
    return b + 0
  end
  return 0
end

-- Milliseconds until the unit at `rank`, counted from the oldest, has left.
local function leaves_after(key, rank, window_us, now)
  local unit = call('ZRANGE', key, rank, rank, 'WITHSCORES')
  return whole_ms(unit[2] + window_us - now)
end

-- Milliseconds until fewer units than now, no more than `target`, are in use under
-- such a state.
local function falls_after(key, text, window_us, now, target)
  if not text then
    return leaves_after(key, call('ZCARD', key) - target - 1, window_us, now)
  end
  local _, _, window_ms, a, b, c = find(text, COUNTER)
  if window_ms then
    local us = window_ms * 1000
    local _, previous, current = counter_level(us, a + 0, b + 0, c + 0, now)
    return whole_ms(whole_up(counter_falls_after(us, previous, current, now, target * us)))
  end
  _, _, window_ms, a, b, c = find(text, BUCKET)
  if window_ms then
    local level = bucket_level(a + 0, b + 0, c + 0, now)
    return whole_ms(whole_up((level - target * window_ms * 1000) / a))
  end
  _, _, window_ms, a = find(text, FIXED)
  return whole_ms(a + window_ms * 1000 - now)
end

-- How many units are in use when nothing is left, for times: there is no more of a quota
-- of none, but a moment at which nothing is in use.
local function most_of(quota)
  return quota > 0 and quota or 1
end

-- Corrects the times of an outcome: the `used` units are in use under such a state, and
-- are so by its rule until somebody is admitted.
local function tell_others(outcome, used, key, text, window_us, capacity, cost, now)
  if used > 0 then
    local most = most_of(capacity)
    outcome[3] = falls_after(key, text, window_us, now, (used < most and used or most) - 1)
  end
  if outcome[1] == 0 and cost <= capacity then
    outcome[4] = falls_after(key, text, window_us, now, capacity - cost)
  end
  return outcome
end

-- The text under a key. A sorted set there, from before its limit was given
-- another algorithm, is told by a second value: its units in use.
local function text_of(key, window_us, now)
  local text = try('GET', key)
  if kind_of(text) == 'table' then
    return nil, units_in_use(key, nil, window_us, now)
  end
  return text
end

----------------------------------------------------------------- sliding_window
--
-- One member for each unit, scored by the time of use in microseconds. Names rise
-- with the clock and run ahead of it when several units fall into a microsecond.
-- NX notices a name that is taken after all, as it may be when this library was
-- loaded anew; the next one is tried.
--
-- A call forgets what its own window is over for. So calls with windows of different
-- lengths over one key, as those of the tiers of a policy are, would count for the
-- longer ones what the shorter have left. Each of them says as its option how long the
-- longest window is and how many units the largest quota has: then what is younger
-- stays, but no more than so many units. Nobody can miss an older one, unless younger
-- ones are given back: then there is room for so many more.

local last_member = 0

local KEPT = '^(%d+)/(%d+)$'

-- For how many ms a key's hits are kept; and where others share it, at most how many.
local function kept(quota, window_ms, option)
  if #option < 3 then
    return window_ms
  end
  local _, _, ms, units = find(option, KEPT)
  if not ms then
    return window_ms
  end
  ms, units = ms + 0, units + 0
  return ms > window_ms and ms or window_ms, units > quota and units or quota
end

-- Units added by one ZADD.
local BATCH = 1000

-- Adds `count` units with names that no other unit has.
local function add_units(key, count, now)
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

local sliding_window = {}

-- As `look`, where another algorithm's text is. Its units become hits when this limit
-- is charged, of that moment.
local function look_at_text(key, quota, window_us, cost, now)
  local text = call('GET', key)
  local used = units_in_use(key, text, window_us, now)
  local remaining = quota > used and quota - used or 0
  local outcome = { used + cost <= quota and 1 or 0, remaining, 0, cost > quota and -1 or 0, now }
  outcome.others = used
  return tell_others(outcome, used, key, text, window_us, quota, cost, now)
end

function sliding_window.look(key, quota, window_ms, cost, now, option, peeking)
  local window_us = window_ms * 1000
  local gone = 0
  local used
  if peeking then
    used = try('ZCOUNT', key, '(' .. format('%.0f', now - window_us), '+inf')
    if kind_of(used) == 'table' then
      return look_at_text(key, quota, window_us, cost, now)
    end
    gone = call('ZCARD', key) - used
  else
    local kept_ms, kept_units = kept(quota, window_ms, option)
    local trimmed = try('ZREMRANGEBYSCORE', key, '-inf', now - kept_ms * 1000)
    if kind_of(trimmed) == 'table' then
      return look_at_text(key, quota, window_us, cost, now)
    end
    used = call('ZCARD', key)
    if kept_units and used > kept_units then
      used = used - call('ZREMRANGEBYRANK', key, 0, used - kept_units - 1)
    end
    if kept_ms > window_ms then
      gone = used
      used = call('ZCOUNT', key, '(' .. format('%.0f', now - window_us), '+inf')
      gone = gone - used
    end
  end
  local remaining, reset_after, retry_after = quota - used, 0, 0
  -- Of more units than the quota, as an edit or another tier may leave, those above it
  -- must leave, too, before there is more quota.
  local first = remaining < 0 and gone + used - most_of(quota) or gone
  if used > 0 then
    reset_after = leaves_after(key, first, window_us, now)
  end
  if cost <= remaining then
    return { 1, remaining, reset_after, 0, now }
  end
  local last = gone + cost - remaining - 1
  if cost > quota then
    retry_after = -1
  elseif last == first then
    retry_after = reset_after
  else
    retry_after = leaves_after(key, last, window_us, now)
  end
  return { 0, remaining > 0 and remaining or 0, reset_after, retry_after, now }
end

function sliding_window.charge(outcome, key, quota, window_ms, cost, now, option)
  if outcome.others then
    call('DEL', key)
    add_units(key, outcome.others, now)
    outcome[3] = 0
  end
  add_units(key, cost, now)
  local kept_ms = kept(quota, window_ms, option)
  call('PEXPIRE', key, kept_ms + 1)
  outcome[2] = outcome[2] - cost
  if outcome[3] == 0 then
    outcome[3] = window_ms
  end
end

-- Keeps hits for so long, or as long as they were to be kept: who was charged before the
-- window became longer says how long it was then.
local function keep_hits(key, kept_ms)
  if call('PTTL', key) <= kept_ms then
    call('PEXPIRE', key, kept_ms + 1)
  end
end

-- Units that are given back are those of `charged_at`, as many as still count.
function sliding_window.adjust(key, quota, window_ms, units, now, option, charged_at)
  local kept_ms = kept(quota, window_ms, option)
  local text = try('GET', key)
  if text and kind_of(text) ~= 'table' then
    local used = units_in_use(key, text, window_ms * 1000, now)
    call('DEL', key)
    add_units(key, used < quota and used or quota, now)
    keep_hits(key, kept_ms)
  end
  if units > 0 then
    add_units(key, units, now)
    keep_hits(key, kept_ms)
    return
  end
  local score = format('%.0f', charged_at)
  local given = call('ZRANGEBYSCORE', key, score, score, 'LIMIT', 0, -units)
  for from = 1, #given, BATCH do
    call('ZREM', key, unpack(given, from, from + BATCH - 1 < #given and from + BATCH - 1 or #given))
  end
end

---------------------------------------------------------------- sliding_counter

local sliding_counter = {}

-- Index and counts as of now; and if others wrote the state, how many units are in use,
-- and the text.
local function counter_state(key, window_ms, now)
  local window_us = window_ms * 1000
  local index = (now - now % window_us) / window_us
  local text, units = text_of(key, window_us, now)
  if not text then
    return index, 0, units or 0, units
  end
  local _, _, written_ms, at, previous, current = find(text, COUNTER)
  if not written_ms or written_ms + 0 ~= window_ms then
    units = units_in_use(key, text, window_us, now)
    return index, 0, units, units, text
  end
  local _, before, here = counter_level(window_us, at + 0, previous + 0, current + 0, now)
  return index, before, here
end

local function counter_outcome(quota, window_us, previous, current, cost, now)
  local level = current * window_us + previous * (window_us - now % window_us)
  local remaining = quota - whole_up(level / window_us)
  local reset_after, retry_after = 0, 0
  if level > 0 then
    local kept = remaining < 0 and quota or quota - remaining
    reset_after = whole_ms(whole_up(
      counter_falls_after(window_us, previous, current, now, (kept - 1) * window_us)))
  end
  if cost <= remaining then
    return { 1, remaining, reset_after, 0, now }
  end
  if cost > quota then
    retry_after = -1
  else
    retry_after = whole_ms(whole_up(
      counter_falls_after(window_us, previous, current, now, (quota - cost) * window_us)))
  end
  return { 0, remaining > 0 and remaining or 0, reset_after, retry_after, now }
end

local function keep_counter(key, window_ms, index, previous, current)
  local text = format('c:%.0f:%.0f:%.0f:%.0f', window_ms, index, previous, current)
  call('SET', key, text, 'PX', 2 * window_ms)
end

function sliding_counter.look(key, quota, window_ms, cost, now)
  local index, previous, current, others, text = counter_state(key, window_ms, now)
  local outcome = counter_outcome(quota, window_ms * 1000, previous, current, cost, now)
  if others then
    tell_others(outcome, others, key, text, window_ms * 1000, quota, cost, now)
  end
  outcome.index, outcome.previous, outcome.current = index, previous, current
  return outcome
end

function sliding_counter.charge(outcome, key, quota, window_ms, cost, now)
  local previous, current = outcome.previous, outcome.current + cost
  keep_counter(key, window_ms, outcome.index, previous, current)
  local after = counter_outcome(quota, window_ms * 1000, previous, current, 0, now)
  outcome[2], outcome[3] = after[2], after[3]
end

function sliding_counter.adjust(key, _, window_ms, units, now, _, charged_at)
  local index, previous, current = counter_state(key, window_ms, now)
  local window_us = window_ms * 1000
  local charged_in = (charged_at - charged_at % window_us) / window_us
  if units > 0 or charged_in == index then
    current = current + units
  elseif charged_in == index - 1 then
    previous = previous + units
  end
  keep_counter(key, window_ms, index, previous > 0 and previous or 0, current > 0 and current or 0)
end

------------------------------------------------------------------- token_bucket
--
-- GCRA, told by its level: a bucket of `burst` units that empties by `quota` units
-- a window. A request fits if its cost does.

local token_bucket = {}

-- The level as of now; and if others wrote the state, as of a sliding counter.
local function bucket_state(key, quota, window_ms, now)
  local window_us = window_ms * 1000
  local text, units = text_of(key, window_us, now)
  if not text then
    return (units or 0) * window_us, units
  end
  local _, _, written_ms, written_quota, level, at = find(text, BUCKET)
  if not written_ms or written_ms + 0 ~= window_ms then
    units = units_in_use(key, text, window_us, now)
    return units * window_us, units, text
  end
  level = bucket_level(written_quota + 0, level + 0, at + 0, now)
  if written_quota + 0 ~= quota then
    return level, whole_up(level / window_us), text
  end
  return level
end

local function bucket_outcome(quota, window_us, burst, level, cost, now)
  local remaining = burst - whole_up(level / window_us)
  local reset_after, retry_after = 0, 0
  if level > 0 then
    local kept = remaining < 0 and burst or burst - remaining
    reset_after = whole_ms(whole_up((level - (kept - 1) * window_us) / quota))
  end
  if cost <= remaining then
    return { 1, remaining, reset_after, 0, now }
  end
  if cost > burst then
    retry_after = -1
  else
    retry_after = whole_ms(whole_up((level - (burst - cost) * window_us) / quota))
  end
  return { 0, remaining > 0 and remaining or 0, reset_after, retry_after, now }
end

local function keep_bucket(key, quota, window_ms, level, now)
  local text = format('b:%.0f:%.0f:%.0f:%.0f', window_ms, quota, level, now)
  call('SET', key, text, 'PX', whole_ms(level / quota) + 1)
end

function token_bucket.look(key, quota, window_ms, cost, now, burst)
  local level, others, text = bucket_state(key, quota, window_ms, now)
  local outcome = bucket_outcome(quota, window_ms * 1000, burst, level, cost, now)
  if others then
    tell_others(outcome, others, key, text, window_ms * 1000, burst, cost, now)
  end
  outcome.level = level
  return outcome
end

function token_bucket.charge(outcome, key, quota, window_ms, cost, now, burst)
  local level = outcome.level + cost * window_ms * 1000
  keep_bucket(key, quota, window_ms, level, now)
  local after = bucket_outcome(quota, window_ms * 1000, burst, level, 0, now)
  outcome[2], outcome[3] = after[2], after[3]
end

function token_bucket.adjust(key, quota, window_ms, units, now)
  local level = bucket_state(key, quota, window_ms, now) + units * window_ms * 1000
  if level > 0 then
    keep_bucket(key, quota, window_ms, level, now)
  else
    call('DEL', key)
  end
end

------------------------------------------------------------------- fixed_window

local fixed_window = {}

-- Start and count as of now; without a count, the start of a window of this hit. And if
-- others wrote the state, as of a sliding counter.
local function fixed_state(key, window_ms, now, option)
  local window_us = window_ms * 1000
  local fresh = option == 'first_hit' and now or now - now % window_us
  local text, units = text_of(key, window_us, now)
  if not text then
    return fresh, units or 0, units
  end
  local _, _, written_ms, start, count = find(text, FIXED)
  if not written_ms or written_ms + 0 ~= window_ms then
    units = units_in_use(key, text, window_us, now)
    return fresh, units, units, text
  end
  if now >= start + window_us then
    return fresh, 0
  end
  return start + 0, count + 0
end

local function keep_fixed(key, window_ms, start, count, now)
  local text = format('f:%.0f:%.0f:%.0f', window_ms, start, count)
  call('SET', key, text, 'PX', whole_ms(start + window_ms * 1000 - now) + 1)
end

function fixed_window.look(key, quota, window_ms, cost, now, option)
  local start, count, others, text = fixed_state(key, window_ms, now, option)
  local remaining, ends_after = quota - count, whole_ms(start + window_ms * 1000 - now)
  local outcome = { 1, remaining, count > 0 and ends_after or 0, 0, now }
  if cost > remaining then
    outcome[1], outcome[2] = 0, remaining > 0 and remaining or 0
    outcome[4] = cost > quota and -1 or ends_after
  end
  if others then
    tell_others(outcome, others, key, text, window_ms * 1000, quota, cost, now)
  end
  outcome.start, outcome.count, outcome.ends_after = start, count, ends_after
  return outcome
end

function fixed_window.charge(outcome, key, _, window_ms, cost, now)
  keep_fixed(key, window_ms, outcome.start, outcome.count + cost, now)
  outcome[2], outcome[3] = outcome[2] - cost, outcome.ends_after
end

-- Units are given back in the window that they were charged in, or not at all.
function fixed_window.adjust(key, _, window_ms, units, now, option, charged_at)
  local start, count = fixed_state(key, window_ms, now, option)
  if units > 0 or charged_at >= start then
    count = count + units
    keep_fixed(key, window_ms, start, count > 0 and count or 0, now)
  end
end

-------------------------------------------------------------------- concurrency
--
-- One member for each lease, scored by the moment at which it ends unless it is
-- released before.

local concurrency = {}

function concurrency.look(key, quota, _, cost, now, _, peeking)
  if peeking then
    local used = call('ZCOUNT', key, '(' .. format('%.0f', now), '+inf')
    local remaining = quota - used
    return { cost <= remaining and 1 or 0, remaining > 0 and remaining or 0, 0, 0, now }
  end
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  local remaining = quota - call('ZCARD', key)
  if cost <= remaining then
    return { 1, remaining, 0, 0, now }
  end
  return { 0, remaining > 0 and remaining or 0, 0, cost > quota and -1 or 0, now }
end

function concurrency.charge(outcome, key, _, window_ms, cost, now, lease)
  local ends = now + window_ms * 1000
  call('ZADD', key, ends, lease)
  for more = 2, cost do
    call('ZADD', key, ends, lease .. '/' .. more)
  end
  call('PEXPIRE', key, window_ms + 1)
  outcome[2] = outcome[2] - cost
end

function concurrency.adjust() end

-- release: ends leases. Keys: those of the limits. Arguments: a lease for each.
local function release(keys, args)
  local released = 0
  for i = 1, #keys do
    released = released + call('ZREM', keys[i], args[i])
  end
  return released
end

------------------------------------------------------------------------ penalty
--
-- A key that is refused too often is banned, each time for longer.
--
--   p:<refusals>:<since_us>:<bans>:<until_us>
--
-- Refusals are counted from `since`; while a ban lasts, that is when it began.
-- As an algorithm of `decide`, `penalty` refuses while the ban lasts. `penalize`
-- counts a refusal: quota refusals in window_ms begin a ban of ban_ms, doubled for
-- each ban before, at most ban_max_ms. Bans are forgotten when a key has behaved
-- for ban_max_ms.

local PENALTY = '^p:(%d+):(%d+):(%d+):(%d+)$'

local penalty = {}

local function penalty_state(key)
  local text = call('GET', key)
  if not text then
    return 0, 0, 0, 0
  end
  local _, _, refusals, since, bans, until_us = find(text, PENALTY)
  return refusals + 0, since + 0, bans + 0, until_us + 0
end

function penalty.look(key, quota, _, _, now)
  local refusals, _, _, until_us = penalty_state(key)
  if until_us > now then
    local rest = whole_ms(until_us - now)
    return { 0, 0, rest, rest, now }
  end
  return { 1, quota > refusals and quota - refusals or 0, 0, 0, now }
end

function penalty.charge() end

function penalty.adjust() end

-- penalize: keys: the penalty's key, and a sorted set of all bans by their ends.
-- Arguments: quota window_ms ban_ms ban_max_ms. Reply: ms of the ban, 0 if none.
local function penalize(keys, args)
  local key, banned = keys[1], keys[2]
  local quota, window_us, ban_ms, ban_max_ms = args[1] + 0, args[2] * 1000, args[3] + 0, args[4] + 0
  local now = now_us()
  local refusals, since, bans, until_us = penalty_state(key)
  if until_us > now then
    return 0
  end
  if now >= since + window_us then
    refusals, since = 0, now
  end
  refusals = refusals + 1
  local ban = 0
  if refusals >= quota then
    ban = ban_ms * 2 ^ (bans < 40 and bans or 40)
    ban = ban < ban_max_ms and ban or ban_max_ms
    refusals, since, bans, until_us = 0, now, bans + 1, now + ban * 1000
    call('ZREMRANGEBYSCORE', banned, '-inf', now)
    call('ZADD', banned, until_us, key)
  end
  local text = format('p:%.0f:%.0f:%.0f:%.0f', refusals, since, bans, until_us)
  local kept = bans > 0 and ban + ban_max_ms or window_us / 1000
  call('SET', key, text, 'PX', kept > 1 and kept or 1)
  return ban
end

-- bans: who is banned, by the ends of the bans. Keys: the set of all bans. Arguments:
-- how many; until_us and key of the last that was seen, or 0 and nothing. Reply: a
-- flat list, key and until_us.
local function bans(keys, args)
  local all, count, until_us, seen = keys[1], args[1] + 0, args[2], args[3]
  local from = call('ZCOUNT', all, '-inf', '(' .. until_us)
  if call('ZSCORE', all, seen) == until_us then
    from = call('ZRANK', all, seen) + 1
  end
  local ended = call('ZCOUNT', all, '-inf', format('%.0f', now_us()))
  from = from > ended and from or ended
  return call('ZRANGE', all, from, from + count - 1, 'WITHSCORES')
end

-- banned: the bans of these keys. Reply: for each { bans so far, since_us, until_us },
-- or 0 if none is in force.
local function banned(keys)
  local now, states = now_us(), {}
  for i = 1, #keys do
    local _, since, count, until_us = penalty_state(keys[i])
    states[i] = until_us > now and { count, since, until_us } or 0
  end
  return states
end

-- pardon: forgets the refusals and bans of a key. Keys: the penalty's key, and the
-- set of all bans. Reply: 1 if a ban was in force.
local function pardon(keys)
  local _, _, _, until_us = penalty_state(keys[1])
  call('DEL', keys[1])
  call('ZREM', keys[2], keys[1])
  return until_us > now_us() and 1 or 0
end

----------------------------------------------------------------------- decision

local ALGORITHMS = {
  sliding_window = sliding_window,
  sliding_counter = sliding_counter,
  token_bucket = token_bucket,
  fixed_window = fixed_window,
  concurrency = concurrency,
  penalty = penalty,
}

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

-- Looking for a key twice takes the square of their number; no call needs more.
local LIMITS_MAX = 256

-- What is wrong with a call; nil if nothing is. Makes numbers of the arguments.
local function problem(keys, args)
  local count = #keys
  if count == 0 or #args ~= 6 * count then
    return 'ERR each key takes six arguments: algorithm quota window_ms cost option group'
  elseif count > LIMITS_MAX then
    return 'ERR too many limits'
  end
  for i = 1, count do
    local at = 6 * i - 5
    if not ALGORITHMS[args[at]] then
      return 'ERR unknown algorithm'
    end
    for j = at + 1, at + 3 do
      local number = number_of[args[j]] or whole(args[j])
      if not number then
        return 'ERR quota, window_ms and cost must be whole numbers'
      end
      args[j] = number
    end
    if args[at + 2] == 0 then
      return 'ERR window_ms must be at least 1'
    elseif args[at] == 'token_bucket' then
      local burst = number_of[args[at + 4]] or whole(args[at + 4])
      if args[at + 1] == 0 or not burst then
        return 'ERR a token bucket needs a quota, and its burst as option'
      end
      args[at + 4] = burst
    end
    for j = 1, i - 1 do
      if keys[i] == keys[j] then
        return 'ERR each limit needs a key of its own'
      end
    end
  end
end

local function is_enforced(group)
  return group == '0' or sub(group, 1, 1) == '='
end

-- Whether a group is charged. `refusals` counts the limits that refused and are
-- enforced, `by_group` those that refused in each group but `0`.
local function may_charge(group, refusals, by_group)
  if is_enforced(group) then
    return refusals == 0
  end
  return not by_group[group] and refusals == (by_group['=' .. group] or 0)
end

local NOBODY = {}

-- decide: looks at every limit, then charges each group all or none. In `stands` it
-- marks the limits whose groups were charged, if it is asked to.
local function decide(keys, args, stands)
  local wrong = problem(keys, args)
  if wrong then
    return redis.error_reply(wrong)
  end
  local now = now_us()
  local outcomes, refusals, by_group = { true }, 0, NOBODY
  for i = 1, #keys do
    local at = 6 * i
    local look = ALGORITHMS[args[at - 5]].look
    local outcome = look(keys[i], args[at - 4], args[at - 3], args[at - 2], now, args[at - 1])
    outcomes[i] = outcome
    if outcome[1] == 0 then
      local group = args[at]
      if is_enforced(group) then
        refusals = refusals + 1
      end
      if group ~= '0' then
        by_group = by_group == NOBODY and {} or by_group
        by_group[group] = (by_group[group] or 0) + 1
      end
    end
  end
  for i = 1, #keys do
    local at = 6 * i
    local cost = args[at - 2]
    if cost > 0 and may_charge(args[at], refusals, by_group) then
      local charge = ALGORITHMS[args[at - 5]].charge
      charge(outcomes[i], keys[i], args[at - 4], args[at - 3], cost, now, args[at - 1])
    end
  end
  if stands and refusals == 0 then
    for i = 1, #keys do
      stands[i] = may_charge(args[6 * i], refusals, by_group)
    end
  end
  return outcomes
end

-- peek: what the limits would say, without changing anything.
local function peek(keys, args)
  local wrong = problem(keys, args)
  if wrong then
    return redis.error_reply(wrong)
  end
  local now, outcomes = now_us(), {}
  for i = 1, #keys do
    local at = 6 * i
    local algorithm = ALGORITHMS[args[at - 5]]
    outcomes[i] =
      algorithm.look(keys[i], args[at - 4], args[at - 3], args[at - 2], now, args[at - 1], true)
  end
  return outcomes
end

-- One limit, by the name of its algorithm.
local function single(name, option_default)
  return function(keys, args)
    if #keys ~= 1 or #args < 3 or #args > 4 then
      return redis.error_reply('ERR ' .. name .. ' takes one key and quota window_ms cost [option]')
    end
    local option = args[4] or (option_default == 'quota' and args[1]) or option_default
    local outcomes = decide(keys, { name, args[1], args[2], args[3], option, '0' })
    return outcomes.err and outcomes or outcomes[1]
  end
end

-- adjust: charges more (units > 0) or gives back (units < 0), whatever the quota,
-- what was charged at `charged_at_us`. Reply: how many keys.
local function adjust(keys, args)
  if #keys == 0 or #args ~= 6 * #keys then
    return redis.error_reply(
      'ERR each key takes six arguments: algorithm quota window_ms units option charged_at_us')
  end
  local now = now_us()
  for i = 1, #keys do
    local at = 6 * i
    local algorithm, units = ALGORITHMS[args[at - 5]], tonumber(args[at - 2])
    if not algorithm or not units then
      return redis.error_reply('ERR unknown algorithm, or units that are no number')
    end
    if units ~= 0 then
      algorithm.adjust(
        keys[i], args[at - 4] + 0, args[at - 3] + 0, units, now, args[at - 1], args[at] + 0)
    end
  end
  return #keys
end

-- reset: forgets what was used under these keys. Reply: how many were there.
local function reset(keys)
  return call('DEL', unpack(keys))
end

-------------------------------------------------------------------- reservations
--
-- A cost that is known only with the response is charged twice: an estimate with
-- the decision, the difference with `settle`. Between the two the estimate stands
-- in a sorted set of reservations, by the moment at which it is abandoned: whoever
-- asks `abandoned` then gives it back. So a crash costs nobody his quota. Charge and
-- reservation are one call, so that there is never one without the other.
--
--   FCALL decide_reserving  n key ... reservations  (as for decide) ...
--                                                   ends_after_ms name estimate ...
--                                                   [earlier ...]
--   FCALL settle            n reservations key ...  reservation (as for adjust) ...
--   FCALL abandoned         1 reservations          count

-- decide_reserving: for each key an estimate, a text without line breaks; empty for a
-- limit whose cost is known; and then those that the request was charged by an earlier
-- call, which refused it and let it wait. The name is one that no other request has.
-- Reply: as of `decide`, and then the reservation, if enforced limits did not refuse: a
-- line with the name, one with `now_us`, and the estimates of those that were charged.
local function decide_reserving(keys, args)
  local count = #keys - 1
  if count < 1 or #args < 7 * count + 2 then
    return redis.error_reply(
      'ERR decide_reserving takes the keys and arguments of decide, a key of reservations, '
      .. 'ends_after_ms, name and an estimate for each limit')
  end
  local stands = {}
  local outcomes = decide({ unpack(keys, 1, count) }, { unpack(args, 1, 6 * count) }, stands)
  local rest = 6 * count
  local now = now_us()
  local lines = { args[rest + 2], format('%.0f', now) }
  for i = 1, count do
    local estimate = args[rest + 2 + i]
    if stands[i] and estimate ~= '' then
      lines[#lines + 1] = estimate
    end
  end
  -- Nothing stands of a request that is refused.
  for i = rest + count + 3, stands[1] ~= nil and #args or 0 do
    lines[#lines + 1] = args[i]
  end
  if #lines > 2 then
    local reservation = table.concat(lines, '\n')
    call('ZADD', keys[count + 1], now + args[rest + 1] * 1000, reservation)
    outcomes[count + 1] = reservation
  end
  return outcomes
end

-- Settles once: 0 if the reservation was settled or abandoned before.
local function settle(keys, args)
  if call('ZREM', keys[1], args[1]) == 0 then
    return 0
  elseif #keys == 1 then
    return 1
  end
  return adjust({ unpack(keys, 2) }, { unpack(args, 2) })
end

-- Reservations whose time is over, the oldest first. They stay until settled.
local function abandoned(keys, args)
  local now = format('%.0f', now_us())
  return call('ZRANGEBYSCORE', keys[1], '-inf', now, 'LIMIT', 0, args[1])
end

--------------------------------------------------------------------- key budgets
--
-- claim: whether a key may have a state of its own. Keys: a sorted set of the keys
-- that have one, by when they may be looked at again; the key. Arguments: how many
-- there may be, and the ms that a state lasts. Reply: 1, or 0 when the budget is
-- spent. Live keys are never taken out to make room.

-- Keys looked at in one call, so that a call stays short.
local LOOKED_AT = 16

local function claim(keys, args)
  local known, key = keys[1], keys[2]
  if call('EXISTS', key) == 1 then
    return 1
  end
  local now_ms = (now_us() - now_us() % 1000) / 1000
  local due = call('ZRANGEBYSCORE', known, '-inf', now_ms, 'LIMIT', 0, LOOKED_AT)
  for _, other in ipairs(due) do
    local rest = call('PTTL', other)
    if rest > 0 then
      call('ZADD', known, now_ms + rest, other)
    else
      call('ZREM', known, other)
    end
  end
  if call('ZSCORE', known, key) or call('ZCARD', known) < args[1] + 0 then
    call('ZADD', known, now_ms + args[2], key)
    return 1
  end
  return 0
end

----------------------------------------------------------------------- overrides
--
-- Overrides that were set while gateways run: a hash of texts by id. What they mean
-- is for the gateways to say, which keep a copy and ask now and then whether it is
-- still right: the field `version` is another one after each change.
--
--   FCALL override    1 overrides  id text count_max   reply: version, 0 if full
--   FCALL unoverride  1 overrides  id                  reply: version, 0 if not there
--   FCALL overrides   1 overrides  version             reply: 0 if that is the present
--                                                      one; else fields and values

-- A version is a moment, and later than the one before.
local function new_version(all)
  local before, now = call('HGET', all, 'version'), now_us()
  local version = format('%.0f', before and before + 0 >= now and before + 1 or now)
  call('HSET', all, 'version', version)
  return version
end

local function override(keys, args)
  local all, id = keys[1], args[1]
  -- One of the fields is the version.
  if call('HEXISTS', all, id) == 0 and call('HLEN', all) > args[3] + 0 then
    return 0
  end
  call('HSET', all, id, args[2])
  return new_version(all)
end

local function unoverride(keys, args)
  if call('HDEL', keys[1], args[1]) == 0 then
    return 0
  end
  return new_version(keys[1])
end

local function overrides(keys, args)
  if args[1] == (call('HGET', keys[1], 'version') or '0') then
    return 0
  end
  return call('HGETALL', keys[1])
end

-------------------------------------------------------------------------- guard
--
-- What a gateway keeps for itself is not evicted once it has been written to. After a
-- start it writes there what is there.
--
--   FCALL guard  3 overrides bans reservations         reply: OK

local function guard(keys)
  local version = call('HGET', keys[1], 'version')
  if version then
    call('HSET', keys[1], 'version', version)
  end
  for i = 2, #keys do
    local first = call('ZRANGE', keys[i], 0, 0, 'WITHSCORES')
    if first[1] then
      call('ZADD', keys[i], first[2], first[1])
    end
  end
  return redis.status_reply('OK')
end

------------------------------------------------------------------------ register

local function register(name, callback, description, flags)
  redis.register_function{
    function_name = name,
    callback = function(keys, args)
      if not call then
        call, try = redis.call, redis.pcall
        find, format, sub = string.find, string.format, string.sub
        kind_of = type
      end
      return callback(keys, args)
    end,
    description = description,
    flags = flags,
  }
end

register('decide', decide, 'Looks at every limit, then charges all or none')
register('peek', peek, 'What the limits say, without charging', { 'no-writes' })
register('sliding_window', single('sliding_window', '0'), 'One limit: an exact log of hits')
register('sliding_counter', single('sliding_counter', '0'), 'One limit: two weighted windows')
register('token_bucket', single('token_bucket', 'quota'), 'One limit: a bucket that empties evenly')
register('fixed_window', single('fixed_window', 'clock'), 'One limit: a count for each window')
register('concurrency', single('concurrency', '0'), 'One limit: leases of requests under way')
register('release', release, 'Ends leases')
register('adjust', adjust, 'Charges more, or gives back')
register('reset', reset, 'Forgets what was used')
register('penalize', penalize, 'Counts a refusal, and bans after too many')
register('bans', bans, 'Who is banned', { 'no-writes' })
register('banned', banned, 'The bans of keys', { 'no-writes' })
register('pardon', pardon, 'Revokes a ban')
register('override', override, 'Sets an override')
register('unoverride', unoverride, 'Takes an override back')
register('overrides', overrides, 'All overrides, if they have changed', { 'no-writes' })
register('guard', guard, 'Keeps from eviction what a gateway keeps for itself')
register('decide_reserving', decide_reserving, 'Decides, and remembers estimates until settled')
register('settle', settle, 'Charges or gives back what an estimate missed')
register('abandoned', abandoned, 'Reservations that nobody settled', { 'no-writes' })
register('claim', claim, 'Whether a new key fits into a budget of keys')
