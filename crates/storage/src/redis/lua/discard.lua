-- A check deletes an entry that it found wrong, but only if it is still the value that was compared:
-- whatever a writer or a fill has put there since stays.
-- KEYS  entry
-- ARGV  the value that was seen
-- returns 1 deleted | 0 something else, or nothing, is there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
