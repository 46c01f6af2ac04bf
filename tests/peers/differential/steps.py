"""Steps: the smallest things that a run is made of, and that shrinking takes out.

Most steps are one command. A step of several keeps together what means nothing
alone: a transaction, a key that expires while a server sleeps, a value popped at
random that must not make the two sides drift apart. A `Walk` or a `Transfer` needs
each side's own replies to go on.
"""

from dataclasses import dataclass, replace

from . import values
from .commands import ABSENT, LINES, VALUE_LINES
from .grammar import expand, read, spoil


@dataclass(frozen=True)
class Command:
    """One command, how its replies are compared, and on which connection it goes."""

    argv: tuple
    judge: object = "exact"
    connection: int = 0


@dataclass(frozen=True)
class Walk:
    """A SCAN of any kind from 0 to 0: which items it gives in all."""

    argv: tuple
    cursor_at: int

    def replies(self, connection):
        items, cursor = [], b"0"
        connection.ask(*FIND_EXPIRED)
        for _ in range(2_000):
            argv = list(self.argv)
            argv[self.cursor_at] = cursor
            kind, reply = connection.ask(*argv)
            if kind != "*":
                return [(kind, reply)]
            (_, cursor), (_, page) = reply
            # An element may come more than once, and a page in any order.
            width = 1 if self.argv[0] in (b"SCAN", b"SSCAN") else 2
            items += [tuple(page[at : at + width]) for at in range(0, len(page), width)]
            if cursor == b"0":
                return [("*", [("*", list(item)) for item in sorted(set(items), key=repr)])]
        return [("-", b"the cursor did not come back to 0")]


@dataclass(frozen=True)
class Transfer:
    """A value that one side dumped is restored by the other."""

    source: bytes
    destination: bytes
    options: tuple = (b"0", b"REPLACE")


def random_step(random):
    """A step; `random` alone decides which."""
    dice = random.random()
    if dice < 0.86:
        return (one_command(random),)
    if dice < 0.90:
        return transaction(random)
    if dice < 0.94:
        return (script(one_command(random), random),)
    makers = (watched, expiring, popped_at_random, drawn_key, walk, transfer, key_finder)
    return random.choice(makers)(random)


def one_command(random, lines=LINES):
    while True:
        (line,) = random.choices(lines, [line.weight for line in lines])
        argv = expand(line.nodes, random, values.values)
        # Members of a lex set keep one score.
        if random.random() < 0.06 and not (argv[0] == b"ZADD" and argv[1] in values.LEX_KEYS):
            # A random count is not spoiled: it could ask for a thousand million members.
            argv = argv[:-1] or argv if line.judge == "shape" else spoil(argv, random, values.junk)
        if argv[0].decode("latin-1") not in ABSENT and not is_left_to_chance(argv):
            if random.random() < 0.02:
                argv[0] = argv[0].lower()
            return Command(tuple(argv), line.judge)


def is_left_to_chance(argv):
    """True for a range by lex of a key that is no lex set: where scores differ, what Redis
    finds in a big set depends on the levels that it drew for the members."""
    name, words = argv[0].upper(), {word.upper() for word in argv}
    source = argv[2:3] if name == b"ZRANGESTORE" else argv[1:2]
    is_by_lex = b"BYLEX" in words or name in (b"ZLEXCOUNT", b"ZRANGEBYLEX", b"ZREVRANGEBYLEX", b"ZREMRANGEBYLEX")
    return is_by_lex and any(key in values.ALL_KEYS for key in source)


def transaction(random):
    """MULTI, some commands, EXEC or DISCARD. EXEC's replies are judged one by one."""
    queued = [one_command(random) for _ in range(random.randint(0, 4))]
    queued = [it for it in queued if it.argv[0].upper() not in (b"EXEC", b"DISCARD")]
    end = (
        Command((b"EXEC",), tuple(it.judge for it in queued))
        if random.random() < 0.85
        else Command((b"DISCARD",))
    )
    return (Command((b"MULTI",)), *(replace(it, judge="exact") for it in queued), end)


