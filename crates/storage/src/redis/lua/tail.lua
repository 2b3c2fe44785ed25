-- A row event of the binlog drops what it shows to be old. Deleting is always safe; keeping is safe for what is as new.
-- KEYS  entry
-- ARGV  version that the row rose to | '' if it did not rise, or there was no row or is none: then whatever is there goes
-- returns 1 deleted | 0 nothing there, or as new as the event
-- A lease goes with every event: its holder may have read the row before it changed. What has the version of the event is
-- our own writer's marker or what it published. As text, because numbers beyond 2^53 are rounded.
local value = redis.call('GETRANGE', KEYS[1], 0, 23)
if value == '' then return 0 end
local kind, version = string.match(value, '^(%u)(%d*)')
if ARGV[1] ~= '' and kind ~= 'L' then
  if version == ARGV[1] or (tonumber(version) or -1) > tonumber(ARGV[1]) then return 0 end
end
return redis.call('DEL', KEYS[1])
