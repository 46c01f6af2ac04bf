"""Functions and scripts that run for long, and libraries that clients take away: what
Weir does in place of Redis, through the real binary."""

import pytest

from process import wait_until
from resp import Connection
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


@pytest.mark.parametrize("removal", [["FLUSH"], ["DELETE", "limiter"], ["LOAD", "REPLACE", "broken"]], ids=lambda it: it[0])
def test_policies_go_on_when_a_client_takes_their_library_away(weir, client, removal):
    if removal[-1] == "broken":
        removal = [*removal[:2], "#!lua name=limiter\nredis.register_function('decide', function() error('x') end)"]
    assert weir.get("/limited/x")[0] == 200
    assert client.ask("FUNCTION", *removal)[0] in "+$"
    assert client.ask("FCALL", "decide", 0)[0] == "-"
    assert [weir.get("/limited/x")[0] for _ in range(5)] == [200, 200, 200, 200, 429]
    assert weir.metrics()["weir_store_call_errors_total"] == 0
    assert "policies keep the file's" in (weir.folder / "weir.log").read_text()
