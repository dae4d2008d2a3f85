-- wrk's script: requests of one user after the other to one path after the other. Prints what happened as one line of JSON.
-- Arguments: method, paths (comma-separated), number of the first user.

local counts = {}
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  method, user, paths, statuses = args[1], tonumber(args[3]), {}, {}
  for path in string.gmatch(args[2], "[^,]+") do
    table.insert(paths, path)
  end
end

function request()
  user = user + 1
  local headers = { ["X-User-Id"] = string.format("00000000-0000-7000-8000-%012x", user) }
  return wrk.format(method, paths[user % #paths + 1], headers)
end

function response(status)
  local key = tostring(status)
  statuses[key] = (statuses[key] or 0) + 1
end

function done(summary, latency)
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      counts[status] = (counts[status] or 0) + count
    end
  end
  local parts = {}
  for status, count in pairs(counts) do
    table.insert(parts, string.format('"%s":%d', status, count))
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\nRESULT {"seconds":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d,"statuses":{%s}}\n',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors, table.concat(parts, ",")))
end
