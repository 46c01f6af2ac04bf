#!/usr/bin/env python3
"""What the same libraries cost a redis-server: CPU per pipelined FCALL.

Loads functions/*.lua into a redis-server (Debian: redis-server), fills 10,000 keys
with 50 units each, and asks 100,000 decisions in pipelines of 200. The figure to
set beside `cargo bench --bench decision` is the time that redis-server itself
counts inside FCALL; CPU is the whole process, protocol included.

    python3 tests/bench/fcall.py
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
KEY_COUNT, UNITS, CALLS, PIPELINE, WINDOW_MS = 10_000, 50, 100_000, 200, 600_000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    def __init__(self):
        port = free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            sys.exit("redis-server does not listen")
        self.replies = self.socket.makefile("rb")

    @staticmethod
    def encode(*words):
        words = [str(word).encode() for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        return b"*%d\r\n%s" % (len(words), b"".join(parts))

    def reply(self):
        line = self.replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            sys.exit(f"redis-server says {rest.decode()}")
        if kind in b"+:":
            return rest
        if kind == b"$":
            return self.replies.read(int(rest) + 2)[:-2]
        return [self.reply() for _ in range(int(rest))]

    def ask(self, *words):
        self.socket.sendall(self.encode(*words))
        return self.reply()

    def decide(self, function, quota, calls):
        for start in range(0, calls, PIPELINE):
            keys = ((start + i) * 7919 % KEY_COUNT for i in range(PIPELINE))
            self.socket.sendall(b"".join(
                self.encode("FCALL", function, 1, f"{function}:{key}", quota, WINDOW_MS, 1)
                for key in keys))
            for _ in range(PIPELINE):
                self.reply()

    def cpu_us(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / CLOCK_TICKS

    def fcall_us(self):
        stats = self.ask("INFO", "commandstats").decode()
        line = next(it for it in stats.splitlines() if it.startswith("cmdstat_fcall:"))
        return float(line.split("usec_per_call=")[1].split(",")[0])


def main():
    redis = Redis()
    try:
        for library in ["limiter.lua", "mylimiter.lua"]:
            redis.ask("FUNCTION", "LOAD", (FUNCTIONS / library).read_text())
        print(f"{'':20}{'us inside FCALL':>16}{'CPU us a call':>16}")
        for function in ["sliding_window", "allow"]:
            redis.decide(function, 1_000_000, KEY_COUNT * UNITS)
            for outcome, quota in [("admitted", 1_000_000), ("refused", 10)]:
                redis.ask("CONFIG", "RESETSTAT")
                before = redis.cpu_us()
                redis.decide(function, quota, CALLS)
                cpu = (redis.cpu_us() - before) / CALLS
                print(f"{function + ', ' + outcome:20}{redis.fcall_us():16.1f}{cpu:16.1f}")
    finally:
        redis.process.terminate()
        redis.process.wait(timeout=10)


if __name__ == "__main__":
    main()
