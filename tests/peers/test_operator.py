"""What an operator does with a running server: watch all commands, reload the data,
look at connections and end them. Weir is held to a redis-server."""

import os
import random
import re
import signal
import subprocess

import pytest

from process import fetch, wait_until
from redis_server import RedisServer
from resp import Closed, Connection
from transcript import spec, text
from weir import Weir


@pytest.fixture(params=["weir", "redis-server"])
def server(request, tmp_path):
    """A server with a log, and with DEBUG."""
    if request.param == "weir":
        with Weir(tmp_path / "weir", redis=True) as gateway:
            yield gateway
    else:
        with RedisServer(tmp_path / "redis", "--enable-debug-command", "local", "--appendonly", "yes") as redis:
            yield redis


LIBRARY = "#!lua name=mine\nredis.register_function('twice', function(keys) redis.call('incr', keys[1]) return redis.call('incr', keys[1]) end)"


def test_monitor_shows_commands_and_what_scripts_run_in_order(server):
    with Connection(server.address) as client, Connection(server.address) as monitor:
        client.ask("FUNCTION", "LOAD", LIBRARY)
        assert monitor.ask("MONITOR") == ("+", b"OK")
        for argv in (
            ["SET", "a", "two words\n\x01"],
            ["get", "a"],
            ["NOSUCH"],
            ["GET"],
            ["LPUSH", "a", "x"],
            ["CONFIG", "GET", "maxmemory"],
            ["EVAL", "redis.call('SET', KEYS[1], 1) redis.pcall('lpush', KEYS[1], 'x') return redis.call('get', KEYS[1])", 1, "b"],
            ["EVAL", "return redis.call('nosuch')", 0],
            ["FCALL", "twice", 1, "n"],
            ["EVALSHA", "0" * 40, 0],
            ["MULTI"],
            ["INCR", "n"],
            ["EVAL", "return redis.call('incr', 'n')", 0],
            ["EXEC"],
            ["MULTI"],
            ["DISCARD"],
            ["AUTH", "secret"],
            ["AUTH", "default", "secret"],
            ["HELLO", 2, "SETNAME", "ann"],
            ["HELLO", 2, "AUTH", "default", "secret", "SETNAME", "ann"],
            ["SLOWLOG", "LEN"],
            ["PING"],
            ["ECHO", "end"],
        ):
            client.ask(*argv)
        shown = []
        while not shown or '"end"' not in shown[-1]:
            shown.append(monitor.frame()[1].decode())
    shown = [re.sub(r"^\d+\.\d{6} \[0 (lua|)[\d.:]*\]", r"[\1]", line) for line in shown]
    assert shown == [
        '[] "SET" "a" "two words\\n\\x01"',
        '[] "get" "a"',
        '[] "LPUSH" "a" "x"',
        '[] "EVAL" "redis.call(\'SET\', KEYS[1], 1) redis.pcall(\'lpush\', KEYS[1], \'x\') return redis.call(\'get\', KEYS[1])" "1" "b"',
        '[lua] "SET" "b" "1"',
        '[lua] "lpush" "b" "x"',
        '[lua] "get" "b"',
        '[] "EVAL" "return redis.call(\'nosuch\')" "0"',
        '[] "FCALL" "twice" "1" "n"',
        '[lua] "incr" "n"',
        '[lua] "incr" "n"',
        '[] "EVALSHA" "0000000000000000000000000000000000000000" "0"',
        '[] "MULTI"',
        '[] "INCR" "n"',
        '[] "EVAL" "return redis.call(\'incr\', \'n\')" "0"',
        '[lua] "incr" "n"',
        '[] "EXEC"',
        '[] "MULTI"',
        '[] "DISCARD"',
        '[] "AUTH" "(redacted)"',
        '[] "AUTH" "(redacted)" "(redacted)"',
        '[] "HELLO" "2" "SETNAME" "ann"',
        '[] "HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "ann"',
        '[] "PING"',
        '[] "ECHO" "end"',
    ]


def test_the_slow_log_keeps_no_passwords(server):
    with Connection(server.address) as client:
        client.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
        client.ask("AUTH", "default", "secret")
        client.ask("HELLO", 2, "AUTH", "default", "secret")
        client.ask("CONFIG", "SET", "maxmemory", 0, "requirepass", "secret")
        client.ask("AUTH", "secret")
        entries = client.ask("SLOWLOG", "GET", 4)[1]
        assert [[word for _, word in entry[1][3][1]] for entry in entries] == [
            [b"AUTH", b"(redacted)"],
            [b"CONFIG", b"SET", b"maxmemory", b"0", b"requirepass", b"(redacted)"],
            [b"HELLO", b"2", b"AUTH", b"(redacted)", b"(redacted)"],
            [b"AUTH", b"(redacted)", b"(redacted)"],
        ]


