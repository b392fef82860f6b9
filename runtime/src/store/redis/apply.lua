-- Decides a batch of checks at one instant, one after the other.
--
-- KEYS[i]   the counters of all groups of checks, in their order; a counter may come more than once
-- ARGV[1]   a list in MessagePack: the time in microseconds if a test sets it, else -1; then how many rules there
--           are, and for each of them
--             the algorithm: 1 fixed window, 2 sliding window, 3 sliding log, 4 token bucket
--             the limit
--             the window, in microseconds
--             the cost: what each check asks of a counter
--             the burst: how much a bucket holds
--             1 if the policy is in shadow, else 0
--           then for each group of checks that ask for the same
--             the operation: 0 take, 1 peek, 2 add, 3 give back, 4 reset
--             how many checks they are (1 for all but take and peek)
--             how many counters each check has, and for each of them
--               the number of its rule
--               which policy of the check it belongs to
--               how many microseconds what it gives back still counts at most; -1 if that is not known
--
-- Returns a flat list, for each group either a text that says why it could not be decided, or
--   how many of its checks pass, the first ones
--   and for each counter
--     how many times the cost had room, at most once for each check
--     how much was left before the first check (for add and give back: after it)
--     the microseconds until the quota is whole again, when all is done
--     the microseconds until the cost fits, when all is done (for add and give back: before); -1 for never
--
-- The algorithms are those of runtime/src/algorithm, function by function. Each key has a TTL from the step that
-- creates it: one command, or the script, which is one transaction to others. No time passes inside a script, so what
-- exists at its beginning exists at its end. An error of one check does not concern the others: what a command refuses
-- is told to that check alone.
--
-- Checks that take from one fixed window, as most do, are decided by take.lua, unless the batch also asks
-- something of their keys that only this script decides: creating the functions of all algorithms takes longer
-- than such a check.

local TAKE, PEEK, ADD, GIVE_BACK, RESET = 0, 1, 2, 3, 4
local NEVER = -1

local plan, keys = cmsgpack.unpack(ARGV[1]), KEYS
local call, try = redis.call, redis.pcall
local ceil, floor, min, max, type = math.ceil, math.floor, math.min, math.max, type

local reply, said = {}, 0

-- The operation of the current checks, and the first error that they met.
local op, fault

local function is_foreign(key)
  fault = fault or ('ERR a key of this policy holds no counter: is the key prefix used by someone else?')
end

local clock = plan[1]
local function now()
  if clock < 0 then
    local time = call('TIME')
    clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  return clock
end

local function ask(...)
  local reply = try(...)
  if type(reply) == 'table' and reply.err then
    fault = fault or reply.err
    return nil
  end
  return reply
end

local function whole(number) return string.format('%.0f', number) end

local function set(key, value, micros)
  ask('SET', key, value, 'PX', whole(max(1, ceil(micros / 1000))))
end

-- 1: fixed window. A string, the amount taken; it expires when its window ends.
local fixed = {}

function fixed.look(c)
  c.used, c.ends = 0, 0
  local value = ask('GET', c.key)
  c.exists = value and true
  if value then
    c.used = tonumber(value)
    if not c.used then return is_foreign(c.key) end
    local ends = ask('PTTL', c.key)
    if not ends then return end
    c.ends = ends * 1000
    if ends < 0 or c.ends > c.window then
      -- Someone took the TTL away, by PERSIST or SET: the counter would never end. Or the server's clock has gone back.
      c.ends = c.window
      if op ~= PEEK then ask('PEXPIRE', c.key, whole(c.window / 1000)) end
    end
  end
end

function fixed.room(c) return floor((c.limit - c.used) / c.cost) end
function fixed.left(c) return c.limit - c.used end
function fixed.reset(c) return c.used > 0 and c.ends or 0 end
fixed.wait = fixed.reset

function fixed.charge(c, units)
  c.used = c.used + units
  if c.exists then
    ask('INCRBY', c.key, whole(units))
  else
    c.exists, c.ends = true, c.window
    set(c.key, whole(units), c.window)
  end
end

function fixed.give_back(c)
  if c.lasts <= 0 or c.ends > c.lasts + c.window / 2 then return end
  local units = min(c.cost, c.used)
  c.used = c.used - units
  if units > 0 then ask('DECRBY', c.key, whole(units)) end
end

-- 2: sliding window. A string "index previous current".
local sliding = {}

function sliding.look(c)
  local index = floor(now() / c.window)
  c.index, c.previous, c.current, c.behind, c.forgotten = index, 0, 0, 0, math.huge
  c.elapsed = now() - index * c.window
  local value = ask('GET', c.key)
  if value then
    local last, previous, current = string.match(value, '^(%d+) (%d+) (%d+)$')
    if not last then return is_foreign(c.key) end
    if tonumber(last) >= index then
      c.previous, c.current = tonumber(previous), tonumber(current)
      -- A clock that goes back does not bring a window back: its start is still to come. The key is forgotten before
      -- that if the clock was far ahead.
      if tonumber(last) > index then
        c.index, c.elapsed = tonumber(last), 0
        c.behind = c.index * c.window - now()
        local left = ask('PTTL', c.key)
        if left and left > 0 then c.forgotten = (left + 1) * 1000 end
      end
    elseif tonumber(last) == index - 1 then
      c.previous = tonumber(current)
    end
  end
