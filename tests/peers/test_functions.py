"""Functions and scripts that run for long, and libraries that clients take away: what
Weir does in place of Redis, through the real binary."""

import shutil
import signal
import socket
from contextlib import ExitStack, closing
from time import monotonic, sleep

import pytest

from process import fetch, wait_until
from redis_server import RedisServer
from resp import Connection, encode
from weir import Weir

LOOP = "redis.call('SET', 'k', 'v') while true do pcall(function() while true do end end) end"
LIBRARY = f"#!lua name=mine\nredis.register_function('loop', function() {LOOP} end)"


@pytest.fixture
def weir(tmp_path):
    with Weir(tmp_path / "weir", redis=True) as weir:
        yield weir


@pytest.fixture
def client(weir):
    with Connection(weir.address) as client:
        assert client.ask("FUNCTION", "LOAD", LIBRARY) == ("$", b"mine")
        yield client


CALLS = {"script": ["EVAL", LOOP, 0], "mine.loop": ["FCALL", "loop", 0]}


@pytest.mark.parametrize("setting", ["busy-reply-threshold", "lua-time-limit"])
@pytest.mark.parametrize("label", CALLS)
def test_a_call_that_outlasts_the_threshold_is_ended_undone_noted_and_counted(weir, client, label, setting):
    call = CALLS[label]
    assert client.ask("CONFIG", "SET", setting, 150) == ("+", b"OK")
    sort, line = client.ask(*call)
    assert sort == "-" and line.endswith(b" was ended: it ran longer than 150ms"), line
    assert client.ask("GET", "k") == ("$", None)
    # The slow log has it, newest first: id, time, microseconds, arguments.
    _, [(_, [_, _, (_, took), (_, words), *_])] = client.ask("SLOWLOG", "GET", 1)
    assert took >= 150_000 and words[0] == ("$", call[0].encode()), words
    assert weir.metrics()[f'weir_function_call_errors_total{{function="{label}",reason="time"}}'] == 1
    shown = f'weir_function_call_duration_seconds_count{{function="{label}"}}'
    wait_until(lambda: weir.metrics().get(shown) == 1, "a counted call")


def test_who_lets_decisions_wait_in_vain_is_counted_and_named(weir, client):
    assert client.ask("CONFIG", "SET", "busy-reply-threshold", 400) == ("+", b"OK")
    assert client.ask("EVAL", LOOP, 0)[0] == "-"
    assert client.ask("PING") == ("+", b"PONG")
    assert weir.metrics()["weir_redis_long_holds_total"] >= 1
    weir.process.tells("held the keyspace for longer")
    told = [line for line in weir.process.log().splitlines() if "held the keyspace for longer" in line]
    assert any("eval" in line and "127.0.0.1" in line for line in told), told


@pytest.mark.parametrize("removal", [["FLUSH"], ["DELETE", "limiter"], ["LOAD", "REPLACE", "broken"]], ids=lambda it: it[0])
def test_policies_go_on_when_a_client_takes_their_library_away(weir, client, removal):
    if removal[-1] == "broken":
        removal = [*removal[:2], "#!lua name=limiter\nredis.register_function('decide', function() error('x') end)"]
    assert weir.get("/limited/x")[0] == 200
    assert client.ask("FUNCTION", *removal)[0] in "+$"
    assert client.ask("FCALL", "decide", 0)[0] == "-"
    assert [weir.get("/limited/x")[0] for _ in range(5)] == [200, 200, 200, 200, 429]
    assert weir.metrics()["weir_store_call_errors_total"] == 0
    weir.process.tells("policies keep the file's")


def libraries(address):
    """Each library that clients see, with its text."""
    with Connection(address) as connection:
        # A redis-server answers while it loads, with an error.
        wait_until(lambda: connection.ask("PING") == ("+", b"PONG"), "loaded")
        listed = connection.ask("FUNCTION", "LIST", "WITHCODE")[1]
        return {fields[1][1].decode(): fields[7][1].decode() for _, fields in listed}


