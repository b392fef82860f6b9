-- Takes from fixed windows, from one for each check: what most checks are. All others are for apply.lua,
-- which does the same to a fixed window, with more ado.
--
-- KEYS[i]   the counters; one that is asked for different things comes more than once
-- ARGV      for each counter
--             how many units all who ask for just this ask for together, with a minus before it if they are to
--             be told when the window ends
--             which rule it has, unless all have the same one
--           then for each rule
--             the limit
--             what each check asks of a counter, which is not more than that
--             the window, in milliseconds
--           and, if a transaction has charged the one counter already, what came of that, how many milliseconds
--             its window may last at most, and whether it has not ended since: 1 or 0
--
-- Returns a flat list, for each counter either a text that says why it could not be decided, or
--   what had been taken if all had fitted; or the same with a minus before it, and
--   the milliseconds until the window ends, 0 if it has
-- A list of one number is that number.
--
-- Of those who ask, as many pass as find room; what is too much is not taken. Each key has its TTL when the
-- script ends, which is one transaction to others, and in which no time passes. What is wrong with one check
-- is no matter of the others: what a command refuses is told to that check alone.

local keys, argv, try, type = KEYS, ARGV, redis.pcall, type

-- How long a key lasts: -1 also if that is longer than its window, since the server's clock has gone back.
local function lasting(key, window)
  local ends = try('PTTL', key)
  return type(ends) == 'number' and ends > tonumber(window) and -1 or ends
end

-- A transaction has charged the one counter with more than fits, or it does not end. So many have passed as found
-- room; what is too much is given back, if this seems to be the same window: one that has begun since ends later,
-- unless this one had just begun. Where it may have ended meanwhile, it is left with no less than its limit, so that
-- nobody gets more; where it has not, others may have been given back what they took, and it is left with less.
local charged = #keys == 1 and tonumber(argv[5])
if charged then
  local key, asked, limit, window = keys[1], math.abs(argv[1]), tonumber(argv[2]), argv[4]
  local ends = lasting(key, window)
  if ends == -1 then
    try('PEXPIRE', key, window)
    ends = tonumber(window)
  elseif type(ends) ~= 'number' or ends < 0 or ends > tonumber(argv[6]) then
    return { -charged, 0 }
  end
  local least = argv[7] == '1' and 0 or limit
  local over = math.min((tonumber(try('GET', key)) or 0) - least, asked, charged - limit)
  if over > 0 then try('DECRBY', key, over) end
  return { -charged, ends }
end

local UNTOLD = -3
local reply, said = {}, 0
local at, is_one = 1, #argv == #keys + 3
local rules = is_one and #keys or 2 * #keys
-- What is asked of the counter at hand, and by which rule: mostly as before.
local told, units, asked, number, limit, cost, window

for i = 1, #keys do
  local key, ends, used, fault = keys[i], UNTOLD, nil, nil
  if argv[at] ~= told then
    told = argv[at]
    asked = tonumber(told)
    units = asked < 0 and string.sub(told, 2) or told
    asked = math.abs(asked)
  end
  local tells = told ~= units
  at = at + 1
  local rule = 1
  if not is_one then
    rule = tonumber(argv[at])
    at = at + 1
  end
  if rule ~= number then
    number = rule
    local from = rules + 3 * (rule - 1)
    limit, cost, window = tonumber(argv[from + 1]), argv[from + 2], argv[from + 3]
  end
  if tells then
    ends = lasting(key, window)
    if type(ends) ~= 'number' then fault = ends.err end
  end
  if ends == -2 then
    -- It begins with this.
    used, ends = asked, tonumber(window)
    fault = try('SET', key, asked > limit and math.floor(limit / cost) * cost or units, 'PX', window).err
  elseif not fault then
    used = try('INCRBY', key, units)
    if type(used) ~= 'number' then
      fault = used.err
      if string.find(fault, 'not an integer', 1, true) then
        fault = 'ERR ' .. key .. ' holds no counter: is the key prefix used by someone else?'
      end
    elseif used > limit or used <= asked or ends == -1 then
      -- Whoever is denied is told how long; and the window may have begun with this.
      if ends == UNTOLD then ends = lasting(key, window) end
      if type(ends) ~= 'number' then
        fault = ends.err
      elseif ends == -1 then
        -- It is new, or someone took the TTL away, or it was too long.
        ends = tonumber(window)
        local set = try('PEXPIRE', key, window)
        if type(set) ~= 'number' then fault = set.err end
      end
      if fault then
        -- Nothing is taken that does not end.
        if used == asked then try('UNLINK', key) else try('DECRBY', key, units) end
      end
      -- Not by us has it been less than nothing.
      if used < 1 then used = 1 end
      if used > limit and not fault then
        -- So many pass; what the others ask for is given back.
        local left = limit - (used - asked)
        local passed = left < tonumber(cost) and 0 or math.floor(left / cost)
        try('DECRBY', key, asked - passed * cost)
      end
    end
  end
  said = said + 1
  if fault then
    reply[said] = fault
  elseif ends == UNTOLD then
    reply[said] = used
  else
    reply[said], reply[said + 1] = -used, ends
    said = said + 1
  end
end
return said == 1 and reply[1] or reply
