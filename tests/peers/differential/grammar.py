"""The language in which `commands.py` writes down what a command may look like.

    SET <string> <value> [EX <seconds>|KEEPTTL] [NX|XX]
    ZADD <zset> {<score> <member>}
    ZUNION <zset...> [WITHSCORES]
    0.1 FLUSHALL
    SMEMBERS <set>  ~unordered

A word stands for itself, `<name>` for a random value of that name. `[a|b]` is one
of the alternatives or nothing, `(a|b)` one of them, `{a}` one to four times `a`.
A number in front of a line is its weight, 1 unless stated; `~name` at its end is
how its replies are compared (`judges.py`), exactly unless stated.

A command made from a line is sometimes *spoiled*: an argument is left out, doubled
or replaced by what the command does not expect, which is how wrong arity, wrong
syntax and wrong numbers come about.
"""

import re
from dataclasses import dataclass

TOKEN = re.compile(r"<[^>]+>|[\[\](){}|]|[^\s\[\](){}|<]+")
CLOSING = {"[": "]", "(": ")", "{": "}"}


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    weight: float
    judge: str
    nodes: list


def read(table):
    """The lines of a table; `#` starts a comment."""
    lines = (line.split("#")[0].strip() for line in table.splitlines())
    return [_line(line) for line in lines if line]


def _line(text):
    template, _, judge = text.partition("~")
    tokens = TOKEN.findall(template)
    weight = float(tokens.pop(0)) if re.fullmatch(r"[\d.]+", tokens[0]) else 1.0
    (nodes,) = _alternatives(tokens, None)
    return Line(weight, judge.strip() or "exact", nodes)


def _alternatives(tokens, closing):
    """Sequences up to `closing`, which is taken off as well."""
    found = [[]]
    while tokens and tokens[0] != closing:
        token = tokens.pop(0)
        if token == "|":
            found.append([])
        elif token in CLOSING:
            found[-1].append((token, _alternatives(tokens, CLOSING[token])))
        else:
            found[-1].append(("<", token[1:-1]) if token[0] == "<" else ("word", token.encode()))
    if closing:
        assert tokens, f"{closing} is missing"
        tokens.pop(0)
    return found


def expand(nodes, random, values):
    """One command that the nodes allow, as a list of bytes."""
    argv = []
    for kind, inner in nodes:
        if kind == "word":
            argv.append(inner)
        elif kind == "<":
            argv += values(inner, random)
        elif kind == "{":
            for _ in range(random.choice((1, 1, 2, 3, 4))):
                argv += expand(inner[0], random, values)
        elif kind == "(" or random.random() < 0.35:
            argv += expand(random.choice(inner), random, values)
    return argv


def spoil(argv, random, junk):
    """`argv` with one thing about its arguments changed."""
    argv = list(argv)
    at = random.randrange(1, len(argv)) if len(argv) > 1 else 0
    match random.randrange(5):
        case 0 if at:
            del argv[at]
        case 1 if at:
            del argv[at:]
        case 2 if at:
            argv.insert(at, argv[at])
        case 3 if at:
            argv[at] = junk(random)
        case _:
            argv.insert(at + 1, junk(random))
    return argv
