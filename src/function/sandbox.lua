-- The world that a library sees, built once for each engine.
--
-- LuaJIT has no read-only tables. A frozen table is therefore an empty *face*
-- whose metatable shows hidden contents and refuses writes; the functions that
-- go around metatables (rawset, rawget, next, pairs, table.insert, ...) are
-- replaced here by ones that know faces. No hidden table, no raw function and
-- no loader of this file can be reached from a library.
--
-- Each library has its own face as its global environment, so nothing that one
-- library does is seen by another. While it loads, that face shows `redis` with
-- `register_function` alone; from then on it shows the globals of Redis 7.
--
-- Scripts share one face: all they can leave behind is `KEYS` and `ARGV`, which
-- each call sets anew.
--
-- `native` holds the functions written in Rust (see `api.rs`). This chunk returns
-- what loads one library, what compiles one script, and the table behind the
-- globals of scripts. The loaders raise what Lua raises.

local native = ...

local assert, error, select, tonumber, tostring, type =
  assert, error, select, tonumber, tostring, type
local raw_collectgarbage, raw_getmetatable = collectgarbage, getmetatable
local raw_load, raw_next, raw_pairs, raw_pcall = load, next, pairs, pcall
local raw_rawget, raw_setmetatable = rawget, setmetatable
local raw_concat, raw_remove, raw_sort = table.concat, table.remove, table.sort
local raw_sub = string.sub
local raw_resume, raw_wrap = coroutine.resume, coroutine.wrap
local floor, bits_or = math.floor, bit.bor
local check_stack, check_time, random = native.check_stack, native.check_time, native.random

-- Longest text that load and loadstring compile: the compiler cannot be
-- interrupted, so its work is bounded beforehand.
local SOURCE_BYTES_MAX = 1024 * 1024

local READONLY = "Attempt to modify a readonly table"

-- Faces and what they show; `faces` are the functions that look behind them.
local faces = native.faces
local contents_of = faces.contents_of

local function refuse_write()
  error(READONLY, 2)
end

local function freeze(contents)
  local face = raw_setmetatable({}, {
    __index = contents,
    __newindex = refuse_write,
    __metatable = false,
  })
  contents_of[face] = contents
  return face
end

-- An error of Redis' own: a table, so that no position is put before the text.
local function raise(text)
  error({ err = "ERR " .. text }, 0)
end

local function copy(source, names)
  local target = {}
  for name in names:gmatch("%S+") do
    target[name] = assert(source[name], name)
  end
  return target
end

---------------------------------------------------------------- base functions

local base = copy(_G, "assert error ipairs rawequal select tonumber type unpack")
base._VERSION = "Lua 5.1"

-- LuaJIT has another text for cjson.null than Lua 5.1.
function base.tostring(...)
  if select("#", ...) == 0 then
    error("bad argument #1 to 'tostring' (value expected)", 2)
  end
  local text = tostring((...))
  return text == "userdata: NULL" and "userdata: (nil)" or text
end

base.getmetatable, base.setmetatable = faces.getmetatable, faces.setmetatable
base.rawget, base.rawset = faces.rawget, faces.rawset
base.next, base.pairs = faces.next, faces.pairs

-- Redis 7.0 unwraps the error tables of redis.call for those who catch them.
local function unwrap(ok, problem, ...)
  if not ok and type(problem) == "table" then
    local text = raw_rawget(problem, "err")
    if type(text) == "string" then
      return false, text
    end
  end
  return ok, problem, ...
end

function base.pcall(...)
  return unwrap(raw_pcall(...))
end

-- The handler runs after the stack was unwound. Lua would run it inside of the
-- hook that ends a call for its time, where nothing could end the handler.
local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  local _, result = raw_pcall(handler, ...)
  return false, result
end

function base.xpcall(body, handler)
  return handled(handler, raw_pcall(body))
end

-- The collector is the engine's: a library may ask, not steer.
function base.collectgarbage(option)
  if option == "count" then
    return raw_collectgarbage("count")
  end
  return 0
end

function base.gcinfo()
  return floor(raw_collectgarbage("count"))
end

-- Compiles text, never bytecode, into the environment of the asking library.
local function compile(text, chunk_name, environment)
  if #text > SOURCE_BYTES_MAX then
    return nil, "chunk has too many bytes"
  end
  check_time()
  return raw_load(text, chunk_name, "t", environment)
end

