"""redis-cli and redis-benchmark, the tools that every operator has, against Weir and
against the server that they come with."""

import csv
import shutil
import subprocess

import pytest

from process import Process, wait_until
from resp import encode


def tool(name, server, *arguments, stdin=""):
    """What the tool prints."""
    binary = shutil.which(name)
    assert binary, f"{name} is missing; tests/run installs it"
    host, port = server.address
    argv = [binary, "-h", host, "-p", str(port), *map(str, arguments)]
    ran = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{argv} ended with {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def cli(server, *arguments, stdin=""):
    return tool("redis-cli", server, *arguments, stdin=stdin)


def test_a_session_typed_into_redis_cli(server):
    session = "SET a 1\nINCR a\nMULTI\nGET a\nLPUSH a x\nEXEC\nHSET h f v\nHGETALL h\nNOSUCH\n"
    assert cli(server, "--no-raw", stdin=session).splitlines() == [
        "OK", "(integer) 2", "OK", "QUEUED", "QUEUED", '1) "2"',
        "2) (error) WRONGTYPE Operation against a key holding the wrong kind of value",
        "(integer) 1", '1) "f"', '2) "v"', "(error) ERR unknown command 'NOSUCH', with args beginning with: ",
    ]  # fmt: skip
    assert cli(server, "-3", "--no-raw", "HGETALL", "h") == '1# "f" => "v"\n'
    assert cli(server, "-3", "--no-raw", "ZADD", "z", "INCR", "1.5", "m") == "(double) 1.5\n"


def test_redis_cli_pipes_scans_and_sizes(server):
    commands = b"".join(encode(["SET", f"user:{i}", "x" * i]) for i in range(1000))
    told = cli(server, "--pipe", stdin=commands.decode())
    assert "errors: 0, replies: 1000" in told
    assert sorted(cli(server, "--scan", "--pattern", "user:99*").split()) == ["user:99", *(f"user:99{i}" for i in range(10))]
    assert "Biggest string found '\"user:999\"' has 999 bytes" in cli(server, "--bigkeys")
    # Which of the longest takes the most is the allocator's affair.
    assert "Biggest string found '\"user:" in cli(server, "--memkeys")
    assert cli(server, "DBSIZE") == "1000\n"


def test_redis_cli_runs_a_script_file_and_a_command_again_and_again(server, tmp_path):
    script = tmp_path / "set.lua"
    script.write_text("return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}")
    assert cli(server, "--eval", script, "n", ",", "arg") == "n\narg\n1\n"
    assert cli(server, "-r", "3", "INCR", "n") == "2\n3\n4\n"
    assert cli(server, "-x", "SET", "stdin", stdin="from a file") == "OK\n"
    assert cli(server, "GET", "stdin") == "from a file\n"


def test_redis_cli_watches_commands_and_channels(server, tmp_path):
    host, port = server.address
    base = ["redis-cli", "-h", host, "-p", port]
    with (
        Process([*base, "MONITOR"], tmp_path / "monitor.log") as monitor,
        Process([*base, "SUBSCRIBE", "news"], tmp_path / "subscribe.log") as ears,
    ):
        wait_until(lambda: "OK" in monitor.log(), "MONITOR")
        wait_until(lambda: "subscribe" in ears.log(), "SUBSCRIBE")
        assert cli(server, "SET", "a", "two words\n\x01") == "OK\n"
        assert cli(server, "PUBLISH", "news", "hello") == "1\n"
        wait_until(lambda: '"SET" "a" "two words\\n\\x01"' in monitor.log(), "the command was seen")
        wait_until(lambda: "message\nnews\nhello" in ears.log(), "the message was heard")


def test_redis_cli_reads_what_an_operator_asks_first(server):
    info = dict(line.split(":", 1) for line in cli(server, "INFO", "everything").splitlines() if ":" in line)
    for field in ("redis_version", "tcp_port", "uptime_in_seconds", "connected_clients", "used_memory", "maxmemory_policy",
                  "aof_enabled", "total_commands_processed", "keyspace_hits", "expired_keys", "evicted_keys", "role",
                  "used_cpu_user", "cluster_enabled", "instantaneous_ops_per_sec", "rejected_connections"):  # fmt: skip
        assert field in info, field
    assert cli(server, "CONFIG", "GET", "maxmemory").split() == ["maxmemory", "0"]
    assert cli(server, "SLOWLOG", "LEN").strip().isdigit()
    assert "addr=" in cli(server, "CLIENT", "LIST")
    assert cli(server, "LATENCY", "LATEST").strip() == ""
    assert cli(server, "ACL", "WHOAMI") == "default\n"


@pytest.mark.parametrize("options", [[], ["-P", "16"], ["-3", "-P", "16", "--threads", "2"]], ids=" ".join)
def test_redis_benchmark_runs_its_whole_set(server, options):
    tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,lrange_300,mset"
    told = tool("redis-benchmark", server, "--csv", "-n", 2000, "-c", 50, "-r", 1000, "-t", tests, *options)
    assert "rror" not in told
    rows = list(csv.reader(told.splitlines()))
    assert len(rows) == 19 and all(float(row[1]) > 0 for row in rows[1:]), told
