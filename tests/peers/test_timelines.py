"""The library that ships says the same in a redis-server as in Weir."""

import json
import shutil
import subprocess

import pytest

import timelines
from process import Process, free_port, wait_until

ALL = timelines.read(timelines.FILE.read_text())


class Client:
    """A redis-server, by way of redis-cli."""

    def __init__(self, port):
        self.port = port

    def command(self, *words):
        argv = ["redis-cli", "-3", "--json", "-p", str(self.port), *map(str, words)]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
        return json.loads(ran.stdout)

    def hset(self, key, mapping):
        self.command("hset", key, *(word for pair in mapping.items() for word in pair))

    def fcall(self, function, *words):
        return self.command("fcall", function, *words)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port = free_port()
    binary = shutil.which("redis-server")
    assert binary, "redis-server is missing; tests/run installs it"
    folder = tmp_path_factory.mktemp("redis")
    with Process([binary, "--port", port, "--bind", "127.0.0.1", "--save", ""], folder / "redis.log", cwd=folder):
        client = Client(port)

        def answers():
            ping = ["redis-cli", "-p", str(port), "ping"]
            return subprocess.run(ping, capture_output=True).stdout == b"PONG\n"

        wait_until(answers, "redis-server ready")
        assert client.command("function", "load", "replace", timelines.library()) == "limiter"
        yield client


@pytest.mark.parametrize("timeline", ALL, ids=[it.title for it in ALL])
def test_a_timeline_happens_as_written(server, timeline):
    server.command("flushall")
    asker = timelines.Asker(server, timeline)
    happened = [(line, asker.ask(line)) for line, _ in timeline.lines]
    assert happened == timeline.lines
