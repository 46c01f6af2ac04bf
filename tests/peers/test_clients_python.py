"""redis-py and its asyncio client find in Weir what they find in a redis-server.

Each test runs against both: what passes only beside Weir would be our opinion.
"""

import asyncio
import threading

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, ResponseError, TimeoutError, WatchError
from redis.retry import Retry

COMPARE_AND_DELETE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def protocol(request):
    return request.param


@pytest.fixture
def options(server, protocol):
    host, port = server.address
    return {"host": host, "port": port, "protocol": protocol, "decode_responses": True, "socket_timeout": 10}


@pytest.fixture
def client(options):
    with redis.Redis(**options) as client:
        yield client


def patient(retry=Retry):
    """How a client tries again while a server restarts: for 13 s in all."""
    kinds = [ConnectionError, TimeoutError]
    return {"retry": retry(ExponentialBackoff(cap=0.5, base=0.02), 30), "retry_on_error": kinds}


def test_the_handshake_names_client_and_library(client, options):
    with redis.Redis(**options, client_name="till-7") as named:
        assert named.ping()
        assert named.client_getname() == "till-7"
        (told,) = [it for it in client.client_list() if it["name"] == "till-7"]
        assert int(told["resp"]) if "resp" in told else True
        assert int(told["id"]) == named.client_id() != client.client_id()


def test_replies_arrive_as_the_types_of_python(client):
    assert client.set("s", "x", ex=100) is True
    assert client.set("s", "y", nx=True) is None
    assert client.hset("h", mapping={"a": "1", "b": "2"}) == 2
    assert client.hgetall("h") == {"a": "1", "b": "2"}
    assert client.sadd("t", "x", "y") == 2 and client.smembers("t") == {"x", "y"}
    assert client.zadd("z", {"a": 1.5, "b": 2}) == 2
    assert [tuple(it) for it in client.zrange("z", 0, -1, withscores=True)] == [("a", 1.5), ("b", 2.0)]
    assert client.zscore("z", "a") == 1.5
    assert client.rpush("l", 1, 2, 3) == 3 and client.lrange("l", 0, -1) == ["1", "2", "3"]
    assert client.incrbyfloat("f", 0.1) == 0.1
    assert 0 < client.ttl("s") <= 100 and client.ttl("h") == -1 and client.ttl("none") == -2
    with pytest.raises(ResponseError, match="WRONGTYPE|Operation against a key holding the wrong kind of value"):
        client.incr("h")
    info = client.info()
    assert info["redis_version"].startswith("7.0.") and info["db0"]["keys"] == 6


def test_a_pipeline_answers_in_order_and_carries_errors(client):
    with client.pipeline(transaction=False) as pipe:
        for i in range(1000):
            pipe.set(f"k:{i}", i)
        pipe.lpush("k:0", "not a list").get("k:999")
        *stored, refused, last = pipe.execute(raise_on_error=False)
    assert stored == [True] * 1000 and last == "999"
    assert isinstance(refused, ResponseError)


def test_a_transaction_is_whole_and_a_watched_change_undoes_it(client, options):
    client.set("stock", 5)
    with redis.Redis(**options) as other, client.pipeline() as pipe:
        pipe.watch("stock")
        left = int(pipe.get("stock"))
        pipe.multi()
        pipe.set("stock", left - 1)
        assert pipe.execute() == [True]

        pipe.watch("stock")
        other.decr("stock")
        pipe.multi()
        pipe.set("stock", 100)
        with pytest.raises(WatchError):
            pipe.execute()
    assert client.get("stock") == "3"
    # The helper tries until nobody interferes.
    assert client.transaction(lambda pipe: pipe.multi() or pipe.decr("stock"), "stock") == [2]


def test_messages_arrive_by_channel_and_by_pattern(client, options):
    with redis.Redis(**options).pubsub() as ears:
        ears.subscribe("news")
        ears.psubscribe("user:*")
        heard = [ears.get_message(timeout=5)["type"] for _ in range(2)]
        assert heard == ["subscribe", "psubscribe"]
        assert client.publish("news", "one") == 1
        assert client.publish("user:7", "two") == 1
        assert client.publish("elsewhere", "three") == 0
        one, two = (ears.get_message(timeout=5) for _ in range(2))
        assert (one["channel"], one["data"], one["pattern"]) == ("news", "one", None)
        assert (two["channel"], two["data"], two["pattern"]) == ("user:7", "two", "user:*")
        assert client.pubsub_channels() == ["news"] and client.pubsub_numpat() == 1
        ears.unsubscribe("news")
        assert ears.get_message(timeout=5)["type"] == "unsubscribe"
        assert client.publish("news", "four") == 0


