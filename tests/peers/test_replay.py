"""Access logs of every form that `weir replay` reads tell the same, and the page that it
draws opens in a browser."""

import gzip
import json
import re
import shutil
import subprocess
from datetime import datetime, timezone
from html.parser import HTMLParser

import pytest

from process import wait_until
from terminal import Terminal
from weir import BINARY

POLICIES = """
policies:
  - name: each
    match: { path: /api/** }
    key: client_ip
    limits: [{ quota: 5, window: 10s }]
  - name: agents
    mode: shadow
    key: header:user-agent
    limits: [{ quota: 5, window: 1m, algorithm: token_bucket }]
"""

BEGAN = 1_760_000_000

# One client too many times a second for a while, and others who are not.
REQUESTS = [(BEGAN + at, "203.0.113.7", f"/api/{at % 3}?n={at}", "bot/1.0") for at in range(40, 100)]
REQUESTS += [(BEGAN + 7 * at, f"198.51.100.{at % 9}", "/api/x", "agent <b>1</b>") for at in range(60)]
REQUESTS += [(BEGAN + 11 * at, f"2001:db8::{at % 5}:1", "/other", "curl/8") for at in range(40)]
REQUESTS.sort()


def common(at, client, target, _agent):
    time = datetime.fromtimestamp(at, timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{client} - - [{time}] "GET {target} HTTP/1.1" 200 17'


def combined(at, client, target, agent):
    return f'{common(at, client, target, agent)} "-" "{agent}"'


def envoy(at, client, target, agent):
    time = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return f'[{time}] "GET {target} HTTP/1.1" 200 - 0 17 3 2 "{client}" "{agent}" "id-1" "api.example" "10.0.0.1:80"'


def nginx_json(at, client, target, agent):
    line = {"msec": f"{at}.000", "remote_addr": client, "request": f"GET {target} HTTP/1.1", "status": 200}
    return json.dumps({**line, "http_user_agent": agent})


def weir_json(at, client, target, agent):
    line = {"time": f"{at}.000000", "client": client, "method": "GET", "target": target, "status": 200}
    return json.dumps({**line, "request_headers": {"user-agent": agent}})


FORMS = {form.__name__: form for form in (combined, envoy, nginx_json, weir_json)}


def log_of(form, requests=REQUESTS):
    return "".join(form(*request) + "\n" for request in requests)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weir.yaml").write_text("policies: policies.yaml\n")
    (tmp_path / "policies.yaml").write_text(POLICIES)
    return tmp_path


def replay(folder, *logs, stdin=None):
    """What it says, and the page."""
    page = folder / "page.html"
    command = [BINARY, "replay", "--config", folder / "weir.yaml", "--html", page, *logs]
    ran = subprocess.run(command, input=stdin, capture_output=True, timeout=30)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode(), page.read_text()


def test_every_form_plain_and_packed_tells_the_same(folder):
    told = {}
    for name, form in FORMS.items():
        text = log_of(form).encode()
        (folder / "access.txt").write_bytes(text)
        (folder / "access.txt.gz").write_bytes(gzip.compress(text))
        told[name] = replay(folder, folder / "access.txt")
        told[f"{name}, packed"] = replay(folder, folder / "access.txt.gz")
        told[f"{name}, standard input"] = replay(folder, "-", stdin=text)
    text, page = told["combined"]
    assert "160 requests from 2025-10-09 08:53:20 UTC" in text, text
    assert re.search(r"^each\n.*\n.*asked +120 ", text, re.M), text
    assert re.search(r"^each\n(?:.*\n){3}.* of \d+ +203\.0\.113\.7$", text, re.M), text
    for name, (other_text, other_page) in told.items():
        assert other_text == text, name
        assert other_page == page, name


def test_a_common_log_says_nothing_of_agents_and_the_rest_is_the_same(folder):
    (folder / "combined.txt").write_text(log_of(combined))
    (folder / "common.txt").write_text(log_of(common))
    (from_combined, _), (from_common, _) = (replay(folder, folder / f"{name}.txt") for name in ("combined", "common"))
    of_each = [text.split("\nagents\n")[0] for text in (from_combined, from_common)]
    assert of_each[0] == of_each[1]
    assert re.search(r"^agents\n.*\n.*asked +\d+ +of 1 keys$", from_common, re.M), from_common


def test_days_of_rotated_logs_are_one_history(folder):
    middle = len(REQUESTS) // 2
    (folder / "whole.txt").write_text(log_of(combined))
    (folder / "access.txt.1.gz").write_bytes(gzip.compress(log_of(combined, REQUESTS[:middle]).encode()))
    (folder / "access.txt").write_text(log_of(envoy, REQUESTS[middle:]))
    whole = replay(folder, folder / "whole.txt")
    assert replay(folder, folder / "access.txt.1.gz", folder / "access.txt") == whole


class Drawn(HTMLParser):
    """What a page holds, element by element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag, css_class=None):
        return sum(it == tag and css_class in (None, attributes.get("class")) for it, attributes in self.elements)


def test_the_page_opens_in_a_browser(folder):
    browser = shutil.which("chromium")
    assert browser, "chromium is missing; tests/run installs it"
    (folder / "access.txt").write_text(log_of(combined))
    text, _ = replay(folder, folder / "access.txt")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr", f"--screenshot={folder / 'page.png'}", "--window-size=1000,1400",
        "--dump-dom", f"file://{folder / 'page.html'}",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "CONSOLE" not in ran.stderr, ran.stderr
    assert (folder / "page.png").stat().st_size > 10_000
    drawn = Drawn(ran.stdout)
    assert drawn.count("svg") == 2, "a chart for each policy"
    heights = [float(it["height"]) for tag, it in drawn.elements if tag == "rect" and it["class"] == "refused"]
    assert max(heights) > 20, "who was refused is seen"
    assert drawn.count("script") == drawn.count("img") == drawn.count("link") == drawn.count("b") == 0
    said = "".join(drawn.text)
    assert "203.0.113.7" in said and "agent%20<b>1</b>" in said, "and a log's text is text"
    refused = re.search(r"(\d+) would have been refused", text)[0]
    assert refused in said


def test_a_replay_on_a_terminal_shows_how_far_it_has_come(folder):
    # It is drawn every few thousand lines.
    text = log_of(common, REQUESTS * 60)
    (folder / "access.txt").write_text(text)
    command = [BINARY, "replay", "--config", folder / "weir.yaml", folder / "access.txt"]
    with Terminal(command) as terminal:
        wait_until(lambda: not terminal.look(), "it has ended", seconds=60)
        assert terminal.child.wait(20) == 0
        said = terminal.shown
    bars = re.findall(r"  replaying \S+ ([\d.]+ \w+)/([\d.]+ \w+), [\d.]+ \w+/s, \S+ left", said)
    assert bars and {whole for _, whole in bars} == {f"{len(text) / 1024:.2f} KiB"}, said
    assert any(not done.startswith("0 ") for done, _ in bars), said
    quiet = subprocess.run(command, capture_output=True, timeout=60)
    assert quiet.returncode == 0 and quiet.stderr == b"", "nothing where that is no terminal"


def test_requests_are_under_way_for_as_long_as_envoy_says(folder):
    (folder / "policies.yaml").write_text("policies: [{ name: jobs, limits: [{ quota: 1, algorithm: concurrency }] }]")
    long = [line.replace(" 17 3 2 ", " 17 1500 2 ") for line in (envoy(BEGAN + at, "203.0.113.7", "/", "-") for at in range(9))]
    (folder / "access.txt").write_text("\n".join(long))
    text, _ = replay(folder, folder / "access.txt")
    # Each is under way for a second and a half: every other one finds it so.
    assert "\n4 would have been refused" in text, text
    (folder / "access.txt").write_text(log_of(common))
    text, page = replay(folder, folder / "access.txt")
    assert "the log does not say how long they took" in text and "does not say" in page
