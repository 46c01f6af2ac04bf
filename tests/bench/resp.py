#!/usr/bin/env python3
"""Weir's RESP door beside redis-server: throughput of one core, bytes of memory, and
what 10,000 connections cost that say nothing.

    cargo build --release
    python3 tests/bench/resp.py                  # all, some five minutes
    python3 tests/bench/resp.py --memory-only

All servers run at once, each kept on the same core (taskset) and idle while another
is asked; redis-benchmark has the other core. Rounds go from one to the next, so that
what disturbs the machine disturbs all. Weir writes its log and leaves the disk to the
kernel. Redis runs twice, without a log and with one under the same policy: what is
written costs, so the second is the like, and the first is the bar.
Prints the median of requests a second and the median of the ratios within a round.
"""

import argparse
import contextlib
import csv
import json
import os
import resource
import socket
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
CONNECTIONS = 10_000
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
            "redis": {"maxclients": CONNECTIONS + 100},
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
    print(f"{'':16}{'-P':>4}{'weir':>12}{'redis':>12}{'ratio':>7}{'least':>7}{'most':>7}"
          f"{'and log':>12}{'ratio':>7}   requests/s, medians of {rounds}")  # fmt: skip
    for name, argv in COMMANDS.items():
        for pipeline, requests in ((1, 60_000), (16, 400_000)):
            got = {server: [] for server in servers}
            for at in range(rounds):
                # Who goes first changes, so that warming up favours nobody.
                for server in list(servers)[:: 1 if at % 2 else -1]:
                    got[server].append(throughput(servers[server].address, argv, pipeline, requests))
            medians = {server: statistics.median(got[server]) for server in servers}
            ratios = {server: [ours / theirs for ours, theirs in zip(got["weir"], got[server])] for server in servers}
            bare, logged = ratios["redis"], ratios["redis and log"]
            print(f"{name:16}{pipeline:>4}{medians['weir']:>12,.0f}{medians['redis']:>12,.0f}"
                  f"{statistics.median(bare):>7.2f}{min(bare):>7.2f}{max(bare):>7.2f}"
                  f"{medians['redis and log']:>12,.0f}{statistics.median(logged):>7.2f}", flush=True)  # fmt: skip


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


def measure_resident(folder):
    """What the kernel counts for many such sets, since an accounted byte may lie. Each
    time of new processes: memory that was given back would not count again."""
    print(f"\n{'sets of':16}{'weir':>12}{'redis':>12}{'ratio':>8}   bytes of the process a set, 500,000 timestamps in all")
    for count in (10, 100, 1_000):
        weir, redis = BareWeir(folder / f"weir-{count}"), RedisServer(folder / f"redis-{count}").start()
        ours, theirs = grown_by(weir, count, 500_000 // count), grown_by(redis, count, 500_000 // count)
        weir.stop()
        redis.stop()
        print(f"{count:<16}{ours:>12.0f}{theirs:>12.0f}{ours / theirs:>8.2f}")


def grown_by(server, count, sets):
    """Bytes that a process grows by for each set of `count` timestamps."""
    start = 1_764_000_000_000_000
    with Connection(server.address, timeout=120) as connection:
        before = resident(server.process.pid)
        for first in range(0, sets, 100):
            last = min(sets, first + 100)
            connection.send(
                ["ZADD", f"hits:{at}", *(word for i in range(count) for word in [start + i * 997 + at] * 2)]
                for at in range(first, last)
            )
            connection.frames(last - first)
        return (resident(server.process.pid) - before) / sets


def measure_idle(servers):
    """Connections that have said one word and wait: what the process grows by."""
    print(f"\n{'connections':16}{'weir':>12}{'redis':>12}{'ratio':>8}   bytes of the process for each that is idle")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 300
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"needs {wanted} open files: ulimit -n"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    grown = {}
    for name, server in servers.items():
        with contextlib.ExitStack() as held:
            before = resident(server.process.pid)
            for _ in range(CONNECTIONS):
                connection = held.enter_context(socket.create_connection(server.address, timeout=10))
                connection.sendall(b"PING\r\n")
                answer = connection.recv(16)
                assert answer == b"+PONG\r\n", f"{name} held no {CONNECTIONS} connections: {answer}"
            grown[name] = (resident(server.process.pid) - before) / CONNECTIONS
    print(f"{CONNECTIONS:<16}{grown['weir']:>12.0f}{grown['redis']:>12.0f}{grown['weir'] / grown['redis']:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limit = ("--maxclients", CONNECTIONS + 100)
        log = ("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", 0)
        servers = {
            "weir": BareWeir(Path(folder) / "weir"),
            "redis": RedisServer(Path(folder) / "redis", *limit).start(),
            "redis and log": RedisServer(Path(folder) / "redis-log", *limit, *log).start(),
        }
        try:
            for server in servers.values():
                pin(server.process.pid, SERVER_CORE)
            if not options.memory_only:
                measure_throughput(servers, options.rounds)
            servers.pop("redis and log").stop()
            measure_memory(servers)
            measure_idle(servers)
            measure_resident(Path(folder))
        finally:
            for server in servers.values():
                server.stop()


if __name__ == "__main__":
    main()
