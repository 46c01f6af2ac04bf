"""A child process that is always stopped, by its own pid and nobody else's."""

import itertools
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


# Below those that Linux gives to connections that go out: one of them could take a
# port between the moment at which it is found free and the start of who listens.
_ports = itertools.cycle(range(12_000, 32_000))
for _ in range(os.getpid() % 20_000):
    next(_ports)


def free_port():
    """A port of 127.0.0.1 that nobody listens on, and that no connection will take."""
    while True:
        with socket.socket() as probe:
            # As servers do: what an ended connection has left is not in the way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port := next(_ports)))
            except OSError:
                continue
            return port


def wait_until(condition, what, seconds=20, interval=0.02):
    """Returns what `condition` returns once that is true; fails with `what`."""
    deadline = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(interval)


def fetch(url, headers=None, timeout=10):
    """GETs `url` and returns (status, headers, text); any status is an answer."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read().decode()


class Process:
    """A program with its output in a file. Use as a context manager."""

    def __init__(self, argv, log_path, cwd=None, env=None):
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.stop()

    @property
    def pid(self):
        return self.child.pid

    def is_running(self):
        return self.child.poll() is None

    def log(self):
        """All that the program has printed."""
        return self.log_path.read_text(errors="replace")

    def tells(self, *texts):
        """Waits until all of them have been printed: a thread of Weir's own writes its log."""
        for text in texts:
            wait_until(lambda: text in self.log(), f"it tells: {text}")

    def answers(self, url):
        """True once `url` answers 200; fails at once if the program has ended."""
        assert self.is_running(), f"{self.child.args} ended with {self.child.returncode}:\n{self.log()}"
        try:
            return fetch(url, timeout=2)[0] == 200
        except OSError:
            return False

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, seconds=20):
        """The exit code."""
        return self.child.wait(seconds)

    def kill(self):
        """kill -9: no goodbye."""
        self.child.kill()
        self.child.wait(10)

    def stop(self):
        """SIGTERM, then SIGKILL if that is not heeded. Returns the exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.returncode
