// What node-redis does with a server, as its users use it.

import assert from "node:assert/strict";
import { createClient, createClientPool, defineScript, WatchError } from "redis";

const COMPARE_AND_DELETE =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

const free = defineScript({
  SCRIPT: COMPARE_AND_DELETE,
  NUMBER_OF_KEYS: 1,
  parseCommand: (parser, key, token) => (parser.pushKey(key), parser.push(token)),
  transformReply: (reply) => reply,
});

async function connect({ port, protocol }, options = {}) {
  const socket = { host: "127.0.0.1", port, ...options };
  const client = createClient({ socket, RESP: protocol, scripts: { free } });
  client.on("error", () => {});
  return client.connect();
}

const soon = (condition) =>
  new Promise((resolve) => {
    const timer = setInterval(() => condition() && (clearInterval(timer), resolve()), 10);
  });

const ATTEMPTS = 500;

// Asks until there is an answer, for some ten seconds. What was sent on a connection
// that breaks is refused by this client, which cannot know if it was done.
const asked = async (ask, attempts = ATTEMPTS) => {
  try {
    return await ask();
  } catch (error) {
    if (attempts === 1) throw error;
    await new Promise((wake) => setTimeout(wake, 20));
    return asked(ask, attempts - 1);
  }
};

export const scenarios = {
  async replies(server) {
    const client = await connect(server);
    assert.equal(await client.set("s", "x", { expiration: { type: "EX", value: 100 } }), "OK");
    assert.equal(await client.set("s", "y", { condition: "NX" }), null);
    assert.equal(await client.hSet("h", { a: "1", b: "2" }), 2);
    assert.deepEqual({ ...(await client.hGetAll("h")) }, { a: "1", b: "2" });
    await client.zAdd("z", [{ score: 1.5, value: "a" }, { score: 2, value: "b" }]);
    assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [
      { value: "a", score: 1.5 },
      { value: "b", score: 2 },
    ]);
    assert.equal(await client.zScore("z", "a"), 1.5);
    await client.sAdd("t", ["x", "y"]);
    assert.deepEqual(new Set(await client.sMembers("t")), new Set(["x", "y"]));
    await assert.rejects(client.incr("h"), /WRONGTYPE/);
    const { name } = await client.clientInfo();
    await client.clientSetName("till-7");
    assert.notEqual(name, await client.clientGetName());
  },

  async pipeline(server) {
    const client = await connect(server);
    const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set(`k:${i}`, `${i}`)));
    assert.ok(replies.every((reply) => reply === "OK"));
    const [refused, last] = await Promise.allSettled([client.lPush("k:0", "no list"), client.get("k:999")]);
    assert.match(refused.reason.message, /WRONGTYPE/);
    assert.equal(last.value, "999");
  },

  async transaction(server) {
    const [client, other] = [await connect(server), await connect(server)];
    assert.deepEqual(await client.multi().set("a", "1").incr("a").exec(), ["OK", 2]);
    await client.watch("a");
    await other.incr("a");
    await assert.rejects(client.multi().set("a", "0").exec(), WatchError);
    assert.equal(await client.get("a"), "3");
  },

  async pubsub(server) {
    const client = await connect(server);
    const ears = await client.duplicate().connect();
    const heard = [];
    await ears.subscribe("news", (message, channel) => heard.push([channel, message]));
    await ears.pSubscribe("user:*", (message, channel) => heard.push([channel, message]));
    assert.equal(await client.publish("news", "one"), 1);
    assert.equal(await client.publish("user:7", "two"), 1);
    await soon(() => heard.length === 2);
    assert.deepEqual(heard, [["news", "one"], ["user:7", "two"]]);
    await ears.ping();
    await ears.unsubscribe("news");
    assert.equal(await client.publish("news", "three"), 0);
  },

  async scripts(server) {
    const client = await connect(server);
    await client.set("lock", "mine");
    assert.equal(await client.free("lock", "theirs"), 0);
    // It sends EVALSHA, hears NOSCRIPT, and sends EVAL.
    await client.scriptFlush();
    assert.equal(await client.free("lock", "mine"), 1);
    const library = "#!lua name=shelf\nredis.register_function('double', function(_, args) return args[1] * 2 end)";
    assert.equal(await client.functionLoad(library, { REPLACE: true }), "shelf");
    assert.equal(await client.fCall("double", { keys: [], arguments: ["21"] }), 42);
  },

  async reconnect(server, restart) {
    const delays = [];
    const reconnectStrategy = (retries) => {
      delays.push(Math.min(20 * 2 ** retries, 500));
      return delays.at(-1);
    };
    const client = await connect(server, { reconnectStrategy });
    const ears = await client.duplicate().connect();
    ears.on("error", () => {});
    const heard = [];
    await ears.subscribe("news", (message) => heard.push(message));
    await client.set("before", "1");
    const gone = new Promise((resolve) => client.once("reconnecting", resolve));
    restart();
    await gone;
    // Queued while the server is away.
    assert.equal(await asked(() => client.set("after", "2")), "OK");
    assert.ok(delays.length > 1, "it backed off");
    // It subscribes again by itself.
    await asked(async () => assert.equal(await client.publish("news", "here again"), 1));
    await soon(() => heard.includes("here again"));
  },

  async pool({ port, protocol }) {
    const options = { minimum: 16, maximum: 16 };
    const pool = await createClientPool({ socket: { host: "127.0.0.1", port }, RESP: protocol }, options).connect();
    await Promise.all(Array.from({ length: 3200 }, () => pool.incr("counter")));
    assert.equal(await pool.get("counter"), "3200");
    assert.equal((await pool.sendCommand(["CLIENT", "LIST"])).trim().split("\n").length, 16);
  },

  async scan(server) {
    const client = await connect(server);
    const names = Array.from({ length: 1000 }, (_, i) => `user:${i}`);
    await client.mSet(names.map((name) => [name, "x"]));
    const found = new Set();
    for await (const page of client.scanIterator({ MATCH: "user:*", COUNT: 50 })) page.forEach((key) => found.add(key));
    assert.deepEqual(found, new Set(names));
    await client.hSet("h", names.map((name) => [name, "v"]));
    const fields = new Set();
    for await (const page of client.hScanIterator("h")) page.forEach(({ field }) => fields.add(field));
    assert.equal(fields.size, 1000);
  },
};
