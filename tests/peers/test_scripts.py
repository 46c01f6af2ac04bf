"""The scripts of `scripts/` on Weir and on a redis-server: the same replies, byte
for byte, errors with their positions included."""

import pytest

from redis_server import RedisServer
from resp import Connection, show, words
from scripts import cases, replies
from weir import Weir


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
