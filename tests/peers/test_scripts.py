"""The scripts of `scripts/` on Weir and on a redis-server: the same replies, byte
for byte, errors with their positions included."""

import time

import pytest

from redis_server import RedisServer
from resp import Connection, show, words
from scripts import cases, replies
from weir import ROOT, Weir


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A connection to each."""
    folder = tmp_path_factory.mktemp("scripts")
    with Weir(folder / "weir", redis=True) as weir, RedisServer(folder / "redis") as redis:
        with Connection(weir.address) as ours, Connection(redis.address) as theirs:
            yield ours, theirs


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_scripts_are_answered_as_by_redis(both, case):
    ours, theirs = (replies(case, connection) for connection in both)
    differences = [
        f"{words(command)}\n  redis: {show(expected)}\n  weir:  {show(found)}"
        for command, expected, found in zip(case.commands, theirs, ours)
        if found != expected
    ]
    assert not differences, "\n" + "\n".join(differences)


def limit(quota, cost, algorithm="sliding_window"):
    """Arguments of `decide` for one key."""
    return [algorithm, quota, 800, cost, quota, "0"]


# Seconds to wait, a Function, its keys and arguments, and what both must answer:
# admitted and remaining of each limit, or the bare number.
TIMELINES = {
    "limiter": [
        (0.0, "decide", ["a"], limit(3, 1), [[1, 2]]),
        (0.0, "decide", ["a"], limit(3, 2), [[1, 0]]),
        (0.0, "decide", ["a"], limit(3, 1), [[0, 0]]),
        (0.0, "decide", ["a", "b"], limit(3, 1) + limit(5, 1), [[0, 0], [1, 5]]),
        (0.0, "decide", ["b"], limit(5, 1), [[1, 4]]),
        (0.0, "decide", ["t"], limit(2, 1, "token_bucket"), [[1, 1]]),
        (0.0, "decide", ["f"], limit(2, 2, "fixed_window"), [[1, 0]]),
        (1.0, "decide", ["a"], limit(3, 3), [[1, 0]]),
    ],
    "mylimiter": [
        (0.0, "allow", ["c"], [2, 800, 1], 1),
        (0.0, "allow", ["c"], [2, 800, 1], 1),
        (0.0, "allow", ["c"], [2, 800, 1], 0),
        (1.0, "allow", ["c"], [2, 800, 2], 1),
        (0.0, "allow", ["c"], [2, 800, 1], 0),
    ],
}


def outcomes(reply):
    """Admitted and remaining of each limit, or the bare number."""
    kind, value = reply
    if kind != "*":
        return value
    return [[number for _, number in one[:2]] for _, one in value]


@pytest.mark.parametrize("name", TIMELINES)
def test_a_redis_server_loads_our_libraries_and_decides_as_we_do(both, name):
    library = (ROOT / "functions" / f"{name}.lua").read_text()
    for connection in both:
        assert connection.ask("FUNCTION", "LOAD", "REPLACE", library)[0] == "$"
        connection.ask("FLUSHALL")
    for wait, function, keys, args, expected in TIMELINES[name]:
        time.sleep(wait)
        found = [outcomes(connection.ask("FCALL", function, len(keys), *keys, *args)) for connection in both]
        assert found == [expected, expected], (function, keys, args, found)
