-- wrk's script: send the prepared bodies in turn, and write what was counted as one line of JSON.
-- Arguments: path, folder with `headers` (a line each) and the bodies `0`, `1`, …

local prepared, turn = {}, 0

local function read(path)
   local file = io.open(path, "rb")
   if not file then return nil end
   local content = file:read("*a")
   file:close()
   return content
end

function init(args)
   local headers = {}
   for line in read(args[2] .. "/headers"):gmatch("[^\n]+") do
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
   end
   while true do
      local body = read(args[2] .. "/" .. #prepared)
      if not body then break end
      prepared[#prepared + 1] = wrk.format("POST", args[1], headers, body)
   end
end

function request()
   turn = turn % #prepared + 1
   return prepared[turn]
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "status": %d, "broken": %d, "late": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write, errors.timeout
   ))
end
