-- Decides all counters of one check at one instant, or tells where they stand.
--
-- KEYS[i]             the i-th counter: a string, the amount taken; it expires when its window ends
-- ARGV[1]             "take" or "peek"
-- ARGV[3 * i - 1]     the limit of the i-th counter
-- ARGV[3 * i]         its window, in milliseconds
-- ARGV[3 * i + 1]     what is asked of it
--
-- Returns whether the counters were charged (1 or 0), then for each counter the amount taken and
-- the milliseconds until its window ends (0 if there is none).
--
-- A counter is created by one SET that carries its TTL, so none is ever without. Time does not pass
-- inside a script: what exists at its beginning exists at its end.

local used, left = {}, {}
local fits = true

for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if value then
    used[i] = tonumber(value)
    if not used[i] then
      return redis.error_reply('ERR ' .. key .. ' holds no counter: is the key prefix used by someone else?')
    end
    left[i] = redis.call('PTTL', key)
    if left[i] < 0 then
      -- Someone took the TTL away, by PERSIST or SET: the counter would never end.
      left[i] = tonumber(ARGV[3 * i])
      if ARGV[1] == 'take' then
        redis.call('PEXPIRE', key, left[i])
      end
    end
  else
    used[i], left[i] = 0, 0
  end
  if used[i] + tonumber(ARGV[3 * i + 1]) > tonumber(ARGV[3 * i - 1]) then
    fits = false
  end
end

local taken = fits and ARGV[1] == 'take'
if taken then
  for i, key in ipairs(KEYS) do
    local cost = tonumber(ARGV[3 * i + 1])
    if cost > 0 then
      if left[i] > 0 then
        redis.call('INCRBY', key, cost)
      else
        left[i] = tonumber(ARGV[3 * i])
        redis.call('SET', key, cost, 'PX', left[i])
      end
      used[i] = used[i] + cost
    end
  end
end

local reply = { taken and 1 or 0 }
for i = 1, #KEYS do
  reply[#reply + 1] = used[i]
  reply[#reply + 1] = left[i]
end
return reply
