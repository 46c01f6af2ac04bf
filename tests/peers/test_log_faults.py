"""Each system call by which the log lives fails once, in the real process: decisions
go on, everybody is told, the log heals by itself, and a restart loads everything.

strace makes a call fail with EIO where the kernel would have done it, and only on
files of the data directory."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from process import fetch, wait_until
from resp import Closed, Connection

# System calls by which the data directory is changed while Weir runs. The last makes
# names durable.
WRITES, SYNCS, RENAMES, OPENS, FOLDER_SYNCS = "write", "fdatasync", "rename", "openat", "fsync"
# Hints: a part of a file may go to the disk now; it need not be kept in memory.
BEGINS = "sync_file_range"
FORGETS = "fadvise64"


@pytest.fixture
def gateway(weir):
    gateway = weir(redis=True)
    gateway.config["store"]["embedded"].update(auto_aof_rewrite_percentage=0)
    return gateway


class Faults:
    """strace on a running process: calls on files of its log fail as told, until the
    block ends. `when` counts in each thread by itself."""

    def __init__(self, gateway, call, when, how="error=EIO"):
        self.told = gateway.folder / "strace.log"
        self.told.unlink(missing_ok=True)
        folder = gateway.data / "appendonlydir"
        # Files that will be made are named too: -P wants paths, not folders.
        numbers = range(1, 8)
        names = [f"appendonly.aof.{n}.{kind}" for n in numbers for kind in ("incr.aof", "base.rdb")]
        names += [f"temp-{name}" for name in names] + ["appendonly.aof.manifest", "temp-appendonly.aof.manifest"]
        paths = [word for name in ("", *names) for word in ("-P", str(folder / name).rstrip("/"))]
        argv = [shutil.which("strace") or "strace is missing; tests/run installs it", "-f", "-qq", "-y", "-ttt", "-o", self.told,
                *paths, "-e", f"trace={call},write", "-e", f"inject={call}:{how}:when={when}",
                "-p", str(gateway.process.pid)]  # fmt: skip
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        tracer = f"TracerPid:\t{self.child.pid}"
        tasks = f"/proc/{gateway.process.pid}/task"
        wait_until(lambda: self.traces(tasks, tracer), "strace has attached")

    def traces(self, tasks, tracer):
        assert self.child.poll() is None, self.child.stderr.read()
        return all(tracer in (task / "status").read_text() for task in Path(tasks).iterdir())

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.child.terminate()
        self.child.wait(10)
        self.child.stderr.close()

    def count(self):
        """Calls that have failed, or were delayed, so far."""
        return len(re.findall("INJECTED|DELAYED", self.told.read_text())) if self.told.exists() else 0

    def calls(self):
        """What was called, in the order of the ends: (call, file, begun, ended)."""
        calls, begun = [], {}
        for line in self.told.read_text().splitlines():
            thread, at, rest = line.split(maxsplit=2)
            if start := re.match(r"(\w+)\(\d+<([^>]*)>", rest):
                begun[thread] = (start[1], os.path.basename(start[2]), float(at))
            # What strace found under way has no beginning here.
            if "unfinished" not in rest and thread in begun:
                calls.append((*begun.pop(thread), float(at)))
        return calls


def says(gateway):
    """What everybody is told: metric, INFO, /readyz."""
    with Connection(gateway.address) as connection:
        info = connection.ask("INFO", "persistence")[1].decode()
    return (
        int(gateway.metrics()["weir_persist_poisoned"]),
        re.search(r"aof_last_write_status:(\w+)", info)[1],
        "limits do not survive a restart" in fetch(gateway.admin_url("/readyz"))[2],
    )


WELL, ILL = (0, "ok", False), (1, "err", True)


def check_restart(gateway, expected):
    assert gateway.stop() == 0
    with gateway, Connection(gateway.address) as connection:
        held = {key: connection.ask("GET", key)[1] for key in expected}
        assert held == expected
        assert gateway.stop() == 0


@pytest.mark.parametrize("call", [WRITES, SYNCS])
@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("on_log_error", ["continue", "refuse"])
def test_a_failed_write_or_sync_is_told_survived_and_healed(gateway, call, policy, on_log_error):
    gateway.config["store"]["embedded"].update(appendfsync=policy, on_log_error=on_log_error)
    with gateway, Connection(gateway.address) as connection:
        assert connection.ask("SET", "before", "1") == ("+", b"OK")
        assert connection.ask("WAITAOF", 1, 0, 0)[0] == "*", "it is not what fails"
        # The first fails, and a second one in what should heal it: it tries again.
        with Faults(gateway, call, "1..2") as faults:
            if (policy, on_log_error) == ("always", "refuse"):
                with pytest.raises(Closed), Connection(gateway.address) as other:
                    other.ask("SET", "k", "1")  # Not acknowledged: what became of it is not known.
            else:
                assert connection.ask("SET", "k", "1") == ("+", b"OK")
            wait_until(lambda: faults.count() >= 1, "a call has failed", interval=0.005)
            wait_until(lambda: says(gateway) == ILL, "it is told", interval=0.005)
            # Decided from memory, while it is not durable.
            assert connection.ask("GET", "k") == ("$", b"1")
            kind, answer = connection.ask("SET", "k", "1")
            assert answer.startswith(b"OK" if on_log_error == "continue" else b"MISCONF"), answer
            wait_until(lambda: faults.count() >= 2, "and another", interval=0.005)
        wait_until(lambda: says(gateway) == WELL, "healed by itself within 5 s", seconds=5)
        gateway.process.tells("the log is poisoned", "the log is healed")
        assert connection.ask("SET", "after", "2") == ("+", b"OK")
        check_restart(gateway, {"before": b"1", "k": b"1", "after": b"2"})


@pytest.mark.parametrize("call", [WRITES, SYNCS, RENAMES, OPENS, FOLDER_SYNCS])
def test_a_rewrite_whose_call_fails_leaves_a_log_that_holds_everything(gateway, call):
    """Whichever it is that fails, of the first ones in each thread."""
    gateway.config["store"]["embedded"]["appendfsync"] = "always"
    written = {}
    with gateway, Connection(gateway.address) as connection:
        for number in (1, 2, 3):
            with Faults(gateway, call, number) as faults:
                connection.ask("BGREWRITEAOF")
                wait_until(lambda: not rewriting(connection), "it has ended")
            assert faults.count() >= 1 or number > 1
            # The log itself may have failed with it; then it heals.
            wait_until(lambda: says(gateway) == WELL, "healed by itself within 5 s", seconds=5)
            key = f"after{number}"
            assert connection.ask("SET", key, number) == ("+", b"OK")
            written[key] = str(number).encode()
            # As a crash would leave it: everything acknowledged is there.
            gateway.process.kill()
            gateway.start()
            connection.close()
            connection = Connection(gateway.address)
            assert {key: connection.ask("GET", key)[1] for key in written} == written
        gateway.process.tells("the log was not rewritten")
        check_restart(gateway, written)


@pytest.mark.parametrize(("call", "count"), [(BEGINS, 8), (FORGETS, 30)])
def test_a_rewrite_gives_hints_often_and_goes_without_them(gateway, call, count):
    """That the disk may begin with the new file, and that the old one need not be kept in
    memory. A kernel or a sandbox may refuse to hear of it."""
    values = {f"k{number}": bytes([64 + number]) * (1 << 20) for number in range(4)}
    with gateway, Connection(gateway.address) as connection:
        for key, value in values.items():
            connection.ask("SET", key, value)
        connection.ask("BGREWRITEAOF")
        wait_until(lambda: not rewriting(connection), "there is a base file")
        with Faults(gateway, call, "1+", "error=EPERM") as faults:
            connection.ask("BGREWRITEAOF")
            wait_until(lambda: not rewriting(connection), "it has ended")
        # Of what is replaced while the new file is written, and of all that is deleted after.
        assert faults.count() >= count, "once for some hundred KiB"
        assert says(gateway) == WELL
        check_restart(gateway, values)
        # What the first process told is written: it has ended.
        assert "the log was not rewritten" not in gateway.process.log()


def rewriting(connection):
    info = connection.ask("INFO", "persistence")[1]
    return b"aof_rewrite_in_progress:1" in info or b"aof_rewrite_scheduled:1" in info


def test_a_slow_sync_delays_nobody_and_is_counted(gateway):
    with gateway, Connection(gateway.address) as connection:
        connection.ask("SET", "before", "1")
        with Faults(gateway, SYNCS, "1+", "delay_enter=1300000") as faults:
            slowest, number = 0.0, 0
            while faults.count() < 2:
                number += 1
                begun = time.monotonic()
                assert connection.ask("SET", "k", number) == ("+", b"OK")
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.002)
            assert slowest < 1.0, "no reply has waited for a sync of 1.3 s"
            wait_until(lambda: delayed(connection) >= 1, "the delay is counted")
            # Written at once, though not synced: a kill takes milliseconds.
            assert connection.ask("SET", "last", "1") == ("+", b"OK")
            time.sleep(0.25)
            gateway.process.kill()
        gateway.start()
        with Connection(gateway.address) as again:
            assert again.ask("GET", "last") == ("$", b"1")
            assert again.ask("GET", "k") == ("$", str(number).encode())


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_no_record_of_a_new_file_is_synced_before_the_last_sync_of_the_old_one_has_returned(gateway, policy):
    gateway.config["store"]["embedded"]["appendfsync"] = policy
    old, new = "appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"
    with gateway, Connection(gateway.address) as connection, Connection(gateway.address) as writer:
        # Each sync takes long, so that the switch of files falls into one.
        with Faults(gateway, SYNCS, "1+", "delay_exit=400000") as faults:
            connection.ask("BGREWRITEAOF")
            sent = 0
            while [call[:2] for call in faults.calls()].count((SYNCS, new)) < 3:
                writer.send([["SET", "k", sent]])
                sent += 1
                time.sleep(0.02)
            assert writer.frames(sent) == [("+", b"OK")] * sent
            wait_until(lambda: not rewriting(connection), "rewritten")
        calls = faults.calls()
    # The new file begins with a line of its own, made durable before the switch.
    [_head, first_record, *_] = [begun for call, file, begun, _ in calls if (call, file) == (WRITES, new)]
    last_written = max(ended for call, file, _, ended in calls if (call, file) == (WRITES, old))
    old_synced = [(begun, ended) for call, file, begun, ended in calls if (call, file) == (SYNCS, old)]
    new_synced = [(begun, ended) for call, file, begun, ended in calls if (call, file) == (SYNCS, new)]
    assert old_synced[-1][0] >= last_written, "the last sync of the old file covers all of it"
    of_records = [begun for begun, _ in new_synced if begun >= first_record]
    assert of_records and min(of_records) >= old_synced[-1][1], (old_synced, new_synced, first_record)


def delayed(connection):
    return int(re.search(rb"aof_delayed_fsync:(\d+)", connection.ask("INFO", "persistence")[1])[1])


def test_a_disk_that_hangs_delays_the_end_no_longer_than_configured(gateway):
    gateway.config["store"]["embedded"]["close_timeout"] = "1s"
    with gateway, Connection(gateway.address) as connection:
        connection.ask("SET", "k", "1")
        # What strace holds cannot end before strace lets go, so the log tells.
        with Faults(gateway, SYNCS, "1+", "delay_enter=5000000"):
            connection.ask("SET", "k", "2")
            gateway.process.signal(signal.SIGTERM)
            wait_until(lambda: "did not reach the disk within 1s" in gateway.process.log(), "given up", seconds=4)
            assert gateway.process.wait(20) == 1, "not as if all were well"
        gateway.start()
        with Connection(gateway.address) as again:
            assert again.ask("GET", "k") == ("$", b"2"), "it was written"


def test_sigterm_while_it_loads_ends_it_at_once_and_changes_nothing(gateway):
    folder = gateway.data / "appendonlydir"
    folder.mkdir(parents=True)
    manifest, base = folder / "appendonly.aof.manifest", folder / "appendonly.aof.1.base.rdb"
    manifest.write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
    # A base file whose rest does not arrive: a pipe, which this test holds at both ends.
    os.mkfifo(base)
    pipe = os.open(base, os.O_RDWR)
    try:
        os.write(pipe, b"REDIS0010\xfe\x00")
        gateway.start(ready=False)
        wait_until(lambda: "loading" in readiness(gateway), "it says that it loads")
        wait_until((folder / "weir.lock").exists, "it has begun to")
        begun = time.monotonic()
        gateway.process.signal(signal.SIGTERM)
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - begun < 5
    finally:
        os.close(pipe)
    assert sorted(path.name for path in folder.iterdir()) == [base.name, manifest.name, "weir.lock"]
    assert manifest.read_text() == "file appendonly.aof.1.base.rdb seq 1 type b\n"


def readiness(gateway):
    """What /readyz says, once the admin door is open."""
    try:
        return fetch(gateway.admin_url("/readyz"))[2]
    except OSError:
        return ""
