#!/usr/bin/env python3
"""The same libraries in Weir and in a redis-server: CPU and throughput of FCALL.

    cargo build --release
    python3 tests/bench/fcall.py

Loads functions/*.lua into both, fills 10,000 keys with 50 units each, and asks
decisions over one connection in pipelines of 1, 16 and 100, in rounds that alternate
between the two, so that what disturbs the machine disturbs both. CPU is the whole
process, protocol included; throughput is bounded by this script, so read its ratio as
the least. Prints the fastest round of each, and for redis-server
the time that it counts inside FCALL, to set beside `cargo bench --bench decision`.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from redis_server import RedisServer  # noqa: E402
from resp import Connection, encode  # noqa: E402
from weir import Weir  # noqa: E402

KEY_COUNT, UNITS, WINDOW_MS = 10_000, 50, 600_000
PIPELINES, CALLS, ROUNDS = (1, 16, 100), 20_000, 5


def arguments(function, quota):
    """What either Function is given for one key."""
    if function == "allow":
        return [quota, WINDOW_MS, 1]
    return ["sliding_window", quota, WINDOW_MS, 1, quota, "0"]


class Side:
    """One server, and a connection to it."""

    def __init__(self, name, server):
        self.name, self.pid = name, server.process.pid
        self.connection = Connection(server.address, timeout=60)
        self.key = 0

    def decide(self, function, quota, calls, pipeline):
        words = arguments(function, quota)
        for start in range(0, calls, pipeline):
            count = min(pipeline, calls - start)
            batch = b""
            for _ in range(count):
                self.key = (self.key + 7_919) % KEY_COUNT
                batch += encode(["FCALL", function, 1, f"{function}:{self.key}", *words])
            self.connection.write(batch)
            for kind, value in self.connection.frames(count):
                assert kind != "-", value

    def cpu_us(self):
        """What the kernel charged to all threads of the server."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1_000

    def round(self, function, quota, pipeline):
        """CPU microseconds a call, and calls a second."""
        cpu, begun = self.cpu_us(), time.monotonic()
        self.decide(function, quota, CALLS, pipeline)
        return (self.cpu_us() - cpu) / CALLS, CALLS / (time.monotonic() - begun)

    def us_inside(self):
        stats = self.connection.ask("INFO", "commandstats")[1].decode()
        line = next(it for it in stats.splitlines() if it.startswith("cmdstat_fcall:"))
        return float(line.split("usec_per_call=")[1].split(",")[0])


def compare(sides, function, outcome, quota):
    for pipeline in PIPELINES:
        rounds = {side.name: [] for side in sides}
        for _ in range(ROUNDS):
            for side in sides:
                rounds[side.name].append(side.round(function, quota, pipeline))
        best = {name: (min(cpu for cpu, _ in done), max(rate for _, rate in done)) for name, done in rounds.items()}
        (weir_cpu, weir_rate), (redis_cpu, redis_rate) = best["weir"], best["redis-server"]
        print(
            f"{function + ', ' + outcome:20}{pipeline:9}{weir_cpu:9.1f}{redis_cpu:9.1f}{redis_cpu / weir_cpu:7.1f}"
            f"{weir_rate:12,.0f}{redis_rate:10,.0f}{weir_rate / redis_rate:7.1f}"
        )


def main():
    folder = Path(tempfile.mkdtemp())
    with Weir(folder / "weir", redis=True) as weir, RedisServer(folder / "redis") as redis:
        sides = [Side("weir", weir), Side("redis-server", redis)]
        for side in sides:
            for library in ("limiter", "mylimiter"):
                text = (ROOT / "functions" / f"{library}.lua").read_text()
                assert side.connection.ask("FUNCTION", "LOAD", "REPLACE", text)[0] == "$"
            for function in ("decide", "allow"):
                side.decide(function, 1_000_000, KEY_COUNT * UNITS, 100)
        print(f"{'':20}{'pipeline':>9}{'CPU us a call':>18}{'ratio':>7}{'calls a second':>22}{'ratio':>7}")
        print(f"{'':29}{'weir':>9}{'redis':>9}{'':7}{'weir':>12}{'redis':>10}")
        for function in ("decide", "allow"):
            for outcome, quota in (("admitted", 1_000_000), ("refused", 10)):
                sides[1].connection.ask("CONFIG", "RESETSTAT")
                compare(sides, function, outcome, quota)
                print(f"{'':20}redis-server inside FCALL: {sides[1].us_inside():.1f} us")


if __name__ == "__main__":
    main()
