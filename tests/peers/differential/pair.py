"""Two servers, the same steps to both, and the first difference.

State is compared whole, read with the commands of each type, so that a difference
says which key it is in; then by DEBUG DIGEST, which sees what no command shows. What
a listener heard of keyspace events is compared as well. Neither side looks for expired
keys by itself, so that both find them with the same command.
"""

from dataclasses import dataclass, field
from itertools import chain

from resp import Closed, Connection, show, words

from .judges import MILLIS_APART, same
from .steps import Command, Transfer, Walk

# Commands in one write. Small enough that neither side waits for us to read.
BATCH = 48

# How the whole of a value is read, and the width of what has no order.
READERS = {
    b"string": (("GET",), 0),
    b"list": (("LRANGE", 0, -1), 0),
    b"zset": (("ZRANGE", 0, -1, "WITHSCORES"), 0),
    b"set": (("SMEMBERS",), 1),
    b"hash": (("HGETALL",), 2),
}

# What is asked of each key. The last is an error unless the run counts uses.
FACTS = {
    "type": ("TYPE",),
    "encoding": ("OBJECT", "ENCODING"),
    "deadline": ("PEXPIRETIME",),
    "count of references": ("OBJECT", "REFCOUNT"),
    "count of uses": ("OBJECT", "FREQ"),
}


@dataclass
class Difference:
    """What came first: where, after which command, and what either side said."""

    step_index: int
    command: str
    ours: str
    theirs: str
    name: str = field(default="", compare=False)

    def __str__(self):
        command, ours, theirs = (_clipped(text) for text in (self.command, self.ours, self.theirs))
        return f"{command}\n    weir   {ours}\n    redis  {theirs}"


def _clipped(text, size=1_500):
    return text if len(text) <= size else f"{text[:size]}... {len(text)} in all"


class Side:
    """One server and the connections to it, opened as they are needed."""

    def __init__(self, address):
        self.address = address
        self.connections = {}

    def connection(self, number):
        if number not in self.connections:
            self.connections[number] = Connection(self.address)
        return self.connections[number]

    def prepare(self, policy):
        """Sets how memory is kept, and begins to hear of everything that happens to
        keys. The ceiling is never reached, but a policy that goes by the use of keys
        tells Redis to give each key a value of its own. By frequency every use counts
        one, so that a use too many or too few is seen."""
        settings = {
            "maxmemory": "0" if policy == "noeviction" else "8gb",
            "maxmemory-policy": policy,
            "lfu-log-factor": 0,
            "lfu-decay-time": 0,
            "notify-keyspace-events": "KEAmn",
        }
        connection = self.connection(0)
        for argv in (("CONFIG", "SET", *chain(*settings.items())), ("DEBUG", "SET-ACTIVE-EXPIRE", 0)):
            assert connection.ask(*argv) == ("+", b"OK")
        self.connection("ears").ask("PSUBSCRIBE", "__key*__:*")

    def heard(self):
        """The events since the last question: (channel, what), in their order. What
        the limiter keeps for itself is nobody else's."""
        ears = self.connection("ears")
        ears.send([["PING"]])
        events = []
        while (frame := ears.frame())[1][0] != ("$", b"pong"):
            _, _, (_, channel), (_, what) = frame[1]
            if b":weir:" not in channel and not what.startswith(b"weir:"):
                events.append((channel, what))
        return events

    def reset(self, protocol):
        """Nothing stored, nothing queued or watched, one protocol."""
        for number in (0, 1):
            self.connection(number).ask("RESET")
            self.connection(number).ask("HELLO", protocol)
            self.connection(number).pushed.clear()
        self.connection(0).ask("FLUSHALL")

    def close(self):
        for connection in self.connections.values():
            connection.close()

    def state(self):
        """Every key: what is told of it, and its value, values in one order."""
        connection = self.connection("state")
        keys = sorted(item for _, item in connection.ask("KEYS", "*")[1])
        connection.send([(*ask, key) for key in keys for ask in FACTS.values()])
        state = {key: dict(zip(FACTS, connection.frames(len(FACTS)))) for key in keys}
        connection.send([_reader(state[key]["type"][1], key) for key in keys])
        for key, value in zip(keys, connection.frames(len(keys))):
            state[key]["value"] = _in_order(state[key]["type"], value)
        return state


def _reader(kind, key):
    (name, *rest), _ = READERS.get(kind, (("TYPE",), 0))
    return (name, key, *rest)


def _in_order(kind, value):
    _, width = READERS.get(kind[1], ((), 0))
    if not width or value[0] != "*":
        return value
    items = value[1]
    rows = sorted((items[at : at + width] for at in range(0, len(items), width)), key=repr)
    return ("*", [item for row in rows for item in row])


