-- Requests for wrk: GETs that cycle through the Cookie headers of a file, one a line, and the counts as JSON.
-- They are made before the run, so that the load costs the same whatever is under test.

local requests, count, at = {}, 0, 0

function init(args)
  for cookie in io.lines(args[1]) do
    count = count + 1
    requests[count] = wrk.format("GET", wrk.path, { ["Cookie"] = cookie })
  end
end

function request()
  at = at % count + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'load.lua: {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
