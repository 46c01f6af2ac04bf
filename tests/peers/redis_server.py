"""A real redis-server, beside which Weir is held."""

import shutil

from process import Process, free_port, wait_until
from resp import Closed, Connection


class RedisServer:
    """Debian's redis-server on a free port, in a folder of its own. Starts again on
    the same folder and port, like a `Weir`."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.address = ("127.0.0.1", free_port())
        self.arguments = arguments
        self.process = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_error):
        self.stop()

    def start(self):
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing; tests/run installs it"
        host, port = self.address
        argv = [binary, "--bind", host, "--port", port, "--dir", self.folder, "--save", "", *self.arguments]
        self.process = Process(argv, self.folder / "redis.log", cwd=self.folder)
        wait_until(self.answers, "redis-server ready")
        return self

    def answers(self):
        """True once it answers anything but that it loads; fails at once if it has ended."""
        assert self.process.is_running(), f"redis-server ended:\n{self.process.log()}"
        try:
            with Connection(self.address, timeout=2) as connection:
                return not connection.ask("PING")[1].startswith(b"LOADING")
        except (OSError, Closed):
            return False

    def stop(self):
        return self.process.stop() if self.process else None
