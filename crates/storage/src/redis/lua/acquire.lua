-- A reader that missed takes the right to fill the entry, unless something is there.
-- KEYS  entry
-- ARGV  lease (L<token>), its life in milliseconds
-- returns the value that is there, or the lease just taken
local value = redis.call('GET', KEYS[1])
if value then return value end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
