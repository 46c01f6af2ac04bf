"""Random values through every conversion of scripts, on Weir and on a redis-server:
Lua to replies in both protocols, replies to Lua, cjson, cmsgpack and struct there and
back; and libraries that travel between the two as `FUNCTION DUMP` packs them.

`WEIR_VALUES_SEED` runs another seed, `WEIR_VALUES_COUNT` more values of each kind."""

import os
import random

import pytest

from redis_server import RedisServer
from resp import Connection, encode, show, words
from weir import ROOT, Weir

SEED = int(os.environ.get("WEIR_VALUES_SEED", "7"))
COUNT = int(os.environ.get("WEIR_VALUES_COUNT", "400"))

# Shows a value with its types, keys in an order that does not depend on the table.
SHOW = """
local function show(v)
  if type(v) == 'table' then
    local parts = {}
    for k, x in pairs(v) do parts[#parts + 1] = show(k) .. '=' .. show(x) end
    table.sort(parts)
    return '{' .. table.concat(parts, ',') .. '}'
  elseif type(v) == 'string' then
    return string.format('%q', v)
  elseif v ~= v then
    return 'nan' -- LuaJIT has one, Lua 5.1 has one of each sign.
  elseif type(v) == 'number' then
    return string.format('%.17g', v)
  end
  return tostring(v)
end
"""

# Without -0.0, which the compiler of Lua 5.1 takes for the same constant as 0.
NUMBERS = ["0", "1", "-1", "3.99", "-3.99", "1e15", "2^31", "2^32", "2^53", "-2^53", "2^63", "1e100", "-1e100",
           "1/3", "1e-7", "0.1", "123456789012345", "127", "128", "255", "256", "-32", "-33", "-128", "-129", "65535", "65536",
           "1/0", "-1/0", "5e-324", "1.7976931348623157e308"]  # fmt: skip
TEXTS = ["", "a", "OK", "0", "1.5", "\r\n", "a\r\nb", "-", "-x", "é", "\x00", "\xff\xfe", '"', "\\", "/", "\t\x7f", "k" * 31, "k" * 32, "k" * 300]


def quoted(text):
    """A text as Lua reads it."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode("latin-1")) + '"'


class Values:
    """Expressions of Lua, by chance."""

    def __init__(self, name):
        self.random = random.Random(f"{SEED} {name}")

    def number(self, finite=False):
        if self.random.random() < 0.5:
            return self.random.choice(NUMBERS[:-4] if finite else NUMBERS)
        return repr(self.random.choice([self.random.randint(-(2**40), 2**40), self.random.uniform(-1e9, 1e9), self.random.randint(-300, 300)]))

    def text(self):
        if self.random.random() < 0.6:
            return quoted(self.random.choice(TEXTS))
        return quoted("".join(chr(self.random.randrange(256)) for _ in range(self.random.randrange(40))))

    def scalar(self, finite=False):
        return self.random.choice([self.number(finite), self.text(), "true", "false"])

    def list(self, item):
        return "{" + ",".join(item() for _ in range(self.random.randrange(6))) + "}"

    def reply(self, depth=0):
        """What a script may return, tables that name a type among them."""
        if depth > 3 or self.random.random() < 0.4:
            return self.random.choice([self.scalar(), self.scalar(), "nil", "print", "cjson.null"])
        inner = lambda: self.reply(depth + 1)  # noqa: E731
        return self.random.choice([
            lambda: self.list(inner),
            lambda: "{" + f"{inner()},nil,{inner()}" + "}",
            lambda: "{err=" + self.random.choice([self.text(), "5", "'MY line'"]) + "}",
            lambda: "{ok=" + self.random.choice([self.text(), "{}"]) + "}",
            lambda: "{double=" + self.random.choice([self.number(), "'x'"]) + "}",
            lambda: "{map={[" + self.text() + "]=" + inner() + "}}",
            lambda: "{set={[" + self.text() + "]=true}}",
            lambda: "{big_number=" + self.random.choice(["'123456789012345678901234567890'", "7"]) + "}",
            lambda: "{verbatim_string={format='txt',string=" + self.text() + "}}",
            lambda: "{x=1," + inner() + "}",
        ])()  # fmt: skip

    def data(self, depth=0):
        """What cjson and cmsgpack take: maps have one key, as order is nobody's promise."""
        if depth > 3 or self.random.random() < 0.4:
            return self.scalar(finite=True)
        inner = lambda: self.data(depth + 1)  # noqa: E731
        return self.random.choice([
            lambda: self.list(inner),
            lambda: "{[" + self.random.choice([self.text(), self.number(finite=True)]) + "]=" + inner() + "}",
            lambda: "{" + f"{inner()},nil,{inner()}" + "}",
            lambda: "{1,nil,nil,nil,nil,nil,nil,nil,nil,nil,nil,nil,x=1}" if depth == 0 else "cjson.null",
        ])()  # fmt: skip

    def json(self, depth=0):
        """JSON, and what is almost JSON."""
        if depth > 3 or self.random.random() < 0.4:
            return self.random.choice(["null", "true", "false", "1", "-1.5e3", "0x1F", "1e400", "-", "nul", '"a\\u00e9\\n"', '"\\ud83d\\ude00"',
                                       '"\\ud83d"', '"\\x"', '""', "01", ".5", "-Infinity", '"a\tb"', "1 2", "NaN"])  # fmt: skip
        inner = lambda: self.json(depth + 1)  # noqa: E731
        return self.random.choice([
            lambda: "[" + ", ".join(inner() for _ in range(self.random.randrange(5))) + "]",
            lambda: '{"k": ' + inner() + "}",
            lambda: "{" + inner() + ": 1}",
            lambda: "[" + inner() + ",]",
        ])()  # fmt: skip

    def bytes(self):
        return quoted("".join(chr(self.random.choice([0x90, 0x81, 0x93, 0xC0, 0xC2, 0xCB, 0xD0, 0xDA, 0xDC, 0xA1, 1, 0xFF, self.random.randrange(256)]))
                              for _ in range(self.random.randrange(12))))  # fmt: skip

    def packed(self):
        """A format of struct, and values for it."""
        kinds = [self.random.choice("bBhHlLfdsiI") + "" for _ in range(self.random.randrange(1, 5))]
        sizes = [kind + self.random.choice(["", "1", "2", "4", "8"]) if kind in "iI" else kind for kind in kinds]
        order = self.random.choice(["", "<", ">", "=", "!4", "!8", "<!2"])
        small = lambda: repr(self.random.choice([0, 1, -1, 127, 255, 256, 65535, self.random.randint(-(2**31), 2**31)]))  # noqa: E731
        values = [quoted(self.random.choice(["", "ab", "xyz"])) if kind == "s" else small() for kind in kinds]
        return quoted(order + "".join(sizes)), ",".join(values)


