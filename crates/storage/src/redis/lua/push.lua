-- One push of one writer into one shard. A sequence number that was seen is refused, so a resend is harmless;
-- the watermarks in MySQL make it harmless for good.
-- KEYS  open wseq pend entries ready waiting
-- ARGV  views that wake a worker, writer, seq, known, run8, at_ms, id, n [, id, n …]   (an id once)
--       known: the writer's views in this shard that it knows to be stored. Its running total is kept here, because only
--       Redis knows whether a push without an answer arrived; `known` is its floor where Redis has lost data.
-- returns {1 stored | 0 refused, the writer's running total, entries waiting in this shard}
-- All or nothing: a full Redis refuses the first write.
local open, wseq, pend, entries, ready, waiting = unpack(KEYS)
local last, total = string.match(redis.call('HGET', wseq, ARGV[2]) or '0 0', '^(%d+) (%d+)')
if tonumber(ARGV[3]) <= tonumber(last) then
  return {0, total, redis.call('GET', entries) or '0'}
end
local views = 0
for i = 8, #ARGV, 2 do views = views + tonumber(ARGV[i]) end
total = string.format('%.0f', math.max(tonumber(total), tonumber(ARGV[4])) + views)
redis.call('HSET', wseq, ARGV[2], ARGV[3] .. ' ' .. total)
for i = 7, #ARGV, 2 do redis.call('HINCRBY', pend, ARGV[i], ARGV[i + 1]) end
local record = {'1', ARGV[2], ARGV[3], total, table.concat(ARGV, ' ', 5)}
local length = redis.call('RPUSH', open, table.concat(record, ' '))
local waits = redis.call('INCRBY', waiting, views)
local limit = tonumber(ARGV[1])
-- A ticket wakes a worker: when the list was empty, and when enough waits for a batch.
if length == 1 or (waits >= limit and waits - views < limit) then
  redis.call('RPUSH', ready, '1')
end
return {1, total, tostring(redis.call('INCRBY', entries, (#ARGV - 6) / 2))}
