"""Mistakes in files are named with their place; hostile requests get a 4xx;
neither ever brings the process down."""

import asyncio
import re
import socket

import pytest

from load import raw
from process import wait_until
from weir import FIVE_PER_CLIENT


def test_a_mistake_in_a_policy_is_named_with_file_line_and_column(weir):
    for right, wrong, words in [
        ("key: [client_ip]", "kye: [client_ip]", ["kye", "key"]),
        ("quota: 5", "quote: 5", ["quote", "quota"]),
        ("window: 10s", "window: 10", ["10", "10s"]),
        ("window: 10s", "window: soon", ["soon"]),
        ("window: 10s", "window: 0s", ["window"]),
        ("quota: 5", "quota: -5", ["-5"]),
        ("quota: 5", "quota: 0", ["quota"]),
        ("window: 10s", "window: 10s, algorithm: limiter.sliding_windo", ["sliding_windo", "sliding_window"]),
        ("key: [client_ip]", "key: [client_id]", ["client_id", "client_ip"]),
        ("path: /limited/**", "paht: /limited/**", ["paht", "path"]),
    ]:
        text = FIVE_PER_CLIENT.replace(right, wrong)
        line = 1 + text[: text.index(wrong)].count("\n")
        said = weir(policies=text).fails_to_start()
        assert re.search(rf"policies\.yaml:{line}:\d+", said), f"{wrong}: no place in\n{said}"
        for word in words:
            assert word in said, f"{wrong}: no {word} in\n{said}"


def test_every_mistake_of_a_policy_file_is_reported_at_once(weir):
    text = FIVE_PER_CLIENT.replace("window: 10s", "window: soon").replace("client_ip", "client_id")
    said = weir(policies=text).fails_to_start()
    assert "soon" in said and "client_id" in said, said


NO_POLICY_FILES = {
    "empty": b"",
    "torn": b"policies: {",
    "tab": b"policies:\n\t- name: x\n",
    "alias to itself": b"policies: &a [*a]",
    "billion laughs": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\npolicies: *c\n",
    "nul": b"policies: \0",
    "key twice": b"policies: []\npolicies: []\n",
    "deep": b"[" * 10_000,
    "not text": b"policies: \xff\xfe",
    "a list": b"- policies",
    "large": b"# " + b"x" * (2 << 20),
}


@pytest.mark.parametrize("name", NO_POLICY_FILES)
def test_a_file_that_is_no_policy_file_is_refused(weir, name):
    gateway = weir()
    gateway.policy_file.write_bytes(NO_POLICY_FILES[name])
    assert "policies.yaml" in gateway.fails_to_start()


def test_a_mistake_in_the_configuration_is_named(weir):
    def unknown_top(config):
        config["polices"] = config.pop("policies")

    def unknown_nested(config):
        config["store"]["embedded"]["appendfsinc"] = "always"

    def bad_word(config):
        config["store"]["embedded"]["appendfsync"] = "sometimes"

    def bad_address(config):
        config["listen"]["proxy"] = "127.0.0.1"

    def bad_endpoint(config):
        config["upstreams"]["app"]["endpoints"] = ["127.0.0.1:9000"]

    def unknown_upstream(config):
        config["routes"][0]["upstream"] = "ap"

    def missing_policies(config):
        config["policies"] = "nowhere.yaml"

    for spoil, words in [
        (unknown_top, ["weir.yaml", "polices", "policies"]),
        (unknown_nested, ["weir.yaml", "appendfsinc", "appendfsync"]),
        (bad_word, ["weir.yaml", "sometimes", "always"]),
        (bad_address, ["weir.yaml", "127.0.0.1"]),
        (bad_endpoint, ["weir.yaml", "127.0.0.1:9000"]),
        (unknown_upstream, ["weir.yaml", "ap", "app"]),
        (missing_policies, ["nowhere.yaml"]),
    ]:
        gateway = weir()
        spoil(gateway.config)
        said = gateway.fails_to_start()
        for word in words:
            assert word in said, f"{spoil.__name__}: no {word} in\n{said}"


