-- Decides all counters of one check at one instant, or tells where they stand.
--
-- KEYS[i]   the i-th counter
-- ARGV[1]   "take", "peek", "add" or "give_back"
-- ARGV[2]   the time in microseconds where a test sets it, else ""
-- and for the i-th counter, from ARGV[7 * i - 4] on:
--   1  the algorithm: "f", "s", "l" or "t", as below
--   2  the limit
--   3  the window, in microseconds
--   4  what is asked of it
--   5  how much a bucket holds
--   6  which policy it belongs to
--   7  1 if that policy is in shadow, else 0
--
-- Returns 1 if the counters were charged, else 0 (those of policies in shadow aside); then for each
-- counter whether it had room (1 or 0), how much it has left, the microseconds until it is whole again, and those until
-- what was asked for fits (-1 for never).
--
-- The algorithms are those of runtime/src/algorithm, function by function. Each key has a TTL from
-- the command, or the transaction that a script is to others, which creates it. Time does not pass
-- inside a script: what exists at its beginning exists at its end.

local NEVER = -1
local op = ARGV[1]

local injected = tonumber(ARGV[2])
local clock
local function now()
  if not clock then
    if injected then
      clock = injected
    else
      local time = redis.call('TIME')
      clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
    end
  end
  return clock
end

local function whole(number) return string.format('%.0f', number) end

local function set(key, value, micros)
  redis.call('SET', key, value, 'PX', whole(math.max(1, math.ceil(micros / 1000))))
end

-- f: fixed window. A string, the amount taken; it expires when its window ends.
local fixed = {}

function fixed.look(c)
  c.used, c.left = 0, 0
  local value = redis.call('GET', c.key)
  if value then
    c.used = tonumber(value)
    if not c.used then return 'holds no counter' end
    c.left = redis.call('PTTL', c.key) * 1000
    if c.left < 0 then
      -- Someone took the TTL away, by PERSIST or SET: the counter would never end.
      c.left = c.window
      if op ~= 'peek' then redis.call('PEXPIRE', c.key, whole(c.window / 1000)) end
    end
  end
end

function fixed.read(c, cost)
  local reset = c.used > 0 and c.left or 0
  return c.used + cost <= c.limit, c.limit - c.used, reset, cost <= c.limit and reset or NEVER
end

function fixed.charge(c, cost)
  c.used = c.used + cost
  if c.left > 0 then
    redis.call('INCRBY', c.key, cost)
  else
    c.left = c.window
    set(c.key, whole(cost), c.window)
  end
end

function fixed.give_back(c, cost)
  cost = math.min(cost, c.used)
  c.used = c.used - cost
  if cost > 0 then redis.call('DECRBY', c.key, cost) end
end

-- s: sliding window. A string "index previous current".
local sliding = {}

function sliding.look(c)
  local index = math.floor(now() / c.window)
  c.index, c.previous, c.current = index, 0, 0
  c.elapsed = now() - index * c.window
  local value = redis.call('GET', c.key)
  if value then
    local last, previous, current = string.match(value, '^(%d+) (%d+) (%d+)$')
    if not last then return 'holds no counter' end
    if tonumber(last) >= index then
      c.previous, c.current = tonumber(previous), tonumber(current)
    elseif tonumber(last) == index - 1 then
      c.previous = tonumber(current)
    end
  end
end

local function out_of_sight(room, count, window)
  if count <= room then return 0 end
  return math.ceil(window - room * window / count)
end

function sliding.read(c, cost)
  local used = math.ceil(c.previous * (c.window - c.elapsed) / c.window) + c.current
  local reset = 0
  if c.current > 0 then
    reset = 2 * c.window - c.elapsed
  elseif c.previous > 0 then
    reset = c.window - c.elapsed
  end
  local wait = NEVER
  if cost <= c.limit then
    local room = c.limit - cost - c.current
    if room >= 0 then
      wait = math.max(0, out_of_sight(room, c.previous, c.window) - c.elapsed)
    else
      wait = c.window + out_of_sight(c.limit - cost, c.current, c.window) - c.elapsed
    end
  end
  return used + cost <= c.limit, c.limit - used, reset, wait
end

local function keep_windows(c)
  local value = whole(c.index) .. ' ' .. whole(c.previous) .. ' ' .. whole(c.current)
  set(c.key, value, 2 * c.window - c.elapsed)
end

function sliding.charge(c, cost)
  c.current = c.current + cost
  keep_windows(c)
end

function sliding.give_back(c, cost)
  c.previous = math.max(0, c.previous - math.max(0, cost - c.current))
  c.current = math.max(0, c.current - cost)
  if c.previous + c.current > 0 then keep_windows(c) else redis.call('DEL', c.key) end
end

-- l: sliding log. A sorted set with a member for each unit taken, scored by its time.
local log = {}
local MOST = 20000

function log.look(c)
  c.cutoff = whole(now() - c.window)
  c.used = redis.call('ZCOUNT', c.key, '(' .. c.cutoff, '+inf')
