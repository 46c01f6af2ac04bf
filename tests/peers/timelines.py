"""Timelines of the limiter library: reads them, and asks a redis-server.

The server's clock cannot be moved, so the one place of the library that reads it,
`call('TIME')`, reads a hash instead. Nor does a key last for milliseconds of the server's
clock, which goes on between two lines: each lasts an hour longer. Everything else is the
text that ships.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "timelines" / "limiter.txt"
LIBRARY = ROOT / "functions" / "limiter.lua"

ASKED = ("peek", "adjust", "release", "reset")

CALL = "call, try = redis.call, redis.pcall"
CALL_OF_TESTS = """
call, try = function(verb, ...)
  local words = { ... }
  if verb == 'PEXPIRE' or words[#words - 1] == 'PX' then
    words[#words] = words[#words] + 3600000
  end
  local said = redis.call(verb, unpack(words))
  return verb == 'PTTL' and said > 0 and said - 3600000 or said
end, redis.pcall
"""

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
    assert text.count(CALL) == 1
    return text.replace("call('TIME')", clock).replace(CALL, CALL_OF_TESTS)


def told(outcome: list[int]) -> str:
    admitted, remaining, reset, retry = outcome[:4]
    if admitted:
        return f"{remaining} left until {reset}"
    return f"deny {remaining} left until {reset} retry {retry}"


def show(reply) -> str:
    """A reply in one line, as the other player of these timelines shows it."""
    match reply:
        case list():
            return f"[{' '.join(map(show, reply))}]"
        case str():
            return f"'{reply}'"
        case None:
            return "null"
        case _:
            return str(reply)


def outcomes(reply) -> str:
    if not isinstance(reply, list):
        return str(reply)
    return ", ".join(told(outcome) for outcome in reply if isinstance(outcome, list))


class Asker:
    """Plays the lines of one timeline against a client of redis-py."""

    def __init__(self, client, timeline: Timeline):
        self.client, self.limits = client, dict(timeline.limits)
        self.reservations: dict[str, str] = {}

    def ask(self, line: str) -> str:
        at, asked = line.split(maxsplit=1)
        now = START_US + round(float(at) * 1000)
        self.client.hset("clock", mapping={"seconds": now // 10**6, "micros": now % 10**6})
        verb, _, rest = asked.partition(" ")
        match verb:
            case "edit":
                key, limit = parse_limit(rest)
                self.limits[key] = limit
                return "edited"
            case "fcall":
                named, _, args = rest.partition(" / ")
                function, *keys = named.split()
                return show(self.fcall(function, keys, args.split()))
            case "reserve":
                return self.reserve(*rest.split(maxsplit=2))
            case "settle":
                name, _, items = rest.partition(" ")
                keys, args = self.items(verb, items)
                return show(self.fcall(verb, ["reservations", *keys], [self.reservations[name], *args]))
            case "abandoned":
                names = [text.split("\n")[0] for text in self.fcall(verb, ["reservations"], [rest])]
                return " ".join(names) or "none"
            case "penalize" | "pardon":
                key, ban, ban_max, _ = self.item(rest)
                _, quota, window, *_ = self.limits[key]
                args = [quota, window, ban, ban_max] if verb == "penalize" else []
                return show(self.fcall(verb, [key, "bans"], args))
            case _ if verb in ASKED:
                return outcomes(self.fcall(verb, *self.items(verb, rest)))
            case _:
                return outcomes(self.fcall("decide", *self.items("decide", asked)))

    def items(self, verb: str, rest: str) -> tuple[list[str], list[str]]:
        """Keys and arguments of a Function, as the words of a line have them."""
        keys, args = [], []
        for key, cost, lease, charged in map(self.item, rest.split()):
            keys.append(key)
            algorithm, quota, window, option, group = self.limits[key]
            last = str(START_US + round(float(charged) * 1000)) if verb in ("adjust", "settle") else group
            match verb:
                case "release":
                    args.append(lease)
                case "reset":
                    pass
                case _:
                    args += [algorithm, quota, window, cost, lease or option, last]
        return keys, args

    def reserve(self, name: str, ends_after_ms: str, rest: str) -> str:
        """A limit's estimate is its key, one with a lease has none."""
        keys, args = self.items("decide", rest)
        estimates = ["" if lease else key for key, _, lease, _ in map(self.item, rest.split())]
        reply = self.fcall("decide_reserving", [*keys, "reservations"], [*args, ends_after_ms, name, *estimates])
        if not isinstance(reply[-1], str):
            return outcomes(reply)
        self.reservations[name] = reply[-1]
        return f"{outcomes(reply)}; reserved {' '.join(reply[-1].splitlines()[2:])}"

    def fcall(self, function: str, keys: list[str], args: list[str]):
        return self.client.fcall(function, len(keys), *keys, *args)

    @staticmethod
    def item(word: str) -> tuple[str, str, str, str]:
        match = re.match(r"^(\w+)(?:\*(-?\d+))?(?:#(\w+))?(?:@([\d.]+))?$", word)
        assert match, word
        key, cost, lease, charged = match.groups()
        return key, cost or "1", lease or "", charged or "0"