def test_a_configuration_that_is_not_there_is_named(weir):
    gateway = weir()
    binary, serve, flag, _ = gateway.command()
    assert "elsewhere.yaml" in gateway.fails_to_start([binary, serve, flag, "elsewhere.yaml"])


def test_a_folder_that_cannot_be_read_is_named(weir):
    # A link to itself cannot be read by root either.
    for section, key in [("functions", None), ("store", "dir")]:
        gateway = weir()
        (gateway.folder / "loop").symlink_to("loop")
        if key:
            gateway.config["store"]["embedded"]["dir"] = "loop"
        else:
            gateway.config[section] = "loop"
        assert "loop" in gateway.fails_to_start()

    gateway = weir()
    gateway.data.write_text("a file where a folder should be")
    assert "data" in gateway.fails_to_start()


@pytest.mark.parametrize("door", ["proxy", "admin", "envoy"])
def test_a_port_in_use_is_named(weir, door):
    gateway = weir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.ports[door]))
        taken.listen()
        said = gateway.fails_to_start()
    assert f"127.0.0.1:{gateway.ports[door]}" in said and "in use" in said, said


def test_a_lua_file_with_a_syntax_error_is_named_with_its_line(weir):
    gateway = weir()
    (gateway.folder / "functions" / "broken.lua").write_text(
        "#!lua name=broken\nlocal function decide(keys, args)\n  return 1 +\nend\n"
    )
    said = gateway.fails_to_start()
    assert "broken.lua" in said and re.search(r"\b4\b", said), said


GET = b"GET /limited/x HTTP/1.1\r\nhost: a\r\n"

# Requests that are not HTTP, or whose end two servers could see in two places.
# They must be refused, or the connection closed without an answer.
MALFORMED = {
    "tls": bytes.fromhex("16030100") + b"\x80" * 200,
    "binary": bytes(range(256)) * 4,
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    "no host": b"GET /limited/x HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: b\r\n\r\n",
    "space before colon": GET + b"x-user : a\r\n\r\n",
    "nul in a value": GET + b"x-user: a\0b\r\n\r\n",
    "bare cr in a value": GET + b"x-user: a\rb\r\n\r\n",
    "nul in a name": GET + b"x\0: a\r\n\r\n",
    "nul in the target": b"GET /limited/\0 HTTP/1.1\r\nhost: a\r\n\r\n",
    "folded line": GET + b"x-user: a\r\n b\r\n\r\n",
    "two lengths": GET + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "negative length": GET + b"content-length: -1\r\n\r\n",
    "signed length": GET + b"content-length: +1\r\n\r\na",
    "chunked twice": GET + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": GET + b"transfer-encoding: cow\r\n\r\n",
    "huge field": GET + b"x-user: " + b"a" * 200_000 + b"\r\n\r\n",
    "many fields": GET + b"".join(b"x-%d: a\r\n" % n for n in range(1_000)) + b"\r\n",
    "huge target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "http/2 preface, then noise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
}


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d)", answer)]


def check_alive(gateway):
    assert gateway.process.is_running(), gateway.process.log()
    assert "panicked" not in gateway.process.log()
    assert gateway.get("/free")[0] == 200


def test_malformed_requests_are_refused(weir):
    with weir() as gateway:
        for name, request in MALFORMED.items():
            answer = asyncio.run(raw(gateway.ports["proxy"], request))
            for status in statuses(answer):
                assert 400 <= status < 500, f"{name}: {status}"
            check_alive(gateway)
        # None of them was taken for a request under the limit.
        assert [gateway.get("/limited/x")[0] for _ in range(6)] == [200] * 5 + [429]


ABSURD_PATHS = [
    "/../../../../etc/passwd", "/.", "/..", "//", "/" * 5_000, "/a/" * 2_000, "/%", "/%zz", "/%2", "/%00",
    "/%2e%2e/limited", "/%252e%252e/", "/limited%2fx", "/limited%5cx", "/limited\\x", "/%ff%fe", "/\u00e4", "/\x7f",
    "*", "limited/x", "http://", "http://evil.example/limited/x", "?", "/?" + "a=" * 2_000, "/limited/x;a=b", "/limited/x?%00",
    "/{}", "/a|b", "/$(id)", "/\x1b[31m", "/limited/" + "%61" * 1_000,
]  # fmt: skip