EVERYTHING = [
    ["SET", "s", "text", "EX", 10_000], ["SET", "i", 7], ["APPEND", "r", "x" * 100],
    ["HSET", "h", "f", "v", "n", 1], ["RPUSH", "l", *range(300)], ["SADD", "ints", 3, 1, 2], ["SADD", "set", "a", "b"],
    ["ZADD", "z", 1.5, "a", "inf", "b"], ["ZADD", "big", *(word for i in range(200) for word in (i, f"m{i}"))],
    ["HSET", "many", *(word for i in range(600) for word in (f"f{i}", i))], ["SADD", "strings", *(f"m{i}" for i in range(600))],
]  # fmt: skip


@pytest.mark.parametrize("way", ["RELOAD", "LOADAOF"])
def test_debug_loads_the_data_again_and_all_of_it(server, way):
    with Connection(server.address) as client:
        for argv in EVERYTHING:
            assert client.ask(*argv)[0] != "-", argv
        digest, keys = client.ask("DEBUG", "DIGEST"), [argv[1] for argv in EVERYTHING]
        encodings = [client.ask("OBJECT", "ENCODING", key) for key in keys if key != "r"]
        deadline = client.ask("PEXPIRETIME", "s")
        assert client.ask("WATCH", "i") == ("+", b"OK")
        assert client.ask("DEBUG", way) == ("+", b"OK")
        assert client.ask("DEBUG", "DIGEST") == digest
        assert [client.ask("OBJECT", "ENCODING", key) for key in keys if key != "r"] == encodings
        assert client.ask("PEXPIRETIME", "s") == deadline
        assert client.ask("DBSIZE") == (":", len(keys))
        # The log goes on from there.
        assert client.ask("INCR", "i") == (":", 8)
        assert client.ask("DEBUG", "LOADAOF") == ("+", b"OK")
        assert client.ask("GET", "i") == ("$", b"8")
    server.process.kill()
    server.start()
    with Connection(server.address) as client:
        assert client.ask("DBSIZE") == (":", len(keys))


def test_loadaof_while_a_rewrite_runs_loses_nothing(server):
    with Connection(server.address) as client:
        client.send([["SET", f"key:{i}", i] for i in range(20_000)])
        client.frames(20_000)
        client.ask("BGREWRITEAOF")
        assert client.ask("SET", "during", 1) == ("+", b"OK")
        assert client.ask("DEBUG", "LOADAOF") == ("+", b"OK")
        assert client.ask("DBSIZE") == (":", 20_001)
        digest = client.ask("DEBUG", "DIGEST")
        wait_until(lambda: b"aof_rewrite_in_progress:0" in client.ask("INFO", "persistence")[1], "the rewrite ended")
        assert client.ask("DEBUG", "LOADAOF") == ("+", b"OK")
        assert client.ask("DEBUG", "DIGEST") == digest


