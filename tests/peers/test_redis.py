"""What Weir leaves on disk is Redis': its tools accept it, and a real
redis-server starts from it and goes on where Weir stopped."""

import shutil
import subprocess

from process import Process, free_port, wait_until
from weir import ROOT

MINUTES = """
policies:
  - name: minutes
    key: ["header:x-user"]
    limits: [{ quota: 5, window: 600s }]
"""


def redis_cli(port, *command):
    ran = subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True, timeout=10, check=True)
    return ran.stdout.strip()


def left_behind(weir):
    """The data of a Weir that admitted 3 requests of ann and 1 of bob."""
    with weir(policies=MINUTES) as gateway:
        for user in ("ann", "ann", "ann", "bob"):
            assert gateway.get("/x", x_user=user)[0] == 200
        assert gateway.stop() == 0
    return gateway


def test_redis_check_aof_accepts_the_log(weir):
    gateway = left_behind(weir)
    assert shutil.which("redis-check-aof"), "redis-check-aof is missing; tests/run installs it"
    (manifest,) = (gateway.data / "appendonlydir").glob("*.manifest")
    ran = subprocess.run(["redis-check-aof", manifest], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_redis_server_starts_from_the_data_and_weir_from_what_redis_leaves(weir, tmp_path):
    gateway = left_behind(weir)
    binary, port = shutil.which("redis-server"), free_port()
    assert binary, "redis-server is missing; tests/run installs it"
    arguments = ["--port", port, "--bind", "127.0.0.1", "--dir", gateway.data, "--appendonly", "yes", "--save", ""]
    with Process([binary, *arguments], tmp_path / "redis.log") as redis:

        def answers():
            assert redis.is_running(), redis.log()
            return subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).stdout == b"PONG\n"

        wait_until(answers, "redis-server ready")
        keys = sorted(redis_cli(port, "keys", "*").splitlines())
        assert [redis_cli(port, "zcard", key) for key in keys] == ["3", "1"], keys
        for key in keys:
            assert 590_000 < int(redis_cli(port, "pttl", key)) <= 600_001
        # The library that ships loads into Redis as it is, and the same call goes
        # on with the same count: one more hit for bob.
        library = (ROOT / "functions" / "limiter.lua").read_text()
        assert redis_cli(port, "function", "load", "replace", library) == "limiter"
        (bob,) = (key for key in keys if "bob" in key)
        admitted, remaining, *_ = redis_cli(port, "fcall", "sliding_window", "1", bob, "5", "600000", "1").split()
        assert (admitted, remaining) == ("1", "3")
        assert redis.stop() == 0

    with gateway:
        assert [gateway.get("/x", x_user="bob")[0] for _ in range(4)] == [200] * 3 + [429]
        assert [gateway.get("/x", x_user="ann")[0] for _ in range(3)] == [200] * 2 + [429]
