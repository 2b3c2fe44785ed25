-- The writers that a shard knows, and those of whom a record waits or is sealed, read as one moment.
-- KEYS  wseq entries, then the lists of records
-- ARGV  most records and most entries that are looked at
-- returns {} when there are more | {how many have a record, writer [, writer …], then writer, 'seq accepted' [, …]}
-- Changes nothing.
local most, records = tonumber(ARGV[1]), 0
for i = 3, #KEYS do records = records + redis.call('LLEN', KEYS[i]) end
if records > most or tonumber(redis.call('GET', KEYS[2]) or '0') > most then return {} end
local out, seen = {0}, {}
local function note(writer)
  if not seen[writer] then seen[writer], out[#out + 1] = true, writer end
end
local digits = string.rep('%x', 32)
for i = 3, #KEYS do
  for _, record in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do
    if string.sub(record, 1, 2) == '1 ' then
      note(string.sub(record, 3, 34))
    else
      -- Whatever may be a writer counts as one: to find too many only keeps them.
      for writer in string.gmatch(record, digits) do note(writer) end
    end
  end
end
out[1] = #out - 1
for _, field in ipairs(redis.call('HGETALL', KEYS[1])) do out[#out + 1] = field end
return out
