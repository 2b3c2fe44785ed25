-- Row events of the binlog drop what they show to be old. Deleting is always safe; keeping is safe for what is as new.
-- KEYS  entry [, entry …] (at most 500)
-- ARGV  for each the version that the row rose to | '' if it did not rise, or there was no row or is none: whatever is there goes
-- returns how many were there and are deleted; what is as new as its event stays
-- A lease goes with every event: its holder may have read the row before it changed. What has the version of the event is
-- our own writer's marker or what it published. As text, because numbers beyond 2^53 are rounded.
local function is_as_new(value, event)
  local kind, version = string.match(value, '^(%u)(%d*)')
  return event ~= '' and kind ~= 'L' and (version == event or (tonumber(version) or -1) > tonumber(event))
end

local dropped = 0
for i, entry in ipairs(KEYS) do
  local value = redis.call('GETRANGE', entry, 0, 23)
  if value ~= '' and not is_as_new(value, ARGV[i]) then dropped = dropped + redis.call('DEL', entry) end
end
return dropped
