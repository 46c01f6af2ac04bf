"""The values that stand for `<name>` in a line of the table.

Few keys and few members, so that commands meet what others left behind; the rare
rest is what breaks parsers: empty, binary, long, and numbers at every boundary.
"""

KINDS = ("string", "zset", "hash", "set", "list")
COUNT_PER_KIND = 4
KEYS = {kind: [b"%s:%d" % (kind.encode(), i) for i in range(COUNT_PER_KIND)] for kind in KINDS}
ODD_KEYS = [b"", b"\x00\xff\r\nbinary", b"no:such:key", b"{tag}a"]
LEX_KEYS = [b"lex:0", b"lex:1", b"lex:2"]
ALL_KEYS = [key for keys in KEYS.values() for key in keys] + ODD_KEYS
EVERY_KEY = ALL_KEYS + LEX_KEYS + [b"lex:string"]

LONG = b"long" * 17  # more than a listpack takes
MEMBERS = [b"a", b"b", b"c", b"d", b"e", b"f", b"1", b"2", b"30", b"-7", b"aa", b"ab", b"field", b"m\x00\xfe"]
RARE_MEMBERS = [b"", LONG, b"12345678901234567890", b"9223372036854775807", b"01", b"x" * 64, b"y" * 65]

INTEGERS = [b"0", b"1", b"-1", b"2", b"3", b"5", b"-2", b"-3", b"10", b"100"]
BOUNDARIES = [
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809",
    b"9223372036854775806", b"4294967296", b"2147483648", b"-2147483649", b"18446744073709551615",
]  # fmt: skip
NOT_INTEGERS = [b"", b" 1", b"1 ", b"+1", b"01", b"0x10", b"1.0", b"1e3", b"-0", b"abc", b"nan", b"1\x00"]
FLOATS = [
    b"0", b"1", b"-1", b"1.5", b"-1.5", b"2", b"3", b"3.0", b"10", b"0.1", b"0.2", b"1e3", b"1e17", b"-1e-5",
    b"3.14159265358979", b"1e21", b"1e-7", b"123456789.123", b"17179869184", b"1753862400123456",
]  # fmt: skip
ODD_FLOATS = [
    b"inf", b"-inf", b"+inf", b"nan", b"", b"abc", b"1e400", b"-1e400", b"0x1p3", b" 1", b"1 ", b"Infinity",
    b"1.7976931348623157e308", b"5e-324", b"-0", b"-0.0", b"+5", b".5", b"5.", b"1e", b"9007199254740993", b"1e5000",
]  # fmt: skip
WORDS = [b"NX", b"XX", b"GET", b"EX", b"KEEPTTL", b"WITHSCORES", b"LIMIT", b"COUNT", b"BYSCORE", b"REV", b"WEIGHTS"]
PATTERNS = [
    b"*", b"s*", b"*:1", b"?", b"[a-c]*", b"[^a]*", b"h?sh:*", b"zset:[0-2]", b"\\*", b"*[", b"[]*", b"nothing",
    b"[c-a]*", b"*\\", b"a**b", b"[\\]a]*", b"**", b"", b"[^", b"[a", b"s[te]*:?",
]  # fmt: skip

# Seconds in a far future: what is compared with what must not depend on the moment
# at which a server reads its clock.
FUTURE = 33_000_000_000


def some(usual, rare, chance=0.1):
    """One of `usual`; now and then one of `rare`."""
    return lambda random: [random.choice(rare if random.random() < chance else usual)]


def key_of(kind):
    return some(KEYS[kind], ALL_KEYS, 0.12)


def counted(kind):
    """A number of keys and as many keys; rarely a number that lies."""

    def values(random):
        keys = [key_of(kind)(random)[0] for _ in range(random.choice((1, 2, 2, 3)))]
        count = b"%d" % len(keys) if random.random() < 0.95 else random.choice(INTEGERS + NOT_INTEGERS)
        return [count, *keys]

    return values


def number(low, high):
    return lambda random: [b"%d" % random.randint(low, high)]


