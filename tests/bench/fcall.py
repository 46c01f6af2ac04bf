#!/usr/bin/env python3
"""The same libraries in Weir and in a redis-server: throughput and CPU of FCALL.

    cargo build --release
    python3 tests/bench/fcall.py                 # some five minutes
    python3 tests/bench/fcall.py --rounds 3

Loads functions/*.lua into both, fills 10,000 keys with 50 units each, and has
redis-benchmark ask for decisions: 16 connections at depth 1, four at 16 and at 100, so
that the core of the server that is asked is never idle.
Both servers run at once on the same core, each idle while the other is asked, and
redis-benchmark has the other core. Rounds alternate between the two, and who goes
first changes with the round. Ratios are taken within a round, and their median counts:
calls a second, and CPU of the whole process, protocol and log included. Redis has no
snapshots and no log; Weir writes its log and leaves the disk to the kernel.

Also prints the time that the redis-server counts inside FCALL, to set beside
`cargo bench --bench decision`, which decides in process.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from redis_server import RedisServer  # noqa: E402
from resp import Connection, encode  # noqa: E402
from weir import Weir  # noqa: E402

SERVER_CORE, CLIENT_CORE = 0, 1
KEY_COUNT, UNITS, WINDOW_MS = 10_000, 50, 3_600_000
# Depth of the pipeline, connections, calls in a round.
DEPTHS = ((1, 16, 15_000), (16, 4, 50_000), (100, 4, 50_000))


def call(function, quota, key):
    """What either Function is given for one key."""
    limit = [quota, WINDOW_MS, 1]
    words = limit if function == "allow" else ["sliding_window", *limit, quota, "0"]
    return ["FCALL", function, 1, key, *words]


class Side:
    """One server, and a connection to it."""

    def __init__(self, name, server):
        self.name, self.address, self.pid = name, server.address, server.process.pid
        self.connection = Connection(server.address, timeout=120)
        subprocess.run(["taskset", "-a", "-c", "-p", str(SERVER_CORE), str(self.pid)], check=True, stdout=subprocess.DEVNULL)
        for library in ("limiter", "mylimiter"):
            text = (ROOT / "functions" / f"{library}.lua").read_text()
            assert self.connection.ask("FUNCTION", "LOAD", "REPLACE", text)[0] == "$"

    def fill(self, function):
        """Every key gets its units, under the names that redis-benchmark will ask for."""
        for first in range(0, KEY_COUNT, 100):
            batch = [encode(call(function, 1_000_000, f"{function}:{at:012}")) for at in range(first, first + 100)]
            for _ in range(UNITS):
                self.connection.write(b"".join(batch))
                assert all(kind != "-" for kind, _ in self.connection.frames(len(batch)))

    def cpu_us(self):
        """What the kernel charged to all threads of the server."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1_000

    def round(self, function, quota, depth, connections, calls):
        """Calls a second, as redis-benchmark counts them, and CPU microseconds a call."""
        host, port = self.address
        command = ["taskset", "-c", str(CLIENT_CORE), "redis-benchmark", "-h", host, "-p", str(port), "--csv", "-c", str(connections),
                   "-P", str(depth), "-n", str(calls), "-r", str(KEY_COUNT), *map(str, call(function, quota, f"{function}:__rand_int__"))]  # fmt: skip
        before = self.cpu_us()
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        cpu = (self.cpu_us() - before) / calls
        *_, row = csv.reader(told.splitlines())
        return float(row[1]), cpu

    def us_inside(self):
        stats = self.connection.ask("INFO", "commandstats")[1].decode()
        line = next(it for it in stats.splitlines() if it.startswith("cmdstat_fcall:"))
        return float(line.split("usec_per_call=")[1].split(",")[0])


def compare(weir, redis, function, outcome, quota, rounds):
    redis.connection.ask("CONFIG", "RESETSTAT")
    for depth, connections, calls in DEPTHS:
        got = {weir: [], redis: []}
        for at in range(rounds):
            for side in (weir, redis) if at % 2 else (redis, weir):
                got[side].append(side.round(function, quota, depth, connections, calls))
        rates, costs = ([[one[part] for one in got[side]] for side in (weir, redis)] for part in (0, 1))
        faster = [ours / theirs for ours, theirs in zip(*rates)]
        cheaper = [theirs / ours for ours, theirs in zip(*costs)]
        middle = statistics.median
        print(
            f"{function + ', ' + outcome:20}{depth:>4}{connections:>4}"
            f"{middle(rates[0]):>11,.0f}{middle(rates[1]):>11,.0f}{middle(faster):>7.2f}"
            f"{middle(costs[0]):>9.1f}{middle(costs[1]):>9.1f}{middle(cheaper):>7.2f}",
            flush=True,
        )
    print(f"{'':20}redis-server inside FCALL: {redis.us_inside():.1f} us", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    gateway = Weir(folder / "weir", redis=True)
    gateway.config["workers"] = 1
    gateway.config["store"]["embedded"].update(appendfsync="no", auto_aof_rewrite_percentage=0)
    with gateway, RedisServer(folder / "redis") as server:
        weir, redis = Side("weir", gateway), Side("redis-server", server)
        print(f"{'':20}{'-P':>4}{'-c':>4}{'calls a second':>22}{'':7}{'CPU us a call':>18}")
        print(f"{'':28}{'weir':>11}{'redis':>11}{'ratio':>7}{'weir':>9}{'redis':>9}{'ratio':>7}")
        for function in ("decide", "allow"):
            for side in (weir, redis):
                side.fill(function)
            for outcome, quota in (("admitted", 1_000_000), ("refused", UNITS)):
                compare(weir, redis, function, outcome, quota, options.rounds)


if __name__ == "__main__":
    main()
