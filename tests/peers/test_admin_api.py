"""The admin API of the real binary: overrides, keys, bans, and who may change them."""

import json
import re
import subprocess
import urllib.error
import urllib.request

import pytest

from weir import BINARY, Weir

POLICIES = """
policies:
  - name: api
    match: { path: /api/** }
    key: [client_ip, header:x-tenant]
    limits: [{ quota: 2, window: 1h }]
  - name: login
    match: { path: /login }
    key: header:x-user
    limits: [{ quota: 1, window: 1h }]
    penalty: { refusals: 2, window: 1m, ban: 1h }
"""


def ask(weir, method, path, body=None, **headers):
    """One request to the admin door: (status, JSON)."""
    if isinstance(body, (dict, list)):
        headers.setdefault("Content_Type", "application/json")
        body = json.dumps(body)
    request = urllib.request.Request(
        weir.admin_url(path),
        method=method,
        data=body.encode() if body is not None else None,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        assert error.headers["content-type"] == "application/problem+json"
        return error.code, json.load(error)


@pytest.fixture
def weir(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir:
        yield weir


def test_a_key_is_looked_at_and_reset(weir):
    key = "/api/v1/policies/api/keys/127.0.0.1/acme"
    for left in (1, 0):
        assert f"r={left}" in weir.get("/api/x", x_tenant="acme")[1]["ratelimit"]
    assert weir.get("/api/x", x_tenant="acme")[0] == 429
    status, seen = ask(weir, "GET", key)
    assert status == 200 and seen["is"] == "limited" and seen["key"] == "127.0.0.1|acme"
    left = seen["limits"][0]["left"]
    assert (left["admits"], left["remaining"]) == (False, 0)
    assert 0 < left["retry_after_ms"] <= 3_600_000
    # As lists name it, too.
    assert ask(weir, "GET", "/api/v1/policies/api/keys?key=127.0.0.1%7Cacme")[1]["key"] == seen["key"]
    assert ask(weir, "DELETE", key) == (200, {"policy": "api", "key": seen["key"], "counts_forgotten": 1})
    assert weir.get("/api/x", x_tenant="acme")[0] == 200
    assert weir.metrics()['weir_admin_changes_total{outcome="key_reset"}'] == 1


def test_a_key_is_looked_at_in_a_tier_and_what_a_key_does_not_tell_is_told(tmp_path):
    policies = """
policies:
  - name: api
    key: client_ip
    limits: [{ quota: 2, window: 1h }]
    tiers: { by: header:x-plan, limits: { pro: [{ quota: 5, window: 1h }] } }
    deny: { file: abusers.txt }
    allow: { file: tenants.txt, of: header:x-tenant }
    overrides: [{ when: { header:x-role: staff }, unlimited: true }]
"""
    weir = Weir(tmp_path / "weir", policies=policies)
    (weir.folder / "abusers.txt").write_text("192.0.2.0/24\n")
    (weir.folder / "tenants.txt").write_text("acme\n")
    with weir:
        assert weir.get("/x", x_plan="pro")[0] == 200
        base = "/api/v1/policies/api/keys/127.0.0.1"
        status, seen = ask(weir, "GET", base)
        assert (status, seen["limits"][0]["left"]["remaining"]) == (200, 1)
        assert seen["unseen"] == [
            "the list `allow`, which goes by header:x-tenant",
            "overrides that go by more than the key",
            "tiers, which go by header:x-plan; ask with `?tier=NAME`",
        ]
        status, seen = ask(weir, "GET", f"{base}?tier=pro")
        assert (status, seen["limits"][0]["left"]["remaining"]) == (200, 4)
        assert len(seen["unseen"]) == 2
        status, problem = ask(weir, "GET", f"{base}?tier=gold")
        assert status == 404 and "has no tier `gold`" in problem["detail"]
        assert ask(weir, "GET", "/api/v1/policies/api/keys/192.0.2.7")[1]["is"] == "denied"


def test_what_is_wrong_is_told_with_what_would_be_right(weir):
    for method, path, body, status, detail in [
        ("GET", "/api/v1/policies/apis", None, 404, "did you mean `api`?"),
        ("GET", "/api/v1/policies/api/keys/127.0.0.1", None, 400, "has 1 parts, and the key of the policy has 2"),
        ("GET", "/api/v1/policies/api/keys/here/acme", None, 400, "part 1, `here`, is not an address"),
        ("PUT", "/api/v1/policies/apy/overrides", {"key": ["a"], "deny": True}, 404, "did you mean `api`?"),
        ("PUT", "/api/v1/policies/login/overrides", {"key": ["a"]}, 400, "needs one of `limits`"),
        ("PUT", "/api/v1/policies/login/overrides", {"key": ["a"], "denied": True}, 400, "unknown key `denied`"),
        ("DELETE", "/api/v1/overrides/none", None, 404, "GET /api/v1/overrides"),
        ("DELETE", "/api/v1/policies/api/bans/127.0.0.1/acme", None, 404, "has no penalty"),
        ("POST", "/api/v1/policies", {}, 405, "only GET"),
        ("GET", "/api/v2/policies", None, 404, "/api/v1/policies"),
    ]:
        got, problem = ask(weir, method, path, body)
        assert got == status and detail in problem["detail"], (method, path, problem)
    wrong = {"key": ["a"], "limits": [{"quota": 0, "window": "1s"}]}
    status, problem = ask(weir, "PUT", "/api/v1/policies/login/overrides", wrong)
    assert status == 400
    assert problem["problems"][0]["path"] == "limits[0].quota" and "at least 1" in problem["problems"][0]["message"]


def test_a_form_of_a_web_page_cannot_change_anything(weir):
    override = json.dumps({"key": ["a"], "deny": True})
    path = "/api/v1/policies/login/overrides"
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        status, problem = ask(weir, "PUT", path, override, Content_Type=media_type)
        assert status == 415 and "application/json" in problem["detail"]
    assert ask(weir, "POST", path, override, Content_Type="text/plain")[0] == 405
    assert ask(weir, "GET", "/api/v1/overrides")[1]["overrides"] == []


def test_an_override_is_in_force_at_once_and_survives_a_restart(weir):
    path = "/api/v1/policies/api/overrides"
    override = {"key": ["127.0.0.1", "acme"], "limits": [{"quota": 5, "window": "1h"}], "reason": "a launch"}
    status, granted = ask(weir, "PUT", path, override)
    assert status == 200 and granted["state"] == "in_force" and granted["reason"] == "a launch"
    assert "r=4" in weir.get("/api/x", x_tenant="acme")[1]["ratelimit"]
    assert "r=1" in weir.get("/api/x", x_tenant="other")[1]["ratelimit"]
    ended = {"key": ["127.0.0.1", "gone"], "unlimited": True, "ends_after": "1ms"}
    assert ask(weir, "PUT", path, ended)[0] == 200
    weir.stop()
    weir.start()
    assert "r=3" in weir.get("/api/x", x_tenant="acme")[1]["ratelimit"]
    assert "r=1" in weir.get("/api/x", x_tenant="gone")[1]["ratelimit"]
    seen = ask(weir, "GET", f"/api/v1/overrides/{granted['id']}")[1]
    assert seen == granted
    assert weir.metrics()['weir_limiter_overrides{outcome="in_force"}'] >= 1
    assert ask(weir, "DELETE", f"/api/v1/overrides/{granted['id']}") == (200, {"taken_back": granted["id"]})
    assert weir.get("/api/x", x_tenant="acme")[0] == 429, "the policy's own quota is spent"
    listed = ask(weir, "GET", "/api/v1/overrides?policy=api&count=1")[1]["overrides"]
    assert granted["id"] not in [it["id"] for it in listed]


def test_a_ban_is_listed_and_revoked(weir):
    for _ in range(3):
        status = weir.get("/login", x_user="mallory")[0]
    assert status == 429
    bans = ask(weir, "GET", "/api/v1/bans")[1]
    assert bans["next"] is None
    (ban,) = bans["bans"]
    assert (ban["policy"], ban["key"], ban["number"]) == ("login", "mallory", 1)
    assert ask(weir, "GET", "/api/v1/bans?policy=api")[1]["bans"] == []
    assert ask(weir, "GET", "/api/v1/policies/login/keys/mallory")[1]["ban"] == ban
    assert ask(weir, "DELETE", ban["revoke"])[1]["ban"] == "revoked"
    assert ask(weir, "GET", "/api/v1/bans")[1]["bans"] == []
    assert ask(weir, "DELETE", ban["revoke"])[0] == 404
    assert ask(weir, "DELETE", "/api/v1/policies/login/keys/mallory")[0] == 200
    assert weir.get("/login", x_user="mallory")[0] == 200


def test_a_token_is_asked_for_where_there_is_one(tmp_path):
    weir = Weir(tmp_path / "weir", policies=POLICIES)
    weir.config["admin"] = {"token_file": "token"}
    (weir.folder / "token").write_text("s3cret\n")
    with weir:
        for headers in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            status, problem = ask(weir, "GET", "/api/v1/policies", **headers)
            assert status == 401 and "admin.token_file" in problem["detail"]
        assert ask(weir, "GET", "/api/v1/policies", Authorization="Bearer s3cret")[0] == 200
        # Prometheus needs none.
        assert weir.metrics()


def test_a_door_that_is_open_to_all_lets_nobody_change_anything(tmp_path):
    weir = Weir(tmp_path / "weir", policies=POLICIES)
    weir.config["listen"]["admin"] = f"0.0.0.0:{weir.ports['admin']}"
    with weir:
        assert ask(weir, "GET", "/api/v1/policies")[0] == 200
        status, problem = ask(weir, "DELETE", "/api/v1/policies/login/keys/ann")
        assert status == 403 and "admin.token_file" in problem["detail"]


def test_an_unusable_token_file_is_told_at_the_start(tmp_path):
    weir = Weir(tmp_path / "weir", policies=POLICIES)
    weir.config["admin"] = {"token_file": "token"}
    (weir.folder / "token").write_text("two words\n")
    assert "admin.token_file: `token` must hold one word" in weir.fails_to_start()


def test_a_request_is_explained_by_who_runs(weir):
    weir.get("/api/x", x_tenant="acme")
    question = {"request": "GET /api/x", "headers": ["X-Tenant: acme"], "from": "127.0.0.1"}
    status, told = ask(weir, "POST", "/api/v1/explain", question)
    api, login = told["policies"]
    assert status == 200 and login["is"] == "unmatched"
    assert api["limits"][0]["left"]["remaining"] == 1
    status, problem = ask(weir, "POST", "/api/v1/explain", {"request": "GET /a%2", "from": "127.0.0.1"})
    assert status == 400 and problem["detail"].startswith("request:")


def test_explain_asks_a_weir_that_runs_what_is_left(tmp_path):
    weir = Weir(tmp_path / "weir", policies=POLICIES)
    weir.config["admin"] = {"token_file": "token"}
    (weir.folder / "token").write_text("s3cret\n")
    with weir:
        for _ in range(3):
            weir.get("/login", x_user="mallory")
        weir.get("/api/x", x_tenant="acme")
        door = ["--admin", weir.admin_url(""), "--token-file", weir.folder / "token"]

        def explain(*arguments):
            argv = [str(it) for it in (BINARY, "explain", "--config", weir.folder / "weir.yaml", *arguments)]
            return subprocess.run(argv, capture_output=True, text=True, timeout=20)

        told = explain(*door, "GET /api/x", "-H", "x-tenant: acme").stdout
        assert re.search(r"^  limit      2 per 1h  weir:api:0:\{127.0.0.1\|acme\}\n  left       1, more in \d+ms$", told, re.M), told
        banned = explain(*door, "GET /login", "-H", "x-user: mallory").stdout
        assert re.search(r"^  limit      banned after 2 refusals in 1m .*\n  left       banned for \d+ms$", banned, re.M), banned
        ask(weir, "PUT", "/api/v1/policies/login/overrides", {"key": "ann", "unlimited": True}, Authorization="Bearer s3cret")
        asked = explain(*door, "--json", "GET /login", "-H", "x-user: ann").stdout
        assert [it["is"] for it in json.loads(asked)] == ["unmatched", "unlimited"]
        # Without a door, what the files say.
        assert "`--admin URL` asks" in explain("GET /api/x").stdout
        assert json.loads(explain("--json", "GET /api/x").stdout)[0]["limits"][0]["left"] is None
        refused = explain("--admin", weir.admin_url(""), "GET /api/x")
        assert refused.returncode == 1 and "admin.token_file" in refused.stderr
    silent = explain(*door, "GET /api/x")
    assert silent.returncode == 1 and "no answer from" in silent.stderr
