"""A disk that is full: decisions go on, it is said, and it heals when room returns.

A file system of its own in memory, two megabytes small. Mounting it wants root."""

import os
import subprocess

import pytest

from process import fetch, wait_until
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


def test_where_so_configured_a_full_disk_refuses_writes_and_reads_go_on(weir, small_disk):
    gateway = weir(redis=True)
    gateway.config["store"]["embedded"].update(
        dir=str(small_disk), auto_aof_rewrite_percentage=0, on_log_error="refuse")
    with gateway, Connection(gateway.address) as connection:
        assert connection.ask("SET", "first", "1") == ("+", b"OK")
        ballast = small_disk / "ballast"
        try:
            with open(ballast, "wb") as file:
                file.write(b"x" * (4 << 20))
        except OSError:
            pass  # It is full now.
        wait_until(lambda: connection.ask("SET", "k", "x" * 8_000)[0] == "-", "writes are refused")
        kind, text = connection.ask("SET", "k", "1")
        if kind == "-":
            assert text.startswith(b"MISCONF Errors writing to the AOF file"), text
        assert connection.ask("GET", "first") == ("$", b"1"), "reads go on"
        ballast.unlink()
        wait_until(lambda: connection.ask("SET", "k", "2") == ("+", b"OK"), "healed within 5 s", seconds=6)
