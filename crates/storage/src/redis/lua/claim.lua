-- The shard's one sealed batch: the one that is there, or a new one moved from the heads of the merged and then of the open
-- list, in order.
-- KEYS  open merged batch batch_id sums sv ready waiting claimant entries
-- ARGV  new batch id (never used again), worker, milliseconds that the worker has it to itself, most views, most products,
--       most records, most pairs (a first record is taken whatever it has)
-- returns {'none'} | {'busy'} another worker is at it | {'batch' nothing else waits or 'more', id, record, …}
-- Works on a full Redis: the first write frees memory. The sums are what settle takes from the pending counts.
local open, merged, batch, batch_id, sums, sv, ready, waiting, claimant, entries = unpack(KEYS)
redis.call('DEL', ready)
local function left() return redis.call('LLEN', merged) + redis.call('LLEN', open) end
local sealed = redis.call('GET', batch_id)
if not sealed and left() == 0 then return {'none'} end
local holder = redis.call('GET', claimant)
if holder and holder ~= ARGV[2] then return {'busy'} end
redis.call('SET', claimant, ARGV[2], 'PX', ARGV[3])
if sealed then
  local records = redis.call('LRANGE', batch, 0, -1)
  table.insert(records, 1, left() == 0 and 'batch' or 'more')
  table.insert(records, 2, sealed)
  return records
end

-- id, n, id, n, … of a record. What is no record adds nothing; the worker sets it aside. Numbers above 2^53 - 1 were never pushed.
-- Read by cjson, all of a record at once: to match each number takes Redis a third longer.
local pushed = '^1 ' .. string.rep('%x', 32) .. ' %d+ %d+ %S+ %d+ ([%d ]+)$'
local function numbers(text)
  local read, found = pcall(cjson.decode, '[' .. string.gsub(text, ' ', ',') .. ']')
  if not read or #found % 2 == 1 then return {} end
  for i = 1, #found do
    if found[i] > 9007199254740991 then return {} end
  end
  return found
end

local function pairs_of(record)
  local body = string.match(record, pushed)
  if body then return numbers(body) end
  body = string.match(record, '^2 %S+ %d+ [%x ]+ h%d+ ([%dh ]+)$')
  -- The hours do not matter here.
  return body and numbers((string.gsub(body, 'h%d+ ', ''))) or {}
end

local most_views, most_products, most_records, most_pairs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local sum, views, products, pairs_taken, records = {}, 0, 0, 0, {}

-- Takes from one list what fits; returns how many records, and whether that is all of them.
local function take(list, step)
  local taken, chunk, at = 0, {}, 1
  while views < most_views and #records < most_records do
    if at > #chunk then
      -- A few at a time: how many fit is known only when they were read.
      chunk, at = redis.call('LRANGE', list, taken, taken + step - 1), 1
      if #chunk == 0 then return taken, true end
    end
    local added = pairs_of(chunk[at])
    local count, fresh = #added / 2, 0
    if products + count > most_products then
      for i = 1, 2 * count, 2 do
        if not sum[added[i]] then fresh = fresh + 1 end
      end
    end
    if #records > 0 and (products + fresh > most_products or pairs_taken + count > most_pairs) then return taken, false end
    for i = 1, 2 * count, 2 do
      local id, n = added[i], added[i + 1]
      local before = sum[id]
      if not before then products = products + 1 end
      sum[id], views = (before or 0) + n, views + n
    end
    pairs_taken = pairs_taken + count
    records[#records + 1], at, taken = chunk[at], at + 1, taken + 1
  end
  return taken, false
end

local from_merged, all = take(merged, 1)
local from_open = all and take(open, 256) or 0
for i = 1, #records, 1000 do redis.call('RPUSH', batch, unpack(records, i, math.min(i + 999, #records))) end
redis.call('LTRIM', merged, from_merged, -1)
redis.call('LTRIM', open, from_open, -1)
redis.call('SET', batch_id, ARGV[1])
redis.call('INCR', sv)
local fields = {'#', pairs_taken, '=', string.format('%.0f', views)}
for id, n in pairs(sum) do fields[#fields + 1], fields[#fields + 2] = string.format('%.0f', id), string.format('%.0f', n) end
for i = 1, #fields, 1000 do redis.call('HSET', sums, unpack(fields, i, math.min(i + 999, #fields))) end
local more = left() > 0
if more then
  redis.call('DECRBY', waiting, string.format('%.0f', views))
else
  -- What stands beside the lists is exact again, also after text that nobody pushed.
  redis.call('SET', waiting, '0')
  redis.call('SET', entries, pairs_taken)
end
table.insert(records, 1, more and 'more' or 'batch')
table.insert(records, 2, ARGV[1])
return records
