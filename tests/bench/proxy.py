#!/usr/bin/env python3
"""Weir beside nginx: CPU per proxied request and requests per second.

One upstream (nginx answering 128 bytes from memory), one load (wrk, 32
connections), two proxies on the same core in turn:

    nginx          proxy_pass with keep-alive
    nginx+limit    the same with limit_req, a limit that is never reached
    weir           no policy concerns the request
    weir+limit     one sliding window a client, never reached, appendfsync everysec

Each round runs all four one after another, so a slow minute of the machine
hits all alike; what counts is the ratio within a round. CPU is what the kernel
charged to the proxy's processes (user and system), not wall time.

    cargo build --release && python3 tests/bench/proxy.py [--rounds 20] [--seconds 1]

Needs nginx, wrk and taskset (Debian: nginx wrk util-linux). The proxy runs on
the first core, wrk and the upstream on the second.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
KINDS = ["nginx", "nginx+limit", "weir", "weir+limit"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port} after 20 s")


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""

PROXY_PASS = """
        location / {
            %s
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
"""


def start_nginx(folder, port, http, server, core):
    folder.mkdir()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, http=http, server=server))
    command = ["taskset", "-c", str(core), "nginx", "-p", str(folder), "-c", str(conf)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def start_weir(folder, port, upstream, policies, core):
    folder.mkdir()
    (folder / "policies.yaml").write_text(policies)
    (folder / "weir.yaml").write_text(f"""
listen: {{ proxy: "127.0.0.1:{port}", admin: "127.0.0.1:{free_port()}" }}
workers: 1
upstreams:
  app: {{ endpoints: ["http://127.0.0.1:{upstream}"] }}
routes:
  - {{ path: /**, upstream: app }}
policies: policies.yaml
functions: functions
store:
  embedded: {{ dir: data, appendfsync: everysec }}
""")
    binary = ROOT / "target/release/weir"
    command = ["taskset", "-c", str(core), str(binary), "serve", "--config", "weir.yaml"]
    log = open(folder / "weir.log", "w")
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def cpu_seconds(pid):
    """User and system time of a process, its threads and its children."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        own, parent = int(stat.parent.name), int(fields[1])
        if pid in (own, parent):
            total += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return total


def load(port, seconds, core, script):
    command = ["taskset", "-c", str(core), "wrk", "-t1", "-c32", f"-d{seconds}s",
               "-s", str(script), f"http://127.0.0.1:{port}/api/x"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", output)[1])
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if errors or "Socket errors" in output:
        sys.exit(f"the load saw errors:\n{output}")
    return requests


POLICY = """
policies:
  - name: bench
    match: {{ path: {path} }}
    key: ["header:x-client"]
    limits: [{{ quota: 1000000, window: 1s }}]
"""

# 1,000 clients share the load, so at 60,000 requests a second a window of one
# second holds about 60 hits a client.
WRK_SCRIPT = """
local requests, at = {}, 0
function init()
  for client = 1, 1000 do
    requests[client] = wrk.format("GET", "/api/x", {
      ["Host"] = "bench", ["Accept"] = "*/*", ["User-Agent"] = "bench",
      ["Accept-Language"] = "en", ["X-Client"] = tostring(client),
    })
  end
end
function request()
  at = at % 1000 + 1
  return requests[at]
end
"""


def start_all(folder):
    upstream = free_port()
    processes = {"upstream": start_nginx(
        folder / "upstream", upstream, "",
        f'location / {{ return 200 "{"x" * 128}"; }}', 1)}
    app = f"upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}"
    zone = "limit_req_zone $http_x_client zone=one:10m rate=1000000r/s;"
    ports = {kind: free_port() for kind in KINDS}
    processes["nginx"] = start_nginx(
        folder / "nginx", ports["nginx"], app, PROXY_PASS % "", 0)
    processes["nginx+limit"] = start_nginx(
        folder / "nginx-limit", ports["nginx+limit"], app + zone,
        PROXY_PASS % "limit_req zone=one burst=1000000 nodelay;", 0)
    processes["weir"] = start_weir(folder / "weir", ports["weir"], upstream, POLICY.format(path="/elsewhere/**"), 0)
    processes["weir+limit"] = start_weir(
        folder / "weir-limit", ports["weir+limit"], upstream,
        POLICY.format(path="/**"), 0)
    for port in [upstream, *ports.values()]:
        wait_for(port)
    return processes, ports


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seconds", type=int, default=1)
    options = arguments.parse_args()
    for program in ["nginx", "wrk", "taskset"]:
        if not shutil.which(program):
            sys.exit(f"{program} is not installed")

    folder = Path(tempfile.mkdtemp(prefix="weir-bench-"))
    script = folder / "clients.lua"
    script.write_text(WRK_SCRIPT)
    processes, ports = start_all(folder)
    cpu = {kind: [] for kind in KINDS}
    rate = {kind: [] for kind in KINDS}
    try:
        for kind in KINDS:
            load(ports[kind], 1, 1, script)
        for _ in range(options.rounds):
            for kind in KINDS:
                before = cpu_seconds(processes[kind].pid)
                requests = load(ports[kind], options.seconds, 1, script)
                spent = cpu_seconds(processes[kind].pid) - before
                cpu[kind].append(1e6 * spent / requests)
                rate[kind].append(requests / options.seconds)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)

    print(f"{options.rounds} rounds of {options.seconds} s, 32 connections, one core a proxy")
    print(f"{'':14}{'CPU us/request':>24}{'requests/s':>14}")
    print(f"{'':14}{'min':>8}{'median':>8}{'max':>8}{'median':>14}")
    for kind in KINDS:
        values = cpu[kind]
        print(f"{kind:14}{min(values):8.1f}{statistics.median(values):8.1f}{max(values):8.1f}"
              f"{statistics.median(rate[kind]):14.0f}")

    def ratio(name, above, below):
        pairs = [a / b for a, b in zip(cpu[above], cpu[below])]
        print(f"{name}: median {statistics.median(pairs):.2f} (min {min(pairs):.2f}, max {max(pairs):.2f})")

    ratio("CPU, weir with over without its limiter ", "weir+limit", "weir")
    ratio("CPU, weir over nginx, no limit          ", "weir", "nginx")
    ratio("CPU, weir with limiter over nginx limit_req", "weir+limit", "nginx+limit")


if __name__ == "__main__":
    main()
