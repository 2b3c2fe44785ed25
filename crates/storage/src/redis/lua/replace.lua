-- Publish (a writer replaces its own marker) and fill (a reader replaces its own lease) are this one
-- compare-and-set on the whole value: it succeeds only if nothing came between.
-- KEYS  entry
-- ARGV  expected, new, life of the new value in milliseconds
-- returns 1 replaced | 0 something else is there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
