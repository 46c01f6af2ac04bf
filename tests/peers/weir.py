"""The real `weir` binary with a configuration of its own, on free ports."""

import json
import os
import re
import subprocess
from pathlib import Path

from process import Process, fetch, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("WEIR_BINARY") or Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "weir")

# One limit that tests can exhaust by hand, and everything else unlimited.
FIVE_PER_CLIENT = """
policies:
  - name: five
    match: { path: /limited/** }
    key: [client_ip]
    limits: [{ quota: 5, window: 10s }]
"""


class Weir:
    """One Weir: a folder with its files, and the process while it runs.

    It can be started again on the same folder and ports, which is how restarts
    are tested. Everything in `self.config` may be changed before `start`.
    """

    def __init__(self, folder, policies=FIVE_PER_CLIENT, upstream="builtin:echo", redis=False):
        self.folder = folder
        self.process = None
        self.ports = {door: free_port() for door in ("proxy", "admin", "envoy", *(["redis"] if redis else []))}
        self.config = {
            "listen": {door: f"127.0.0.1:{port}" for door, port in self.ports.items()},
            "upstreams": {"app": {"endpoints": [upstream]}},
            "routes": [{"path": "/**", "upstream": "app"}],
            "policies": "policies.yaml",
            "functions": "functions",
            "store": {"embedded": {"dir": "data", "appendfsync": "everysec"}},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "functions").mkdir(exist_ok=True)
        self.write_policies(policies)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_error):
        self.stop()

    @property
    def policy_file(self):
        return self.folder / "policies.yaml"

    @property
    def data(self):
        return self.folder / "data"

    def write_policies(self, text):
        """Replaces the policy file whole, as a careful editor does."""
        beside = self.folder / ".policies.yaml.new"
        beside.write_text(text)
        os.replace(beside, self.policy_file)

    def command(self):
        """The command line; writes the configuration first. JSON is YAML."""
        path = self.folder / "weir.yaml"
        path.write_text(json.dumps(self.config, indent=2))
        return [BINARY, "serve", "--config", path]

    def start(self, ready=True):
        """Starts the process and waits until it is ready."""
        assert not (self.process and self.process.is_running()), "it runs already"
        assert BINARY.exists(), f"{BINARY} is missing; `cargo build --release` makes it"
        self.process = Process(self.command(), self.folder / "weir.log", cwd=self.folder)
        if ready:
            try:
                wait_until(lambda: self.process.answers(self.admin_url("/readyz")), "ready")
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self):
        return self.process.stop() if self.process else None

    def fails_to_start(self, command=None):
        """Runs the command, which must end by itself with 1 or 2, and returns
        what it said. A crash is not a clear error, whatever it prints."""
        ran = subprocess.run(
            [str(part) for part in command or self.command()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            cwd=self.folder,
        )
        assert ran.returncode in (1, 2), f"exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
        assert "panicked" not in ran.stderr, ran.stderr
        return ran.stderr

    def url(self, path):
        return f"http://127.0.0.1:{self.ports['proxy']}{path}"

    def admin_url(self, path):
        return f"http://127.0.0.1:{self.ports['admin']}{path}"

    def get(self, path, **headers):
        """One request through the proxy: (status, headers, text)."""
        return fetch(self.url(path), {name.replace("_", "-"): v for name, v in headers.items()})

    @property
    def address(self):
        """Host and port of the RESP door."""
        return ("127.0.0.1", self.ports["redis"])

    def metrics(self):
        """Every sample of /metrics, as {'name{labels}': value}."""
        status, _, page = fetch(self.admin_url("/metrics"))
        assert status == 200, page
        lines = (line for line in page.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def generation(self):
        return int(self.metrics()["weir_limiter_policy_generation"])


def items(field):
    """A RateLimit or RateLimit-Policy value as {name: {parameter: int}}, in the
    one syntax that the draft allows: a list of strings with integer parameters."""
    parsed = {}
    for item in field.split(", "):
        match = re.fullmatch(r'"([^"\\]+)"((?:;[a-z]+=\d+)*)', item)
        assert match, f"not an item of a RateLimit field: {item!r} in {field!r}"
        parameters = (part.split("=") for part in match[2].split(";")[1:])
        parsed[match[1]] = {name: int(value) for name, value in parameters}
    return parsed
