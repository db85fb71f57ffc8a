-- Sends the requests in the file named by the first argument, in turn, and prints one line of JSON.
local requests, turn = {}, 0

function init(args)
  local source = assert(io.open(args[1], "rb"))
  for length in function() return source:read("*l") end do
    requests[#requests + 1] = source:read(tonumber(length))
  end
  source:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    '{"seconds": %.6f, "requests": %d, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f, "worst_ms": %.4f}',
    summary.duration / 1e6, summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