def test_absurd_paths_get_a_clear_answer(weir):
    with weir() as gateway:
        for path in ABSURD_PATHS:
            request = f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode("latin-1")
            answer = asyncio.run(raw(gateway.ports["proxy"], request))
            for status in statuses(answer):
                assert 200 <= status < 500, f"{path[:60]!r}: {status}"
            check_alive(gateway)


def test_spellings_of_a_limited_path_do_not_escape_the_limit(weir):
    spellings = [
        "/limited/x", "//limited/x", "/limited//x", "/./limited/x", "/limited/./x", "/a/../limited/x", "/%6cimited/x",
        "/%6C%69mited/x", "/limited/x?", "/limited/x?a=b", "/limited/y/../x", "/../limited/x", "http://a/limited/x",
    ]  # fmt: skip
    with weir() as gateway:
        admitted = 0
        for spelling in spellings:
            request = f"GET {spelling} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
            (status,) = statuses(asyncio.run(raw(gateway.ports["proxy"], request)))
            assert status in (200, 400, 429), f"{spelling}: {status}"
            admitted += status == 200
        assert admitted == 5
        assert gateway.get("/limited/x")[0] == 429


def test_hostile_header_values_make_keys_of_their_own(weir):
    policies = """
policies:
  - name: by-user
    key: ["header:x-user", "header:x-tenant"]
    limits: [{ quota: 1, window: 60s }]
"""
    pairs = [
        (b"a|b", b"c"), (b"a", b"b|c"), (b"a%7Cb", b"c"), (b"{a}", b"c"), (b"{", b"}"), (b"}", b"{"), (b"a:b", b"c"),
        (b"\xff\xfe", b"c"), (b"\xc3\xa4", b"c"), (b"%", b"c"), (b"x" * 8_000, b"c"), (b"x" * 8_001, b"c"),
        (b"*1", b"$1"), (b"' OR 1=1", b"--"), (b"a\tb", b"c"),
    ]  # fmt: skip
    with weir(policies=policies) as gateway:

        def ask(user, tenant):
            head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
            request = head + b"x-user: " + user + b"\r\nx-tenant: " + tenant + b"\r\n\r\n"
            return statuses(asyncio.run(raw(gateway.ports["proxy"], request)))

        for user, tenant in pairs:
            assert ask(user, tenant) == [200], f"{user[:20]} {tenant} was taken for another"
        for user, tenant in pairs:
            assert ask(user, tenant) == [429], f"{user[:20]} {tenant}"
        check_alive(gateway)


def test_forged_forwarding_fields_do_not_change_the_client(weir):
    with weir() as gateway:
        answers = [
            gateway.get("/limited/x", x_forwarded_for=f"10.0.0.{n}", x_real_ip=f"10.0.1.{n}", forwarded=f"for=10.0.2.{n}")[0]
            for n in range(6)
        ]
    assert answers == [200] * 5 + [429]


def test_a_stalled_request_head_is_ended_and_others_go_on(weir):
    with weir() as gateway:
        stalled = [socket.create_connection(("127.0.0.1", gateway.ports["proxy"])) for _ in range(50)]
        for one in stalled:
            one.sendall(b"GET /limited/x HTTP/1.1\r\nhost: a\r\nx-slow: ")
        check_alive(gateway)
        closed = []

        def all_closed():
            for one in set(stalled) - set(closed):
                one.settimeout(0.01)
                try:
                    if one.recv(4096) == b"":
                        closed.append(one)
                except TimeoutError:
                    pass
                except ConnectionError:
                    closed.append(one)
            return len(closed) == len(stalled)

        wait_until(all_closed, "the stalled connections closed", seconds=15, interval=0.2)
        for one in stalled:
            one.close()
