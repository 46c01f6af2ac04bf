// What ioredis does with a server, as its users use it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Redis } from "ioredis";

const COMPARE_AND_DELETE =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

const connect = ({ port }, options = {}) => new Redis({ host: "127.0.0.1", port, ...options });

export const scenarios = {
  async replies(server) {
    const redis = connect(server, { connectionName: "till-7" });
    assert.equal(await redis.set("s", "x", "EX", 100), "OK");
    assert.equal(await redis.set("s", "y", "NX"), null);
    assert.equal(await redis.client("GETNAME"), "till-7");
    await redis.hset("h", { a: 1, b: 2 });
    assert.deepEqual(await redis.hgetall("h"), { a: "1", b: "2" });
    assert.equal(await redis.zadd("z", 1.5, "a", 2, "b"), 2);
    assert.deepEqual(await redis.zrange("z", 0, -1, "WITHSCORES"), ["a", "1.5", "b", "2"]);
    assert.deepEqual((await redis.getBuffer("s")), Buffer.from("x"));
    await assert.rejects(redis.incr("h"), /WRONGTYPE/);
  },

  async pipeline(server) {
    const redis = connect(server);
    const pipeline = redis.pipeline();
    for (let i = 0; i < 1000; i++) pipeline.set(`k:${i}`, i);
    pipeline.lpush("k:0", "no list").get("k:999");
    const replies = await pipeline.exec();
    assert.ok(replies.slice(0, 1000).every(([error, reply]) => !error && reply === "OK"));
    assert.match(replies[1000][0].message, /WRONGTYPE/);
    assert.deepEqual(replies[1001], [null, "999"]);
    // Commands of one turn of the event loop go out in one write.
    const auto = connect(server, { enableAutoPipelining: true });
    assert.deepEqual(await Promise.all([auto.incr("n"), auto.incr("n"), auto.incr("n")]), [1, 2, 3]);
  },

  async transaction(server) {
    const [redis, other] = [connect(server), connect(server)];
    assert.deepEqual(await redis.multi().set("a", 1).incr("a").exec(), [[null, "OK"], [null, 2]]);
    await redis.watch("a");
    await other.incr("a");
    assert.equal(await redis.multi().set("a", 0).exec(), null);
    assert.equal(await redis.get("a"), "3");
    const refused = redis.multi().set("a", 1).call("nosuchcommand").exec();
    await assert.rejects(refused, /EXECABORT/);
    assert.equal(await redis.get("a"), "3");
  },

  async pubsub(server) {
    const [redis, ears] = [connect(server), connect(server)];
    assert.equal(await ears.subscribe("news"), 1);
    assert.equal(await ears.psubscribe("user:*"), 2);
    const heard = once(ears, "message");
    const heardByPattern = once(ears, "pmessage");
    assert.equal(await redis.publish("news", "one"), 1);
    assert.equal(await redis.publish("user:7", "two"), 1);
    assert.deepEqual(await heard, ["news", "one"]);
    assert.deepEqual(await heardByPattern, ["user:*", "user:7", "two"]);
    await assert.rejects(ears.get("x"), /subscriber mode/);
    assert.equal(await ears.unsubscribe("news"), 1);
    assert.equal(await redis.publish("news", "three"), 0);
  },

  async scripts(server) {
    const redis = connect(server);
    redis.defineCommand("free", { numberOfKeys: 1, lua: COMPARE_AND_DELETE });
    await redis.set("lock", "mine");
    assert.equal(await redis.free("lock", "theirs"), 0);
    // It sends EVALSHA, hears NOSCRIPT, and sends EVAL.
    await redis.script("FLUSH");
    assert.equal(await redis.free("lock", "mine"), 1);
    await redis.script("FLUSH");
    await redis.set("lock", "mine");
    assert.deepEqual(await redis.pipeline().free("lock", "mine").exec(), [[null, 1]]);
    const library = "#!lua name=shelf\nredis.register_function('double', function(_, args) return args[1] * 2 end)";
    assert.equal(await redis.function("LOAD", "REPLACE", library), "shelf");
    assert.equal(await redis.fcall("double", 0, 21), 42);
  },

  async reconnect(server, restart) {
    const delays = [];
    const retryStrategy = (times) => {
      delays.push(Math.min(20 * 2 ** times, 500));
      return delays.at(-1);
    };
    const options = { retryStrategy, maxRetriesPerRequest: null };
    const [redis, ears] = [connect(server, options), connect(server, options)];
    await ears.subscribe("news");
    await redis.set("before", 1);
    // Not `once` of node:events, which fails at the first error between.
    const [gone, again] = [[redis, "close"], [ears, "ready"]].map(
      ([client, event]) => new Promise((resolve) => client.once(event, resolve)),
    );
    redis.on("error", () => {});
    ears.on("error", () => {});
    restart();
    await gone;
    // Queued while the server is away.
    assert.equal(await redis.set("after", 2), "OK");
    assert.ok(delays.length > 1, "it backed off");
    // It subscribes again by itself.
    await again;
    while ((await redis.publish("news", "anyone?")) === 0) await new Promise((wake) => setTimeout(wake, 20));
    const heard = once(ears, "message");
    await redis.publish("news", "here again");
    assert.equal((await heard)[0], "news");
  },

  async pool(server) {
    const pool = Array.from({ length: 16 }, () => connect(server));
    await Promise.all(Array.from({ length: 3200 }, (_, i) => pool[i % 16].incr("counter")));
    assert.equal(await pool[0].get("counter"), "3200");
    assert.equal((await pool[0].client("LIST")).trim().split("\n").length, 16);
  },

  async scan(server) {
    const redis = connect(server);
    const names = Array.from({ length: 1000 }, (_, i) => `user:${i}`);
    await redis.mset(...names.flatMap((name) => [name, "x"]), "other", "y");
    const found = new Set();
    for await (const page of redis.scanStream({ match: "user:*", count: 50 })) page.forEach((key) => found.add(key));
    assert.deepEqual(found, new Set(names));
    await redis.zadd("z", ...names.flatMap((name, i) => [i, name]));
    const members = new Set();
    for await (const page of redis.zscanStream("z")) page.forEach((it, i) => i % 2 || members.add(it));
    assert.equal(members.size, 1000);
  },
};