def lua_to_reply(values):
    yield f"return {values.reply()}"


def lua_to_reply_of_protocol_3(values):
    yield f"redis.setresp(3) return {values.reply()}"


def cjson_there_and_back(values):
    value = values.data()
    yield f"return cjson.encode({value})"
    yield f"{SHOW} local ok, it = pcall(cjson.encode, {value}) return ok and show(cjson.decode(it)) or it"


def cjson_of_any_text(values):
    yield f"{SHOW} return show(cjson.decode({quoted(values.json())}))"


def cmsgpack_there_and_back(values):
    value, more = values.data(), values.data()
    yield f"return cmsgpack.pack({value}, {more})"
    yield f"{SHOW} return show({{cmsgpack.unpack(cmsgpack.pack({value}, {more}))}})"


def cmsgpack_of_any_bytes(values):
    yield f"{SHOW} return show({{cmsgpack.unpack({values.bytes()})}})"


def struct_there_and_back(values):
    form, packed = values.packed()
    yield f"return {{struct.size({form})}}" if "115" not in form else f"return struct.pack({form}, {packed})"
    yield f"{SHOW} return show({{struct.unpack({form}, struct.pack({form}, {packed}))}})"


def struct_of_any_bytes(values):
    yield f"{SHOW} return show({{struct.unpack({values.packed()[0]}, {values.bytes()})}})"


def arguments_of_commands(values):
    yield f"return redis.call('ECHO', {values.number()})"
    yield f"redis.call('DEL', 'z') redis.call('ZADD', 'z', {values.number()}, {values.text()}) return redis.call('ZRANGE', 'z', 0, -1, 'WITHSCORES')"


REPLIES = ["'GET', 'none'", "'GET', 's'", "'INCR', 'n'", "'HGETALL', 'h'", "'SMEMBERS', 'set'", "'ZRANGE', 'z', 0, -1, 'WITHSCORES'", "'ZSCORE', 'z', 'm'",
           "'LRANGE', 'l', 0, -1", "'MGET', 's', 'none'", "'SET', 's', 'v'", "'SET', 's', 'v', 'NX'", "'GET', 'h'", "'NOPE'", "'HRANDFIELD', 'h', 2, 'WITHVALUES'",
           "'ZMSCORE', 'z', 'm', 'none'", "'ZPOPMIN', 'none'", "'SISMEMBER', 'set', 'a'", "'CONFIG'", "'PING'", "'LPOP', 'none', 1", "'OBJECT', 'ENCODING', 'l'"]  # fmt: skip
FILLED = ("redis.call('SET', 's', 'v') redis.call('HSET', 'h', 'f', 1) redis.call('SADD', 'set', 'a') "
          "redis.call('ZADD', 'z', 1.5, 'm') redis.call('DEL', 'l') redis.call('RPUSH', 'l', 'x', 2) ")  # fmt: skip


def replies_of_commands(values):
    asked = f"redis.{values.random.choice(['call', 'pcall'])}({values.random.choice(REPLIES)})"
    protocol = values.random.choice(["", "redis.setresp(2) ", "redis.setresp(3) "])
    yield f"redis.call('DEL', 'z') {FILLED}{protocol}{values.random.choice([f'return {asked}', f'{SHOW} return show({asked})'])}"


