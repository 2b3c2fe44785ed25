-- Forgets a batch that MySQL has committed.
-- KEYS  batch batch_id sums pend entries sv claimant
-- ARGV  batch id, exact (1|0), prefix of the shard's cached totals, worker [, product id …]
-- exact = 1 only if this worker's own transaction counted every record and set nothing aside: then cached totals are
-- raised, else dropped (dropping one is always safe). The ids are looked at only when the batch is not there any more,
-- settled by another or lost: their totals are dropped.
-- returns 1 settled | 0 not there. Works on a full Redis: the first write needs no memory.
local batch, batch_id, sums, pend, entries, sv, claimant = unpack(KEYS)
redis.call('HDEL', pend, '')
if redis.call('GET', claimant) == ARGV[4] then redis.call('DEL', claimant) end
if redis.call('GET', batch_id) ~= ARGV[1] then
  for i = 5, #ARGV do redis.call('DEL', ARGV[3] .. ARGV[i]) end
  redis.call('INCR', sv)
  return 0
end
local counted = redis.call('HGETALL', sums)
redis.call('DEL', batch, batch_id, sums)
local ids, views, totals = {}, {}, {}
for i = 1, #counted, 2 do
  if counted[i] == '#' then
    redis.call('DECRBY', entries, counted[i + 1])
  elseif counted[i] ~= '=' then
    ids[#ids + 1], views[#views + 1] = counted[i], counted[i + 1]
    totals[#totals + 1] = ARGV[3] .. counted[i]
  end
end
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
end
redis.call('INCR', sv)
return 1
