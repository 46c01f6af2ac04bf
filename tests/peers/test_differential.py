"""The same random commands to Weir and to a redis-server 7.0: same replies, same
state. `differential/` says how, and how to run it for longer by hand."""

import os

import pytest

from differential.hunt import Hunt
from redis_server import RedisServer

COMMANDS = int(os.environ.get("WEIR_DIFFERENTIAL_COMMANDS") or 200_000)
# One seed for every run, so that a change is what makes a difference; hunts by hand
# take others.
SEED = os.environ.get("WEIR_DIFFERENTIAL_SEED") or "7"


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path / "redis", "--enable-debug-command", "local") as server:
        yield server


@pytest.mark.timeout(900)
def test_random_commands_have_the_same_replies_and_leave_the_same_state(weir, redis):
    gateway = weir(redis=True).start()
    hunt = Hunt(gateway.address, redis.address, SEED)
    try:
        report = next(hunt.reports(COMMANDS), None)
        assert report is None, f"\n{report}\n(WEIR_DIFFERENTIAL_SEED={SEED} shows it again)"
        print(f"{hunt.command_count} commands, seed {SEED}")
    finally:
        hunt.close()
