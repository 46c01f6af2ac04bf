"""A disk that is full: decisions go on, it is said, and it heals when room returns.

A file system of its own in memory, two megabytes small. Mounting it wants root."""

import json
import os
import subprocess

import pytest

from process import fetch, wait_until
from redis_server import RedisServer
from resp import Connection

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")


@pytest.fixture
def small_disk(tmp_path):
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

# While nothing can be remembered: what is asked, and what the answer is or begins with.
DENIED = b"MISCONF Errors writing to the AOF file: "
ALLOWED = ("$", b"first")
WHILE_DENIED = [
    (["SET", "x", "1"], DENIED),
    (["GET", "x"], ALLOWED),
    (["PING"], DENIED),
    (["SET", "x"], b"ERR wrong number of arguments for 'set' command"),
    (["FLUSHALL"], DENIED),
    (["PUBLISH", "a", "b"], (":", 0)),
    # A script without a first line that declares flags is let in; its write fails.
    (["EVAL", GET, 0], ALLOWED),
    (["EVAL", SET, 0], DENIED),
    (["EVAL", f"return {{pcall(redis.call, 'SET', 'x', '1'), {GET[7:]}}}", 0], ("*", [("$", None), ALLOWED])),
    (["EVAL", "redis.call('PUBLISH', 'a', 'b') return 1", 0], (":", 1)),
    (["EVAL", f"#!lua\n{GET}", 0], DENIED),
    (["EVAL", f"#!lua flags=no-writes\n{GET}", 0], ALLOWED),
    (["EVAL", f"#!lua flags=no-writes\n{SET}", 0], b"ERR Write commands are not allowed from read-only scripts."),
    (["EVAL_RO", GET, 0], ALLOWED),
    (["EVAL_RO", f"#!lua\n{GET}", 0], DENIED),
    (["EVAL_RO", "redis.call('PUBLISH', 'a', 'b')", 0], b"ERR Write commands are not allowed from read-only scripts."),
    (["FCALL", "w", 0], DENIED),
    (["FCALL", "r", 0], ALLOWED),
    (["FCALL_RO", "w", 0], DENIED),
    (["FCALL_RO", "r", 0], ALLOWED),
    (["FUNCTION", "FLUSH"], DENIED),
    (["FUNCTION", "LOAD", "REPLACE", LIBRARY], DENIED),
    (["SCRIPT", "EXISTS", "0" * 40], ("*", [(":", 0)])),
    # Queued commands that write spoil the transaction; scripts may be queued.
    (["MULTI"], ("+", b"OK")),
    (["SET", "x", "1"], DENIED),
    (["EXEC"], b"EXECABORT Transaction discarded because of previous errors."),
    (["MULTI"], ("+", b"OK")),
    (["EVAL", SET, 0], ("+", b"QUEUED")),
    (["GET", "x"], ("+", b"QUEUED")),
    (["EXEC"], ("*", [DENIED, ALLOWED])),
    (["SUBSCRIBE", "c"], ("*", [("$", b"subscribe"), ("$", b"c"), (":", 1)])),
    (["SET", "x", "1"], DENIED),
    (["PING"], DENIED),
]


def is_like(reply, expected):
    """Whether a reply is what is expected; bytes are how an error begins."""
    if isinstance(expected, bytes):
        return reply[0] == "-" and reply[1].startswith(expected)
    if expected[0] == "*":
        return reply[0] == "*" and all(map(is_like, reply[1], expected[1])) and len(reply[1]) == len(expected[1])
    return reply == expected


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
        for argv, expected in WHILE_DENIED:
            reply = connection.ask(*argv)
            assert is_like(reply, expected), (argv, reply)


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
