"""A disk that is full, and saves that fail: decisions go on, it is said, and it heals.

The disk is a file system of its own in memory, two megabytes small. Mounting it wants root."""

import json
import os
import shutil
import subprocess

import pytest

from process import fetch, wait_until
from redis_server import RedisServer
from resp import Connection


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(connection, prefix, count):
    """Writes that together are more than the disk takes."""
    return [connection.ask("SET", f"{prefix}:{number % 20}", "x" * 8_000) for number in range(count)]


def readiness(gateway):
    return fetch(gateway.admin_url("/readyz"))[2]


def test_a_full_disk_costs_no_decision_and_heals(weir, small_disk):
    gateway = weir(redis=True)
    gateway.config["store"]["embedded"].update(dir=str(small_disk), auto_aof_rewrite_percentage=0)
    with gateway:
        with Connection(gateway.address) as connection:
            replies = fill(connection, "k", 600)
            assert set(replies) == {("+", b"OK")}, "decisions go on from memory"
            wait_until(lambda: gateway.metrics()["weir_persist_poisoned"] == 1 or
                       gateway.metrics()["weir_persist_failures_total"] > 0, "the log says that it failed")
        # The keys are 160 KB: a rewrite has room once the old files may go, or now.
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        wait_until(lambda: gateway.metrics()["weir_persist_poisoned"] == 0, "healed within 5 s", seconds=5)
        with Connection(gateway.address) as connection:
            connection.ask("SET", "after", "healed")
        assert gateway.stop() == 0
    with gateway, Connection(gateway.address) as connection:
        assert connection.ask("GET", "after") == ("$", b"healed")
        assert connection.ask("DBSIZE") == (":", 21)


LIBRARY = """#!lua name=l
redis.register_function('w', function() return redis.call('SET', 'x', '1') end)
redis.register_function{function_name='r', callback=function() return redis.call('GET', 'x') end, flags={'no-writes'}}
"""
GET, SET = "return redis.call('GET', 'x')", "return redis.call('SET', 'x', '1')"

ALLOWED = ("$", b"first")


def while_denied(denied):
    """What is asked while nothing can be remembered, and what the answer is or begins with."""
    return [
        (["SET", "x", "1"], denied),
        (["GET", "x"], ALLOWED),
        (["PING"], denied),
        (["SET", "x"], b"ERR wrong number of arguments for 'set' command"),
        (["FLUSHALL"], denied),
        (["PUBLISH", "a", "b"], (":", 0)),
        # A script without a first line that declares flags is let in; its write fails.
        (["EVAL", GET, 0], ALLOWED),
        (["EVAL", SET, 0], denied),
        (["EVAL", f"return {{pcall(redis.call, 'SET', 'x', '1'), {GET[7:]}}}", 0], ("*", [("$", None), ALLOWED])),
        (["EVAL", "redis.call('PUBLISH', 'a', 'b') return 1", 0], (":", 1)),
        (["EVAL", f"#!lua\n{GET}", 0], denied),
        (["EVAL", f"#!lua flags=no-writes\n{GET}", 0], ALLOWED),
        (["EVAL", f"#!lua flags=no-writes\n{SET}", 0], b"ERR Write commands are not allowed from read-only scripts."),
        (["EVAL_RO", GET, 0], ALLOWED),
        (["EVAL_RO", f"#!lua\n{GET}", 0], denied),
        (["EVAL_RO", "redis.call('PUBLISH', 'a', 'b')", 0], b"ERR Write commands are not allowed from read-only scripts."),
        (["FCALL", "w", 0], denied),
        (["FCALL", "r", 0], ALLOWED),
        (["FCALL_RO", "w", 0], denied),
        (["FCALL_RO", "r", 0], ALLOWED),
        (["FUNCTION", "FLUSH"], denied),
        (["FUNCTION", "LOAD", "REPLACE", LIBRARY], denied),
        (["SCRIPT", "EXISTS", "0" * 40], ("*", [(":", 0)])),
        # Queued commands that write spoil the transaction; scripts may be queued.
        (["MULTI"], ("+", b"OK")),
        (["SET", "x", "1"], denied),
        (["EXEC"], b"EXECABORT Transaction discarded because of previous errors."),
        (["MULTI"], ("+", b"OK")),
        (["EVAL", SET, 0], ("+", b"QUEUED")),
        (["GET", "x"], ("+", b"QUEUED")),
        (["EXEC"], ("*", [denied, ALLOWED])),
        (["SUBSCRIBE", "c"], ("*", [("$", b"subscribe"), ("$", b"c"), (":", 1)])),
        (["SET", "x", "1"], denied),
        (["PING"], denied),
    ]


def is_like(reply, expected):
    """Whether a reply is what is expected; bytes are how an error begins."""
    if isinstance(expected, bytes):
        return reply[0] == "-" and reply[1].startswith(expected)
    if expected[0] == "*":
        return reply[0] == "*" and all(map(is_like, reply[1], expected[1])) and len(reply[1]) == len(expected[1])
    return reply == expected


def assert_denied(connection, told):
    for argv, expected in while_denied(told):
        reply = connection.ask(*argv)
        assert is_like(reply, expected), (argv, reply)


def info(connection, section):
    """The fields of a section of `INFO`."""
    lines = connection.ask("INFO", section)[1].decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.fixture(params=["weir", "redis-server"])
def refusing(request, weir, tmp_path, small_disk):
    """A server whose log is on the small disk, and that refuses what it cannot remember."""
    if request.param == "redis-server":
        arguments = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]
        with RedisServer(small_disk, *arguments) as server:
            yield server
        return
    gateway = weir(redis=True)
    gateway.config["store"]["embedded"].update(
        dir=str(small_disk), auto_aof_rewrite_percentage=0, on_log_error="refuse")
    with gateway:
        yield gateway


