"""The log is Redis': its tools accept every file, a redis-server that starts from
a copy holds the same keys, and we start from what a redis-server leaves."""

import os
import random
import re
import shutil
import subprocess
import time

import pytest

from process import wait_until
from redis_server import RedisServer
from resp import Connection, encode
from terminal import Terminal
from weir import BINARY

COMMANDS = 4_000


def random_command(chance):
    """A write on one of a few keys of each kind."""
    n = chance.randrange(40)
    text = chance.choice([str(chance.randrange(-9, 99999)), "x" * chance.randrange(200), "\x01\r\n\"'", ""])
    return chance.choice(
        [
            ("SET", f"s{n}", text),
            ("SET", f"s{n}", text, "PX", 10_000_000),
            ("APPEND", f"s{n}", text),
            ("DEL", f"s{n}"),
            ("ZADD", f"z{n}", chance.choice([chance.random(), chance.randrange(10**12), "inf"]), text or "m"),
            ("ZREMRANGEBYRANK", f"z{n}", 0, 0),
            ("HSET", f"h{n}", text or "f", text, f"f{chance.randrange(700)}", n),
            ("HDEL", f"h{n}", text or "f"),
            ("SADD", f"i{n}", chance.randrange(10**6), chance.randrange(-40_000, 40_000)),
            ("SADD", f"t{n}", text or "m", n),
            ("SREM", f"t{n}", n),
            ("RPUSH", f"l{n}", text, n),
            ("LPUSH", f"l{n}", "y" * chance.randrange(3_000)),
            ("LPOP", f"l{n}"),
            ("PEXPIRE", chance.choice("szhitl") + str(n), 10_000_000),
            ("RENAME", f"s{n}", f"s{n + 1}"),
            ("FUNCTION", "LOAD", "REPLACE", library(f"l{n % 8}", text)),
            ("FUNCTION", "DELETE", f"l{n % 8}"),
            ("FCALL", f"l{n % 8}", 1, f"s{n}", text),
        ]
    )


def library(name, text):
    """A library with one Function of its name, that writes, and some text of its own."""
    return f"""#!lua name={name}
-- {text.encode("unicode_escape").decode()}
redis.register_function('{name}', function(keys, args)
  redis.call('SET', keys[1], args[1])
  return redis.call('INCR', 'calls of {name}')
end)
"""


def load(address, chance, count=COMMANDS):
    commands = [random_command(chance) for _ in range(count)]
    with Connection(address) as connection:
        for start in range(0, count, 100):
            batch = commands[start : start + 100]
            connection.send(batch)
            connection.frames(len(batch))


def holds(address):
    """Every key with its payload, by kind, and every library that a client has loaded,
    with its code, so that servers can be compared."""
    held = {}
    with Connection(address) as connection:
        # A redis-server answers while it loads, with an error.
        wait_until(lambda: connection.ask("PING") == ("+", b"PONG"), "loaded")
        for _, key in connection.ask("KEYS", "*")[1]:
            kind = connection.ask("TYPE", key)[1].decode()
            read = {
                "string": ("GET", key),
                "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
                "hash": ("HGETALL", key),
                "set": ("SMEMBERS", key),
                "list": ("LRANGE", key, 0, -1),
            }[kind]
            value = connection.ask(*read)[1]
            if kind == "set":
                value = sorted(item[1] for item in value)
            if kind == "hash":
                value = sorted(zip([item[1] for item in value[::2]], [item[1] for item in value[1::2]]))
            held[key] = (kind, value, connection.ask("PEXPIRETIME", key)[1])
        for _, fields in connection.ask("FUNCTION", "LIST", "WITHCODE")[1]:
            name, functions, code = fields[1][1], fields[5], fields[7][1]
            if name not in (b"limiter", b"mylimiter"):  # Those of files, Weir's own.
                held[b"library " + name] = ("library", code, functions)
    return held