def float_text(random):
    """Mostly from the pool; else any number, to try how floats are read and written."""
    if random.random() < 0.7:
        return some(FLOATS, ODD_FLOATS, 0.12)(random)
    text = repr(random.uniform(-1, 1) * 10.0 ** random.randint(-8, 19))
    return [random.choice((text, text[:6].rstrip(".e-+") or "0", "%.3f" % float(text))).encode()]


def score_bound(random):
    (score,) = some([*FLOATS, b"-inf", b"+inf"], ODD_FLOATS, 0.05)(random)
    return [b"(" + score if random.random() < 0.25 else score]


def lex_bound(random):
    (member,) = some(MEMBERS, RARE_MEMBERS)(random)
    return [random.choice((b"-", b"+", b"[" + member, b"[" + member, b"(" + member, b"(" + member, b"[", b"(", member))]


def many(count, make):
    """`count` or so distinct values, to push a value over the bounds of its encoding."""

    def values(random):
        start = random.randrange(1000)
        return [word for i in range(count + random.randint(-3, 3)) for word in make(start + i)]

    return values


VALUES = {
    "key": lambda random: [random.choice(ALL_KEYS)],
    **{kind: key_of(kind) for kind in KINDS},
    **{f"{kind}...": counted(kind) for kind in KINDS},
    # All members have one score: by lex is undefined for others, and no other
    # command gets at these keys.
    "lexset": some(LEX_KEYS, [b"lex:string", b"lex:none"], 0.08),
    "member": some(MEMBERS, RARE_MEMBERS),
    "value": some(MEMBERS + INTEGERS + FLOATS[:6], RARE_MEMBERS + BOUNDARIES + ODD_FLOATS, 0.15),
    "int": some(INTEGERS, BOUNDARIES + NOT_INTEGERS, 0.12),
    "index": some(INTEGERS, BOUNDARIES + NOT_INTEGERS, 0.06),
    "count": some([b"0", b"1", b"2", b"3", b"10"], [b"-1", b"-2", b"9223372036854775807", *NOT_INTEGERS], 0.08),
    # Nothing that would make a server answer with a thousand million members.
    "signed": some([b"0", b"1", b"2", b"-1", b"-3", b"5", b"-12", b"20"], [*NOT_INTEGERS, b"-9223372036854775808"], 0.06),
    "offset": some([b"0", b"1", b"2", b"5", b"20"], [b"-1", b"9223372036854775807", b"536870912", *NOT_INTEGERS], 0.1),
    "score": float_text,
    "float": float_text,
    "weight": some(FLOATS, ODD_FLOATS),
    "bound": score_bound,
    "lex": lex_bound,
    "pattern": some(PATTERNS, MEMBERS),
    "seconds": lambda random: [b"%d" % random.randint(100, 99_999)],
    "millis": lambda random: [b"%d" % random.randint(100_000, 99_999_999)],
    "at": lambda random: [b"%d" % (FUTURE + random.randint(0, 9))],
    "at-ms": lambda random: [b"%d" % (FUTURE * 1000 + random.randint(0, 9))],
    # Never a time that would run out within a run.
    "odd-time": some([b"0", b"-1", b"-100"], BOUNDARIES + NOT_INTEGERS + [b"9223372036854775"], 0.6),
    "many-members": many(140, lambda i: [b"member:%d" % i]),
    "many-ints": many(520, lambda i: [b"%d" % i]),
    "many-fields": many(132, lambda i: [b"field:%d" % i, b"%d" % (i * 7)]),
    "many-scores": many(132, lambda i: [b"%d" % (i % 50), b"member:%d" % i]),
    "big": lambda random: [bytes([random.randrange(97, 123)]) * random.choice((40, 44, 45, 64, 65, 3000, 9000))],
}  # fmt: skip


def values(name, random):
    """Some words for `<name>`."""
    return VALUES[name](random)


def junk(random):
    """A word that a command may not expect at this place. No small number: as a
    time to live it would run out while the two servers are asked one by one."""
    return random.choice(random.choice((NOT_INTEGERS, BOUNDARIES, ODD_FLOATS, WORDS, ALL_KEYS, RARE_MEMBERS)))