def make_full(small_disk):
    """Takes all room that is left; says how to give it back."""
    ballast = small_disk / "ballast"
    try:
        with open(ballast, "wb", buffering=0) as file:
            while file.write(b"x" * 4096) == 4096:
                pass
    except OSError:
        pass  # It is full now.
    return ballast.unlink


def test_what_a_full_disk_refuses_is_what_redis_refuses(refusing, small_disk):
    with Connection(refusing.address) as connection:
        assert connection.ask("SET", "x", "first") == ("+", b"OK")
        assert connection.ask("FUNCTION", "LOAD", LIBRARY) == ("$", b"l")
        make_full(small_disk)
        wait_until(lambda: connection.ask("SET", "k", "x" * 8_000)[0] == "-", "writes are refused")
        # Weir tries again and again to heal, in vain: it refuses all the time.
        assert_denied(connection, b"MISCONF Errors writing to the AOF file: ")


@pytest.fixture(params=["weir", "redis-server"])
def saving(request, weir, tmp_path):
    """A server with a log and without save points, and the folder of its `dump.rdb`."""
    if request.param == "redis-server":
        with RedisServer(tmp_path / "redis", "--appendonly", "yes") as server:
            yield server, server.folder
        return
    with weir(redis=True) as gateway:
        yield gateway, gateway.data


def fail_to_save(connection, folder):
    """Lets a save fail, with something in its way that a file cannot replace; says how to clear it."""
    in_the_way = folder / "dump.rdb"
    (in_the_way / "x").mkdir(parents=True)
    assert connection.ask("BGSAVE")[0] == "+"
    wait_until(lambda: info(connection, "persistence")["rdb_last_bgsave_status"] == "err", "the save fails")
    return lambda: shutil.rmtree(in_the_way)


def test_what_a_failed_save_refuses_is_what_redis_refuses(saving):
    server, folder = saving
    told = (b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
            b"Commands that may modify the data set are disabled, because this instance is configured to report "
            b"errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). "
            b"Please check the Redis logs for details about the RDB error.")
    with Connection(server.address) as connection, Connection(server.address) as other:
        assert connection.ask("CONFIG", "GET", "stop-writes-on-bgsave-error")[1][1] == ("$", b"yes")
        assert connection.ask("SET", "x", "first") == ("+", b"OK")
        assert connection.ask("FUNCTION", "LOAD", LIBRARY) == ("$", b"l")
        clear = fail_to_save(connection, folder)
        assert connection.ask("SET", "y", "1") == ("+", b"OK"), "there are no save points"
        assert connection.ask("CONFIG", "SET", "save", "3600 1") == ("+", b"OK")
        assert_denied(connection, told)
        for answer, wanted in ("no", ("+", b"OK")), ("yes", ("-", told)):
            assert other.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", answer) == ("+", b"OK")
            assert other.ask("SET", "y", "2") == wanted
        clear()
        assert other.ask("BGSAVE")[0] == "+"
        wait_until(lambda: other.ask("SET", "y", "3") == ("+", b"OK"), "a save that succeeds ends it")


@pytest.mark.parametrize("on_log_error", ["continue", "refuse"])
def test_a_failed_save_costs_no_decision(weir, on_log_error):
    gateway = weir(redis=True, policies=ONE_A_MINUTE)
    gateway.config["failure_mode"] = "closed"
    gateway.config["store"]["embedded"].update(save="3600 1", on_log_error=on_log_error)
    with gateway, Connection(gateway.address) as connection:
        fail_to_save(connection, gateway.data)
        assert connection.ask("SET", "x", "1")[1].startswith(b"MISCONF Redis is configured to save")
        assert [gateway.get("/one")[0] for _ in range(2)] == [200, 429]
    gateway.config["store"]["embedded"].update(stop_writes_on_bgsave_error=False)
    with gateway, Connection(gateway.address) as connection:
        assert connection.ask("CONFIG", "GET", "stop-writes-on-bgsave-error")[1][1] == ("$", b"no")
        assert gateway.get("/one")[0] == 429, "what was decided is in the log"


ONE_A_MINUTE = """
policies:
  - name: one
    match: { path: /one }
    key: [client_ip]
    limits: [{ quota: 1, window: 60s }]
"""


@pytest.mark.parametrize("failure_mode, asked", [("open", (200, 200)), ("closed", (503, 503))])
def test_a_full_disk_that_refuses_leaves_requests_to_the_failure_mode(weir, small_disk, failure_mode, asked):
    gateway = weir(redis=True, policies=ONE_A_MINUTE)
    gateway.config["failure_mode"] = failure_mode
    gateway.config["store"]["embedded"].update(
        dir=str(small_disk), auto_aof_rewrite_percentage=0, on_log_error="refuse")
    with gateway, Connection(gateway.address) as connection:
        give_back = make_full(small_disk)
        wait_until(lambda: connection.ask("SET", "k", "x" * 8_000)[0] == "-", "writes are refused")
        assert (gateway.get("/one")[0], gateway.get("/one")[0]) == asked
        # Looking writes nothing: it goes on, and sees that nothing was charged.
        status, _, page = fetch(gateway.admin_url("/api/v1/policies/one/keys/127.0.0.1"))
        assert status == 200 and json.loads(page)["limits"][0]["left"]["remaining"] == 1, page
        give_back()
        wait_until(lambda: connection.ask("SET", "k", "2") == ("+", b"OK"), "healed within 5 s", seconds=6)
        assert (gateway.get("/one")[0], gateway.get("/one")[0]) == (200, 429)
