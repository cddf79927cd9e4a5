-- For wrk. With the argument "misses" every request asks for another page; at the end come the figures, as a line of JSON,
-- times in microseconds.

function init(args)
  if args[1] ~= "misses" then return end
  local whole = wrk.format("GET", wrk.path .. "&skip=@")
  local at = whole:find("@", 1, true)
  local before, after = whole:sub(1, at - 1), whole:sub(at + 1)
  -- Not one that an earlier run asked for: no run is shorter than a second, and none asks for a million pages in one.
  local skip = os.time() % 1000000 * 1000000
  function request()
    skip = skip + 1
    return before .. skip .. after
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"bytes":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
