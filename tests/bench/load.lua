-- Requests for wrk, and the counts as JSON. Arguments: a file of Cookie headers that are sent in turn, one a line; the
-- bytes of a body (0: GET, else POST); "close" for a connection per request; "unlike" if no two shall be the same.
-- All but the last are made before the run, so that the load costs the same whatever is under test.

local requests, count, at, unlike = {}, 0, 0, false

function init(args)
  local size = tonumber(args[2])
  local method = size == 0 and "GET" or "POST"
  local body = size > 0 and string.rep("x", size) or nil
  unlike = args[4] == "unlike"
  for cookie in io.lines(args[1]) do
    count = count + 1
    local headers = { ["Cookie"] = cookie }
    if args[3] == "close" then headers["Connection"] = "close" end
    requests[count] = wrk.format(method, wrk.path, headers, body)
  end
end

function request()
  at = at + 1
  local chosen = requests[at % count + 1]
  if unlike then
    -- Another query and another session for each; the node stays.
    chosen = chosen:gsub(" HTTP", "?" .. at .. " HTTP", 1):gsub("=c+", string.format("=%028d", at), 1)
  end
  return chosen
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'load.lua: {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
