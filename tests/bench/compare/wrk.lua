-- For wrk. With the argument "misses" every request asks for another page; with "among" and a number of pages, for any of so many
-- of one list, and with "fill", that number and a first one, for one after the other. At the end come the figures, as a line of
-- JSON, times in microseconds.

function init(args)
  local mode, pages, first = args[1], tonumber(args[2]), tonumber(args[3])
  if not mode then return end
  local more = mode == "misses" and "&skip=@" or "&limit=50&skip=@"
  local whole = wrk.format("GET", wrk.path .. more)
  local at = whole:find("@", 1, true)
  local before, after = whole:sub(1, at - 1), whole:sub(at + 1)
  if mode == "among" then
    math.randomseed(os.time())
    function request() return before .. 50 * math.random(0, pages - 1) .. after end
  elseif mode == "fill" then
    local n = first - 1
    function request()
      n = n + 1
      return before .. 50 * (n % pages) .. after
    end
  else
    -- Not one that an earlier run asked for: no run is shorter than a second, and none asks for a million pages in one.
    local skip = os.time() % 1000000 * 1000000
    function request()
      skip = skip + 1
      return before .. skip .. after
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"bytes":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
