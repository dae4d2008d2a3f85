-- wrk's script: requests of one user after the other to one path after the other. Prints what happened as one line of JSON.
-- Arguments: method, paths (comma-separated), number of the first user, JSON bodies (one a line; none: no body).

local counts = {}
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  method, user, paths, answers = args[1], tonumber(args[3]), {}, {}
  for path in string.gmatch(args[2], "[^,]+") do
    table.insert(paths, path)
  end
  bodies = {}
  for body in string.gmatch(args[4], "[^\n]+") do
    table.insert(bodies, body)
  end
end

function request()
  user = user + 1
  local headers = { ["X-User-Id"] = string.format("00000000-0000-7000-8000-%012x", user) }
  local body = #bodies > 0 and bodies[user % #bodies + 1] or nil
  if body then
    headers["Content-Type"] = "application/json"
  end
  return wrk.format(method, paths[user % #paths + 1], headers, body)
end

function response(status, headers, body)
  local key = tostring(status)
  if status >= 400 then
    key = key .. " " .. (string.match(body, '"code":"([A-Z_]+)"') or "without a code")
  end
  answers[key] = (answers[key] or 0) + 1
end

function done(summary, latency)
  for _, thread in ipairs(threads) do
    for answer, count in pairs(thread:get("answers")) do
      counts[answer] = (counts[answer] or 0) + count
    end
  end
  local parts = {}
  for answer, count in pairs(counts) do
    table.insert(parts, string.format('"%s":%d', answer, count))
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\nRESULT {"seconds":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d,"answers":{%s}}\n',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors, table.concat(parts, ",")))
end
