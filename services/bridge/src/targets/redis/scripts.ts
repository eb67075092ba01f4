import { script } from './connection.ts'

/**
 * Adds entries to a stream, in their order, as many as it has room for. Where groups are named it makes those that are missing,
 * and makes room only of what each of them was given and has acknowledged: of the oldest, some more than is needed. Without,
 * the oldest go, by the command that adds: were another one forbidden, each attempt would add the same again. Returns how many
 * were added, which group holds up the others, and an error.
 *
 * Arguments: the stream's length, how many groups, how many entries, the groups; of each entry how many texts, and these.
 */
export const addToStream = script(`
local stream, longest, groups, entries = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 4 + groups

local function known()
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
    found[group.name] = group
  end
  return found
end

local function split(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local function isBefore(a, b)
  local ams, anumber = split(a)
  local bms, bnumber = split(b)
  return ams < bms or (ams == bms and anumber < bnumber)
end

-- The first id that a group still needs. Beyond 2^53 Lua cannot count: the entry before stays too.
local function needs(name, group)
  if group.pending > 0 then return redis.call('XPENDING', stream, name)[2] end
  local id = group['last-delivered-id']
  local _, number = split(id)
  if number >= 9007199254740991 then return id end
  return string.match(id, '^%d+') .. '-' .. string.format('%.0f', number + 1)
end

local first, behind
if groups > 0 then
  local found = known()
  for i = 4, 3 + groups do
    local name = ARGV[i]
    if not found[name] then redis.call('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM') end
    local id = needs(name, found[name] or { pending = 0, ['last-delivered-id'] = '0-0' })
    if not first or isBefore(id, first) then first, behind = id, name end
  end
end

local room = longest - redis.call('XLEN', stream)
if groups > 0 and room < entries then
  redis.call('XTRIM', stream, 'MINID', '~', first, 'LIMIT', entries - room + 1000)
  room = longest - redis.call('XLEN', stream)
  if room < entries then room = room + redis.call('XTRIM', stream, 'MINID', first) end
end

local added = 0
while added < entries and (groups == 0 or added < room) do
  local texts = tonumber(ARGV[at])
  local id
  if groups > 0 then id = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 1, at + texts))
  else id = redis.pcall('XADD', stream, 'MAXLEN', ARGV[1], '*', unpack(ARGV, at + 1, at + texts)) end
  if type(id) == 'table' then return { added, '', id.err } end
  added = added + 1
  at = at + 1 + texts
end
return { added, behind or '', '' }
`)

/** Puts texts into a list, in their order, as many as it has room for. Arguments: its length, and the texts. */
export const addToList = script(`
local room = tonumber(ARGV[1]) - redis.call('LLEN', KEYS[1])
local added = 0
while added < #ARGV - 1 and added < room do
  local length = redis.pcall('LPUSH', KEYS[1], ARGV[added + 2])
  if type(length) == 'table' then return { added, '', length.err } end
  added = added + 1
end
return { added, '', '' }
`)

/**
 * Reads entries for a group, one after the other until they are many or large: `XREADGROUP` by itself looks at no size. Arguments:
 * the group, its reader, from where, how many entries, and of how many bytes.
 */
export const readSome = script(`
local stream, group, reader, from, most, bytes = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local found, size = {}, 0
while #found < most and size < bytes do
  local answer = redis.call('XREADGROUP', 'GROUP', group, reader, 'COUNT', '1', 'STREAMS', stream, from)
  local entry = answer and answer[1] and answer[1][2][1]
  if not entry then break end
  found[#found + 1] = entry
  for _, text in ipairs(entry[2] or {}) do size = size + #text end
  if from ~= '>' then from = entry[1] end
end
return found
`)
