-- What wrk sends, and how it tells what came of it.
--
--   wrk … -s wrk.lua <url>            one client
--   wrk … -s wrk.lua <url> -- keys    10,000 clients, told apart by a header, in turn

init = function(arguments)
  if arguments[1] ~= "keys" then return end
  -- All requests are made before the run begins.
  local requests, turn = {}, 0
  for client = 1, 10000 do
    requests[client] = wrk.format(nil, nil, { ["x-key"] = string.format("client-%05d", client) })
  end
  request = function()
    turn = turn % #requests + 1
    return requests[turn]
  end
end

done = function(summary, latency)
  local errors = summary.errors
  print(string.format(
    "figures requests=%d micros=%d denied=%d broken=%d mean=%.1f median=%.1f",
    summary.requests,
    summary.duration,
    errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency.mean,
    latency:percentile(50)
  ))
end