def errors_and_statuses(values):
    text = values.text()
    for form in ("error({})", "error({{err={}}})", "return redis.error_reply({})", "return redis.status_reply({})", "return {{err={}}}", "return {{ok={}}}"):
        yield form.format(text)
    yield f"{SHOW} return show({{pcall(error, {values.scalar()})}})"
    yield f"return tostring({values.scalar()}) .. tostring({values.number()}) .. {values.number()} .. ''"


KINDS = [lua_to_reply, errors_and_statuses, lua_to_reply_of_protocol_3, cjson_there_and_back, cjson_of_any_text, cmsgpack_there_and_back, cmsgpack_of_any_bytes,
         struct_there_and_back, struct_of_any_bytes, arguments_of_commands, replies_of_commands]  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    with Weir(folder / "weir", redis=True) as weir, RedisServer(folder / "redis") as redis:
        with Connection(weir.address) as ours, Connection(redis.address) as theirs:
            yield ours, theirs


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_random_values_come_out_as_from_redis(both, kind, protocol):
    values = Values(kind.__name__)
    scripts = [script for _ in range(COUNT) for script in kind(values)]
    batch = b"".join(encode(["EVAL", script, 0]) for script in scripts)
    answers = []
    for connection in both:
        connection.ask("FLUSHALL")
        connection.ask("HELLO", protocol)
        connection.write(batch)
        answers.append(list(connection.frames(len(scripts))))
    differences = [
        f"{script.removeprefix(SHOW)}\n  redis: {show(theirs)}\n  weir:  {show(ours)}" for script, ours, theirs in zip(scripts, *answers) if ours != theirs
    ]
    assert not differences, f"{len(differences)} of {len(scripts)} with seed {SEED}\n" + "\n".join(differences[:10])


def library(name, body="return 1", flags=""):
    return f"#!lua name={name}\nredis.register_function{{function_name='{name}_f', callback=function() {body} end, flags={{{flags}}}, description='d'}}"


def listed(connection):
    """Libraries with their Functions and texts, in no order."""
    _, libraries = connection.ask("FUNCTION", "LIST", "WITHCODE")
    return sorted((name, sorted(show(it) for it in functions), code) for _, [_, (_, name), _, _, _, (_, functions), _, (_, code)] in libraries)


LOADED = [library("a"), library("b", "return {1, 'x'}", "'no-writes', 'allow-oom'"), *((ROOT / "functions" / f"{it}.lua").read_text() for it in ("limiter", "mylimiter"))]


@pytest.mark.parametrize("from_us", [True, False], ids=["weir to redis", "redis to weir"])
def test_libraries_travel_between_weir_and_redis(both, from_us):
    sender, receiver = both if from_us else reversed(both)
    for connection in both:
        connection.ask("HELLO", 2)
        connection.ask("FUNCTION", "FLUSH")
    for code in LOADED:
        assert sender.ask("FUNCTION", "LOAD", code)[0] == "$"
    packed = sender.ask("FUNCTION", "DUMP")[1]
    whole = listed(sender)

    receiver.ask("FUNCTION", "LOAD", library("own"))
    own = listed(receiver)
    assert receiver.ask("FUNCTION", "RESTORE", packed) == ("+", b"OK")
    assert listed(receiver) == sorted(whole + own)
    assert receiver.ask("FCALL", "b_f", 0) == ("*", [(":", 1), ("$", b"x")])
    # Names that are taken refuse all of it; FLUSH and REPLACE do not ask.
    kind, line = receiver.ask("FUNCTION", "RESTORE", packed, "APPEND")
    assert kind == "-" and line.startswith(b"ERR Library ") and line.endswith(b" already exists"), line
    receiver.ask("FUNCTION", "LOAD", "REPLACE", library("b", "return 'other'"))
    assert receiver.ask("FUNCTION", "RESTORE", packed, "REPLACE") == ("+", b"OK")
    assert listed(receiver) == sorted(whole + own)
    assert receiver.ask("FUNCTION", "RESTORE", packed, "FLUSH") == ("+", b"OK")
    assert listed(receiver) == whole
    # And back again: nothing was lost on the way.
    back = receiver.ask("FUNCTION", "DUMP")[1]
    assert sender.ask("FUNCTION", "RESTORE", back, "FLUSH") == ("+", b"OK")
    assert listed(sender) == whole


def test_one_library_is_packed_in_the_same_bytes(both):
    both[1].ask("CONFIG", "SET", "rdbcompression", "no")
    for connection in both:
        connection.ask("FUNCTION", "FLUSH")
        connection.ask("FUNCTION", "LOAD", LOADED[1])
    ours, theirs = (connection.ask("FUNCTION", "DUMP")[1] for connection in both)
    assert ours == theirs, words([ours, theirs])
