"""Who may come in at the RESP door, and how: TLS, protected mode, passwords, silence.
What Redis does as well is held to a redis-server with the same settings."""

import select
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_py

from process import wait_until
from redis_server import RedisServer
from resp import Closed, Connection, encode
from weir import BINARY, Weir


def openssl(folder, *arguments):
    ran = subprocess.run(["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr


def authority(folder, name):
    """A certificate authority, as NAME.pem and NAME.key."""
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip


def certificate(folder, name, issuer):
    """A certificate for this machine that the issuer signed."""
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
    (folder / "names.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial",
            "-days", 2, "-extfile", "names.cnf", "-out", f"{name}.pem")  # fmt: skip


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """A folder with `ours` and `strangers`, two authorities; and a `server` and a
    `client` that ours vouches for, and a `stranger` that the other does."""
    folder = tmp_path_factory.mktemp("papers")
    for name in ("ours", "strangers"):
        authority(folder, name)
    for name, issuer in (("server", "ours"), ("client", "ours"), ("stranger", "strangers")):
        certificate(folder, name, issuer)
    return folder


def behind_tls(folder, papers, **more):
    weir = Weir(folder, redis=True)
    weir.config["redis"] = {"tls": {"cert": f"{papers}/server.pem", "key": f"{papers}/server.key", **more}}
    return weir


def client_of(weir, papers, ca="ours", **more):
    host, port = weir.address
    return redis_py.Redis(host=host, port=port, ssl=True, ssl_ca_certs=f"{papers}/{ca}.pem", socket_timeout=5, retry=None, **more)


def cli(weir, papers, *arguments):
    host, port = weir.address
    argv = ["redis-cli", "-h", host, "-p", str(port), "--tls", "--cacert", f"{papers}/ours.pem", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20)


def test_clients_speak_tls_with_a_door_that_they_know(tmp_path, papers):
    with behind_tls(tmp_path, papers) as weir:
        with client_of(weir, papers) as client:
            assert client.set("a", "x" * 1_000_000)
            assert client.get("a") == b"x" * 1_000_000
            with client.pipeline() as pipe:
                assert pipe.incr("n").incr("n").execute() == [1, 2]
        assert cli(weir, papers, "INCR", "n").stdout == "3\n"
        with pytest.raises(redis_py.ConnectionError, match="certificate verify failed"):
            client_of(weir, papers, ca="strangers").ping()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=f"{papers}/ours.pem")
            context.minimum_version = context.maximum_version = version
            with Connection(weir.address, tls=context) as client:
                assert client.ask("GET", "n") == ("$", b"3")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_call_is_killed_within_tls_by_any_client_on_whatever_thread(tmp_path, papers, version):
    context = ssl.create_default_context(cafile=f"{papers}/ours.pem")
    context.minimum_version = context.maximum_version = version
    kill = encode(["SCRIPT", "KILL"])
    with behind_tls(tmp_path, papers) as weir, ExitStack() as stack:
        caller, writing, *others = [stack.enter_context(Connection(weir.address, tls=context)) for _ in range(9)]
        plain = stack.enter_context(Connection(weir.address))
        assert caller.ask("CONFIG", "SET", "busy-reply-threshold", 0) == ("+", b"OK")

        def told(killer):
            reply = killer.ask("SCRIPT", "KILL")
            # On a busy machine it may not have begun yet.
            return None if reply[1].startswith(b"NOTBUSY") else reply

        for killer in others:
            caller.send([["EVAL", "while true do end", 0]])
            assert wait_until(lambda: told(killer), "the call is killed") == ("+", b"OK")
            assert b"Script killed by user with SCRIPT KILL..." in caller.frame()[1]
            assert killer.ask("PING") == ("+", b"PONG")
        # Neither a part of a request is heard, nor who does not speak TLS.
        writing.write(encode(["SET", "text", kill])[: -len(kill) - 2])
        caller.send([["EVAL", "while true do end", 0]])
        plain.write(kill)
        writing.write(kill + b"\r\n")
        with pytest.raises(TimeoutError):
            caller.socket.settimeout(0.3)
            caller.fill()
        caller.socket.settimeout(20)
        assert wait_until(lambda: told(others[0]), "the call is killed") == ("+", b"OK")
        assert b"Script killed by user with SCRIPT KILL..." in caller.frame()[1]
        assert b"+OK" not in plain.until_closed()
        assert writing.frame() == ("+", b"OK")
        assert writing.ask("GET", "text") == ("$", kill)


def test_a_kill_does_not_wait_for_who_has_the_keyspace(tmp_path):
    """Where it waits nobody would hear it, should its thread run a call next."""
    with Weir(tmp_path / "weir", redis=True) as weir, ExitStack() as stack:
        # So many that some are on another thread than the first.
        sleeper, *killers = [stack.enter_context(Connection(weir.address)) for _ in range(17)]
        for killer in killers:
            assert killer.ask("PING") == ("+", b"PONG")
        sleeper.send([["DEBUG", "SLEEP", 5]])
        time.sleep(0.2)
        for killer in killers:
            killer.send([["SCRIPT", "KILL"]])
        answered, _, _ = select.select([killer.socket for killer in killers], [], [], 20)
        assert answered
        assert select.select([sleeper.socket], [], [], 1)[0] == [], "the keyspace is not free yet"
        assert all(killer.frame()[1].startswith(b"NOTBUSY") for killer in killers)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_is_killed_within_tls_by_who_comes_when_it_runs(tmp_path, papers, workers):
    weir = behind_tls(tmp_path, papers)
    weir.config["workers"] = workers
    with weir:
        context = ssl.create_default_context(cafile=f"{papers}/ours.pem")
        with Connection(weir.address, tls=context) as caller:
            assert caller.ask("CONFIG", "SET", "busy-reply-threshold", 0) == ("+", b"OK")
            for _ in range(4):
                caller.send([["EVAL", "while true do end", 0]])
                time.sleep(0.15)
                # On a busy machine it may not have begun yet.
                wait_until(lambda: cli(weir, papers, "SCRIPT", "KILL").stdout == "OK\n", "the call is killed")
                assert b"Script killed by user with SCRIPT KILL..." in caller.frame()[1]


def test_whoever_does_not_speak_tls_is_turned_away_and_others_are_served(tmp_path, papers):
    with behind_tls(tmp_path, papers) as weir:
        for sent in (b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 64):
            with Connection(weir.address, timeout=5) as client:
                client.write(sent)
                assert b"PONG" not in client.until_closed(), sent
        # One that says nothing at all holds nobody up.
        with socket.create_connection(weir.address), client_of(weir, papers) as client:
            assert client.ping()
        assert weir.process.is_running()


def test_a_door_that_asks_for_papers_turns_away_who_has_none_or_others(tmp_path, papers):
    def with_papers(name):
        return {"ssl_certfile": f"{papers}/{name}.pem", "ssl_keyfile": f"{papers}/{name}.key"}

    with behind_tls(tmp_path, papers, client_ca=f"{papers}/ours.pem") as weir:
        assert client_of(weir, papers, **with_papers("client")).ping()
        told = cli(weir, papers, "--cert", f"{papers}/client.pem", "--key", f"{papers}/client.key", "PING")
        assert told.stdout == "PONG\n"
        for strange in ({}, with_papers("stranger")):
            with pytest.raises((redis_py.ConnectionError, redis_py.TimeoutError)):
                client_of(weir, papers, **strange).ping()


def test_papers_that_do_not_fit_refuse_the_start(tmp_path, papers):
    weir = behind_tls(tmp_path, papers)
    for key, told in (("client.key", "key"), ("nosuch.key", "nosuch.key")):
        weir.config["redis"]["tls"]["key"] = f"{papers}/{key}"
        assert told in weir.fails_to_start()
        check = [BINARY, "check", "--config", weir.folder / "weir.yaml"]
        assert told in weir.fails_to_start(check)
    assert not weir.data.exists(), "they are read before anything is loaded"


def own_address():
    """An address of this machine that is not the loopback's. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


@pytest.fixture(params=["weir", "redis-server"])
def open_to_all(request, tmp_path):
    """Makes a server that listens on every address, with these settings."""
    made = []

    def make(**settings):
        if request.param == "weir":
            server = Weir(tmp_path / "weir", redis=True)
            server.config["listen"]["redis"] = f"0.0.0.0:{server.ports['redis']}"
            server.config["redis"] = settings
        else:
            words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
            server = RedisServer(tmp_path / "redis", "--bind", "0.0.0.0", *words)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


def test_without_a_password_only_this_machine_is_served(open_to_all):
    server, elsewhere = open_to_all(), own_address()
    if elsewhere == "127.0.0.1":
        pytest.fail("this machine has no address but the loopback's")
    _, port = server.address
    with Connection((elsewhere, port), timeout=5) as stranger:
        assert stranger.until_closed().startswith(b"-DENIED Redis is running in protected mode because protected mode is enabled")
    with Connection(server.address) as client:
        assert client.ask("CONFIG", "SET", "protected-mode", "no") == ("+", b"OK")
        with Connection((elsewhere, port)) as stranger:
            assert stranger.ask("PING") == ("+", b"PONG")
        assert client.ask("CONFIG", "SET", "protected-mode", "yes", "requirepass", "secret") == ("+", b"OK")
        with Connection((elsewhere, port)) as stranger:
            assert stranger.ask("PING") == ("-", b"NOAUTH Authentication required.")
            assert stranger.ask("AUTH", "secret") == ("+", b"OK")
            assert stranger.ask("PING") == ("+", b"PONG")


def test_a_password_that_changes_does_not_put_out_who_is_in(open_to_all):
    server = open_to_all(requirepass="first")
    with Connection(server.address) as inside:
        assert inside.ask("AUTH", "first") == ("+", b"OK")
        assert inside.ask("CONFIG", "SET", "requirepass", "second") == ("+", b"OK")
        assert inside.ask("PING") == ("+", b"PONG")
        with Connection(server.address) as client:
            assert client.ask("AUTH", "first")[1].startswith(b"WRONGPASS")
            assert client.ask("AUTH", "second") == ("+", b"OK")


def test_a_silent_client_is_put_out_but_not_one_that_listens(server):
    with Connection(server.address) as busy, Connection(server.address) as ears, Connection(server.address) as silent:
        ears.ask("SUBSCRIBE", "news")
        silent.ask("CLIENT", "SETNAME", "silent")
        assert busy.ask("CONFIG", "SET", "timeout", 1) == ("+", b"OK")
        # Redis looks at each connection once a second.
        wait_until(lambda: b"name=silent" not in busy.ask("CLIENT", "LIST")[1], "the silent client was put out", interval=0.1)
        with pytest.raises(Closed):
            silent.ask("PING")
        assert busy.ask("PUBLISH", "news", "hello") == (":", 1)
        assert ears.frame()[1][2] == ("$", b"hello")


def test_a_client_that_waits_for_its_answer_is_not_silent(server):
    with Connection(server.address) as busy, Connection(server.address) as waiting:
        assert busy.ask("CONFIG", "SET", "timeout", 1) == ("+", b"OK")
        assert busy.ask("CLIENT", "PAUSE", 3_500) == ("+", b"OK")
        assert waiting.ask("PING") == ("+", b"PONG")


def kept_alive(port):
    """Seconds until the kernel asks if the client lives, for each connection to a
    port; None where it does not ask."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Connections that are established, by the port of this side.
    timers = [row[5].split(":") for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port]
    return [int(ticks, 16) / 100 if kind == "02" else None for kind, ticks in timers]


def test_the_kernel_asks_after_clients_as_often_as_is_set(server):
    _, port = server.address
    for setting in (300, 100, 0):
        with Connection(server.address) as client:
            assert client.ask("CONFIG", "SET", "tcp-keepalive", setting) == ("+", b"OK")
        wait_until(lambda: kept_alive(port) == [], "the client was gone")
        with Connection(server.address) as client:
            client.ask("PING")
            (seconds,) = kept_alive(port)
            assert (seconds or 0) == pytest.approx(setting, abs=5)
