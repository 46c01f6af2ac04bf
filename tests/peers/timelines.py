"""Timelines of the limiter library: reads them, and asks a redis-server.

The server's clock cannot be moved, so the one place of the library that reads it,
`call('TIME')`, reads a hash instead. Everything else is the text that ships.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "timelines" / "limiter.txt"
LIBRARY = ROOT / "functions" / "limiter.lua"

VERBS = ("peek", "adjust", "release", "reset", "edit", "penalize", "pardon")

# 2023-11-14, and not a whole second: as the tests of the engine have it.
START_US = 1_700_000_000_123_456


@dataclass
class Timeline:
    title: str
    limits: dict[str, tuple[str, str, str, str, str]]
    lines: list[tuple[str, str]]


def parse_limit(text: str) -> tuple[str, tuple[str, str, str, str, str]]:
    key, words = text.split(": ")
    algorithm, quota, _per, window_ms, *rest = words.split()
    named = dict(zip(rest[::2], rest[1::2]))
    group = named.get("group", "0")
    option = named.get("option", quota if algorithm == "token_bucket" else "-")
    return key, (algorithm, quota, window_ms, option, group)


def read(text: str) -> list[Timeline]:
    timelines: list[Timeline] = []
    for line in text.splitlines():
        line = line.split("# ")[0].strip()
        if line.startswith("== "):
            timelines.append(Timeline(line[3:], {}, []))
        elif not line or line == "#":
            continue
        elif re.match(r"^[a-z]+: ", line):
            key, limit = parse_limit(line)
            timelines[-1].limits[key] = limit
        else:
            asked, _, said = line.partition(" -> ")
            timelines[-1].lines.append((asked.strip(), said.strip()))
    return timelines


def library() -> str:
    text = LIBRARY.read_text()
    clock = "call('HMGET', 'clock', 'seconds', 'micros')"
    assert text.count("call('TIME')") == 1
    return text.replace("call('TIME')", clock)


def told(outcome: list[int]) -> str:
    admitted, remaining, reset, retry = outcome[:4]
    if admitted:
        return f"{remaining} left until {reset}"
    return f"deny {remaining} left until {reset} retry {retry}"


class Asker:
    """Plays the lines of one timeline against a client of redis-py."""

    def __init__(self, client, timeline: Timeline):
        self.client, self.limits = client, dict(timeline.limits)

    def ask(self, line: str) -> str:
        at, *words = line.split(maxsplit=2)
        now = START_US + round(float(at) * 1000)
        self.client.hset("clock", mapping={"seconds": now // 10**6, "micros": now % 10**6})
        verb = words[0] if words[0] in VERBS else "decide"
        rest = words[1:] if verb != "decide" else words
        rest = " ".join(rest)
        if verb == "edit":
            key, limit = parse_limit(rest)
            self.limits[key] = limit
            return "edited"
        items = [self.item(word) for word in rest.split()]
        keys = [key for key, *_ in items]
        args: list[str] = []
        for key, cost, lease, charged in items:
            algorithm, quota, window, option, group = self.limits[key]
            if verb == "release":
                args += [lease]
            elif verb == "adjust":
                charged_us = START_US + round(float(charged) * 1000)
                args += [algorithm, quota, window, cost, lease or option, str(charged_us)]
            elif verb == "penalize":
                args += [quota, window, cost, lease]
            elif verb not in ("reset", "pardon"):
                args += [algorithm, quota, window, cost, lease or option, group]
        if verb in ("penalize", "pardon"):
            keys.append("bans")
        reply = self.client.fcall(verb, len(keys), *keys, *args)
        return ", ".join(map(told, reply)) if isinstance(reply, list) else str(reply)

    @staticmethod
    def item(word: str) -> tuple[str, str, str, str]:
        match = re.match(r"^(\w+)(?:\*(-?\d+))?(?:#(\w+))?(?:@([\d.]+))?$", word)
        assert match, word
        key, cost, lease, charged = match.groups()
        return key, cost or "1", lease or "", charged or "0"