end

function sliding.left(c)
  return c.limit - ceil(c.previous * (c.window - c.elapsed) / c.window) - c.current
end

function sliding.room(c) return floor(sliding.left(c) / c.cost) end

function sliding.reset(c)
  if c.current > 0 then return min(2 * c.window - c.elapsed + c.behind, c.forgotten) end
  if c.previous > 0 then return min(c.window - c.elapsed + c.behind, c.forgotten) end
  return 0
end

local function out_of_sight(room, count, window)
  if count <= room then return 0 end
  return ceil(window - room * window / count)
end

function sliding.wait(c)
  local room = c.limit - c.cost - c.current
  if room >= 0 then
    local slides = out_of_sight(room, c.previous, c.window)
    return slides > c.elapsed and min(slides - c.elapsed + c.behind, c.forgotten) or 0
  end
  return min(c.window + out_of_sight(c.limit - c.cost, c.current, c.window) - c.elapsed + c.behind, c.forgotten)
end

local function keep_windows(c)
  local value = whole(c.index) .. ' ' .. whole(c.previous) .. ' ' .. whole(c.current)
  local lasts = 2 * c.window - c.elapsed
  set(c.key, value, lasts)
  if c.behind > 0 then c.forgotten = lasts end
end

function sliding.charge(c, units)
  c.current = c.current + units
  keep_windows(c)
end

function sliding.give_back(c)
  local left, cost = c.window - c.elapsed + c.behind, c.cost
  if c.lasts >= left + c.window / 2 then
    local given = min(cost, c.current)
    c.current, cost = c.current - given, cost - given
  end
  if c.lasts > 0 and c.lasts + c.window / 2 >= left then c.previous = max(0, c.previous - cost) end
  if c.previous + c.current > 0 then keep_windows(c) else ask('DEL', c.key) end
end

-- 3: sliding log. A sorted set with a member for each unit taken, scored by its time.
local log = {}
local MOST = 20000

function log.look(c)
  c.cutoff = whole(now() - c.window)
  c.used = ask('ZCOUNT', c.key, '(' .. c.cutoff, '+inf')
end

log.room = fixed.room
log.left = fixed.left

function log.reset(c)
  if c.used == 0 then return 0 end
  local newest = call('ZRANGE', c.key, -1, -1, 'WITHSCORES')
  return newest[2] and tonumber(newest[2]) + c.window - now() or 0
end

function log.wait(c)
  local must_go = c.used + c.cost - c.limit
  if must_go <= 0 then return 0 end
  local last = call('ZRANGEBYSCORE', c.key, '(' .. c.cutoff, '+inf', 'WITHSCORES', 'LIMIT', must_go - 1, 1)
  return last[2] and tonumber(last[2]) + c.window - now() or 0
end

