"""What a hostile or a broken client sends to the RESP door. Weir answers what a
redis-server answers, byte for byte where text is compared."""

import contextlib
import resource
import socket
import time
from pathlib import Path

import pytest

from process import wait_until
from redis_server import RedisServer
from resp import Closed, Connection, encode

# name -> what is sent -> what is answered; None: the connection is closed after it.
REFUSED = {
    "a bulk longer than 512 MiB": (b"*1\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    "a bulk of negative length": (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    "a bulk length that is no number": (b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    "a bulk length with a space": (b"*1\r\n$ 4\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    "something else than a bulk": (b"*1\r\n:4\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    "too many bulks": (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    "a count that is no number": (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    "a count without end": (b"*" + b"1" * 70_000, b"-ERR Protocol error: too big mbulk count string\r\n"),
    "a bulk length without end": (b"*1\r\n$" + b"1" * 70_000, b"-ERR Protocol error: too big bulk count string\r\n"),
    "an inline command without end": (b"A" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
    "an inline command with open quotes": (b'GET "a\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    "an HTTP POST": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "an HTTP Host line": (b"Host: 127.0.0.1\r\n\r\n", b""),
}

ANSWERED = {
    "an empty line": (b"\r\n\r\nPING\r\n", b"+PONG\r\n"),
    "a line feed alone": (b"PING\n", b"+PONG\r\n"),
    "an inline command with quotes": (b"SET a \"x y\\n\\x41\\\"\"\r\nGET a\r\n", b"+OK\r\n$6\r\nx y\nA\"\r\n"),
    "an inline command in single quotes": (b"ECHO 'it\\'s'\r\n", b"$4\r\nit's\r\n"),
    "spaces and tabs between words": (b"  ECHO \t a \r\n", b"$1\r\na\r\n"),
    "a count of nothing": (b"*0\r\nPING\r\n", b"+PONG\r\n"),
    "a negative count": (b"*-1\r\nPING\r\n", b"+PONG\r\n"),
    "a name in capitals and not": (b"*1\r\n$4\r\npInG\r\n", b"+PONG\r\n"),
    "an empty name": (b"*1\r\n$0\r\n\r\n", b"-ERR unknown command '', with args beginning with: \r\n"),
    "a name with line ends": (b"*1\r\n$4\r\na\r\nb\r\n", b"-ERR unknown command 'a  b', with args beginning with: \r\n"),
    "an unknown name": (b"FOO bar baz\r\n", b"-ERR unknown command 'FOO', with args beginning with: 'bar' 'baz' \r\n"),
    "a long unknown name": (
        encode([b"N" * 200, b"a" * 200, b"b"]),
        b"-ERR unknown command '" + b"N" * 128 + b"', with args beginning with: '" + b"a" * 128 + b"' \r\n",
    ),
    "an unknown subcommand": (b"CLIENT FOO\r\n", b"-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n"),
    "too few words": (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n"),
    "too few words for a subcommand": (b"CLIENT\r\n", b"-ERR wrong number of arguments for 'client' command\r\n"),
    "a value with a zero byte": (encode(["ECHO", b"\x00\r\n$1"]), b"$5\r\n\x00\r\n$1\r\n"),
    "a database that is not there": (b"SELECT 16\r\n", b"-ERR DB index is out of range\r\n"),
    "a database of no such number": (
        b"SELECT 2147483648\r\n",
        b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
    ),
    "a protocol that is not there": (b"HELLO 4\r\n", b"-NOPROTO unsupported protocol version\r\n"),
    "a HELLO in no number": (b"HELLO x\r\n", b"-ERR Protocol version is not an integer or out of range\r\n"),
    "AUTH without a password set": (
        b"AUTH x\r\n",
        b"-ERR AUTH <password> called without any password configured for the default user. "
        b"Are you sure your configuration is correct?\r\n",
    ),
    "EXEC alone": (b"EXEC\r\n", b"-ERR EXEC without MULTI\r\n"),
    "DISCARD alone": (b"DISCARD\r\n", b"-ERR DISCARD without MULTI\r\n"),
    "MULTI in MULTI": (b"MULTI\r\nMULTI\r\nDISCARD\r\n", b"+OK\r\n-ERR MULTI calls can not be nested\r\n+OK\r\n"),
    "WATCH in MULTI": (
        b"MULTI\r\nWATCH a\r\nDISCARD\r\n",
        b"+OK\r\n-ERR WATCH inside MULTI is not allowed\r\n+OK\r\n",
    ),
    "GET while subscribed": (
        b"SUBSCRIBE c\r\nGET a\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n-ERR Can't execute 'get': only (P|S)SUBSCRIBE / "
        b"(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
    ),
    "PING while subscribed": (
        b"SUBSCRIBE c\r\nPING\r\nPING x\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n",
    ),
    "unsubscribed from nothing": (b"UNSUBSCRIBE\r\n", b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
    "silence for one command": (b"CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n", b"$1\r\na\r\n"),
    "silence and its end": (b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nECHO a\r\n", b"+OK\r\n$1\r\na\r\n"),
    "RESET of everything": (
        b"HELLO 3\r\nCLIENT SETNAME a\r\nMULTI\r\nRESET\r\nCLIENT GETNAME\r\n",
        b"+OK\r\n+OK\r\n+RESET\r\n$-1\r\n",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_closes(name, server):
    sent, answer = REFUSED[name]
    with Connection(server.address, timeout=5) as client:
        client.write(sent)
        assert client.until_closed() == answer


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_and_goes_on(name, server):
    sent, answer = ANSWERED[name]
    end = b"+RESET\r\n"
    with Connection(server.address, timeout=2) as client:
        client.write(sent + b"RESET\r\n")
        with contextlib.suppress(TimeoutError, Closed):
            while not client.unread.endswith(end) or len(client.unread) < len(answer + end):
                client.fill()
        got = bytes(client.unread)
        assert got.endswith(answer + end) if sent.startswith(b"HELLO 3") else got == answer + end


def test_quit_is_answered_before_the_connection_closes(server):
    with Connection(server.address, timeout=5) as client:
        client.write(b"SET a 1\r\nQUIT\r\nSET a 2\r\n")
        assert client.until_closed() == b"+OK\r\n+OK\r\n"
    with Connection(server.address) as client:
        assert client.ask("GET", "a") == ("$", b"1")


@pytest.fixture(params=["weir", "redis-server"])
def guarded(request, tmp_path, weir):
    """A server that wants a password: `open sesame`."""
    if request.param == "weir":
        gateway = weir(redis=True)
        gateway.config["redis"] = {"requirepass": "open sesame"}
        yield gateway.start()
    else:
        with RedisServer(tmp_path / "redis", "--requirepass", "open sesame") as server:
            yield server


def test_a_stranger_learns_nothing_and_may_send_little(guarded):
    with Connection(guarded.address, timeout=5) as client:
        for argv in (["GET", "a"], ["MULTI"], ["SUBSCRIBE", "c"], ["INFO"], ["COMMAND"], ["PING"], ["NOSUCH"]):
            expected = b"NOAUTH Authentication required."
            if argv == ["NOSUCH"]:
                expected = b"ERR unknown command 'NOSUCH', with args beginning with: "
            assert client.ask(*argv) == ("-", expected), argv
        assert client.ask("AUTH", "guess") == ("-", b"WRONGPASS invalid username-password pair or user is disabled.")
        assert client.ask("HELLO", 3)[1].startswith(b"NOAUTH HELLO must be called with the client already authenticated")
        assert client.ask("AUTH", "open sesame") == ("+", b"OK")
        assert client.ask("PING") == ("+", b"PONG")
        assert client.ask("RESET") == ("+", b"RESET")
        assert client.ask("PING")[0] == "-"
        assert client.ask("HELLO", 3, "AUTH", "default", "open sesame")[0] == "%"
        assert client.ask("ACL", "WHOAMI") == ("$", b"default")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"*11\r\n", b"-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length\r\n"),
    ],
)
def test_a_stranger_who_sends_much_is_closed(guarded, sent, answer):
    with Connection(guarded.address, timeout=5) as client:
        client.write(sent)
        assert client.until_closed() == answer


def test_a_client_that_does_not_read_is_dropped_and_others_are_served(server):
    """Asks for 1.2 GB in one write and reads none of it."""
    with Connection(server.address) as other:
        assert other.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 16mb 0 0") == ("+", b"OK")
        assert other.ask("SET", "big", b"x" * 1_000_000) == ("+", b"OK")
        with Connection(server.address) as greedy:
            greedy.ask("CLIENT", "SETNAME", "greedy")
            greedy.send([["GET", "big"]] * 1_200)
            wait_until(lambda: b"name=greedy" not in other.ask("CLIENT", "LIST")[1], "the greedy client was dropped")
            started = time.monotonic()
            assert other.ask("PING") == ("+", b"PONG")
            assert time.monotonic() - started < 1
            assert len(greedy.until_closed()) < 1_200_000_000


def resident(pid):
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_files_allowed():
    """How many files this process may have open, raised as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def test_ten_thousand_idle_connections_cost_little(server):
    # The rest is for the files that both sides have open anyway.
    count, bytes_each = min(10_000, open_files_allowed() - 300), 20_000
    idle = []
    try:
        with Connection(server.address) as client:
            assert client.ask("CONFIG", "SET", "maxclients", count + 100) == ("+", b"OK")
            before = resident(server.process.pid)
            for _ in range(count):
                idle.append(socket.create_connection(server.address))
            for one in idle:
                one.sendall(b"PING\r\n")
            for one in idle:
                assert one.recv(16) == b"+PONG\r\n"
            cost = (resident(server.process.pid) - before) / count
            assert client.ask("PING") == ("+", b"PONG")
            assert cost < bytes_each, f"{cost:.0f} bytes each"
            print(f"{count} idle connections, {cost:.0f} bytes each")
    finally:
        for one in idle:
            one.close()


def test_a_deep_or_wide_request_takes_no_memory_before_it_is_there(server):
    """A header may promise a million words of 512 MB; nothing is set aside for them."""
    before = resident(server.process.pid)
    clients = [Connection(server.address) for _ in range(20)]
    for client in clients:
        client.write(b"*1000000\r\n$3\r\nSET\r\n$536870912\r\nx")
    time.sleep(0.3)
    with Connection(server.address) as other:
        assert other.ask("PING") == ("+", b"PONG")
    assert resident(server.process.pid) - before < 200_000_000
    for client in clients:
        client.close()


def test_a_connection_over_the_limit_is_told_so(server):
    with Connection(server.address) as first:
        assert first.ask("CONFIG", "SET", "maxclients", 2)[0] in "+-"
        if first.ask("CONFIG", "GET", "maxclients")[1][1][1] != b"2":
            pytest.fail("maxclients cannot be set")
        with Connection(server.address) as second:
            assert second.ask("PING") == ("+", b"PONG")
            with Connection(server.address, timeout=5) as third:
                assert third.until_closed() == b"-ERR max number of clients reached\r\n"
    with pytest.raises(Closed), Connection(server.address) as gone:
        gone.ask("QUIT")
        gone.ask("PING")
