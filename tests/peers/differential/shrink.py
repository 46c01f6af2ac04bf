"""The shortest run that still differs: delta debugging over steps, then arguments."""

from dataclasses import replace


def shrink(steps, differs, tries=600):
    """`steps` with all taken out that `differs` does not need. Bounded by `tries`."""
    left = [tries]

    def still(candidate):
        left[0] -= 1
        return left[0] >= 0 and differs(candidate)

    steps = _fewer(list(steps), still)
    for at, step in enumerate(steps):
        if isinstance(step, tuple):
            parts = _fewer(list(step), lambda parts, at=at: still(_with(steps, at, tuple(parts))))
            steps = _with(steps, at, tuple(parts))
    return _shorter_commands(steps, still)


def _fewer(items, still):
    """ddmin: takes out halves, then quarters, and so on down to single items."""
    size = max(1, len(items) // 2)
    while True:
        at, taken = 0, False
        while at < len(items):
            candidate = items[:at] + items[at + size :]
            if candidate and still(candidate):
                items, taken = candidate, True
            else:
                at += size
        if size == 1 and not taken:
            return items
        size = max(1, size // 2)


def _shorter_commands(steps, still):
    """Takes out arguments, one by one, from the end."""
    for at, step in enumerate(steps):
        if not isinstance(step, tuple):
            continue
        for part in range(len(step)):
            for word in range(len(steps[at][part].argv) - 1, 0, -1):
                argv = steps[at][part].argv
                shorter = replace(steps[at][part], argv=argv[:word] + argv[word + 1 :])
                candidate = _with(steps, at, (*steps[at][:part], shorter, *steps[at][part + 1 :]))
                if still(candidate):
                    steps = candidate
    return steps


def _with(steps, at, step):
    return [*steps[:at], step, *steps[at + 1 :]]
