"""A real Envoy asks Weir about every request (ext_authz over gRPC)."""

import json

import pytest

from envoy import Envoy
from process import fetch
from weir import items


@pytest.fixture
def pair(weir, tmp_path):
    """A Weir, and an Envoy that asks it."""
    with weir() as gateway, Envoy(tmp_path / "envoy", gateway.ports["envoy"]) as envoy:
        yield gateway, envoy


def test_five_are_admitted_and_the_sixth_is_refused_with_the_fields(pair):
    _, envoy = pair
    for left in (4, 3, 2, 1, 0):
        status, fields, body = fetch(envoy.url("/limited/x?y=1"))
        assert (status, body) == (200, "upstream")
        assert items(fields["ratelimit-policy"]) == {"five": {"q": 5, "w": 10}}
        assert items(fields["ratelimit"])["five"]["r"] == left

    status, fields, body = fetch(envoy.url("/limited/x"))
    assert status == 429
    assert 0 < int(fields["retry-after"]) <= 10
    assert items(fields["ratelimit-policy"]) == {"five": {"q": 5, "w": 10}}
    assert items(fields["ratelimit"])["five"]["r"] == 0
    assert fields.get_all("content-type") == ["application/problem+json"]
    assert json.loads(body)["violated-policies"] == ["five"]

    status, fields, _ = fetch(envoy.url("/free"))
    assert status == 200 and "ratelimit" not in fields


def test_envoy_and_the_proxy_share_one_quota(pair):
    gateway, envoy = pair
    # Both are asked from 127.0.0.1, so both see the same client.
    left = []
    for turn in range(5):
        ask = fetch if turn % 2 else lambda _: gateway.get("/limited/x")
        status, fields, _ = ask(envoy.url("/limited/x"))
        assert status == 200
        left.append(items(fields["ratelimit"])["five"]["r"])
    assert left == [4, 3, 2, 1, 0]
    assert fetch(envoy.url("/limited/x"))[0] == 429
    assert gateway.get("/limited/x")[0] == 429


def test_spellings_of_one_path_share_one_quota(pair):
    _, envoy = pair
    spellings = ("/limited/x", "//limited/x", "/./limited/x", "/a/../limited/x", "/%6cimited/x")
    assert [fetch(envoy.url(path))[0] for path in spellings] == [200] * 5
    assert fetch(envoy.url("/free/../limited//y"))[0] == 429


def test_a_path_without_a_single_meaning_is_refused_with_400(pair):
    _, envoy = pair
    for path in ("/free/%2e%2e%2flimited/x", "/limited%00", "/a%5cb"):
        status, fields, body = fetch(envoy.url(path))
        assert status == 400, path
        assert fields["content-type"] == "application/problem+json"
        assert json.loads(body)["status"] == 400


def test_a_grpc_call_is_refused_in_grpcs_own_terms(pair):
    _, envoy = pair
    grpc = {"content-type": "application/grpc", "te": "trailers"}
    for _ in range(5):
        fetch(envoy.url("/limited/x"))
    status, fields, _ = fetch(envoy.url("/limited/x"), grpc)
    # RESOURCE_EXHAUSTED; Envoy alone would say UNAVAILABLE, "try again at once".
    assert (status, fields["grpc-status"], fields["grpc-message"]) == (200, "8", "quota exceeded")
    assert fields["content-type"] == "application/grpc"
    assert 0 < int(fields["retry-after"]) <= 10


def test_a_forged_forwarding_field_does_not_change_the_client(pair):
    _, envoy = pair
    answers = [fetch(envoy.url("/limited/x"), {"x-forwarded-for": f"10.0.0.{n}"})[0] for n in range(6)]
    assert answers == [200] * 5 + [429]


def test_a_header_key_is_seen_in_either_shape_that_envoy_sends(weir, tmp_path):
    policies = """
policies:
  - name: by-user
    key: ["header:x-user"]
    limits: [{ quota: 2, window: 10s }]
"""
    with weir(policies=policies) as gateway:
        port = gateway.ports["envoy"]
        with Envoy(tmp_path / "text", port) as text, Envoy(tmp_path / "raw", port, encode_raw_headers=True) as raw:
            answers = [
                fetch(envoy.url("/x"), {"x-user": user})[0]
                for envoy, user in ((text, "ann"), (raw, "ann"), (text, "ann"), (raw, "ann"), (raw, "bob"))
            ]
    assert answers == [200, 200, 429, 429, 200]


def test_checks_are_counted(pair):
    gateway, envoy = pair
    for path in ["/limited/x"] * 6 + ["/%00"]:
        fetch(envoy.url(path))
    metrics = gateway.metrics()
    counted = {o: metrics[f'weir_envoy_checks_total{{outcome="{o}"}}'] for o in ("admitted", "refused", "malformed")}
    assert counted == {"admitted": 5, "refused": 1, "malformed": 1}
    assert metrics["weir_envoy_check_duration_seconds_count"] == 7


MANY = """
policies:
  - name: each
    key: header:x-key
    cost: header:x-cost
    limits:
      - { quota: 5, window: 1h }
      - { quota: 9, window: 2h, name: long, algorithm: token_bucket, burst: 4, candidate: { quota: 1, window: 1h } }
    tiers: { by: header:x-plan, limits: { pro: [{ quota: 20, window: 1h }] } }
    overrides: [{ when: { header:x-role: staff }, unlimited: true }]
    penalty: { refusals: 4, window: 1h, ban: 1h }
  - name: trial
    mode: shadow
    key: header:x-key
    limits: [{ quota: 1, window: 1h }]
  - name: late
    key: header:x-key
    limits: [{ quota: 8, window: 1500ms, algorithm: fixed_window, begins: first_hit }]
    on_deny: { status: 503, delay: { wait_max: 1s } }
"""

ASKED = [
    {},
    {"x-cost": "2"},
    {"x-plan": "pro", "x-cost": "3"},
    {},
    {"x-cost": "6"},
    {"x-role": "staff"},
    {"x-cost": "4"},
    {"x-plan": "pro"},
    {"x-cost": "2"},
    {"x-cost": "2"},
    {},
]


def test_both_doors_tell_the_same_of_many_policies_together(weir, tmp_path):
    """The same requests with two keys, one by each door: whatever tier, override, cost
    or ban is in them, the fields and the refusals are the same."""
    with weir(policies=MANY) as gateway, Envoy(tmp_path / "envoy", gateway.ports["envoy"]) as envoy:
        statuses = []
        for number, headers in enumerate(ASKED):
            told = []
            for url, key in ((gateway.url("/x"), "proxied"), (envoy.url("/x"), "checked")):
                status, fields, body = fetch(url, {**headers, "x-key": key})
                policies, states = items(fields["ratelimit-policy"]), items(fields["ratelimit"])
                waits = [state.pop("t") for state in states.values()] + [int(fields.get("retry-after", 0))]
                problem = json.loads(body) if status != 200 else None
                told.append((status, policies, states, problem, waits))
            assert told[0][:-1] == told[1][:-1], f"{number}: {headers}"
            # The one is asked a moment after the other.
            assert all(abs(one - other) <= 5 for one, other in zip(told[0][-1], told[1][-1], strict=True)), told
            statuses.append(told[0][0])
            shown = {"late"} if "x-role" in headers else {"each", "late"} if "x-plan" in headers else {"each.1", "each.long", "late"}
            assert told[0][1].keys() == told[0][2].keys() == shown
        assert statuses == [200, 200, 200, 429, 429, 200, 429, 200, 429, 429, 429]
