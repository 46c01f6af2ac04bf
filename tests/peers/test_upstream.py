"""Forwarding to a real nginx, and to upstreams that are down or silent."""

import asyncio
import hashlib
import http.client
import json
import os
import socket

import pytest

from load import Connection
from nginx import Nginx
from process import free_port
from weir import items


@pytest.fixture
def pair(weir, tmp_path):
    """A Weir, and the nginx that it forwards to."""
    with Nginx(tmp_path / "nginx") as nginx, weir(upstream=f"http://127.0.0.1:{nginx.port}") as gateway:
        yield gateway, nginx


def test_what_is_admitted_is_forwarded_and_what_the_upstream_says_comes_back(pair):
    gateway, _ = pair
    status, fields, body = gateway.get("/limited/x?a=b&c=%20")
    assert status == 200
    assert body.split()[1:3] == ["GET", "/limited/x?a=b&c=%20"]
    assert items(fields["ratelimit"])["five"]["r"] == 4
    assert gateway.get("/teapot")[0] == 418


def test_connections_to_the_upstream_are_kept(pair):
    gateway, _ = pair

    async def ask():
        async with Connection(gateway.ports["proxy"]) as connection:
            return [(await connection.get("/free")).body.split()[0] for _ in range(100)]

    connections = asyncio.run(ask())
    assert len(set(connections)) <= 2, f"100 requests took {len(set(connections))} connections"


def test_large_bodies_pass_both_ways_unchanged(pair):
    gateway, nginx = pair
    content = os.urandom(24 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["proxy"], timeout=60)
    connection.request("PUT", "/files/large", body=content)
    assert connection.getresponse().read() is not None
    assert (nginx.files / "large").stat().st_size == len(content)
    connection.request("GET", "/files/large")
    came_back = connection.getresponse().read()
    assert hashlib.sha256(came_back).digest() == hashlib.sha256(content).digest()


def test_a_body_without_a_length_is_forwarded_in_chunks(pair):
    gateway, nginx = pair
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["proxy"], timeout=30)
    connection.request("PUT", "/files/chunked", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True)
    connection.getresponse().read()
    assert (nginx.files / "chunked").read_bytes() == b"one two three"


def ended(gateway, outcome):
    return gateway.metrics()[f'weir_proxy_requests_total{{outcome="{outcome}"}}']


def test_an_upstream_that_is_down_is_a_502_that_is_counted_and_charged(weir):
    with weir(upstream=f"http://127.0.0.1:{free_port()}") as gateway:
        for left in (4, 3):
            status, fields, body = gateway.get("/limited/x")
            assert status == 502
            assert 0 < len(body) < 1_000
            assert items(fields["ratelimit"])["five"]["r"] == left
        assert ended(gateway, "upstream_unreachable") == 2


def test_an_upstream_that_is_silent_past_its_timeout_is_a_504(weir):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        gateway = weir(upstream=f"http://127.0.0.1:{silent.getsockname()[1]}")
        gateway.config["proxy"] = {"timeouts": {"response": "300ms"}}
        with gateway:
            status, fields, body = gateway.get("/limited/x")
            assert status == 504
            assert 0 < len(body) < 1_000
            assert items(fields["ratelimit"])["five"]["r"] == 4
            assert ended(gateway, "upstream_timeout") == 1


def test_a_refused_request_never_reaches_the_upstream(pair):
    gateway, _ = pair
    for _ in range(5):
        gateway.get("/limited/x")
    status, fields, body = gateway.get("/limited/x")
    assert status == 429
    assert json.loads(body)["status"] == 429, "this is ours, not the upstream's"
    assert fields.get("server", "").find("nginx") < 0
