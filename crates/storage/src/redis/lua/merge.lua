-- Joins records at the head of the open list into the last record of the merged list, so that what waits in Redis grows
-- with (product, hour) pairs and not with views. A claim takes the merged list first: the order of each writer stays.
-- KEYS  open merged entries
-- ARGV  run8 of this server, most records, most bytes of them, most pairs of a merged record, most writers of one,
--       most views of a pushed pair
-- returns {records taken from the open list, of these joined, entries that are gone}
-- Joins only what was first sent under this run: no part of it can have been applied before, whatever Redis falls back to.
-- What was not, what is no record, and what repeats a sequence number, moves over as it is. The sealed batch is not touched.
-- Works on a full Redis: the first write frees memory.
local open, merged, entries = unpack(KEYS)
local run8, most_records, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most_pairs, most_writers, most_views = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local hours, writers, pairs_now, writers_now, oldest = {}, {}, 0, 0, nil

local head = '^1 (' .. string.rep('%x', 32) .. ') ([1-9]%d*) (%d+) (%S+) (%d+)( [%d ]+)$'
-- A pushed record of this run, or nil. Numbers of more digits are within 2^53 too, but nobody has pushed one.
local function read(record)
  local writer, seq, accepted, run, at, body = string.match(record, head)
  if run ~= run8 or #seq > 15 or #accepted > 15 or #at > 14 or #record > most_bytes then return nil end
  local found, length = {}, 0
  for id, n in string.gmatch(body, ' ([1-9]%d*) ([1-9]%d*)') do
    if #id > 15 or #n > 7 or tonumber(n) > most_views then return nil end
    found[#found + 1], found[#found + 2] = id, n
    length = length + #id + #n + 2
  end
  if length ~= #body or #found / 2 > most_pairs then return nil end
  return {writer = writer, seq = seq, accepted = accepted, at = tonumber(at), hour = math.floor(tonumber(at) / 3600000), found = found}
end

-- Whether the record is joined; if not, another merged record must begin.
local function join(record)
  local hour, part = hours[record.hour], writers[record.writer]
  local fresh, views = 0, 0
  for i = 1, #record.found, 2 do
    if not (hour and hour[record.found[i]]) then fresh = fresh + 1 end
  end
  -- Half full it takes no further hour: each hour's products then stand in one record, and not in two.
  if pairs_now + fresh > most_pairs or (not hour and 2 * pairs_now >= most_pairs) then return false end
  if not part and writers_now >= most_writers then return false end
  if not hour then hour = {}; hours[record.hour] = hour end
  for i = 1, #record.found, 2 do
    local id, n = record.found[i], record.found[i + 1]
    hour[id] = hour[id] and hour[id] + n or n
    views = views + n
  end
  if not part then part = {record.seq, record.seq, record.accepted, 0}; writers[record.writer] = part; writers_now = writers_now + 1 end
  part[2], part[3], part[4] = record.seq, record.accepted, part[4] + views
  pairs_now = pairs_now + fresh
  oldest = math.min(oldest or record.at, record.at)
  return true
end

-- Takes up the merged record that is there.
local last = redis.call('LINDEX', merged, -1) or ''
local run, at, parts, body = string.match(last, '^2 (%S+) (%d+) ([%x ]+)( h[%dh ]+)$')
local goes_on = run == run8
if goes_on then
  oldest = tonumber(at)
  for writer, first, to, accepted, views in string.gmatch(parts, '(%x+) (%d+) (%d+) (%d+) (%d+)') do
    writers[writer], writers_now = {first, to, accepted, tonumber(views)}, writers_now + 1
  end
  for hour, counts in string.gmatch(body, 'h(%d+)([%d ]+)') do
    local of = {}
    for id, n in string.gmatch(counts, ' (%d+) (%d+)') do of[id], pairs_now = n, pairs_now + 1 end
    hours[tonumber(hour)] = of
  end
end

local taken, bytes, as_they_are, before, pairs_taken = 0, 0, {}, pairs_now, 0
local chunk, at_chunk = {}, 1
while taken < most_records and bytes < most_bytes do
  if at_chunk > #chunk then
    chunk, at_chunk = redis.call('LRANGE', open, taken, math.min(taken + 31, most_records - 1)), 1
    if #chunk == 0 then break end
  end
  local text = chunk[at_chunk]
  local record = read(text)
  local part = record and writers[record.writer]
  if part and tonumber(record.seq) <= tonumber(part[2]) then record = nil end
  local joined = record and #as_they_are == 0 and join(record)
  if record and not joined and taken == 0 then
    -- Full, or not to be joined to what is there: begin another, which takes any.
    hours, writers, pairs_now, writers_now, oldest, before, goes_on = {}, {}, 0, 0, nil, 0, false
    joined = join(record)
  end
  if joined then
    pairs_taken = pairs_taken + #record.found / 2
  elseif record or taken > #as_they_are then
    break
  else
    as_they_are[#as_they_are + 1] = text
  end
  taken, bytes, at_chunk = taken + 1, bytes + #text, at_chunk + 1
end
if taken == 0 then return {0, 0, 0} end
redis.call('LPOP', open, taken)
if #as_they_are > 0 then
  redis.call('RPUSH', merged, unpack(as_they_are))
  return {taken, 0, 0}
end

local function text(n) return type(n) == 'number' and string.format('%.0f', n) or n end
local out = {'2', run8, text(oldest)}
for writer, part in pairs(writers) do out[#out + 1] = writer .. ' ' .. part[1] .. ' ' .. part[2] .. ' ' .. part[3] .. ' ' .. text(part[4]) end
for hour, counts in pairs(hours) do
  out[#out + 1] = 'h' .. text(hour)
  for id, n in pairs(counts) do out[#out + 1], out[#out + 2] = id, text(n) end
end
if goes_on then redis.call('RPOP', merged) end
redis.call('RPUSH', merged, table.concat(out, ' '))
local gone = pairs_taken - (pairs_now - before)
redis.call('DECRBY', entries, gone)
return {taken, taken, gone}
