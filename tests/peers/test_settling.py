"""What a request costs is known when it is answered: by the real binary, with an
upstream that says so in every place where a response can say it."""

import http.server
import threading
import urllib.error
import urllib.request

import pytest
import redis

from process import wait_until

SSE = (b'data: {"choices":[{"delta":"a"}]}\n\n', b'data: {"usage":{"total', b'_tokens":7}}\n\ndata: [DONE]\n\n')


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers each path in its own way; `/never` not at all."""

    protocol_version = "HTTP/1.1"
    release = threading.Event()

    def do_GET(self):
        name = self.path.lstrip("/")
        if name == "never":
            self.release.wait(60)
        elif name == "sse":
            self.chunked("text/event-stream", SSE)
        elif name == "json":
            self.plain(200, b'{"id": 1, "usage": {"total_tokens": 7}}', {"content-type": "application/json"})
        elif name == "header":
            self.plain(200, b"x", {"x-used": "7"})
        elif name == "trailer":
            self.chunked("text/plain", (b"x", b"y"), trailer=b"X-Used: 7\r\n")
        elif name == "silent":
            self.plain(200, b"no word of it", {})
        else:
            self.plain(int(name), b"x", {})

    def plain(self, status, body, fields):
        self.send_response(status)
        for field, value in {"content-length": len(body), **fields}.items():
            self.send_header(field, value)
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, media_type, pieces, trailer=b""):
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("transfer-encoding", "chunked")
        if trailer:
            self.send_header("trailer", "X-Used")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n" + trailer + b"\r\n")

    def log_message(self, *_words):
        pass


@pytest.fixture
def upstream():
    Upstream.release.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Upstream.release.set()
    server.shutdown()


def policy(name, settle, cost=50):
    return f"""
  - name: {name}
    match: {{ path: /{name} }}
    cost: {cost}
    settle: {settle}
    limits: [{{ quota: 100, window: 1h }}]
"""


def used(gateway, name):
    """Units in the window, as anyone can count them."""
    with redis.Redis(host="127.0.0.1", port=gateway.ports["redis"]) as client:
        return client.zcard(f"weir:{name}:0:{{all}}")


def settles(gateway, name, units):
    assert gateway.get(f"/{name}")[0] == 200
    wait_until(lambda: used(gateway, name) == units, f"{units} units of /{name}, not {used(gateway, name)}")


def test_the_true_cost_is_taken_from_wherever_the_response_says_it(weir, upstream):
    policies = "policies:" + "".join(
        [
            policy("header", "{ from: 'header:x-used' }"),
            policy("trailer", "{ from: 'trailer:x-used' }"),
            policy("json", "{ from: 'json:usage.total_tokens' }"),
            policy("sse", "{ from: 'json:usage.total_tokens' }"),
            policy("silent", "{ from: 'json:usage.total_tokens' }"),
        ]
    )
    with weir(policies=policies, upstream=upstream, redis=True) as gateway:
        for name in ("header", "trailer", "json", "sse"):
            settles(gateway, name, 7)
            settles(gateway, name, 14)
        # What says nothing costs what was estimated.
        settles(gateway, "silent", 50)


def test_only_failed_logins_count_when_the_statuses_say_so(weir, upstream):
    """Three wrong passwords lock the door; right ones never do."""
    policies = """
policies:
  - name: logins
    settle: { when_status: [401, 403] }
    limits: [{ quota: 3, window: 1h }]
"""
    with weir(policies=policies, upstream=upstream, redis=True) as gateway:

        def login(status, counted):
            assert gateway.get(f"/{status}")[0] == status
            wait_until(lambda: used(gateway, "logins") == counted, f"{counted} after {status}")

        for _ in range(5):
            login(200, 0)
        login(401, 1)
        login(403, 2)
        login(200, 2)
        login(500, 2)
        login(401, 3)
        assert gateway.get("/200")[0] == 429


def test_a_reservation_that_a_crash_abandoned_is_given_back(weir, upstream):
    policies = "policies:" + policy("never", "{ from: 'header:x-used', reserve: 2s }")
    gateway = weir(policies=policies, upstream=upstream, redis=True)
    gateway.config["store"]["embedded"]["appendfsync"] = "always"

    def ask():
        with pytest.raises((OSError, urllib.error.URLError)):
            urllib.request.urlopen(gateway.url("/never"), timeout=30)

    with gateway:
        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: used(gateway, "never") == 50, "the estimate charged")
        gateway.process.kill()
        asking.join()
        gateway.start()
        wait_until(lambda: used(gateway, "never") == 0, "the estimate given back")
