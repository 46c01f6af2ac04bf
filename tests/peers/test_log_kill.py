"""kill -9 at random moments, under load, also while the log is rewritten: what a
client was told is there when the process is back.

Each writer owns one key and counts in it, so that what must be there is one
number for each."""

import random
import threading
import time

import pytest

from resp import Closed, Connection

WRITERS = 4
# How often the process dies, and how many seconds it may take with it. Under `everysec`
# that is what had not been handed to the kernel: milliseconds, and up to a second where
# a write waits for a sync in a busy kernel. Each round lasts longer than that.
POLICIES = {"always": (200, 0.0), "everysec": (50, 1.0)}


class Writer(threading.Thread):
    """Counts in one key, and remembers what it was told, and when."""

    def __init__(self, address, number, start):
        super().__init__()
        self.address, self.key, self.sent = address, f"writer:{number}", start
        self.told = [(0.0, start)]

    def run(self):
        try:
            with Connection(self.address, timeout=5) as connection:
                while True:
                    self.sent += 1
                    kind, value = connection.ask("SET", self.key, self.sent)
                    assert (kind, value) == ("+", b"OK"), (kind, value)
                    self.told.append((time.monotonic(), self.sent))
                    if self.sent % 7 == 0:
                        connection.ask("ZADD", f"{self.key}:z", self.sent, self.sent % 100)
        except (OSError, Closed):
            return  # The process died, as it should.


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_that_was_acknowledged_is_lost_to_kill_9(weir, policy):
    rounds, grace = POLICIES[policy]
    gateway = weir(redis=True)
    embedded = gateway.config["store"]["embedded"]
    # So small that a rewrite is nearly always under way.
    embedded.update(appendfsync=policy, auto_aof_rewrite_min_size="16KiB", auto_aof_rewrite_percentage=1)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    counts = [0] * WRITERS
    for _ in range(rounds):
        gateway.start()
        with Connection(gateway.address) as connection:
            kept = [int(connection.ask("GET", f"writer:{n}")[1] or 0) for n in range(WRITERS)]
        assert all(there >= must for there, must in zip(kept, counts)), (kept, counts, seed)
        writers = [Writer(gateway.address, number, kept[number]) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.01, 0.15) + grace)
        if chance.random() < 0.5:
            with Connection(gateway.address) as connection:
                connection.ask("BGREWRITEAOF")
            time.sleep(chance.uniform(0, 0.05))
        gateway.process.kill()
        died = time.monotonic()
        for writer in writers:
            writer.join()
        last = died - grace
        counts = [max(number for told, number in writer.told if told <= last) for writer in writers]
    gateway.start()
    gateway.stop()


def test_a_copy_of_the_directory_taken_while_it_runs_is_a_backup(weir, tmp_path):
    """As the README says it: copy, check, and copy again if the check says so."""
    import shutil
    import subprocess

    from weir import BINARY

    gateway = weir(redis=True)
    gateway.config["store"]["embedded"].update(auto_aof_rewrite_min_size="16KiB", auto_aof_rewrite_percentage=1)
    with gateway:
        writer = Writer(gateway.address, 0, 0)
        writer.start()
        backups = 0
        for number in range(10):
            time.sleep(0.1)
            told = writer.told[-1][1]
            # The manifest first: the files that it names stay for a while.
            for _ in range(20):
                copy = tmp_path / f"backup-{number}"
                shutil.rmtree(copy, ignore_errors=True)
                ran = subprocess.run(["cp", "-r", gateway.data, copy], capture_output=True)
                checked = subprocess.run([BINARY, "log", "check", copy], capture_output=True, text=True)
                if ran.returncode == 0 and "Missing" not in checked.stderr and checked.returncode in (0, 1) and checked.stdout:
                    break
            else:
                raise AssertionError(checked.stderr)
            restored = weir(redis=True)
            restored.config["store"]["embedded"]["dir"] = str(copy)
            with restored, Connection(restored.address) as connection:
                kept = int(connection.ask("GET", "writer:0")[1] or 0)
            # What was told a moment before the copy began may still have been on
            # its way to the file: it was in memory for some milliseconds.
            assert kept >= told - 2_000, (kept, told)
            backups += 1
        gateway.process.kill()
        writer.join()
        assert backups == 10
