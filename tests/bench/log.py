#!/usr/bin/env python3
"""Weir's log beside redis-server's: rewrites under load, restarts, and what each
policy of syncing costs.

    cargo build --release
    python3 tests/bench/log.py                        # all, some eight minutes
    python3 tests/bench/log.py --size 100MiB          # the same, small
    python3 tests/bench/log.py --part policies        # decisions a second only

Part `rewrite`: both start, one after the other, from the same directory of limiter
keys (50 hits each, as many as take `--size` in redis-server), and are asked for decisions at
a steady pace: first quietly, then while the log is rewritten, in turn. A call that is
sent late because the one before it was slow counts from when it was due. Memory is the
most that the kernel has counted, and for redis-server what its child has copied too.
Then both restart from what they have left.

Part `policies`: redis-benchmark asks both for decisions, in rounds that alternate.

The directories lie below `target/`, on a real disk, and are removed afterwards.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from process import wait_until  # noqa: E402
from redis_server import RedisServer  # noqa: E402
from resp import Closed, Connection, encode  # noqa: E402
from weir import Weir  # noqa: E402

HITS = 50
WINDOW_MS = 6 * 3_600_000
# What a key of so many hits takes in redis-server.
BYTES_A_KEY = 1_160
CALLERS, CALLS_A_SECOND = 4, 500
POLICIES, CONNECTIONS = ("always", "everysec", "no"), (1, 16, 64)
LIBRARY = (ROOT / "functions" / "limiter.lua").read_bytes()


def key_of(number):
    return b"api/6h/{client-%09d}" % number


def decision(key):
    """One decision of a limit that always has room."""
    return encode(["FCALL", "sliding_window", 1, key, 1_000_000, WINDOW_MS, 1])


# ---------------------------------------------------------------- the directory


def rdb_string(data):
    if len(data) < 64:
        return bytes([len(data)]) + data
    if len(data) < 16_384:
        return struct.pack(">H", 0x4000 | len(data)) + data
    return b"\x80" + struct.pack(">I", len(data)) + data


def hits(chance, now_us):
    """A sorted set of hits of the last hour, as a listpack: member and score the same."""
    times = sorted(now_us - chance.randrange(3_600_000_000) for _ in range(HITS))
    element = b"".join(2 * (b"\xf4" + struct.pack("<q", at) + b"\x09") for at in times)
    return struct.pack("<IH", 7 + len(element), 2 * HITS) + element + b"\xff"


def write_directory(folder, keys):
    """What a redis-server leaves: a base file and a manifest."""
    log = folder / "appendonlydir"
    log.mkdir(parents=True)
    chance, now_us = random.Random(1), time.time_ns() // 1_000
    values = [rdb_string(hits(chance, now_us)) for _ in range(1_000)]
    deadline = b"\xfc" + struct.pack("<q", now_us // 1_000 + WINDOW_MS) + b"\x11"
    with open(log / "appendonly.aof.1.base.rdb", "wb", buffering=1 << 20) as base:
        base.write(b"REDIS0010" + b"\xf5" + rdb_string(LIBRARY) + b"\xfe\x00")
        base.write(b"\xfb" + 2 * (b"\x80" + struct.pack(">I", keys)))
        for number in range(keys):
            base.write(deadline + rdb_string(key_of(number)) + values[number % 1_000])
        base.write(b"\xff" + bytes(8))  # No checksum: both take that.
    (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")


# ------------------------------------------------------------------ two servers


class Side:
    """One of the two, on a folder of its own. Starts again on the same folder."""

    def __init__(self, name, folder, policy="everysec"):
        self.name, self.folder = name, folder
        if name == "weir":
            self.data = folder / "data"
            self.server = Weir(folder, policies="policies: []\n", redis=True)
            self.server.config["store"]["embedded"] = {
                "dir": "data", "appendfsync": policy, "auto_aof_rewrite_percentage": 0}  # fmt: skip
        else:
            self.data = folder
            self.server = RedisServer(
                folder, "--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0")  # fmt: skip

    @property
    def address(self):
        return self.server.address

    @property
    def pid(self):
        return self.server.process.pid

    def start(self):
        """Starts it. Seconds until it answers PING with PONG."""
        begun = time.monotonic()
        if self.name == "weir":
            self.server.start(ready=False)
        else:
            self.server.start()
        wait_until(self.is_loaded, f"{self.name} loaded", seconds=180, interval=0.005)
        return time.monotonic() - begun

    def is_loaded(self):
        try:
            return self.ask("PING") == ("+", b"PONG")
        except (OSError, Closed):
            assert self.server.process.is_running(), self.server.process.log()
            return False

    def ask(self, *argv):
        with Connection(self.address, timeout=30) as connection:
            return connection.ask(*argv)

    def info(self, section):
        text = self.ask("INFO", section)[1].decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def memory(self, name):
        """`VmRSS`, or `VmHWM`, the most of it since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name + ":")) << 10

    def forget_peak(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def copied(self):
        """What redis-server's child has copied; Weir has no child."""
        return int(self.info("persistence").get("aof_last_cow_size", 0))

    def cpu_seconds(self):
        """Of all threads, since its start: user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def disk(self):
        return sum(file.stat().st_size for file in (self.data / "appendonlydir").iterdir())

    def stop(self):
        code = self.server.stop()
        assert code == 0, f"{self.name} ended with {code}:\n{self.server.process.log()}"


# --------------------------------------------------------------------- the load


def call_steadily(address, seed, keys, is_over, told):
    """Calls at a steady pace until `is_over`; tells every latency, in microseconds."""
    chance = random.Random(seed)
    pause = 1_000_000_000 // CALLS_A_SECOND
    latencies = array("I")
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clock = time.monotonic_ns
        due = clock() + chance.randrange(pause)
        while not is_over.is_set():
            rest = due - clock()
            late = rest < 0
            if not late:
                time.sleep(rest / 1e9)
            call = decision(key_of(chance.randrange(keys)))
            begun = due if late else clock()
            connection.sendall(call)
            reply = b""
            while reply.count(b"\r\n") < 6:
                got = connection.recv(4096)
                assert got, "the server has closed the connection"
                reply += got
                assert not reply.startswith(b"-"), reply
            latencies.append((clock() - begun) // 1_000)
            due += pause
    told.send(latencies)


class Load:
    """Callers in processes of their own, until the block ends; then `latencies`."""

    def __init__(self, side, keys, seed):
        self.latencies = array("I")
        self.is_over = multiprocessing.Event()
        self.callers = []
        for number in range(CALLERS):
            heard, told = multiprocessing.Pipe(duplex=False)
            caller = multiprocessing.Process(
                target=call_steadily, args=(side.address, seed * 100 + number, keys, self.is_over, told), daemon=True
            )
            caller.start()
            self.callers.append((caller, heard))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.is_over.set()
        for caller, heard in self.callers:
            if heard.poll(90):
                self.latencies.extend(heard.recv())
            caller.join()


def percentile(latencies, share):
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1_000


# ------------------------------------------------------------- rewrites, restarts


def rewrite(side):
    """Asks for a rewrite and waits for its end. Seconds."""
    manifest = side.data / "appendonlydir" / "appendonly.aof.manifest"
    before, count = manifest.read_text().splitlines()[0], int(side.info("persistence")["aof_rewrites"])
    begun = time.monotonic()
    assert side.ask("BGREWRITEAOF")[0] == "+"
    # A look at the manifest, which names another base file at the end, costs the callers
    # nothing. INFO would cost them a core, for a millisecond each time.
    wait_until(lambda: manifest.read_text().splitlines()[0] != before, "rewritten", seconds=300, interval=0.05)
    seconds = time.monotonic() - begun

    def is_done():
        now = side.info("persistence")
        idle = now["aof_rewrite_in_progress"] == "0" and now["aof_rewrite_scheduled"] == "0"
        return idle and int(now["aof_rewrites"]) > count

    wait_until(is_done, "the files before it are gone", seconds=60, interval=0.25)
    assert side.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    return seconds


def measure_rewrites(side, keys, quiet_seconds, rounds):
    """Figures of one server under load: quiet and rewriting in turn."""
    quiet, busy, seconds = array("I"), array("I"), []
    with Load(side, keys, 0):  # Warms up, and gives the log its first own base file.
        rewrite(side)
    steady = side.memory("VmRSS")
    peak = 0
    for number in range(rounds):
        with Load(side, keys, 2 * number + 1) as load:
            time.sleep(quiet_seconds)
        quiet.extend(load.latencies)
        steady = max(steady, side.memory("VmRSS"))
        side.forget_peak()
        with Load(side, keys, 2 * number + 2) as load:
            seconds.append(rewrite(side))
        busy.extend(load.latencies)
        peak = max(peak, side.memory("VmHWM") + side.copied())
    return {
        "resident, MiB": steady / 2**20,
        "peak / resident": peak / steady,
        "quiet p99.9, ms": percentile(quiet, 0.999),
        "quiet longest, ms": percentile(quiet, 1),
        "rewrite p99.9, ms": percentile(busy, 0.999),
        "rewrite longest, ms": percentile(busy, 1),
        "p99.9 rewrite / quiet": percentile(busy, 0.999) / percentile(quiet, 0.999),
        "rewrite takes, s": statistics.median(seconds),
        "on disk, MiB": side.disk() / 2**20,
    }


def turns(side):
    """How long Weir's own work has held the keyspace: turns over each bound."""
    metrics = side.server.metrics()
    name = "weir_store_background_turn_duration_seconds"
    total = metrics[f"{name}_count"]
    over = {bound: total - metrics[f'{name}_bucket{{le="{bound}"}}'] for bound in ("0.0005", "0.001")}
    return f"weir: {total:.0f} turns of its own work, {over['0.0005']:.0f} over 0.5 ms, {over['0.001']:.0f} over 1 ms"


def show(figures):
    print(f"\n{'':24}{'weir':>12}{'redis':>12}{'weir/redis':>12}")
    for name in figures["weir"]:
        ours, theirs = figures["weir"][name], figures["redis"][name]
        print(f"{name:24}{ours:12.2f}{theirs:12.2f}{ours / theirs:12.2f}")


def part_rewrite(folder, options):
    keys = options.size // BYTES_A_KEY
    print(f"{keys:,} keys of {HITS} hits; {CALLERS * CALLS_A_SECOND:,} decisions a second; everysec", flush=True)
    template = folder / "template"
    write_directory(template, keys)
    sides = {}
    figures = {}
    for name in ("redis", "weir"):
        side = sides[name] = Side(name, folder / name)
        shutil.copytree(template / "appendonlydir", side.data / "appendonlydir")
        side.start()
        figures[name] = measure_rewrites(side, keys, options.quiet, options.rewrites)
        if name == "weir":
            print(turns(side), flush=True)
        side.stop()
    taken, charged = ({name: [] for name in sides} for _ in range(2))
    for _ in range(options.restarts):
        for name, side in sides.items():
            taken[name].append(side.start())
            charged[name].append(side.cpu_seconds())
            side.stop()
    for name in sides:
        figures[name]["restart takes, s"] = statistics.median(taken[name])
        figures[name]["restart, CPU s"] = statistics.median(charged[name])
    show(figures)
    shutil.rmtree(folder)


# --------------------------------------------------------------------- policies


def rate(side, connections, seconds):
    """Decisions a second, as redis-benchmark counts them."""
    host, port = side.address
    words = ["FCALL", "sliding_window", "1", "api/10s/{__rand_int__}", "1000000", "10000", "1"]

    def ask(count):
        argv = ["redis-benchmark", "-h", host, "-p", str(port), "--csv", "-c", str(connections), "-n", str(count),
                "-r", "20000", *words]  # fmt: skip
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
        return float(told.splitlines()[-1].split('","')[1])

    pilot = ask(40 * connections + 200)
    return ask(max(500, int(pilot * seconds)))


def part_policies(folder, options):
    print(f"\n{'':12}{'connections':>12}{'weir':>12}{'redis':>12}{'ratio':>8}{'least':>8}{'most':>8}   decisions a second")
    for policy in POLICIES:
        sides = [Side(name, folder / policy / name, policy) for name in ("weir", "redis")]
        for side in sides:
            side.data.mkdir(parents=True, exist_ok=True)
            side.start()
            assert side.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)[0] == "$"
        for connections in CONNECTIONS:
            got = {side.name: [] for side in sides}
            for number in range(options.rounds):
                # Who goes first changes, so that warming up favours nobody.
                for side in sides[:: 1 if number % 2 else -1]:
                    got[side.name].append(rate(side, connections, options.seconds))
            ratios = [ours / theirs for ours, theirs in zip(got["weir"], got["redis"])]
            ours, theirs = (statistics.median(got[name]) for name in ("weir", "redis"))
            print(f"{policy:12}{connections:12}{ours:12,.0f}{theirs:12,.0f}{statistics.median(ratios):8.2f}"
                  f"{min(ratios):8.2f}{max(ratios):8.2f}", flush=True)  # fmt: skip
        for side in sides:
            side.stop()


def bytes_of(text):
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if text.endswith(unit):
            return int(float(text[:-3]) * 2**shift)
    raise argparse.ArgumentTypeError("a size, as 2GiB or 100MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["rewrite", "policies"], help="only this one")
    parser.add_argument("--size", type=bytes_of, default="2GiB", help="memory that the keys take in redis-server")
    parser.add_argument("--quiet", type=float, default=15, help="seconds without a rewrite, each time")
    parser.add_argument("--rewrites", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of each policy and number of connections")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round")
    options = parser.parse_args()
    (ROOT / "target").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-log-", dir=ROOT / "target"))
    try:
        if options.part != "policies":
            part_rewrite(folder / "rewrite", options)
        if options.part != "rewrite":
            part_policies(folder / "policies", options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
