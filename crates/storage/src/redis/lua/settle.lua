-- Forgets a batch that MySQL has committed, some hundred products at a time: a product's sum goes from the sealed batch, from the
-- pending counts and to its cached total as one, so what is shown is right between two calls, too.
-- KEYS  batch batch_id sums pend entries sv claimant
-- ARGV  batch id, exact (1|0), prefix of the shard's cached totals, worker, most products [, product id …]
-- exact = 1 only if this worker's own transaction counted every record and set nothing aside: then cached totals are
-- raised, else dropped (dropping one is always safe). The ids are looked at only when the batch is not there any more,
-- settled by another or lost: their totals are dropped.
-- returns 2 some products are left: call again | 1 settled | 0 not there. Works on a full Redis: the first write needs no memory.
local batch, batch_id, sums, pend, entries, sv, claimant = unpack(KEYS)
redis.call('HDEL', pend, '')
redis.call('INCR', sv)
local function leave()
  if redis.call('GET', claimant) == ARGV[4] then redis.call('DEL', claimant) end
end
if redis.call('GET', batch_id) ~= ARGV[1] then
  leave()
  for i = 6, #ARGV do redis.call('DEL', ARGV[3] .. ARGV[i]) end
  return 0
end

-- A few more than asked for, as the buckets of the hash come, fifty at once because a hash that is growing has fuller ones; none twice.
local ids, views, totals, seen, cursor = {}, {}, {}, {}, '0'
repeat
  local found
  cursor, found = unpack(redis.call('HSCAN', sums, cursor, 'COUNT', 50))
  for i = 1, #found, 2 do
    local id = found[i]
    if id ~= '#' and id ~= '=' and not seen[id] then
      seen[id], ids[#ids + 1], views[#views + 1], totals[#totals + 1] = true, id, found[i + 1], ARGV[3] .. id
    end
  end
until cursor == '0' or #ids >= tonumber(ARGV[5])

-- A thousand at a time: what is read first says for which of them there is anything to change.
for first = 1, #ids, 1000 do
  local last = math.min(first + 999, #ids)
  local waits, cached = redis.call('HMGET', pend, unpack(ids, first, last)), redis.call('MGET', unpack(totals, first, last))
  local none = {}
  for i = first, last do
    local left = tonumber(waits[i - first + 1] or 0) - tonumber(views[i])
    -- Redis does not read '-0' as a number.
    if left > 0 then redis.call('HINCRBY', pend, ids[i], string.format('%.0f', 0 - views[i])) else none[#none + 1] = ids[i] end
    if cached[i - first + 1] and ARGV[2] ~= '1' then
      redis.call('DEL', totals[i])
    elseif cached[i - first + 1] then
      redis.call('INCRBY', totals[i], views[i]) -- keeps its TTL
    end
  end
  if #none > 0 then redis.call('HDEL', pend, unpack(none)) end
  if cursor ~= '0' then redis.call('HDEL', sums, unpack(ids, first, last)) end
end
if cursor ~= '0' then return 2 end
redis.call('DECRBY', entries, redis.call('HGET', sums, '#') or '0')
redis.call('DEL', batch, batch_id, sums)
leave()
return 1