-- load and loadstring know the environment, so each library has its own.
local function add_loaders(globals, environment)
  function globals.loadstring(text, chunk_name)
    if type(text) ~= "string" then
      error("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ")", 2)
    end
    return compile(text, tostring(chunk_name or text), environment)
  end

  function globals.load(reader, chunk_name)
    if type(reader) ~= "function" then
      error("bad argument #1 to 'load' (function expected, got " .. type(reader) .. ")", 2)
    end
    local pieces, byte_count = {}, 0
    repeat
      local piece = reader()
      if piece ~= nil and type(piece) ~= "string" then
        return nil, "reader function must return a string"
      end
      pieces[#pieces + 1] = piece
      byte_count = byte_count + #(piece or "")
    until piece == nil or piece == "" or byte_count > SOURCE_BYTES_MAX
    return compile(raw_concat(pieces), tostring(chunk_name or "=(load)"), environment)
  end
end

--------------------------------------------------------------------- libraries

-- C functions that call back into Lua use the stack of the thread, which other
-- guards do not see. `check_stack` raises before it runs out.

local strings = copy(string, "byte char len lower rep reverse sub upper")
strings.find, strings.match, strings.format =
  native.string.find, native.string.match, native.string.format
local match_from, starts_match, replace =
  native.string.match_from, native.string.starts_match, native.string.replace

-- A text argument as Lua's own functions take it: a number is one.
local function check_text(value, index, name)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return tostring(value)
  end
  error("bad argument #" .. index .. " to '" .. name .. "' (string expected, got " .. kind .. ")", 3)
end

function strings.gmatch(subject, pattern)
  subject = check_text(subject, 1, "gmatch")
  pattern = check_text(pattern, 2, "gmatch")
  local from = 1
  local function step(first, last, ...)
    if first then
      from = last < first and first + 1 or last + 1
      return ...
    end
    from = #subject + 2
  end
  return function()
    if from <= #subject + 1 then
      return step(match_from(subject, pattern, from))
    end
  end
end
strings.gfind = strings.gmatch

-- What a match becomes: what the function answers or the table holds for it.
local function replaced(replacement, whole, key, ...)
  local value
  if type(replacement) == "function" then
    value = replacement(key, ...)
  else
    value = replacement[key]
  end
  if not value then
    return whole
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 4)
  end
  return value
end

function strings.gsub(subject, pattern, replacement, count_max)
  subject = check_text(subject, 1, "gsub")
  pattern = check_text(pattern, 2, "gsub")
  local kind = type(replacement)
  if count_max ~= nil and type(tonumber(count_max)) ~= "number" then
    error("bad argument #4 to 'gsub' (number expected, got " .. type(count_max) .. ")", 2)
  end
  count_max = tonumber(count_max) or #subject + 1
  if kind == "string" or kind == "number" then
    return replace(subject, pattern, tostring(replacement), count_max)
  elseif kind ~= "function" and kind ~= "table" then
    error("bad argument #3 to 'gsub' (string/function/table expected)", 2)
  end
  check_stack()
  local pieces, piece_count, count, from = {}, 0, 0, 1
  local anchored = raw_sub(pattern, 1, 1) == "^"
  local function add(piece)
    piece_count = piece_count + 1
    pieces[piece_count] = piece
  end
  local function step(first, last, ...)
    if not first then
      return false
    end
    count = count + 1
    add(raw_sub(subject, from, first - 1))
    add(replaced(replacement, raw_sub(subject, first, last), ...))
    from = last + 1
    if last < first then
      add(raw_sub(subject, first, first))
      from = first + 1
    end
    return true
  end
  while count < count_max and from <= #subject + 1 do
    local found
    if anchored then
      found = step(starts_match(subject, raw_sub(pattern, 2)))
    else
      found = step(match_from(subject, pattern, from))
    end
    if anchored or not found then
      break
    end
  end
  add(raw_sub(subject, from))
  return raw_concat(pieces), count
end

local tables = copy(table, "concat foreachi getn maxn remove")
tables.insert = faces.insert

function tables.setn()
  error("'setn' is obsolete", 2)
end

function tables.sort(target, comes_before)
  if type(target) ~= "table" then
    error("bad argument #1 to 'sort' (table expected, got " .. type(target) .. ")", 2)
  elseif comes_before ~= nil and type(comes_before) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(comes_before) .. ")", 2)
  end
  check_stack()
  raw_sort(target, comes_before)
end

function tables.foreach(target, visit)
  for key, value in base.pairs(target) do
    local result = visit(key, value)
    if result ~= nil then
      return result
    end
  end
end

local maths = copy(math, [[
  abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log
  log10 max min modf pi pow rad sin sinh sqrt tan tanh
]])
maths.mod = maths.fmod
maths.randomseed = native.randomseed

