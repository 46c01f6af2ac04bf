"""Reads the hits that Weir remembered out of its log, without Weir's help."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """One member added to a sorted set: whose, when (us since 1970), which."""

    key: str
    micros: int
    member: bytes


# Words of ZADD between the key and the pairs. A member is never one of them.
OPTIONS = {b"NX", b"XX", b"GT", b"LT", b"CH"}


def commands(data):
    """The commands of an incr file (RESP arrays of bulk strings). Lines that
    start with `#` are annotations. A torn tail ends the reading."""
    at = 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        if end < 0:
            return
        if data[at : at + 1] == b"#":
            at = end + 2
            continue
        assert data[at : at + 1] == b"*", f"not a command at byte {at}: {data[at:at+40]!r}"
        count, at, argv = int(data[at + 1 : end]), end + 2, []
        for _ in range(count):
            end = data.find(b"\r\n", at)
            if end < 0:
                return
            assert data[at : at + 1] == b"$"
            size = int(data[at + 1 : end])
            argv.append(data[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        if at > len(data):
            return
        yield argv


def hits(data_dir):
    """Every ZADD of every incr file, in the order written."""
    found = []
    files = sorted((data_dir / "appendonlydir").glob("*.incr.aof"), key=lambda it: int(it.name.split(".")[-3]))
    for file in files:
        for argv in commands(file.read_bytes()):
            if argv[0].upper() == b"ZADD":
                key, pairs = argv[1].decode(), [it for it in argv[2:] if it.upper() not in OPTIONS]
                found += [Hit(key, int(float(score)), member) for score, member in zip(pairs[::2], pairs[1::2])]
    return found
