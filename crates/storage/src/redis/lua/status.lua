-- What one shard of the queue holds, read as one moment.
-- KEYS  open batch batch_id sums wseq waiting entries sv
-- ARGV  1 with the writers, of whom there may be many | 0 without
-- returns {views waiting, entries, sv, sealed batch or false, its views, its first record or false, first record behind it or
--          false, writer, 'seq accepted' [, writer, 'seq accepted' …]}
local open, batch, batch_id, sums, wseq, waiting, entries, sv = unpack(KEYS)
local out = {
  redis.call('GET', waiting) or '0', redis.call('GET', entries) or '0', redis.call('GET', sv) or '0',
  redis.call('GET', batch_id), redis.call('HGET', sums, '=') or '0',
  redis.call('LINDEX', batch, 0), redis.call('LINDEX', open, 0),
}
if ARGV[1] == '1' then
  for _, field in ipairs(redis.call('HGETALL', wseq)) do out[#out + 1] = field end
end
return out