def test_a_large_string_is_written_into_while_the_log_is_rewritten(server):
    """What it was at the cut goes to the base file, what is written meanwhile to the
    incr file; together, after a restart, they are what it became."""
    chance = random.Random(1)
    expected = bytearray(chance.randbytes(64 << 20))
    with Connection(server.address, timeout=60) as client:
        assert client.ask("SET", "big", bytes(expected)) == ("+", b"OK")
        client.ask("BGREWRITEAOF")
        is_rewriting = lambda: b"aof_rewrite_in_progress:1" in client.ask("INFO", "persistence")[1]
        wait_until(is_rewriting, "the rewrite began", interval=0.001)
        writes_meanwhile = 0
        while is_rewriting():
            at, text = chance.randrange(len(expected)), chance.randbytes(100)
            expected[at : at + 100] = text
            assert client.ask("SETRANGE", "big", at, text) == (":", len(expected))
            expected += text
            assert client.ask("APPEND", "big", text) == (":", len(expected))
            writes_meanwhile += is_rewriting()
        assert writes_meanwhile > 0, "the rewrite took as long as a write"
        part = range(len(expected) // 2, len(expected) // 2 + 200_000)
        assert client.ask("GETRANGE", "big", part[0], part[-1])[1] == expected[part.start : part.stop]
        digest = client.ask("DEBUG", "DIGEST")
    server.stop()
    server.start()
    with Connection(server.address, timeout=60) as client:
        wait_until(lambda: client.ask("STRLEN", "big") == (":", len(expected)), "the string is there again")
        assert client.ask("DEBUG", "DIGEST") == digest
        assert client.ask("GET", "big")[1] == expected


def test_digests_are_those_of_redis(tmp_path):
    with Weir(tmp_path / "weir", redis=True) as weir, RedisServer(tmp_path / "redis", "--enable-debug-command", "local") as redis:
        with Connection(weir.address) as ours, Connection(redis.address) as theirs:
            for argv in EVERYTHING:
                assert ours.ask(*argv) == theirs.ask(*argv), argv
                keys = [argv[1], "nosuch"]
                assert ours.ask("DEBUG", "DIGEST-VALUE", *keys) == theirs.ask("DEBUG", "DIGEST-VALUE", *keys), argv
                assert ours.ask("DEBUG", "DIGEST") == theirs.ask("DEBUG", "DIGEST"), argv


def test_a_connection_is_described_named_and_reset(server):
    spec(
        server,
        """
        ann  CLIENT GETNAME              -> nil
        ann  CLIENT SETNAME "two words"  -> error ERR Client names cannot contain spaces, newlines or special characters.
        ann  CLIENT SETNAME ann          -> OK
        ann  CLIENT GETNAME              -> ann
        ann  CLIENT NO-EVICT on          -> OK
        ann  CLIENT NO-EVICT x           -> error ERR syntax error
        ann  CLIENT NO-TOUCH on          -> error ERR unknown subcommand 'NO-TOUCH'. Try CLIENT HELP.
        ann  CLIENT REPLY x              -> error ERR syntax error
        ann  CLIENT LIST TYPE x          -> error ERR Unknown client type 'x'
        ann  CLIENT LIST TYPE            -> error ERR syntax error
        ann  CLIENT LIST ID              -> error ERR syntax error
        ann  CLIENT LIST ID x            -> error ERR Invalid client ID
        ann  CLIENT LIST ID 0            ->
        ann  CLIENT LIST ID 99999        ->
        ann  CLIENT LIST TYPE master     ->
        ann  CLIENT KILL ID x            -> error ERR client-id should be greater than 0
        ann  CLIENT KILL ID 0            -> error ERR client-id should be greater than 0
        ann  CLIENT KILL TYPE x          -> error ERR Unknown client type 'x'
        ann  CLIENT KILL USER nobody     -> error ERR No such user 'nobody'
        ann  CLIENT KILL SKIPME x        -> error ERR syntax error
        ann  CLIENT KILL 1.2.3.4:5       -> error ERR No such client
        ann  CLIENT KILL ADDR 1.2.3.4:5  -> 0
        ann  CLIENT KILL LADDR 1.2.3.4:5 -> 0
        ann  CLIENT KILL TYPE pubsub     -> 0
        ann  CLIENT KILL TYPE replica    -> 0
        ann  CLIENT KILL ID 99999        -> 0
        ann  CLIENT KILL USER default SKIPME yes ID 99999 -> 0
        ann  CLIENT KILL ADDR            -> error ERR No such client
        ann  CLIENT KILL ADDR x LADDR    -> error ERR syntax error
        ann  HELLO 3 SETNAME             -> error ERR Syntax error in HELLO option 'SETNAME'
        ann  HELLO 3 AUTH default        -> error ERR Syntax error in HELLO option 'AUTH'
        ann  HELLO 3 SETNAME "a b"       -> error ERR Client names cannot contain spaces, newlines or special characters.
        ann  HELLO 2 AUTH nobody x SETNAME bob -> error WRONGPASS invalid username-password pair or user is disabled.
        ann  CLIENT GETNAME              -> ann
        ann  SUBSCRIBE news              -> [subscribe, news, 1]
        ann  RESET                       -> RESET
        ann  CLIENT GETNAME              -> nil
        ann  SET a 1                     -> OK
        ann  MULTI                       -> OK
        ann  GET a                       -> QUEUED
        ann  RESET                       -> RESET
        ann  EXEC                        -> error ERR EXEC without MULTI
        ann  WATCH a                     -> OK
        bob  SET a 2                     -> OK
        ann  RESET                       -> RESET
        ann  MULTI                       -> OK
        ann  EXEC                        -> []
        """,
    )


def names(reply):
    return sorted(re.findall(r" name=(\w+)", reply[1].decode()))


def test_clients_are_listed_and_ended_by_every_filter(server):
    with Connection(server.address) as boss:
        boss.ask("CLIENT", "SETNAME", "boss")

        def ended(argv, victim_does=()):
            """Whether CLIENT KILL with these words ends a client, and how it answers."""
            with Connection(server.address) as victim:
                victim.ask("CLIENT", "SETNAME", "victim")
                (_, number) = victim.ask("CLIENT", "ID")
                for line in victim_does:
                    victim.ask(*line)
                listed = boss.ask("CLIENT", "LIST", "ID", number)[1].decode()
                words = {"{id}": number, "{addr}": re.search(r" addr=(\S+)", listed)[1], "{laddr}": re.search(r"laddr=(\S+)", listed)[1]}
                answer = text(boss.ask("CLIENT", "KILL", *(words.get(word, word) for word in argv)))
                wait_until(lambda: answer in "0" or names(boss.ask("CLIENT", "LIST")) == ["boss"], "the client was gone")
                if answer not in "0":
                    with pytest.raises(Closed):
                        victim.ask("PING")
                return answer

        assert ended(["{addr}"]) == "OK"
        assert ended(["ADDR", "{addr}"]) == "1"
        assert ended(["ID", "{id}"]) == "1"
        assert ended(["LADDR", "{laddr}"]) == "1", "SKIPME is yes"
        assert ended(["TYPE", "normal"]) == "1"
        assert ended(["TYPE", "pubsub"]) == "0"
        assert ended(["TYPE", "pubsub"], [["SUBSCRIBE", "news"]]) == "1"
        assert ended(["USER", "default"]) == "1"
        assert ended(["ID", "{id}", "TYPE", "pubsub"]) == "0"
        assert ended(["ID", "{id}", "ADDR", "{addr}", "LADDR", "{laddr}", "TYPE", "normal", "USER", "default", "SKIPME", "no"]) == "1"
        with Connection(server.address) as ears, Connection(server.address) as monitor:
            ears.ask("CLIENT", "SETNAME", "ears")
            ears.ask("SUBSCRIBE", "news")
            monitor.ask("CLIENT", "SETNAME", "monitor")
            monitor.ask("MONITOR")
            assert names(boss.ask("CLIENT", "LIST", "TYPE", "pubsub")) == ["ears"]
            assert "boss" in names(boss.ask("CLIENT", "LIST", "TYPE", "normal"))
            number = boss.ask("CLIENT", "ID")[1]
            assert names(boss.ask("CLIENT", "LIST", "ID", number, 99_999)) == ["boss"]
        wait_until(lambda: names(boss.ask("CLIENT", "LIST")) == ["boss"], "the others were gone")
        boss.send([["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]])
        assert boss.until_closed() == b":1\r\n"


def test_replies_are_left_out_as_asked_for(server):
    with Connection(server.address) as client:
        client.send([["CLIENT", "REPLY", "SKIP"], ["SET", "a", 1], ["GET", "a"], ["CLIENT", "REPLY", "OFF"], ["SET", "a", 2],
                     ["NOSUCH"], ["CLIENT", "REPLY", "SKIP"], ["GET", "a"], ["CLIENT", "REPLY", "ON"], ["GET", "a"]])  # fmt: skip
        assert client.frames(3) == [("$", b"1"), ("+", b"OK"), ("$", b"2")]


def test_without_a_log_there_is_nothing_to_load(tmp_path):
    weir = Weir(tmp_path / "weir", redis=True)
    del weir.config["store"]
    with weir, Connection(weir.address) as client:
        if client.ask("CONFIG", "GET", "appendonly")[1][1] == ("$", b"no"):
            assert client.ask("DEBUG", "LOADAOF")[1].startswith(b"ERR there is no log")
        client.ask("MULTI")
        client.ask("SET", "a", 1)
        client.ask("DEBUG", "LOADAOF")
        assert client.ask("EXEC")[1][1][0] == "-"
        assert client.ask("GET", "a") == ("$", b"1")


def fill(pipe):
    """Until not one line finds room."""
    os.set_blocking(pipe, False)
    for size in (1 << 16, 1):
        try:
            while os.write(pipe, b"." * size):
                pass
        except BlockingIOError:
            pass
    os.set_blocking(pipe, True)


def is_ready(gateway, child):
    """Whether it is, started as a child that has its own ends of pipes."""
    assert child.poll() is None
    try:
        return fetch(gateway.admin_url("/readyz"), timeout=2)[0] == 200
    except OSError:
        return False


def test_a_reader_of_the_access_log_who_stands_still_delays_no_end(tmp_path):
    gateway = Weir(tmp_path / "weir")
    gateway.config["proxy"] = {"access_log": "stdout"}
    gateway.config["drain_timeout"] = "15s"
    reading, writing = os.pipe()
    with open(tmp_path / "told", "w+b") as told:
        child = subprocess.Popen([str(part) for part in gateway.command()], cwd=gateway.folder,
                                 stdin=subprocess.DEVNULL, stdout=writing, stderr=told)  # fmt: skip

        try:
            wait_until(lambda: is_ready(gateway, child), "ready")
            fill(writing)
            assert [gateway.get("/free")[0] for _ in range(3)] == [200] * 3
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
            told.seek(0)
            said = told.read().decode()
            assert "goodbye" in said and "not everything ended" not in said, said
        finally:
            child.kill()
            child.wait(10)
            os.close(reading)
            os.close(writing)


def test_who_does_not_read_what_a_start_says_keeps_nobody_from_ending_it(tmp_path):
    gateway = Weir(tmp_path / "weir")
    reading, writing = os.pipe()
    fill(writing)
    child = subprocess.Popen([str(part) for part in gateway.command()], cwd=gateway.folder,
                             stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.DEVNULL)  # fmt: skip

    def serves():
        assert child.poll() is None
        try:
            return gateway.get("/free")[0] == 200
        except OSError:
            return False

    try:
        wait_until(serves, "it serves")
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait(10)
        os.close(reading)
        os.close(writing)


def test_an_end_with_an_error_waits_for_no_reader_either(tmp_path):
    gateway = Weir(tmp_path / "weir")
    command = [str(part) for part in gateway.command()]
    gateway.write_policies("policies: [{}]")
    reading, writing = os.pipe()
    fill(writing)
    child = subprocess.Popen(command, cwd=gateway.folder, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=writing)  # fmt: skip
    try:
        assert child.wait(20) == 1
    finally:
        child.kill()
        child.wait(10)
        os.close(reading)
        os.close(writing)


def test_an_error_is_told_behind_what_was_logged(tmp_path):
    first, second = Weir(tmp_path / "weir"), Weir(tmp_path / "second")
    second.config["store"]["embedded"]["dir"] = str(first.data)
    with first:
        command = [str(part) for part in second.command()]
        for _ in range(20):
            ran = subprocess.run(command, cwd=second.folder, capture_output=True, text=True, timeout=20,
                                 env={**os.environ, "RUST_LOG": "trace"})  # fmt: skip
            lines = ran.stderr.splitlines()
            assert ran.returncode == 1 and len(lines) > 1
            assert lines[-1].startswith("weir: "), lines[-2:]


def test_a_reader_of_the_log_who_stands_still_stops_nobody(tmp_path):
    gateway = Weir(tmp_path / "weir", redis=True)
    reading, writing = os.pipe()
    fill(writing)
    child = subprocess.Popen([str(part) for part in gateway.command()], cwd=gateway.folder,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)  # fmt: skip

    try:
        wait_until(lambda: is_ready(gateway, child), "ready, though what the start tells is not read")
        assert [gateway.get("/limited/x")[0] for _ in range(6)] == [200] * 5 + [429]
        script = "for i = 1, 50 do redis.log(redis.LOG_WARNING, string.rep('x', 900)) end"
        with Connection(gateway.address) as client:
            # Logged with the keyspace held.
            assert client.ask("EVAL", script, 0) == ("$", None)
            assert client.ask("PING") == ("+", b"PONG")
        os.set_blocking(reading, False)
        said = b""

        def has_told():
            nonlocal said
            try:
                said += os.read(reading, 1 << 20)
            except BlockingIOError:
                pass
            return said.count(b"x" * 900) == 50

        wait_until(has_told, "all of it is told when somebody reads")
        assert said.lstrip(b".").startswith(b'{"timestamp"') and b"state loaded" in said
        assert gateway.metrics()["weir_log_lines_lost_total"] == 0
        fill(writing)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0, "and it ends"
    finally:
        child.kill()
        child.wait(10)
        os.close(reading)
        os.close(writing)
