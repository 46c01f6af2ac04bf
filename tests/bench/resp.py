#!/usr/bin/env python3
"""Weir's RESP door beside redis-server: throughput of one core, and bytes of memory.

    cargo build --release
    python3 tests/bench/resp.py                  # all, some five minutes
    python3 tests/bench/resp.py --rounds 3 --memory-only

Both servers run at once, each kept on the same core (taskset) and idle while the
other is asked; redis-benchmark has the other core. Rounds alternate between the two,
so that what disturbs the machine disturbs both. Redis has no snapshots and no log; Weir writes its
log and leaves the disk to the kernel.
Prints the median of requests a second and the median of the ratios within a round.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from process import Process, free_port, wait_until  # noqa: E402
from redis_server import RedisServer  # noqa: E402
from resp import Connection  # noqa: E402
from weir import BINARY  # noqa: E402

SERVER_CORE, CLIENT_CORE = 0, 1
KEYS = 100_000
# name -> the command, as redis-benchmark takes it.
COMMANDS = {
    "SET": ["SET", "key:__rand_int__", "xxx"],
    "GET": ["GET", "key:__rand_int__"],
    "INCR": ["INCR", "counter:__rand_int__"],
    "ZADD": ["ZADD", "zset", "__rand_int__", "member:__rand_int__"],
    "ZRANGEBYSCORE": ["ZRANGEBYSCORE", "zset", "__rand_int__", "+inf", "LIMIT", "0", "10"],
    "HSET": ["HSET", "hash", "field:__rand_int__", "xxx"],
}


class BareWeir:
    """Weir with its RESP door and one thread for it."""

    def __init__(self, folder):
        self.folder = folder
        self.address = ("127.0.0.1", free_port())
        folder.mkdir()
        config = {
            "listen": {"proxy": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}",
                       "redis": "{}:{}".format(*self.address)},
            "workers": 1,
            "store": {"embedded": {"dir": "data", "appendfsync": "no", "auto_aof_rewrite_percentage": 0}},
        }  # fmt: skip
        (folder / "policies.yaml").write_text("policies: []\n")
        (folder / "weir.yaml").write_text(json.dumps(config))
        self.process = Process([BINARY, "serve", "--config", folder / "weir.yaml"], folder / "weir.log", cwd=folder)
        wait_until(lambda: answers(self.address), "weir ready")

    def stop(self):
        self.process.stop()


def answers(address):
    try:
        with Connection(address, timeout=1) as connection:
            return bool(connection.ask("PING"))
    except OSError:
        return False


def pin(pid, core):
    subprocess.run(["taskset", "-a", "-c", "-p", str(core), str(pid)], check=True, stdout=subprocess.DEVNULL)


def throughput(address, argv, pipeline, requests):
    """Requests a second, as redis-benchmark counts them."""
    host, port = address
    command = ["taskset", "-c", str(CLIENT_CORE), "redis-benchmark", "-h", host, "-p", str(port), "--csv", "-c", "50",
               "-P", str(pipeline), "-n", str(requests), "-r", str(KEYS), *argv]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    *_, row = csv.reader(told.splitlines())
    return float(row[1])


def measure_throughput(servers, rounds):
    print(f"{'':16}{'-P':>4}{'weir':>12}{'redis':>12}{'ratio':>8}{'least':>8}{'most':>8}   requests/s, medians of {rounds}")
    for name, argv in COMMANDS.items():
        for pipeline, requests in ((1, 60_000), (16, 400_000)):
            got = {server: [] for server in servers}
            for at in range(rounds):
                # Who goes first changes, so that warming up favours nobody.
                for server in list(servers)[:: 1 if at % 2 else -1]:
                    got[server].append(throughput(servers[server].address, argv, pipeline, requests))
            ratios = [ours / theirs for ours, theirs in zip(got["weir"], got["redis"])]
            medians = [statistics.median(got[server]) for server in ("weir", "redis")]
            print(f"{name:16}{pipeline:>4}{medians[0]:>12,.0f}{medians[1]:>12,.0f}"
                  f"{statistics.median(ratios):>8.2f}{min(ratios):>8.2f}{max(ratios):>8.2f}", flush=True)  # fmt: skip


def measure_memory(servers):
    """A limiter's sorted sets: timestamps in microseconds as scores and members."""
    print(f"\n{'timestamps':16}{'weir':>12}{'redis':>12}{'ratio':>8}   bytes, MEMORY USAGE of one sorted set")
    start = 1_764_000_000_000_000
    for count in (10, 100, 1_000):
        used = {}
        for name, server in servers.items():
            with Connection(server.address) as connection:
                connection.ask("DEL", "hits")
                pairs = [word for i in range(count) for word in (start + i * 997, start + i * 997)]
                connection.ask("ZADD", "hits", *pairs)
                used[name] = connection.ask("MEMORY", "USAGE", "hits", "SAMPLES", "0")[1]
        print(f"{count:<16}{used['weir']:>12}{used['redis']:>12}{used['weir'] / used['redis']:>8.2f}")


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure_resident(servers):
    """What the kernel counts for many such sets, since an accounted byte may lie."""
    print(f"\n{'sets of':16}{'weir':>12}{'redis':>12}{'ratio':>8}   bytes of the process a set, 500,000 timestamps in all")
    start = 1_764_000_000_000_000
    for count in (10, 100, 1_000):
        sets, grown = 500_000 // count, {}
        for name, server in servers.items():
            with Connection(server.address, timeout=120) as connection:
                connection.ask("FLUSHALL")
                before = resident(server.process.pid)
                for first in range(0, sets, 100):
                    connection.send(
                        ["ZADD", f"hits:{at}", *(word for i in range(count) for word in [start + i * 997 + at] * 2)]
                        for at in range(first, min(sets, first + 100))
                    )
                    connection.frames(min(sets, first + 100) - first)
                grown[name] = (resident(server.process.pid) - before) / sets
        print(f"{count:<16}{grown['weir']:>12.0f}{grown['redis']:>12.0f}{grown['weir'] / grown['redis']:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder) / "redis").start()
        weir = BareWeir(Path(folder) / "weir")
        servers = {"weir": weir, "redis": redis}
        try:
            for server in servers.values():
                pin(server.process.pid, SERVER_CORE)
            if not options.memory_only:
                measure_throughput(servers, options.rounds)
            measure_memory(servers)
            measure_resident(servers)
        finally:
            for server in servers.values():
                server.stop()


if __name__ == "__main__":
    main()