function log.charge(c, units)
  ask('ZREMRANGEBYSCORE', c.key, '-inf', c.cutoff)
  local time = now()
  local newest = call('ZRANGE', c.key, -1, -1, 'WITHSCORES')
  if newest[2] then time = max(time, tonumber(newest[2])) end
  local score = whole(time)
  -- Members of one instant are numbered, padded to one width, so that they sort by their numbers.
  local number = call('ZCOUNT', c.key, score, score)
  units = min(units, MOST - c.used)
  for first = 1, units, 1000 do
    local members = {}
    for _ = first, min(units, first + 999) do
      members[#members + 1] = score
      members[#members + 1] = string.format('%s-%05d', score, number)
      number = number + 1
    end
    if not ask('ZADD', c.key, unpack(members)) then return end
  end
  c.used = c.used + units
  if not ask('PEXPIRE', c.key, whole(max(1, ceil((time + c.window - now()) / 1000)))) then
    -- Nothing is taken that would never expire.
    ask('ZREMRANGEBYRANK', c.key, -units, -1)
  end
end

-- How long ago the units were taken is measured by the clock of the process. Clocks drift apart, so that it may seem
-- longer ago there: by at most a thousandth, it is assumed.
function log.give_back(c)
  local last = '+inf'
  if c.lasts < math.huge then
    local age = c.window - c.lasts
    if c.lasts > 0 then age = age - max(0, age) / 1000 end
    last = whole(now() - age)
  end
  local units = min(c.cost, ask('ZCOUNT', c.key, '(' .. c.cutoff, last) or 0)
  if units == 0 then return end
  local rank = call('ZCOUNT', c.key, '-inf', last)
  c.used = c.used - units
  ask('ZREMRANGEBYRANK', c.key, rank - units, rank - 1)
end

-- 4: token bucket. A string, the time at which the bucket is full.
local bucket = {}
local MOST_DEBT = 2 * 366 * 24 * 60 * 60 * 1000000

function bucket.look(c)
  c.interval = ceil(c.window / c.limit)
  c.depth = c.burst * c.interval
  c.debt = 0
  local value = ask('GET', c.key)
  if value then
    local tat = tonumber(value)
    if not tat then return is_foreign(c.key) end
    c.debt = max(0, tat - now())
  end
end

function bucket.room(c) return floor((c.depth - c.debt) / (c.cost * c.interval)) end
function bucket.left(c) return floor((c.depth - c.debt) / c.interval) end
function bucket.reset(c) return c.debt end
function bucket.wait(c) return max(0, c.debt + c.cost * c.interval - c.depth) end

local function keep_debt(c)
  if c.debt > 0 then set(c.key, whole(now() + c.debt), c.debt) else ask('DEL', c.key) end
end

function bucket.charge(c, units)
  c.debt = min(c.debt + units * c.interval, MOST_DEBT)
  keep_debt(c)
end

function bucket.give_back(c)
  c.debt = max(0, c.debt - min(c.cost * c.interval, c.lasts))
  keep_debt(c)
end

local algorithms = { fixed, sliding, log, bucket }

local function most(c) return c.algorithm == bucket and c.burst or c.limit end

local function wait(c, count)
  if c.room >= count then return 0 end
  return c.cost <= most(c) and c.algorithm.wait(c) or NEVER
end

local function say(number)
  said = said + 1
  reply[said] = number
end

-- Adds to counters that have been looked at, or gives back to them. A request may give back what it was charged at
-- different times: then a counter comes more than once, and each time it is looked at again.
local function change(count, counters)
  local latest, earlier = {}, {}
  for i, c in ipairs(counters) do
    if latest[c.key] then
      earlier[#earlier + 1] = counters[latest[c.key]]
      c.algorithm.look(c)
    end
    latest[c.key] = i
    c.wait = wait(c, count)
    if c.cost > 0 then
      if op == ADD then c.algorithm.charge(c, c.cost) else c.algorithm.give_back(c) end
    end
    if fault then return end
    c.left = c.algorithm.left(c)
  end
  for _, c in ipairs(earlier) do
    c.algorithm.look(c)
    if fault then return end
    c.left = c.algorithm.left(c)
  end
end

-- Decides checks of any operation but reset: looks at all counters, then changes them.
local function decide(count, counters)
  local passed, shadows = count, {}
  for _, c in ipairs(counters) do
    c.algorithm.look(c)
    if fault then return end
    c.room = c.cost == 0 and count or max(0, min(count, c.algorithm.room(c)))
    c.left = c.algorithm.left(c)
    if c.shadow then
      shadows[c.policy] = min(shadows[c.policy] or count, c.room)
    else
      passed = min(passed, c.room)
    end
  end
  if op ~= TAKE then passed = 0 end
  if op == ADD or op == GIVE_BACK then
    change(count, counters)
  else
    for _, c in ipairs(counters) do
      local times = c.shadow and min(passed, shadows[c.policy]) or passed
      if times > 0 and c.cost > 0 then c.algorithm.charge(c, times * c.cost) end
      if fault then return end
    end
  end
  if fault then return end
  say(passed)
  for _, c in ipairs(counters) do
    say(c.room)
    say(max(0, c.left))
    say(c.algorithm.reset(c))
    say(c.wait or wait(c, count))
  end
end

local function reset(counters)
  for _, c in ipairs(counters) do
    if not ask('UNLINK', c.key) then return end
  end
  say(0)
  for _ = 1, 4 * #counters do say(0) end
end

local rules, at = {}, 3
for i = 1, plan[2] do
  rules[i] = {
    algorithm = algorithms[plan[at]],
    limit = plan[at + 1],
    window = plan[at + 2],
    cost = plan[at + 3],
    burst = plan[at + 4],
    shadow = plan[at + 5] == 1,
  }
  at = at + 6
end

local key = 1
while plan[at] do
  op = plan[at]
  local count, width = plan[at + 1], plan[at + 2]
  at = at + 3
  local counters = {}
  for i = 1, width do
    local rule = rules[plan[at]]
    counters[i] = {
      key = keys[key],
      algorithm = rule.algorithm,
      limit = rule.limit,
      window = rule.window,
      cost = rule.cost,
      burst = rule.burst,
      shadow = rule.shadow,
      policy = plan[at + 1],
      lasts = plan[at + 2] < 0 and math.huge or plan[at + 2],
    }
    key, at = key + 1, at + 3
  end
  if op == RESET then reset(counters) else decide(count, counters) end
  if fault then
    said = said + 1
    reply[said] = fault
    fault = nil
  end
end
return reply
