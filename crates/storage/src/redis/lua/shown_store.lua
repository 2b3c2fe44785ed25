-- Shown views, second step, after one SELECT of the totals and of the batch that counted last. Stores totals that
-- contain no unsettled batch, but only if no batch was sealed or settled since the first step.
-- KEYS  pend sv
-- ARGV  prefix of the shard's cached totals, sv of the first step, life in milliseconds, id, total [, id, total …]
-- returns {} when sv moved: begin again | {total, pending, …} for each id
-- A full Redis stores nothing and answers all the same.
local pend, sv = unpack(KEYS)
if (redis.call('GET', sv) or '0') ~= ARGV[2] then return {} end
local out = {}
for i = 4, #ARGV, 2 do
  local key = ARGV[1] .. ARGV[i]
  redis.pcall('SET', key, ARGV[i + 1], 'PX', ARGV[3], 'NX')
  out[#out + 1] = redis.call('GET', key) or ARGV[i + 1]
  out[#out + 1] = redis.call('HGET', pend, ARGV[i]) or '0'
end
return out
