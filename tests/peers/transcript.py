"""Sessions of several clients, written down and held to what happens.

    ann  SET lock ann NX PX 10000  -> OK
    bob  SET lock bob NX PX 10000  -> nil     # taken
    ann  dies
    wait 20ms
    bob  hears                     -> [message, news, hello]
    bob  TTL lock                  -> 1..10

Every name is a client with a connection of its own. A reply is written as its text,
`nil`, `[a, b]` or `error ...`; `1..10` is any number between. When they differ, the
test shows the whole of what was written and the whole of what happened.
"""

import shlex
import time

from resp import AGGREGATES, Connection


def text(reply):
    """A reply as a transcript has it."""
    kind, value = reply
    if value is None or kind == "_":
        return "nil"
    if kind in AGGREGATES:
        return f"[{', '.join(map(text, value))}]"
    if kind == "-":
        return f"error {value.decode()}"
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def spec(server, transcript):
    """Plays a transcript; fails if anything came differently."""
    lines = [line.split("#")[0].strip() for line in transcript.splitlines()]
    lines = [line for line in lines if line]
    clients = {}
    happened = []
    try:
        for line in lines:
            action, arrow, expected = (part.strip() for part in line.partition("->"))
            got = _play(server, clients, action)
            happened.append(f"{action}  -> {_as_written(got, expected)}" if arrow else action)
    finally:
        for client in clients.values():
            client.close()
    written = [f"{action.strip()}  -> {expected.strip()}" if arrow else action
               for action, arrow, expected in (line.partition("->") for line in lines)]  # fmt: skip
    assert happened == written, "\nwritten:\n{}\n\nhappened:\n{}".format("\n".join(written), "\n".join(happened))


def _play(server, clients, action):
    name, *words = shlex.split(action)
    if name == "wait":
        time.sleep(int(words[0].removesuffix("ms")) / 1000)
        return None
    if words == ["dies"]:
        clients.pop(name).close()
        return None
    if name not in clients:
        clients[name] = Connection(server.address)
    client = clients[name]
    if words == ["hears"]:
        return text(client.frame())
    return text(client.ask(*words))


def _as_written(got, expected):
    """What was expected, if it is a range that holds what was got."""
    low, dots, high = expected.partition("..")
    if dots and got.lstrip("-").isdigit() and int(low) <= int(got) <= int(high):
        return expected
    return got
