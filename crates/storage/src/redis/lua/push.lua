-- One push of one writer into one shard. A sequence number that was seen is refused, so a resend is harmless;
-- the watermarks in MySQL make it harmless for good.
-- KEYS  open wseq pend entries ready waiting
--       where events have an id: also the ids remembered in the window before that of the push, in its own, and in the next
-- ARGV  views that wake a worker, writer, seq, known, run8, at_ms, id, n [, id, n …]   (an id once)
--       known: the writer's views in this shard that it knows to be stored. Its running total is kept here, because only
--       Redis knows whether a push without an answer arrived; `known` is its floor where Redis has lost data.
--       where events have an id: also product, n, id of each, then most ids of a window, for how many ms it is kept, how many events
-- returns {1 stored | 0 refused, the writer's running total, entries waiting in this shard,
--          of each event with an id: n new | r repeated, not counted | u new, counted and not remembered}
-- All or nothing: a full Redis refuses the first write. Ids are remembered with the record that counts them, or not at all.
local open, wseq, pend, entries, ready, waiting = unpack(KEYS)
local last, total = string.match(redis.call('HGET', wseq, ARGV[2]) or '0 0', '^(%d+) (%d+)')
if tonumber(ARGV[3]) <= tonumber(last) then
  return {0, total, redis.call('GET', entries) or '0', ''}
end
-- What is counted, from `run8` on: all of ARGV unless events have ids.
local counts, run8, fates = ARGV, 5, ''
if #KEYS > 6 then
  local events, tail = tonumber(ARGV[#ARGV]), #ARGV - 3 - 3 * ARGV[#ARGV]
  counts, run8 = {unpack(ARGV, 5, 6)}, 1
  local place, ids, known, fresh, fate = {}, {}, {}, {}, {}
  for i = 7, tail, 2 do
    counts[i - 4], counts[i - 3], place[ARGV[i]] = ARGV[i], ARGV[i + 1], i - 3
  end
  for i = 1, events do ids[i] = ARGV[tail + 3 * i] end
  for window = 7, 9 do
    for i, there in ipairs(redis.call('SMISMEMBER', KEYS[window], unpack(ids))) do
      if there == 1 then known[ids[i]] = true end
    end
  end
  local held = redis.call('SCARD', KEYS[8])
  for i, id in ipairs(ids) do
    local product, n = ARGV[tail + 3 * i - 2], ARGV[tail + 3 * i - 1]
    if known[id] then
      fate[i] = 'r'
    else
      if not place[product] then
        counts[#counts + 1], counts[#counts + 2], place[product] = product, '0', #counts + 2
      end
      counts[place[product]] = string.format('%.0f', counts[place[product]] + n)
      fate[i] = held + #fresh < tonumber(ARGV[#ARGV - 2]) and 'n' or 'u'
      if fate[i] == 'n' then fresh[#fresh + 1] = id end
      known[id] = true
    end
  end
  fates = table.concat(fate)
  if #counts == 2 then
    -- Nothing is new, so there is no record; the number is used up all the same, because it was answered.
    redis.call('HSET', wseq, ARGV[2], ARGV[3] .. ' ' .. total)
    return {1, total, redis.call('GET', entries) or '0', fates}
  end
  if #fresh > 0 then
    redis.call('SADD', KEYS[8], unpack(fresh))
    if held == 0 then redis.call('PEXPIRE', KEYS[8], ARGV[#ARGV - 1]) end
  end
end
local views = 0
for i = run8 + 3, #counts, 2 do views = views + tonumber(counts[i]) end
total = string.format('%.0f', math.max(tonumber(total), tonumber(ARGV[4])) + views)
redis.call('HSET', wseq, ARGV[2], ARGV[3] .. ' ' .. total)
for i = run8 + 2, #counts, 2 do redis.call('HINCRBY', pend, counts[i], counts[i + 1]) end
local record = {'1', ARGV[2], ARGV[3], total, table.concat(counts, ' ', run8)}
local length = redis.call('RPUSH', open, table.concat(record, ' '))
local waits = redis.call('INCRBY', waiting, views)
local limit = tonumber(ARGV[1])
-- A ticket wakes a worker: when the list was empty, and when enough waits for a batch.
if length == 1 or (waits >= limit and waits - views < limit) then
  redis.call('RPUSH', ready, '1')
end
return {1, total, tostring(redis.call('INCRBY', entries, (#counts - run8 - 1) / 2)), fates}