def test_a_redis_server_that_starts_from_a_copy_has_the_libraries_of_files(weir, tmp_path):
    def text(answer):
        return f"#!lua name=ours\nredis.register_function('answer', function() return {answer} end)"

    def copied(name):
        shutil.copytree(weir.data, tmp_path / name)
        with RedisServer(tmp_path / name, "--appendonly", "yes") as redis, Connection(redis.address) as connection:
            return libraries(redis.address), connection.ask("FCALL", "answer", 0)

    file = weir.folder / "functions" / "ours.lua"
    for answer in (1, 2):
        file.write_text(text(answer))
        wait_until(lambda: libraries(weir.address).get("ours") == text(answer), "the file is loaded")
        ours = libraries(weir.address)
        assert {"limiter", "mylimiter", "ours"} <= ours.keys()
        # It is in the log's file within milliseconds.
        wait_until(lambda: text(answer) in (weir.data / "appendonlydir" / "appendonly.aof.1.incr.aof").read_text(), "written")
        assert copied(f"copy{answer}") == (ours, (":", answer))
    file.unlink()
    assert weir.stop() == 0
    with weir:
        assert libraries(weir.address) == ours, "as of a client, until one deletes it"


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def endless(request, tmp_path):
    """Calls are never ended for their time."""
    weir = Weir(tmp_path / "weir", redis=True)
    weir.config["workers"] = request.param
    with weir, Connection(weir.address) as client:
        assert client.ask("CONFIG", "SET", "busy-reply-threshold", 0) == ("+", b"OK")
        assert client.ask("FUNCTION", "LOAD", LIBRARY) == ("$", b"mine")
        yield weir
        with Connection(weir.address) as after:
            assert after.ask("GET", "k") == ("$", None)
            assert after.ask("SCRIPT", "KILL") == ("-", b"NOTBUSY No scripts in execution right now.")


def begin(caller, label):
    """A call that does not end by itself."""
    caller.send([CALLS[label]])
    sleep(0.15)


def end_call(killer, word):
    """Ends the call, which on a busy machine may not have begun yet."""

    def told():
        reply = killer.ask(word, "KILL")
        return None if reply[1].startswith(b"NOTBUSY") else reply

    assert wait_until(told, "the call has begun") == ("+", b"OK")


KILLED = b"Script killed by user with SCRIPT KILL..."
WORDS = {"script": "SCRIPT", "mine.loop": "FUNCTION"}


@pytest.mark.parametrize("label", CALLS)
def test_a_call_is_killed_by_any_client_on_whatever_thread(endless, label):
    with ExitStack() as stack:
        caller, *others = [stack.enter_context(Connection(endless.address)) for _ in range(9)]
        for killer in others:
            begin(caller, label)
            end_call(killer, WORDS[label])
            sort, line = caller.frame()
            assert sort == "-" and KILLED in line, line


@pytest.mark.parametrize("label", CALLS)
def test_a_call_is_killed_by_clients_that_come_when_it_runs(endless, label):
    with Connection(endless.address) as caller:
        for _ in range(4):
            begin(caller, label)
            with Connection(endless.address) as killer:
                end_call(killer, WORDS[label])
                assert KILLED in caller.frame()[1]
                assert killer.ask("PING") == ("+", b"PONG")


def test_clients_that_wait_for_the_call_go_on_when_it_was_killed(endless):
    with ExitStack() as stack:
        caller, killer, *waiting = [stack.enter_context(Connection(endless.address)) for _ in range(9)]
        begin(caller, "script")
        for client in waiting:
            client.send([["SET", "other", 1]])
        sleep(0.1)
        end_call(killer, "SCRIPT")
        assert [client.frame() for client in waiting] == [("+", b"OK")] * 7
        assert KILLED in caller.frame()[1]
        assert caller.ask("GET", "other") == ("$", b"1")


def test_the_wrong_kind_of_kill_ends_nothing(endless):
    with Connection(endless.address) as caller, Connection(endless.address) as killer:
        for label, wrong, right in (("script", "FUNCTION", "SCRIPT"), ("mine.loop", "SCRIPT", "FUNCTION")):
            begin(caller, label)
            killer.send([[wrong, "KILL"]])
            sleep(0.1)
            killer.send([[right, "KILL"]])
            busy = f"BUSY Redis is busy running a script. You can only call {right} KILL or SHUTDOWN NOSAVE."
            assert killer.frames(2) == [("-", busy.encode()), ("+", b"OK")]
            assert KILLED in caller.frame()[1]


