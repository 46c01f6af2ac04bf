"""What goes when memory is short, under each of Redis' eight policies. The same is
asked of Weir and of a redis-server."""

import pytest

from resp import Connection

OUT_OF_MEMORY = ("-", b"OOM command not allowed when used memory > 'maxmemory'.")
VALUE = b"x" * 1_000
COUNT = 3_000


@pytest.fixture
def short_of_memory(server):
    """Makes a server with a policy that has room for 3,000 keys and half as many again."""
    clients = []

    def make(policy):
        client = Connection(server.address)
        clients.append(client)
        (used,) = (int(line[12:]) for line in client.ask("INFO", "memory")[1].splitlines() if line.startswith(b"used_memory:"))
        # Redis needs some for connections and for growing tables.
        settings = {"maxmemory": used + COUNT * 1_900, "maxmemory-policy": policy, "maxmemory-samples": 10, "lfu-log-factor": 1}
        assert client.ask("CONFIG", "SET", *(word for setting in settings.items() for word in setting)) == ("+", b"OK")
        return client

    yield make
    for client in clients:
        client.close()


def fill(client, name, *options, count=COUNT):
    """Sets many keys; how many of them were refused."""
    client.send([["SET", f"{name}:{i}", VALUE, *(word.format(i) for word in options)] for i in range(count)])
    replies = client.frames(count)
    refused = [reply for reply in replies if reply != ("+", b"OK")]
    assert all(reply == OUT_OF_MEMORY for reply in refused), refused[0]
    return len(refused)


def left(client, name, numbers=range(COUNT)):
    """How many of the keys are there, without using them."""
    client.send([["EXISTS", f"{name}:{i}"] for i in numbers])
    return sum(value for _, value in client.frames(len(numbers)))


def fill_up(client):
    """Writes one by one until there is no room, not even for little: what requests
    and replies took is free again, in Redis, when they have gone."""
    for size in (1_000, 100, 1):
        for number in range(COUNT):
            if client.ask("SET", f"more:{size}:{number}", b"x" * size) == OUT_OF_MEMORY:
                break
        else:
            raise AssertionError("memory is never short")


def evicted(client):
    (line,) = (line for line in client.ask("INFO", "stats")[1].splitlines() if line.startswith(b"evicted_keys:"))
    return int(line.split(b":")[1])


