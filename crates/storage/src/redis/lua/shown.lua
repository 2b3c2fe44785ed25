-- Shown views of products of one shard, first step: cached total and pending views, read as one moment. Two plain
-- commands would let a settle between them make the number fall.
-- KEYS  pend batch_id sums sv
-- ARGV  prefix of the shard's cached totals, id [, id …]
-- returns {sv, sealed batch or false, then for each id: total or false, pending, its sum in the sealed batch}
-- Where every total is cached, shown = total + pending, and sv, batch and sums are not read.
local pend, batch_id, sums, sv = unpack(KEYS)
local out, missing = {false, false}, false
for i = 2, #ARGV do
  local total = redis.call('GET', ARGV[1] .. ARGV[i])
  out[#out + 1] = total
  out[#out + 1] = redis.call('HGET', pend, ARGV[i]) or '0'
  out[#out + 1] = '0'
  missing = missing or not total
end
if missing then
  out[1] = redis.call('GET', sv) or '0'
  out[2] = redis.call('GET', batch_id)
  for i = 2, #ARGV do out[3 * i - 1] = redis.call('HGET', sums, ARGV[i]) or '0' end
end
return out
