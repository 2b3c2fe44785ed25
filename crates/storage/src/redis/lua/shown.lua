-- Shown views of products of one shard, first step: cached totals and pending views, read as one moment. Two plain
-- commands would let a settle between them make the number fall, and MULTI is refused by a Redis that is full.
-- KEYS  pend batch_id sums sv
-- ARGV  prefix of the shard's cached totals, id [, id …] (at most 1,000)
-- returns {totals or false each, pending or false each}; where a total is missing also {…, sv, sealed batch or false, sums in
-- the sealed batch or false each}, which with totals of MySQL give what may be cached
local pend, batch_id, sums, sv = unpack(KEYS)
local names, ids = {}, {}
for i = 2, #ARGV do
  ids[i - 1] = ARGV[i]
  names[i - 1] = ARGV[1] .. ARGV[i]
end
local totals = redis.call('MGET', unpack(names))
local out = {totals, redis.call('HMGET', pend, unpack(ids))}
for i = 1, #ids do
  if not totals[i] then
    out[3] = redis.call('GET', sv) or '0'
    out[4] = redis.call('GET', batch_id)
    out[5] = redis.call('HMGET', sums, unpack(ids))
    break
  end
end
return out
