-- Forgets a batch that MySQL has committed.
-- KEYS  batch batch_id sums pend entries sv claimant
-- ARGV  batch id, exact (1|0), prefix of the shard's cached totals, worker [, product id …]
-- exact = 1 only if this worker's own transaction counted every record and set nothing aside: then cached totals are
-- raised, else dropped (dropping one is always safe). The ids are looked at only when the batch is not there any more,
-- settled by another or lost: their totals are dropped. So are those that a replay of dead letters made too low, under a
-- batch id that nobody has.
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
for i = 1, #counted, 2 do
  local id, n = counted[i], counted[i + 1]
  if id == '#' then
    redis.call('DECRBY', entries, n)
  elseif id ~= '=' then
    -- Redis does not read '-0' as a number.
    if redis.call('HINCRBY', pend, id, string.format('%.0f', 0 - n)) <= 0 then redis.call('HDEL', pend, id) end
    local total = ARGV[3] .. id
    if ARGV[2] ~= '1' then
      redis.call('DEL', total)
    elseif redis.call('EXISTS', total) == 1 then
      redis.call('INCRBY', total, n) -- keeps its TTL
    end
  end
end
redis.call('INCR', sv)
return 1
