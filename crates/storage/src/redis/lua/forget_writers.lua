-- Forgets writers that pushed nothing since they were looked at.
-- KEYS  wseq
-- ARGV  writer, 'seq accepted' as it was seen [, writer, 'seq accepted' …] (at most 1,000)
-- returns how many it forgot. Needs no memory.
local forgotten = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    forgotten = forgotten + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return forgotten