function maths.random(...)
  local count = select("#", ...)
  if count == 0 then
    return random()
  end
  if count > 2 then
    error("wrong number of arguments", 2)
  end
  local low, high = ...
  if count == 1 then
    low, high = 1, low
  end
  if not (low <= high) then
    error("bad argument #" .. count .. " to 'random' (interval is empty)", 2)
  end
  return floor(random() * (high - low + 1)) + low
end

local coroutines = copy(coroutine, "create running status yield")

function coroutines.resume(...)
  check_stack()
  return raw_resume(...)
end

function coroutines.wrap(body)
  local resume = raw_wrap(body)
  return function(...)
    check_stack()
    return resume(...)
  end
end

local bits = copy(bit, "arshift band bnot bor bswap bxor lshift rol ror rshift tobit")
local raw_tohex = bit.tohex

-- At most eight digits, as Redis has it; LuaJIT would pad to 254.
function bits.tohex(number, digit_count)
  local count = digit_count or 8
  return raw_tohex(number, count < -8 and -8 or count > 8 and 8 or count)
end

-- Methods of strings find the hidden table; whoever asks for it gets a face.
local string_metatable = raw_getmetatable("")
string_metatable.__index = strings

base.string = freeze(strings)
base.table = freeze(tables)
base.math = freeze(maths)
base.coroutine = freeze(coroutines)
base.bit = freeze(bits)
base.cjson = freeze(native.cjson)
base.cmsgpack = freeze(native.cmsgpack)
base.struct = freeze(native.struct)

string_metatable.__metatable = freeze({ __index = base.string })

------------------------------------------------------------------------- redis

local function log(...)
  local count = select("#", ...)
  if count < 2 then
    raise("redis.log() requires two arguments or more.")
  end
  local level = ...
  if type(level) ~= "number" then
    raise("First argument must be a number (log level).")
  end
  if level < 0 or level > 3 then
    raise("Invalid debug level.")
  end
  local words = {}
  for index = 2, count do
    local word = (select(index, ...))
    words[index - 1] = (type(word) == "string" or type(word) == "number") and word or ""
  end
  native.log(level, raw_concat(words, " "))
end

-- What `redis` holds in both phases.
local function with_constants(contents)
  contents.log = log
  contents.LOG_DEBUG, contents.LOG_VERBOSE = 0, 1
  contents.LOG_NOTICE, contents.LOG_WARNING = 2, 3
  contents.REDIS_VERSION, contents.REDIS_VERSION_NUM = "7.0.15", 0x0007000f
  return contents
end

local redis_running = with_constants({
  call = native.call,
  pcall = native.pcall,
})

function redis_running.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  local zero = native.string.find(text, "\0", 1, true)
  text = raw_sub(text, raw_sub(text, 1, 1) == "-" and 2 or 1, zero and zero - 1)
  -- One word alone is a text without a code.
  local blank = native.string.find(text, " ", 1, true)
  local code, words = "ERR", text
  if blank then
    code, words = raw_sub(text, 1, blank - 1), raw_sub(text, blank + 1)
  end
  words = replace(words, "^[\r\n]+", "", 1)
  words = replace(words, "[\r\n]+$", "", 1)
  return { err = code .. " " .. words }
end

function redis_running.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

function redis_running.sha1hex(...)
  if select("#", ...) ~= 1 then
    raise("wrong number of arguments")
  end
  local text = ...
  return native.sha1hex((type(text) == "string" or type(text) == "number") and tostring(text) or "")
end

function redis_running.setresp(...)
  if select("#", ...) ~= 1 then
    raise("redis.setresp() requires one argument.")
  end
  local version = ...
  if version ~= 2 and version ~= 3 then
    raise("RESP version must be 2 or 3.")
  end
  native.setresp(version)
end

