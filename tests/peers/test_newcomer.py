"""The first minutes: the shipped configuration, six curls, one refusal."""

import json
import re
import shutil
import subprocess

from process import Process, free_port, wait_until
from weir import BINARY, FIVE_PER_CLIENT, ROOT, items


def curl(url):
    """What `curl -i` prints: (status, fields, body)."""
    ran = subprocess.run(["curl", "-s", "-i", url], capture_output=True, text=True, timeout=10, check=True)
    head, body = re.split(r"\r?\n\r?\n", ran.stdout, maxsplit=1)
    first, *lines = head.splitlines()
    fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return int(first.split()[1]), fields, body


def check_six_requests(base):
    """Five are admitted and count down; the sixth is refused, and says by what."""
    for left in (4, 3, 2, 1, 0):
        status, fields, _ = curl(f"{base}/limited/x")
        assert status == 200
        (name, policy), = items(fields["ratelimit-policy"]).items()
        assert policy == {"q": 5, "w": 10}
        limit = items(fields["ratelimit"])[name]
        assert limit["r"] == left and 0 < limit["t"] <= 10

    status, fields, body = curl(f"{base}/limited/x")
    assert status == 429
    assert 0 < int(fields["retry-after"]) <= 10
    assert items(fields["ratelimit"])[name]["r"] == 0
    assert fields["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["status"] == 429
    assert problem["violated-policies"] == [name]

    status, fields, _ = curl(f"{base}/anything/else")
    assert status == 200 and "ratelimit" not in fields


def test_the_shipped_configuration_limits_as_the_readme_says(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "functions", tmp_path / "functions")
    config = tmp_path / "config" / "weir.yaml"
    text, ports = config.read_text(), {}
    for documented in (8080, 9900, 8081):
        assert f"127.0.0.1:{documented}" in text
        ports[documented] = free_port()
        text = text.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{ports[documented]}")
    config.write_text(text)

    with Process([BINARY, "serve", "--config", config], tmp_path / "weir.log", cwd=tmp_path) as weir:
        base = f"http://127.0.0.1:{ports[8080]}"
        wait_until(lambda: weir.answers(f"http://127.0.0.1:{ports[9900]}/readyz"), "ready")
        check_six_requests(base)
        said = weir.log()
        for fact in (f"127.0.0.1:{ports[8080]}", f"127.0.0.1:{ports[9900]}", "data", "curl"):
            assert fact in said, f"the start does not mention {fact}:\n{said}"
        assert weir.stop() == 0
    assert (tmp_path / "data" / "appendonlydir").is_dir()


def test_the_binary_needs_no_source_tree(weir, tmp_path):
    alone = weir(policies=FIVE_PER_CLIENT)
    binary = tmp_path / "weir"
    shutil.copy(BINARY, binary)
    shutil.rmtree(alone.folder / "functions")
    del alone.config["functions"]
    _, *arguments = alone.command()
    log = tmp_path / "alone.log"
    with Process([binary, *arguments], log, cwd=alone.folder) as process:
        wait_until(lambda: process.answers(alone.admin_url("/readyz")), "ready")
        check_six_requests(alone.url(""))


def test_the_function_that_users_copy_can_be_named_by_a_policy(weir):
    mine = weir(
        policies="""
policies:
  - name: mine
    match: { path: /mine/** }
    key: [client_ip]
    limits: [{ quota: 2, window: 10s, algorithm: mylimiter.allow }]
"""
    )
    shutil.copy(ROOT / "functions" / "mylimiter.lua", mine.folder / "functions")
    with mine:
        assert [mine.get("/mine/x")[0] for _ in range(3)] == [200, 200, 429]