def watched(random):
    """A watched key, which another connection may change before EXEC."""
    (key,) = values.values("key", random)
    change = replace(one_command(random), connection=1)
    moved = (change.argv[0], key, *change.argv[2:])
    if random.random() < 0.7 and len(change.argv) > 1 and not is_left_to_chance(moved):
        change = replace(change, argv=moved)
    return (Command((b"WATCH", key)), change, *transaction(random), Command((b"UNWATCH",)))


def script(command, random):
    """The same command from Lua."""
    call = random.choice((b"call", b"pcall"))
    body = b"return redis.%s(unpack(ARGV))" % call
    return Command((b"EVAL", body, b"0", *command.argv), command.judge)


def expiring(random):
    """A key that is gone by the time of the next command, which finds it so, or does
    not look. The deadline is not so near that Redis might find it passed at once."""
    (key,) = values.values("key", random)
    deadline = random.choice(
        [
            (b"PEXPIRE", key, b"4"),
            (b"SET", key, b"x", b"PX", b"4"),
            (b"PSETEX", key, b"4", b"x"),
            (b"GETEX", key, b"PX", b"4"),
            (b"PEXPIREAT", key, b"1"),
        ]
    )
    late = one_command(random, VALUE_LINES)
    late = replace(late, argv=(late.argv[0], key, *late.argv[2:]))
    return (Command(deadline), Command((b"DEBUG", b"SLEEP", b"0.010")), late, Command((b"EXISTS", key)))


RANDOM_POPS = read("SPOP <set> [<count>]")


def popped_at_random(random):
    """What SPOP takes differs, so the key goes with it."""
    command = one_command(random, RANDOM_POPS)
    key = command.argv[1:2] or (b"none",)
    return (replace(command, judge="shape"), Command((b"SCARD", *key)), Command((b"DEL", *key)))


# Finds every key that has expired, before something finds them in an order of its own.
FIND_EXPIRED = (b"EXISTS", *values.EVERY_KEY)


def drawn_key(random):
    return (Command(FIND_EXPIRED), Command((b"RANDOMKEY",), "shape"))


def walk(random):
    kind = random.choice(("SCAN", "SSCAN", "HSCAN", "ZSCAN"))
    argv = [kind.encode()]
    if kind != "SCAN":
        argv += values.values({"S": "set", "H": "hash", "Z": "zset"}[kind[0]], random)
    argv.append(b"0")
    if random.random() < 0.4:
        argv += [b"MATCH", *values.values("pattern", random)]
    if random.random() < 0.5:
        argv += [b"COUNT", random.choice((b"1", b"2", b"10", b"1000", b"0", b"-1", b"x"))]
    if kind == "SCAN" and random.random() < 0.4:
        argv += [b"TYPE", random.choice((b"string", b"zset", b"hash", b"set", b"list", b"STRING", b"nothing"))]
    if random.random() < 0.05:
        argv.append(b"junk")
    return Walk(tuple(argv), 1 if kind == "SCAN" else 2)


def transfer(random):
    (source,), (destination,) = values.values("key", random), values.values("key", random)
    options = random.choice(
        (
            (b"0", b"REPLACE"),
            (b"0",),
            (b"100000", b"REPLACE"),
            (b"%d" % (values.FUTURE * 1000), b"REPLACE", b"ABSTTL"),
            (b"1", b"ABSTTL", b"REPLACE"),
            (b"-1", b"REPLACE"),
        )
    )
    return Transfer(source, destination, options)


def key_finder(random):
    """Which arguments of a command are keys."""
    command = one_command(random)
    subcommand = random.choice((b"GETKEYS", b"GETKEYSANDFLAGS"))
    return (Command((b"COMMAND", subcommand, *command.argv)),)
