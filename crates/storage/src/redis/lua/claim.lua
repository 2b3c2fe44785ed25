-- The shard's one sealed batch: the one that is there, or a new one moved from the head of the open list, in order.
-- KEYS  open batch batch_id sums sv ready waiting claimant entries
-- ARGV  new batch id (never used again), worker, milliseconds that the worker has it to itself, most views, most products
-- returns {'none'} | {'busy'} another worker is at it | {'batch' nothing else waits or 'more', id, record, …}
-- Works on a full Redis: the first write frees memory. The sums are what settle takes from the pending counts.
local open, batch, batch_id, sums, sv, ready, waiting, claimant, entries_key = unpack(KEYS)
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
local most_views, most_products = tonumber(ARGV[4]), tonumber(ARGV[5])
local sum, views, products, entries, records = {}, 0, 0, 0, {}
while views < most_views do
  local record = redis.call('LINDEX', open, 0)
  if not record then break end
  local added, fresh = {}, 0
  -- What does not parse adds nothing; the worker sets it aside.
  for id, n in string.gmatch(string.match(record, '^1 %S+ %d+ %d+ %S+ %d+ (.*)$') or '', '(%d+) (%d+)') do
    -- Above 2^53 - 1 it was never pushed, and settle could not subtract it.
    if tonumber(n) <= 9007199254740991 then
      added[#added + 1] = {id, tonumber(n)}
      if not sum[id] then fresh = fresh + 1 end
    end
  end
  if #records > 0 and products + fresh > most_products then break end
  redis.call('LPOP', open)
  redis.call('RPUSH', batch, record)
  records[#records + 1] = record
  for _, pair in ipairs(added) do
    sum[pair[1]] = (sum[pair[1]] or 0) + pair[2]
    views, entries = views + pair[2], entries + 1
  end
  products = products + fresh
end
redis.call('SET', batch_id, ARGV[1])
redis.call('INCR', sv)
local left = redis.call('LLEN', open)
if left == 0 then
  -- What stands beside the list is exact again, also after text that nobody pushed.
  redis.call('SET', waiting, '0')
  redis.call('SET', entries_key, entries)
else
  redis.call('DECRBY', waiting, string.format('%.0f', views))
end
for id, n in pairs(sum) do redis.call('HSET', sums, id, string.format('%.0f', n)) end
redis.call('HSET', sums, '#', entries, '=', string.format('%.0f', views))
table.insert(records, 1, left == 0 and 'batch' or 'more')
table.insert(records, 2, ARGV[1])
return records
