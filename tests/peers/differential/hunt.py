"""Episodes without end: made from a seed, run, and what differs shrunk and told."""

from itertools import count
from random import Random

from resp import words

from .pair import Pair, name_of
from .shrink import shrink
from .steps import Transfer, Walk, random_step

STEPS_PER_EPISODE = 250

# How memory may be kept, which shows in what is told of the use of keys.
POLICIES = ("noeviction", "allkeys-lru", "allkeys-lfu")


class Hunt:
    """Runs episodes against two servers. Every episode begins with nothing."""

    def __init__(self, ours, theirs, seed, policy="noeviction"):
        self.pair = Pair(ours, theirs, policy)
        self.seed = seed
        self.known = set()

    @property
    def command_count(self):
        return self.pair.command_count

    def reports(self, command_count, episodes=None):
        """A report for each kind of difference, the first time that it is met."""
        for number in episodes if episodes is not None else count():
            if self.command_count >= command_count:
                return
            report = self.episode(number)
            if report:
                yield report

    def episode(self, number):
        """One episode; None, or a report of the shortest run that differs."""
        random = Random(f"{self.seed}/{number}")
        protocol = random.choice((2, 3))
        steps = [random_step(random) for _ in range(STEPS_PER_EPISODE)]
        steps = [step for step in steps if all(self.pair.can_judge(it) for it in commands(step))]
        # What differs is not sent again: it would hide what comes after it.
        steps = [step for step in steps if not self.known.intersection(names(step))]
        difference = self.pair.run(steps, protocol, self.is_known)
        if difference is None:
            return None
        counted = self.pair.command_count

        def differs(candidate):
            found = self.pair.run(candidate, protocol, self.is_known)
            # Another difference might only come of what was taken out.
            return found is not None and found.name == difference.name

        steps = steps[: difference.step_index + 1]
        shortest = shrink(steps, differs)
        again = self.pair.run(shortest, protocol, self.is_known)
        self.pair.command_count = counted
        head = f"--- seed {self.seed} episode {number}, RESP{protocol}, {self.pair.policy}"
        if again is None:
            self.known.add(difference.name)
            return f"{head}: seen once, not when run again\n{difference}"
        self.known.add(again.name)
        return "\n".join([head, *(f"    {line}" for step in shortest for line in describe(step)), str(again)])

    def is_known(self, difference):
        return difference.name in self.known

    def close(self):
        self.pair.close()


def commands(step):
    """The commands of a step, as far as they are known beforehand."""
    return {Walk: (step,), Transfer: ()}.get(type(step), step)


def names(step):
    """What differences after this step would be called."""
    return ["DUMP", "RESTORE"] if isinstance(step, Transfer) else [name_of(it.argv) for it in commands(step)]


def describe(step):
    """A step, a line for each command."""
    if isinstance(step, Walk):
        return [f"{words(step.argv)}   (until the cursor is 0)"]
    if isinstance(step, Transfer):
        return [f"DUMP {words([step.source])} -> the other side's RESTORE {words([step.destination, *step.options])}"]
    return [("" if it.connection == 0 else f"[connection {it.connection}] ") + words(it.argv) for it in step]