def test_noeviction_refuses_what_needs_memory_and_nothing_else(short_of_memory):
    client = short_of_memory("noeviction")
    assert fill(client, "old", "EX", "10000") == 0
    assert fill(client, "new") > COUNT / 5
    assert left(client, "old") == COUNT and evicted(client) == 0
    for argv in (["SET", "a", "b"], ["LPUSH", "l", "x"], ["ZADD", "z", 1, "a"], ["APPEND", "old:1", "x"], ["EVAL", "#!lua\nreturn 1", 0]):
        fill_up(client)
        assert client.ask(*argv)[1].startswith(b"OOM"), argv
    assert client.ask("GET", "old:1") == ("$", VALUE)
    assert client.ask("EXPIRE", "old:1", 100) == (":", 1)
    client.ask("MULTI")
    assert client.ask("SET", "a", "b") == OUT_OF_MEMORY
    assert client.ask("EXEC")[1].startswith(b"EXECABORT")
    client.send([["DEL", f"old:{i}"] for i in range(COUNT)])
    client.frames(COUNT)
    assert client.ask("SET", "a", "b") == ("+", b"OK")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_any_key_may_go_under_allkeys(short_of_memory, policy):
    client = short_of_memory(policy)
    assert fill(client, "old") == 0
    assert fill(client, "new") == 0
    assert evicted(client) > COUNT / 5
    assert 0 < left(client, "old") < COUNT


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_only_keys_with_a_deadline_go_under_volatile(short_of_memory, policy):
    client = short_of_memory(policy)
    assert fill(client, "stays", count=COUNT // 2) == 0
    assert fill(client, "goes", "EX", "10000", count=COUNT // 2) == 0
    assert fill(client, "more", count=COUNT) >= 0
    assert left(client, "stays", range(COUNT // 2)) == COUNT // 2
    assert left(client, "goes", range(COUNT // 2)) < COUNT // 3
    # With none left that may go, it is as without eviction.
    assert fill(client, "yet more", count=COUNT) > COUNT / 3
    assert left(client, "goes", range(COUNT // 2)) == 0
    assert left(client, "stays", range(COUNT // 2)) == COUNT // 2


def test_what_expires_soonest_goes_first_under_volatile_ttl(short_of_memory):
    client = short_of_memory("volatile-ttl")
    assert fill(client, "late", "EX", "90000", count=COUNT // 2) == 0
    assert fill(client, "soon", "EX", "1000", count=COUNT // 2) == 0
    assert fill(client, "last", "EX", "80000", count=COUNT) == 0
    assert left(client, "soon", range(COUNT // 2)) < left(client, "late", range(COUNT // 2)) / 2


def test_what_is_used_often_stays_under_allkeys_lfu(short_of_memory):
    client = short_of_memory("allkeys-lfu")
    assert fill(client, "old") == 0
    often = range(0, COUNT, 10)
    for _ in range(40):
        client.send([["GET", f"old:{i}"] for i in often])
        client.frames(len(often))
    assert fill(client, "new") == 0
    assert left(client, "old", often) > 0.95 * len(often)
    assert left(client, "old") < 0.9 * COUNT


POLICY = """
policies:
  - name: per-user
    key: ["header:x-user"]
    limits: [{ quota: 3, window: 600s }]
"""


def test_a_flood_of_new_keys_stays_under_the_ceiling_and_costs_no_live_counter(weir):
    """Through the proxy, as a stranger would who invents a name for each request."""
    gateway = weir(policies=POLICY, redis=True)
    gateway.config |= {"failure_mode": "closed"}
    gateway.config["store"]["memory"] = {"maxmemory": "4MiB", "maxmemory_policy": "allkeys-lru"}
    gateway.start()
    for _ in range(3):
        assert gateway.get("/", x_user="ann")[0] == 200
    assert gateway.get("/", x_user="bob")[0] == 200
    counts, most = {}, 0
    with Connection(("127.0.0.1", gateway.ports["proxy"])) as stranger:
        for batch in range(60):
            names = (f"invented-{batch}-{i}" for i in range(1_000))
            stranger.write(b"".join(b"GET / HTTP/1.1\r\nhost: x\r\nx-user: %s\r\n\r\n" % name.encode() for name in names))
            answered = 0
            while answered < 1_000:
                stranger.fill()
                whole, _, rest = bytes(stranger.unread).rpartition(b"HTTP/1.1 ")
                for part in whole.split(b"HTTP/1.1 ")[1:] if whole else ():
                    counts[part[:3]] = counts.get(part[:3], 0) + 1
                    answered += 1
                stranger.unread[:] = b"HTTP/1.1 " + rest
                # The last one is whole when its body is there.
                head, _, body = rest.partition(b"\r\n\r\n")
                length = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                if answered == 999 and length and len(body) >= length[0]:
                    counts[rest[:3]] = counts.get(rest[:3], 0) + 1
                    stranger.unread.clear()
                    answered += 1
            most = max(most, gateway.metrics()["weir_store_used_bytes"])
            # Who was there before is served from the counts that were.
            assert gateway.get("/", x_user="ann")[0] == 429
    assert most <= 4 << 20
    assert counts.keys() == {b"200", b"503"} and counts[b"200"] > 5_000, counts
    assert [gateway.get("/", x_user="bob")[0] for _ in range(3)] == [200, 200, 429]


BANNING = """
policies:
  - name: login
    key: header:x-user
    limits: [{ quota: 1, window: 600s }]
    penalty: { refusals: 2, window: 600s, ban: 600s }
"""


def test_what_the_limiter_keeps_for_itself_is_not_evicted_after_a_restart_either(weir):
    """Bans, overrides and reservations, of which nothing is written anew before a flood."""
    gateway = weir(policies=BANNING, redis=True)
    gateway.config["store"]["memory"] = {"maxmemory": "2MiB", "maxmemory_policy": "allkeys-lru"}
    kept = ["weir:bans", "weir:overrides", "weir:reservations"]
    with gateway, Connection(gateway.address) as client:
        gateway.get("/", x_user="mallory"), gateway.get("/", x_user="mallory"), gateway.get("/", x_user="mallory")
        # As the admin API and a gateway that died would leave them.
        client.ask("HSET", "weir:overrides", "version", "1")
        client.ask("ZADD", "weir:reservations", 9e15, "one\n9000000000000000")
        assert client.ask("EXISTS", *kept) == (":", 3)
    with gateway, Connection(gateway.address) as client:
        for batch in range(20):
            client.send([["SET", f"flood:{batch}:{i}", "x" * 500] for i in range(500)])
            assert {reply for reply in client.frames(500)} == {("+", b"OK")}
        assert evicted(client) > 5_000
        assert client.ask("EXISTS", *kept) == (":", 3)
