-- Takes from fixed windows, from one for each check: what most checks are. All others are for apply.lua,
-- which does the same to a fixed window, with more ado.
--
-- KEYS[i]   the counters; each comes once, or as often as it is asked for different things
-- ARGV      for each counter
--             how many units all who ask for just this ask for together
--             which rule it has, with a minus before it if it need not be told when the window ends
--           then for each rule
--             the limit
--             what each check asks of a counter, which is not more than that
--             the window, in milliseconds
--
-- Returns a flat list, for each counter either a text that says why it could not be decided, or
--   what had been taken if all had fitted; or the same with a minus before it, and
--   the milliseconds until the window ends
-- A list of one number is that number.
--
-- Of those who ask, as many pass as find room; what is too much is not taken. Each key has its TTL when the
-- script ends, which is one transaction to others, and in which no time passes. What is wrong with one check
-- is no matter of the others: what a command refuses is told to that check alone.

local UNTOLD = -3

local keys, argv, try, type = KEYS, ARGV, redis.pcall, type
local reply, said = {}, 0
local at, rules = 1, 2 * #keys - 2
-- The rule of the counter at hand, and how many units are asked for: mostly as before.
local number, limit, cost, window, tells
local units, asked

for i = 1, #keys do
  local key, ends, used, fault = keys[i], UNTOLD, nil, nil
  if argv[at] ~= units then
    units = argv[at]
    asked = tonumber(units)
  end
  if argv[at + 1] ~= number then
    number = argv[at + 1]
    local signed = tonumber(number)
    tells = signed > 0
    local first = rules + 3 * (tells and signed or -signed)
    limit, cost, window = tonumber(argv[first]), argv[first + 1], argv[first + 2]
  end
  at = at + 2
  if tells then
    ends = try('PTTL', key)
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
      if ends == UNTOLD then ends = try('PTTL', key) end
      if type(ends) ~= 'number' then
        fault = ends.err
      elseif ends == -1 then
        -- It is new, or someone took the TTL away.
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