function redis_running.set_repl(...)
  if select("#", ...) ~= 1 then
    raise("redis.set_repl() requires two arguments.")
  end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags > 3 or flags ~= floor(flags) then
    raise("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
  native.record_effects(flags % 2 == 1)
end

redis_running.REPL_NONE, redis_running.REPL_AOF = 0, 1
redis_running.REPL_SLAVE, redis_running.REPL_REPLICA, redis_running.REPL_ALL = 2, 2, 3

function redis_running.acl_check_cmd(...)
  if select("#", ...) == 0 then
    raise("Please specify at least one argument for this redis lib call")
  end
  local name = ...
  if not native.knows_command(tostring(name)) then
    raise("Invalid command passed to redis.acl_check_cmd()")
  end
  return true
end

base.redis = freeze(redis_running)

-- Scripts see three names more, all of which mean nothing any longer.
local redis_script = {}
for name, value in raw_pairs(redis_running) do
  redis_script[name] = value
end

function redis_script.replicate_commands()
  return true
end

function redis_script.breakpoint()
  return false
end

function redis_script.debug()
end

redis_script = freeze(redis_script)

-------------------------------------------------------------------- a library

local function unknown_global(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

local strict = { __index = unknown_global }

-- Redis' arguments of redis.register_function, by name.
local function check_named_arguments(named)
  if type(named) ~= "table" then
    raise("calling redis.register_function with a single argument is only applicable to Lua table"
      .. " (representing named arguments).")
  end
  for key, value in raw_next, named do
    if type(key) ~= "string" then
      raise("named argument key given to redis.register_function is not a string")
    elseif key == "function_name" or key == "description" then
      if type(value) ~= "string" and type(value) ~= "number" then
        raise(key .. " argument given to redis.register_function must be a string")
      end
    elseif key == "callback" then
      if type(value) ~= "function" then
        raise("callback argument given to redis.register_function must be a function")
      end
    elseif key == "flags" then
      if type(value) ~= "table" then
        raise("flags argument to redis.register_function must be a table representing function flags")
      end
    else
      raise("unknown argument given to redis.register_function")
    end
  end
  if raw_rawget(named, "function_name") == nil then
    raise("redis.register_function must get a function name argument")
  elseif raw_rawget(named, "callback") == nil then
    raise("redis.register_function must get a callback argument")
  end
end

-- The bits of `Flags` in `engine.rs`.
local FLAG_BITS = {
  ["no-writes"] = 1,
  ["allow-oom"] = 2,
  ["allow-stale"] = 4,
  ["no-cluster"] = 8,
  ["allow-cross-slot-keys"] = 16,
}

local function flag_bits(flags)
  local bits, index = 0, 1
  local flag = raw_rawget(flags, index)
  while flag ~= nil do
    local flag_bit = FLAG_BITS[flag]
    if not flag_bit then
      raise("unknown flag given")
    end
    bits = bits_or(bits, flag_bit)
    index = index + 1
    flag = raw_rawget(flags, index)
  end
  return bits
end

local function register_function(...)
  local count = select("#", ...)
  if count < 1 or count > 2 then
    raise("wrong number of arguments to redis.register_function")
  end
  local named = ...
  if count == 2 then
    local name, callback = ...
    if type(name) ~= "string" and type(name) ~= "number" then
      raise("first argument to redis.register_function must be a string")
    elseif type(callback) ~= "function" then
      raise("second argument to redis.register_function must be a function")
    end
    named = { function_name = name, callback = callback }
  end
  check_named_arguments(named)
  local problem = native.register(
    tostring(raw_rawget(named, "function_name")),
    raw_rawget(named, "callback"),
    tostring(raw_rawget(named, "description") or ""),
    flag_bits(raw_rawget(named, "flags") or {}))
  if problem then
    raise(problem)
  end
end

local redis_loading = freeze(raw_setmetatable(
  with_constants({ register_function = register_function }), strict))

-- A global environment: its face, the metatable of that, and what it shows.
local function new_environment(redis)
  local face = {}
  local globals = { _G = face }
  for name, value in raw_pairs(base) do
    globals[name] = value
  end
  globals.redis = redis
  add_loaders(globals, face)
  raw_setmetatable(globals, strict)
  local metatable = { __index = globals, __newindex = refuse_write, __metatable = false }
  raw_setmetatable(face, metatable)
  contents_of[face] = globals
  return face, metatable, globals
end

-- Compiles the text that the engine holds ready. `native.uncompiled` raises, and
-- tells the engine that it was the compiler who refused.
local function compile_text(chunk_name, environment)
  local chunk, problem = raw_load(native.code(), chunk_name, "t", environment)
  if not chunk then
    native.uncompiled(problem)
  end
  return chunk
end

local loading = raw_setmetatable({ redis = redis_loading }, strict)

local function load_library()
  local face, metatable, globals = new_environment(base.redis)
  metatable.__index = loading
  contents_of[face] = loading
  compile_text("@user_function", face)()
  metatable.__index = globals
  contents_of[face] = globals
end

local script_face, _, script_globals = new_environment(redis_script)

local function load_script()
  return compile_text("@user_script", script_face)
end

return load_library, load_script, script_globals
