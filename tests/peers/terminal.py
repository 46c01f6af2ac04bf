"""A program on a terminal: what it shows there, and nowhere else."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios


class Terminal:
    """A program whose standard error is a terminal; what it has shown there."""

    def __init__(self, argv):
        self.ours, terminal = pty.openpty()
        # A row of some width, without which nothing is drawn.
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal)
        os.close(terminal)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.child.terminate()
        self.child.wait(20)
        os.close(self.ours)

    def look(self):
        """Adds what is shown within a second; false when there will be no more."""
        ready, _, _ = select.select([self.ours], [], [], 1)
        try:
            self.shown += os.read(self.ours, 65536).decode(errors="replace") if ready else ""
        except OSError:
            return False  # The other end is closed.
        return True
