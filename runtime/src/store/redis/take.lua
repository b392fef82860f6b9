-- Takes from fixed windows, from one window for each check, which is what most checks ask. All other checks are
-- for apply.lua, which does the same to a fixed window, but takes longer.
--
-- KEYS[i]   the counters; one that is asked for different things comes more than once
-- ARGV      for each counter
--             how many units its checks take together; negative if they are to be told when the window ends
--             the number of its rule, unless there is only one rule
--           then for each rule
--             the limit
--             the cost: what each check takes, which is at most the limit
--             the window, in milliseconds
--           and, if a transaction has charged the only counter already
--             the counter's value after that
--             how many milliseconds its window still lasts at most
--             1 if the window can't have ended since, else 0
--
-- Returns a flat list, for each counter one of
--   a text that says why it could not be decided
--   what would have been taken from the window if everything had fitted
--   the same, negated, and then the milliseconds until the window ends, 0 if it has ended
-- A list of one item is returned as that item.
--
-- Of the checks on a counter, the first ones pass, as many as there is room for; nothing is taken for the others. Each
-- key has its TTL when the script ends: a script is one transaction to others, and no time passes in it. An error of
-- one check does not concern the others: what a command refuses is told to that check alone.

local keys, argv, try, type = KEYS, ARGV, redis.pcall, type

-- The TTL of a key in milliseconds, as PTTL tells it; but -1 also if it is longer than the window, since the
-- server's clock has gone back.
local function lasting(key, window)
  local ends = try('PTTL', key)
  return type(ends) == 'number' and ends > tonumber(window) and -1 or ends
end

-- A transaction has charged the only counter with more than fits, or the counter does not end. Which checks pass
-- is decided already. What was too much is given back, if this seems to be the same window: a window that has
-- begun since would end later, unless the charged one had just begun. If the charged window may have ended
-- meanwhile, the counter is left at its limit or above, so that nobody gets more. If it can't have ended, the
-- counter may be left below its limit, since others may have given back what they took.
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
-- What is asked of the current counter, and its rule: kept, since the next one mostly has the same.
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
    -- The window begins with this.
    used, ends = asked, tonumber(window)
    fault = try('SET', key, asked > limit and math.floor(limit / cost) * cost or units, 'PX', window).err
  elseif not fault then
    used = try('INCRBY', key, units)
    if type(used) ~= 'number' then
      fault = used.err
      if string.find(fault, 'not an integer', 1, true) then
        fault = 'ERR a key of this policy holds no counter: is the key prefix used by someone else?'
      end
    elseif used > limit or used <= asked or ends == -1 then
      -- A denied check is told when the window ends; and the window may have begun with this.
      if ends == UNTOLD then ends = lasting(key, window) end
      if type(ends) ~= 'number' then
        fault = ends.err
      elseif ends == -1 then
        -- The key is new, or someone took its TTL away, or the TTL was too long.
        ends = tonumber(window)
        local set = try('PEXPIRE', key, window)
        if type(set) ~= 'number' then fault = set.err end
      end
      if fault then
        -- Nothing is taken that would never expire.
        if used == asked then try('UNLINK', key) else try('DECRBY', key, units) end
      end
      -- Only somebody else can have set it below zero.
      if used < 1 then used = 1 end
      if used > limit and not fault then
        -- Some may pass; what the others ask for is given back.
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