end

function log.read(c, cost)
  local reset, wait = 0, NEVER
  if c.used > 0 then
    local newest = redis.call('ZRANGE', c.key, -1, -1, 'WITHSCORES')
    reset = tonumber(newest[2]) + c.window - now()
  end
  if cost <= c.limit then
    local must_go = c.used + cost - c.limit
    wait = 0
    if must_go > 0 then
      local last = redis.call('ZRANGEBYSCORE', c.key, '(' .. c.cutoff, '+inf', 'WITHSCORES', 'LIMIT', must_go - 1, 1)
      if last[2] then wait = tonumber(last[2]) + c.window - now() end
    end
  end
  return c.used + cost <= c.limit, c.limit - c.used, reset, wait
end

function log.charge(c, cost)
  redis.call('ZREMRANGEBYSCORE', c.key, '-inf', c.cutoff)
  local time = now()
  local newest = redis.call('ZRANGE', c.key, -1, -1, 'WITHSCORES')
  if newest[2] then time = math.max(time, tonumber(newest[2])) end
  local score = whole(time)
  -- Members of one instant are numbered, at one width, so that their order is that of the numbers.
  local number = redis.call('ZCOUNT', c.key, score, score)
  local units = math.min(cost, MOST - c.used)
  for first = 1, units, 1000 do
    local members = {}
    for _ = first, math.min(units, first + 999) do
      members[#members + 1] = score
      members[#members + 1] = string.format('%s-%05d', score, number)
      number = number + 1
    end
    redis.call('ZADD', c.key, unpack(members))
  end
  c.used = c.used + units
  redis.call('PEXPIRE', c.key, whole(math.max(1, math.ceil((time + c.window - now()) / 1000))))
end

function log.give_back(c, cost)
  cost = math.min(cost, c.used)
  c.used = c.used - cost
  if cost > 0 then redis.call('ZPOPMAX', c.key, cost) end
end

-- t: token bucket. A string, the time at which the bucket is full.
local bucket = {}
local MOST_DEBT = 2 * 366 * 24 * 60 * 60 * 1000000

function bucket.look(c)
  c.interval = math.ceil(c.window / c.limit)
  c.debt = 0
  local value = redis.call('GET', c.key)
  if value then
    local tat = tonumber(value)
    if not tat then return 'holds no counter' end
    c.debt = math.max(0, tat - now())
  end
end

function bucket.read(c, cost)
  local depth = c.burst * c.interval
  local after = c.debt + cost * c.interval
  local wait = cost <= c.burst and math.max(0, after - depth) or NEVER
  return after <= depth, math.floor((depth - c.debt) / c.interval), c.debt, wait
end

local function keep_debt(c)
  if c.debt > 0 then set(c.key, whole(now() + c.debt), c.debt) else redis.call('DEL', c.key) end
end

function bucket.charge(c, cost)
  c.debt = math.min(c.debt + cost * c.interval, MOST_DEBT)
  keep_debt(c)
end

function bucket.give_back(c, cost)
  c.debt = math.max(0, c.debt - cost * c.interval)
  keep_debt(c)
end

local algorithms = { f = fixed, s = sliding, l = log, t = bucket }

local counters = {}
local passes, fits = true, {}

for i, key in ipairs(KEYS) do
  local at = 7 * i - 4
  local c = {
    key = key,
    algorithm = algorithms[ARGV[at]],
    limit = tonumber(ARGV[at + 1]),
    window = tonumber(ARGV[at + 2]),
    cost = tonumber(ARGV[at + 3]),
    burst = tonumber(ARGV[at + 4]),
    policy = ARGV[at + 5],
    shadow = ARGV[at + 6] == '1',
  }
  local fault = c.algorithm.look(c)
  if fault then
    return redis.error_reply('ERR ' .. key .. ' ' .. fault .. ': is the key prefix used by someone else?')
  end
  local room
  room, c.remaining, c.reset, c.wait = c.algorithm.read(c, c.cost)
  c.fits = room or c.cost == 0
  if not c.fits then
    fits[c.policy] = false
    if not c.shadow then passes = false end
  end
  counters[i] = c
end

for _, c in ipairs(counters) do
  local taken = op == 'take' and passes and fits[c.policy] ~= false
  if c.cost > 0 and (taken or op == 'add') then
    c.algorithm.charge(c, c.cost)
  elseif c.cost > 0 and op == 'give_back' then
    c.algorithm.give_back(c, c.cost)
  end
end

-- What is only looked at is never charged, whatever it says.
local charged = op == 'add' or op == 'give_back' or (op == 'take' and passes)
local reply = { charged and 1 or 0 }
for _, c in ipairs(counters) do
  local _, remaining, reset = c.algorithm.read(c, 0)
  reply[#reply + 1] = c.fits and 1 or 0
  reply[#reply + 1] = math.max(0, remaining)
  reply[#reply + 1] = reset
  reply[#reply + 1] = c.fits and 0 or c.wait
end
return reply