def test_a_kill_is_only_heard_from_who_may_and_as_a_request_of_its_own(endless):
    kill = encode(["SCRIPT", "KILL"])
    with ExitStack() as stack:
        caller, queueing, writing, killer = [stack.enter_context(Connection(endless.address)) for _ in range(4)]
        assert queueing.ask("MULTI") == ("+", b"OK")
        # The beginning of a value that goes on with what looks like a request.
        writing.write(encode(["SET", "text", kill])[: -len(kill) - 2])
        sleep(0.1)
        begin(caller, "script")
        queueing.write(kill)
        writing.write(kill + b"\r\n")
        with pytest.raises(TimeoutError):
            caller.socket.settimeout(0.3)
            caller.fill()
        caller.socket.settimeout(20)
        end_call(killer, "SCRIPT")
        assert KILLED in caller.frame()[1]
        assert queueing.frame() == ("+", b"QUEUED")
        assert writing.frame() == ("+", b"OK")
        assert writing.ask("GET", "text") == ("$", kill)


def test_a_stranger_kills_nothing(endless):
    with ExitStack() as stack:
        caller, known = [stack.enter_context(Connection(endless.address)) for _ in range(2)]
        assert caller.ask("CONFIG", "SET", "requirepass", "secret") == ("+", b"OK")
        assert known.ask("AUTH", "secret") == ("+", b"OK")
        begin(caller, "script")
        stranger = stack.enter_context(Connection(endless.address))
        stranger.send([["SCRIPT", "KILL"]])
        with pytest.raises(TimeoutError):
            caller.socket.settimeout(0.3)
            caller.fill()
        caller.socket.settimeout(20)
        assert known.ask("SCRIPT", "KILL") == ("+", b"OK")
        assert KILLED in caller.frame()[1]
        assert stranger.frame() == ("-", b"NOAUTH Authentication required.")
        assert caller.ask("CONFIG", "SET", "requirepass", "") == ("+", b"OK")


SPIN = "redis.call('SET', 'k', 'spun') while true do end"
POLICIES = """
policies:
  - name: five
    match: { path: /limited/** }
    limits: [{ quota: 5, window: 10s }]
"""


@pytest.mark.parametrize(("callers", "failure_mode", "answer"), [(1, "open", b"200"), (12, "closed", b"503")])
def test_while_a_call_never_ends_everybody_else_is_answered_and_sigterm_ends_it(tmp_path, callers, failure_mode, answer):
    weir = Weir(tmp_path / "weir", policies=POLICIES, redis=True)
    weir.config["drain_timeout"] = "1s"
    weir.config["workers"] = 2
    weir.config["failure_mode"] = failure_mode
    with weir, ExitStack() as stack:
        clients = [stack.enter_context(Connection(weir.address)) for _ in range(callers)]
        assert clients[0].ask("CONFIG", "SET", "busy-reply-threshold", 0) == ("+", b"OK")
        assert clients[0].ask("SET", "k", "before") == ("+", b"OK")
        for client in clients:
            client.send([["EVAL", SPIN, 0]])
        sleep(0.3)
        # Requests that need a key wait for a moment, and keep nobody else from being served.
        waiting = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", weir.ports["proxy"])))) for _ in range(20)]
        for one in waiting:
            one.sendall(b"GET /limited/x HTTP/1.1\r\nhost: x\r\n\r\n")
        sleep(1.2)  # Longer than the period of whatever the gateway asks the store by itself.
        for one in waiting:
            one.settimeout(5)
            assert one.recv(4096).startswith(b"HTTP/1.1 " + answer), "the failure mode decides"
        for _ in range(8):
            assert weir.get("/free")[0] == 200
        assert [fetch(weir.admin_url(path), timeout=2)[0] for path in ("/livez", "/readyz", "/metrics", "/policies")] == [200] * 4
        generation = weir.generation()
        weir.write_policies(POLICIES.replace("quota: 5", "quota: 6"))
        wait_until(lambda: weir.generation() == generation + 1, "policies reloaded")
        begun = monotonic()
        weir.process.signal(signal.SIGTERM)
        assert weir.process.wait(10) == 0
        assert monotonic() - begun < 1 + 1 + 5, "the grace, a little, and the disk's time"
        assert "the log is synced, goodbye" in weir.process.log(), "it is written before the end"
    with weir, Connection(weir.address) as client:
        assert client.ask("GET", "k") == ("$", b"before"), "what was ended is undone"
