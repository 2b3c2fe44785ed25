-- The shard's one sealed batch: the one that is there, or a new one moved from the head of the open list, in order.
-- KEYS  open batch batch_id sums sv ready waiting claimant entries
-- ARGV  new batch id (never used again), worker, milliseconds that the worker has it to itself, most views, most products,
--       most records
-- returns {'none'} | {'busy'} another worker is at it | {'batch' nothing else waits or 'more', id, record, …}
-- Works on a full Redis: the first write frees memory. The sums are what settle takes from the pending counts.
local open, batch, batch_id, sums, sv, ready, waiting, claimant, entries = unpack(KEYS)
redis.call('DEL', ready)
local sealed = redis.call('GET', batch_id)
if not sealed and redis.call('LLEN', open) == 0 then return {'none'} end
local holder = redis.call('GET', claimant)
if holder and holder ~= ARGV[2] then return {'busy'} end
redis.call('SET', claimant, ARGV[2], 'PX', ARGV[3])
if sealed then
  local records = redis.call('LRANGE', batch, 0, -1)
  table.insert(records, 1, redis.call('LLEN', open) == 0 and 'batch' or 'more')
  table.insert(records, 2, sealed)
  return records
end

-- What is no record adds nothing; the worker sets it aside. Numbers above 2^53 - 1 were never pushed.
local head = '^1 ' .. string.rep('%x', 32) .. ' %d+ %d+ %S+ %d+( [%d ]+)$'
local function pairs_of(record)
  local body = string.match(record, head)
  local found = {}
  if not body or string.gsub(body, ' %d+ %d+', '') ~= '' then return found end
  for id, n in string.gmatch(body, ' (%d+) (%d+)') do
    if tonumber(id) > 9007199254740991 or tonumber(n) > 9007199254740991 then return {} end
    found[#found + 1] = {id, tonumber(n)}
  end
  return found
end

local most_views, most_products, most_records = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local sum, views, products, pairs_taken, records = {}, 0, 0, 0, {}
while views < most_views and #records < most_records do
  local record = redis.call('LINDEX', open, 0)
  if not record then break end
  local added, fresh = pairs_of(record), 0
  for _, pair in ipairs(added) do
    if not sum[pair[1]] then fresh = fresh + 1 end
  end
  if #records > 0 and products + fresh > most_products then break end
  redis.call('LPOP', open)
  redis.call('RPUSH', batch, record)
  records[#records + 1] = record
  for _, pair in ipairs(added) do
    sum[pair[1]] = (sum[pair[1]] or 0) + pair[2]
    views, pairs_taken = views + pair[2], pairs_taken + 1
  end
  products = products + fresh
end
redis.call('SET', batch_id, ARGV[1])
redis.call('INCR', sv)
for id, n in pairs(sum) do redis.call('HSET', sums, id, string.format('%.0f', n)) end
redis.call('HSET', sums, '#', pairs_taken, '=', string.format('%.0f', views))
local left = redis.call('LLEN', open)
if left == 0 then
  -- What stands beside the list is exact again, also after text that nobody pushed.
  redis.call('SET', waiting, '0')
  redis.call('SET', entries, pairs_taken)
else
  redis.call('DECRBY', waiting, string.format('%.0f', views))
end
table.insert(records, 1, left == 0 and 'batch' or 'more')
table.insert(records, 2, ARGV[1])
return records
