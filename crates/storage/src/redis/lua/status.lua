-- What one shard of the queue holds, read as one moment.
-- KEYS  open merged batch batch_id sums wseq waiting entries sv
-- ARGV  1 with the writers, of whom there may be many | 0 without
-- returns {views waiting, entries, sv, sealed batch or false, its views, head of its first record or false, head of the first
--          behind it or false, writer, 'seq accepted' [, writer, 'seq accepted' …]}
local open, merged, batch, batch_id, sums, wseq, waiting, entries, sv = unpack(KEYS)
local function head(...)
  for _, list in ipairs({...}) do
    local record = redis.call('LINDEX', list, 0)
    if record then return string.sub(record, 1, 160) end -- a merged one may be long; its time stands in front
  end
  return false
end
local out = {
  redis.call('GET', waiting) or '0', redis.call('GET', entries) or '0', redis.call('GET', sv) or '0',
  redis.call('GET', batch_id), redis.call('HGET', sums, '=') or '0', head(batch), head(merged, open),
}
if ARGV[1] == '1' then
  for _, field in ipairs(redis.call('HGETALL', wseq)) do out[#out + 1] = field end
end
return out
