"""The same random commands to Weir and to a redis-server 7.0: same replies, same
state. `differential/` says how, and how to run it for longer by hand."""

import os
import time

import pytest

from differential.hunt import POLICIES, Hunt
from redis_server import RedisServer

# Of each policy; together they are more than 200,000.
COMMANDS = int(os.environ.get("WEIR_DIFFERENTIAL_COMMANDS") or 80_000)
SEED = os.environ.get("WEIR_DIFFERENTIAL_SEED") or str(int(time.time()))


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path / "redis", "--enable-debug-command", "local") as server:
        yield server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("policy", POLICIES)
def test_random_commands_have_the_same_replies_and_leave_the_same_state(weir, redis, policy):
    gateway = weir(redis=True).start()
    hunt = Hunt(gateway.address, redis.address, SEED, policy)
    try:
        report = next(hunt.reports(COMMANDS), None)
        assert report is None, f"\n{report}\n(WEIR_DIFFERENTIAL_SEED={SEED} shows it again)"
        print(f"{hunt.command_count} commands, seed {SEED}, {policy}")
    finally:
        hunt.close()
