"""When two replies count as the same.

Each judge is named in `commands.py`. It is asked only when the bytes differ, and
allows what Redis itself leaves open: an order that it does not promise, what it
draws at random, and the moment at which a server reads its clock.
"""

MILLIS_APART = 3_000


def same(judge, ours, theirs):
    """True if the two replies are the same by that judge."""
    return ours == theirs or JUDGES[judge](ours, theirs)


def exact(_ours, _theirs):
    return False


def unordered(ours, theirs):
    return ours[0] == theirs[0] and _sorted(ours, 1) == _sorted(theirs, 1) is not None


def pairs(ours, theirs):
    """A flat array, or a map, of names and values."""
    return ours[0] == theirs[0] and _sorted(ours, 2) == _sorted(theirs, 2) is not None


def seconds(ours, theirs):
    return _near(ours, theirs, MILLIS_APART // 1000)


def millis(ours, theirs):
    return _near(ours, theirs, MILLIS_APART)


def shape(ours, theirs):
    """Drawn at random: as many, and of the same types."""
    if ours[0] != theirs[0] or ours[0] == "-" or (ours[1] is None) != (theirs[1] is None):
        return False
    if not isinstance(ours[1], list):
        return True
    return len(ours[1]) == len(theirs[1]) and all(shape(a, b) for a, b in zip(ours[1], theirs[1]))


JUDGES = {it.__name__: it for it in (exact, unordered, pairs, seconds, millis, shape)}


def _sorted(reply, width):
    """The items of an aggregate in an order of their own, `width` at a time."""
    kind, items = reply
    if not isinstance(items, list):
        return None
    width = 2 if kind == "%" else width
    return sorted((items[at : at + width] for at in range(0, len(items), width)), key=repr)


def _near(ours, theirs, apart):
    # Below zero it is no time but an answer: no such key, no deadline.
    if ours[0] != ":" or theirs[0] != ":" or min(ours[1], theirs[1]) < 0:
        return False
    return abs(ours[1] - theirs[1]) <= apart