class Pair:
    """Weir and Redis, side by side."""

    def __init__(self, ours, theirs, policy):
        self.sides = (Side(ours), Side(theirs))
        self.policy = policy
        self.command_count = 0
        for side in self.sides:
            side.prepare(policy)

    def close(self):
        for side in self.sides:
            side.close()

    def can_judge(self, command):
        """False for a question of which Redis' answer depends on what was before the
        run: small integers share one time of use with all keys that ever had them. And
        for a walk that uses its key as often as it has steps, which is left open."""
        counts_uses = self.policy == "allkeys-lfu"
        if isinstance(command, Walk):
            return not counts_uses or command.argv[0] == b"SCAN"
        # Redis keeps the arguments of scripts for the next script, count of uses and all.
        if counts_uses and command.argv[0] == b"EVAL":
            return False
        return self.policy == "allkeys-lru" or b"IDLETIME" not in command.argv

    def run(self, steps, protocol, ignore=lambda difference: False):
        """Runs steps from an empty keyspace; the first difference that counts."""
        for side in self.sides:
            side.reset(protocol)
            side.heard()
        batch = []
        for at, step in enumerate(steps):
            if isinstance(step, tuple):
                batch += [(at, command) for command in step]
                if len(batch) < BATCH:
                    continue
            differences = self._commands(batch)
            batch = []
            if isinstance(step, Walk):
                differences += self._walk(at, step)
            elif isinstance(step, Transfer):
                differences += self._transfer(at, step)
            for difference in differences:
                if not ignore(difference):
                    return difference
        last = len(steps) - 1
        for difference in self._commands(batch) + self._events(last) + self._state(last):
            if not ignore(difference):
                return difference
        return None

    def _commands(self, batch):
        differences = []
        while batch:
            # As many as go to one connection: what other connections do is in order.
            number = batch[0][1].connection
            count = next((at for at, (_, it) in enumerate(batch) if it.connection != number), len(batch))
            now, batch = batch[:count], batch[count:]
            for side in self.sides:
                side.connection(number).send([command.argv for _, command in now])
            ours, theirs = (_replies(side, number, now) for side in self.sides)
            self.command_count += count
            if ours != theirs:
                for (at, command), a, b in zip(now, ours, theirs):
                    if not _agree(command.judge, a, b):
                        differences.append(_difference(at, command.argv, a, b))
        return differences

    def _walk(self, at, step):
        ours, theirs = (step.replies(side.connection(0)) for side in self.sides)
        self.command_count += 1
        return [_difference(at, step.argv, a, b) for a, b in zip(ours, theirs) if a != b]

    def _transfer(self, at, step):
        """Each side restores what the other one dumped."""
        dumps = [side.connection(0).ask("DUMP", step.source) for side in self.sides]
        self.command_count += 2
        if (dumps[0][1] is None) != (dumps[1][1] is None) or dumps[0][0] != dumps[1][0]:
            return [_difference(at, ("DUMP", step.source), *dumps)]
        if dumps[0][0] != "$" or dumps[0][1] is None:
            return []
        deadline, *options = step.options
        argvs = [("RESTORE", step.destination, deadline, dump[1], *options) for dump in reversed(dumps)]
        replies = [side.connection(0).ask(*argv) for side, argv in zip(self.sides, argvs)]
        return [] if replies[0] == replies[1] else [_difference(at, argvs[0], *replies)]

    def _events(self, at):
        """The first event that only one side told of."""
        ours, theirs = (side.heard() for side in self.sides)
        if ours == theirs:
            return []
        first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        shown = [words(events[first]) if first < len(events) else "nothing" for events in (ours, theirs)]
        return [Difference(at, f"event {first} that a listener heard", *shown, name="events")]

    def _state(self, at):
        ours, theirs = (side.state() for side in self.sides)
        if ours == theirs:
            digests = [side.connection(0).ask("DEBUG", "DIGEST") for side in self.sides]
            return [] if digests[0] == digests[1] else [_difference(at, ("DEBUG", "DIGEST"), *digests)]
        found = []
        for key in sorted(ours.keys() | theirs.keys()):
            a, b = ours.get(key), theirs.get(key)
            if a is None or b is None:
                shown = ["nothing" if it is None else show(it["value"]) for it in (a, b)]
                found.append(Difference(at, f"the state of {words([key])}", *shown, name="state"))
                continue
            for fact in a:
                near = fact == "deadline" and abs(a[fact][1] - b[fact][1]) < MILLIS_APART and min(a[fact][1], b[fact][1]) > 0
                if a[fact] != b[fact] and not near:
                    kind = b["type"][1].decode()
                    about = f"the {fact} of {words([key])}, a {kind}"
                    found.append(Difference(at, about, show(a[fact]), show(b[fact]), name=f"{fact} of a {kind}"))
        return found


def _replies(side, number, sent):
    try:
        return side.connection(number).frames(len(sent))
    except (Closed, OSError) as gone:
        commands = "\n".join(f"    {words(command.argv)}" for _, command in sent)
        raise AssertionError(f"{side.address} fell silent ({gone!r}) at one of\n{commands}") from gone


def _agree(judge, ours, theirs):
    """Judges one reply; EXEC's are judged by what was queued."""
    if isinstance(judge, str):
        return same(judge, ours, theirs)
    if ours == theirs:
        return True
    arrays = all(reply[0] == "*" and reply[1] is not None and len(reply[1]) == len(judge) for reply in (ours, theirs))
    return arrays and all(same(name, a, b) for name, a, b in zip(judge, ours[1], theirs[1]))


def _difference(at, argv, ours, theirs):
    argv = [word if isinstance(word, bytes) else str(word).encode() for word in argv]
    return Difference(at, words(argv), show(ours), show(theirs), name=name_of(argv))


def name_of(argv):
    """The command, and the one that it carries."""
    name, *rest = (word.upper().decode("latin-1") for word in argv)
    carried = {"EVAL": rest[2:3], "COMMAND": rest[:1]}.get(name, [])
    return " ".join([name, *carried])