def test_a_script_is_sent_again_after_the_server_forgot_it(client):
    free = client.register_script(COMPARE_AND_DELETE)
    client.set("lock", "mine")
    assert free(keys=["lock"], args=["theirs"]) == 0
    client.script_flush()
    assert client.script_exists(free.sha) == [False]
    assert free(keys=["lock"], args=["mine"]) == 1
    assert client.script_exists(free.sha) == [True]
    with client.pipeline() as pipe:
        client.script_flush()
        pipe.set("lock", "mine")
        free(keys=["lock"], args=["mine"], client=pipe)
        assert pipe.execute() == [True, 1]


def test_a_function_is_loaded_and_called(client):
    library = "#!lua name=shelf\nredis.register_function('double', function(keys, args) return args[1] * 2 end)"
    assert client.function_load(library, replace=True) == "shelf"
    assert client.fcall("double", 0, 21) == 42


def test_the_lock_of_redis_py_excludes_and_lets_go(client):
    mine, theirs = client.lock("till", timeout=10), client.lock("till", timeout=10, blocking=False)
    assert mine.acquire() and not theirs.acquire()
    assert mine.extend(20) and mine.reacquire() and mine.owned()
    mine.release()
    assert theirs.acquire()


def test_a_client_comes_back_after_its_server_was_killed(server, options):
    with redis.Redis(**options, **patient()) as client:
        with client.pubsub() as ears:
            ears.subscribe("news")
            assert ears.get_message(timeout=5)["type"] == "subscribe"
            assert client.set("before", 1)
            server.process.kill()
            restart = threading.Timer(0.3, server.start)
            restart.start()
            assert client.set("after", 2)
            restart.join()
            # It subscribes again by itself.
            assert (ears.get_message(timeout=10) or {}).get("type") == "subscribe"
            assert client.publish("news", "here again") == 1
            assert ears.get_message(timeout=5)["data"] == "here again"


def test_sixteen_threads_share_a_pool_of_sixteen(options):
    pool = redis.BlockingConnectionPool(max_connections=16, timeout=10, **options)

    def work():
        shared = redis.Redis(connection_pool=pool)
        for _ in range(200):
            shared.incr("counter")

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with redis.Redis(connection_pool=pool) as shared:
        assert shared.get("counter") == "3200"
        assert 1 < len(shared.client_list()) <= 16
    pool.disconnect()


def test_scan_iterators_find_everything_once(client):
    names = {f"user:{i}" for i in range(1000)}
    client.mset({name: "x" for name in names} | {"other": "y"})
    client.hset("big:hash", mapping=dict.fromkeys(names, "v"))
    client.sadd("big:set", *names)
    client.zadd("big:zset", dict.fromkeys(names, 1))
    assert set(client.scan_iter("user:*", count=50)) == names
    assert set(client.scan_iter(_type="zset")) == {"big:zset"}
    assert dict(client.hscan_iter("big:hash")).keys() == names
    assert set(client.sscan_iter("big:set", match="user:99*")) == {name for name in names if name.startswith("user:99")}
    assert {member for member, _ in client.zscan_iter("big:zset")} == names


def test_asyncio_pipelines_transactions_and_scripts(options):
    async def story():
        async with redis.asyncio.Redis(**options) as client:
            async with client.pipeline(transaction=True) as pipe:
                assert await pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
            async with client.pipeline() as pipe:
                await pipe.watch("a")
                await client.incr("a")
                pipe.multi()
                pipe.set("a", 0)
                with pytest.raises(WatchError):
                    await pipe.execute()
            free = client.register_script(COMPARE_AND_DELETE)
            await client.script_flush()
            assert await free(keys=["a"], args=["3"]) == 1
            assert [key async for key in client.scan_iter()] == []

    asyncio.run(story())


def test_asyncio_hears_what_is_published(options):
    async def story():
        async with redis.asyncio.Redis(**options) as client, client.pubsub() as ears:
            await ears.subscribe("news")
            await ears.get_message(timeout=5)
            assert await client.publish("news", "one") == 1
            message = await ears.get_message(ignore_subscribe_messages=True, timeout=5)
            assert message["data"] == "one"

    asyncio.run(story())


def test_asyncio_comes_back_and_shares_a_pool_of_sixteen(server, options):
    async def story():
        pool = redis.asyncio.BlockingConnectionPool(max_connections=16, timeout=10, **options, **patient(AsyncRetry))
        client = redis.asyncio.Redis(connection_pool=pool)
        assert sorted(await asyncio.gather(*(client.incr("n") for _ in range(500)))) == list(range(1, 501))
        server.process.kill()
        restart = asyncio.get_running_loop().run_in_executor(None, server.start)
        assert await client.set("after", 1)
        await restart
        await asyncio.gather(*(client.incr("m") for _ in range(100)))
        assert await client.get("m") == "100"
        await client.aclose()
        await pool.disconnect()

    asyncio.run(story())
