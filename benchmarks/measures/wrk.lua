-- One request, read from the file that is named after `--`; where it holds #unique#, each has a number of its own.
local head, tail
local sent = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local whole = file:read("*a")
  file:close()
  local at, to = whole:find("#unique#", 1, true)
  if at then
    head, tail = whole:sub(1, at - 1), whole:sub(to + 1)
  else
    head = whole
  end
end

function request()
  if not tail then
    return head
  end
  sent = sent + 1
  return head .. string.format("%08d", sent % 100000000) .. tail
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("told %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