def check_files(data):
    """Redis' tools accept every file of the log."""
    folder = data / "appendonlydir"
    (manifest,) = folder.glob("*.manifest")
    ran = subprocess.run(["redis-check-aof", manifest], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for base in folder.glob("*.rdb"):
        ran = subprocess.run(["redis-check-rdb", base], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    ran = subprocess.run([BINARY, "log", "check", data], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("seed", range(4))
def test_what_weir_leaves_a_redis_server_holds_and_back(weir, tmp_path, seed):
    chance = random.Random(seed)
    gateway = weir(redis=True)
    gateway.config["store"]["embedded"]["aof_timestamp_enabled"] = seed % 2 == 1
    with gateway:
        load(gateway.address, chance)
        if seed >= 2:
            with Connection(gateway.address) as connection:
                connection.ask("BGREWRITEAOF")
            load(gateway.address, chance, 500)
        ours = holds(gateway.address)
        assert gateway.stop() == 0
    check_files(gateway.data)

    copy = tmp_path / "redis"
    shutil.copytree(gateway.data, copy)
    with RedisServer(copy, "--appendonly", "yes") as redis:
        assert holds(redis.address) == ours
        load(redis.address, chance, 1_000)
        theirs = holds(redis.address)
        assert redis.stop() == 0

    again = weir(redis=True)
    again.config["store"]["embedded"]["dir"] = str(copy)
    with again:
        assert holds(again.address) == theirs
        load(again.address, chance, 500)
        last = holds(again.address)
        assert again.stop() == 0
    check_files(copy)
    with again:
        assert holds(again.address) == last


def test_dump_rdb_is_one_of_redis(weir, tmp_path):
    gateway = weir(redis=True)
    with gateway:
        load(gateway.address, random.Random(7))
        with Connection(gateway.address) as connection:
            assert connection.ask("SAVE") == ("+", b"OK")
        ours = holds(gateway.address)
        copy = tmp_path / "redis"
        copy.mkdir()
        shutil.copy(gateway.data / "dump.rdb", copy)
    ran = subprocess.run(["redis-check-rdb", copy / "dump.rdb"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with RedisServer(copy) as redis:
        assert holds(redis.address) == ours


@pytest.mark.parametrize("leaves", ["dump.rdb", "appendonly.aof", "appendonly.aof with a preamble"])
def test_weir_begins_where_a_redis_without_a_log_directory_ended(weir, tmp_path, leaves):
    """Its snapshot, or its log as a Redis before 7 had it: one file, in the data directory."""
    redis = RedisServer(tmp_path / "redis", "--appendonly", "yes",
                        "--aof-use-rdb-preamble", "yes" if "preamble" in leaves else "no")  # fmt: skip
    with redis:
        load(redis.address, random.Random(3))
        with Connection(redis.address) as connection:
            if leaves == "dump.rdb":
                assert connection.ask("SAVE") == ("+", b"OK")
            else:
                connection.ask("BGREWRITEAOF")
                wait_until(lambda: b"aof_rewrite_in_progress:0" in connection.ask("INFO", "persistence")[1], "rewritten")
        theirs = holds(redis.address)
        assert redis.stop() == 0
    name = leaves.split()[0]
    gateway = weir(redis=True)
    gateway.data.mkdir()
    if name == "dump.rdb":
        shutil.copy(redis.folder / name, gateway.data)
    else:
        # One file, as it was: the base, and the records behind it.
        parts = sorted((redis.folder / "appendonlydir").glob("*.base.*")) + sorted((redis.folder / "appendonlydir").glob("*.incr.*"))
        (gateway.data / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    looked = subprocess.run([BINARY, "log", "check", gateway.data], capture_output=True, text=True, timeout=60)
    assert looked.returncode == 0, looked.stderr
    assert "no log yet: a start begins one with this file" in looked.stdout
    assert [entry.name for entry in gateway.data.iterdir()] == [name]
    for _ in range(2):
        with gateway:
            assert holds(gateway.address) == theirs
            assert gateway.stop() == 0
    check_files(gateway.data)
    assert (gateway.data / name).exists() == (name == "dump.rdb")
    # And a redis-server goes on from there.
    with RedisServer(gateway.data, "--appendonly", "yes") as again:
        assert holds(again.address) == theirs


def looked_at(data, *options):
    """`weir log check`: its exit code, and what it says."""
    ran = subprocess.run([BINARY, "log", "check", *options, data], capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("fault", ["torn", "damaged"])
def test_a_log_of_a_redis_before_7_is_mended_before_the_first_start(weir, fault):
    records = [encode(["SET", f"k{number}", number]) for number in range(9)]
    whole, last = b"".join(records[:5]), b"".join(records[5:])
    content = whole + last[:-9] if fault == "torn" else whole + last.replace(b"*3", b"*x", 1)
    where = "torn tail" if fault == "torn" else f"damaged at byte {len(whole) + 1}: expected a number of arguments"
    # Of a torn log all whole records are kept, of a damaged one those before the damage.
    kept = b"".join(records[:8]) if fault == "torn" else whole
    gateway = weir(redis=True)
    gateway.data.mkdir()
    log = gateway.data / "appendonly.aof"
    log.write_bytes(content)
    code, said = looked_at(gateway.data)
    assert code == 1 and str(log) in said and log.read_bytes() == content, said
    assert where in said, said
    code, said = looked_at(gateway.data, "--fix")
    assert code == 0 and f"cut at byte {len(kept)}, {len(content) - len(kept)} bytes behind it" in said, said
    assert log.read_bytes() == kept
    assert (gateway.data / "appendonly.aof.damaged").read_bytes() == content
    code, said = looked_at(gateway.data)
    assert code == 0 and said.endswith("whole\n"), said
    with gateway, Connection(gateway.address) as connection:
        count = kept.count(b"SET")
        assert [connection.ask("GET", f"k{number}")[1] for number in range(count)] == [str(n).encode() for n in range(count)]
        assert connection.ask("DBSIZE") == (":", count)
        assert gateway.stop() == 0
    check_files(gateway.data)


@pytest.mark.parametrize("verb, shown", [("check", "checking"), ("dump", "reading")])
def test_who_looks_at_a_log_on_a_terminal_sees_how_far_it_has_come(weir, verb, shown):
    gateway = weir(redis=True)
    with gateway:
        load(gateway.address, random.Random(5))
        with Connection(gateway.address) as connection:
            connection.ask("BGREWRITEAOF")
        load(gateway.address, random.Random(6))
        assert gateway.stop() == 0
    with Terminal([BINARY, "log", verb, gateway.data]) as terminal:
        wait_until(lambda: not terminal.look(), "it has ended")
        assert terminal.child.wait(20) == 0
        said = terminal.shown
    # A bar, how much of how much, and how long it will take yet.
    bars = re.findall(rf"  {shown} \S+ ([\d.]+ \w+)/([\d.]+ \w+), \S+ left", said)
    total = sum(path.stat().st_size for path in (gateway.data / "appendonlydir").glob("*.*.*.*"))
    # More than a MiB of it where the rewrite had not begun before the end.
    whole = f"{total / 1024:.2f} KiB" if total < 1 << 20 else f"{total / (1 << 20):.2f} MiB"
    assert bars and {it for _, it in bars} == {whole}, said
    quiet = subprocess.run([BINARY, "log", verb, gateway.data], capture_output=True, timeout=60)
    assert quiet.returncode == 0 and shown.encode() not in quiet.stderr, "nothing where that is no terminal"


def test_a_long_start_on_a_terminal_shows_how_far_it_has_come(weir):
    gateway = weir(redis=True)
    with gateway:
        load(gateway.address, random.Random(8))
        assert gateway.stop() == 0
    folder = gateway.data / "appendonlydir"
    base, incr = folder / "appendonly.aof.1.base.rdb", folder / "appendonly.aof.1.incr.aof"
    content = base.read_bytes()
    base.unlink()
    # The base file comes late: a pipe, which this test holds at both ends.
    os.mkfifo(base)
    pipe = os.open(base, os.O_RDWR)
    with Terminal(gateway.command()) as terminal:
        wait_until((folder / "weir.lock").exists, "it has begun to load")
        time.sleep(0.7)
        assert not terminal.shown, "a short load is not worth a word"
        os.write(pipe, content)
        os.close(pipe)
        total = f"{incr.stat().st_size / 1024:.2f} KiB"
        wait_until(lambda: terminal.look() and total in terminal.shown, "the bar is drawn")
        assert re.search(rf"  loading \S+ [\d.]+ \w+/{total}, [\d.]+ \w+/s", terminal.shown), terminal.shown


def test_payloads_travel_both_ways(weir, tmp_path):
    gateway = weir(redis=True)
    with gateway, RedisServer(tmp_path / "redis") as redis:
        load(gateway.address, random.Random(11))
        load(redis.address, random.Random(12))
        for source, target in ((gateway.address, redis.address), (redis.address, gateway.address)):
            with Connection(source) as from_, Connection(target) as to:
                for _, key in from_.ask("KEYS", "*")[1]:
                    payload = from_.ask("DUMP", key)[1]
                    restored = to.ask("RESTORE", b"copy:" + key, 0, payload, "REPLACE")
                    assert restored == ("+", b"OK"), (key, restored)
                    assert to.ask("TYPE", b"copy:" + key) == from_.ask("TYPE", key)
            ours, theirs = holds(source), holds(target)
            for key, (kind, value, _deadline) in ours.items():
                if not key.startswith((b"copy:", b"library ")):
                    assert theirs[b"copy:" + key][:2] == (kind, value), key
