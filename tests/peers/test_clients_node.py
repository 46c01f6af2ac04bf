"""ioredis and node-redis find in Weir what they find in a redis-server. What they
do stands in `node/`; here it is only run, and the server killed when asked."""

import shutil
from pathlib import Path

import pytest

from process import Process, wait_until

FOLDER = Path(__file__).parent / "node"
# ioredis 5 speaks RESP2 alone.
CLIENTS = [("ioredis", 2), ("node-redis", 2), ("node-redis", 3)]
SCENARIOS = ["replies", "pipeline", "transaction", "pubsub", "scripts", "reconnect", "pool", "scan"]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("client", "protocol"), CLIENTS)
def test_node(client, protocol, scenario, server, tmp_path):
    node = shutil.which("node")
    assert node, "node is missing; tests/run installs it"
    assert (FOLDER / "node_modules").is_dir(), "the packages of node/ are missing; tests/run installs them"
    _, port = server.address
    argv = [node, FOLDER / "run.mjs", client, scenario, port, protocol]
    with Process(argv, tmp_path / "node.log", cwd=FOLDER) as script:
        if scenario == "reconnect":
            wait_until(lambda: "restart" in script.log() or not script.is_running(), "the wish for a restart")
            server.process.kill()
            server.start()
        assert script.wait(60) == 0, script.log()
