//! One decision in process, beside the same logic in plain Rust.
//!
//! 10 000 keys, as many as `fcall.py` asks a redis-server for, and 100 000, which no
//! cache holds; each with about 50 units in its window. Keys are asked in an order that
//! jumps about. Time stands in the engine's hand: on the
//! admitted path it moves on so that one unit leaves for each that is added, on
//! the refused path it stands still.
//!
//! ```text
//! cargo bench --bench decision
//! ```

#![allow(clippy::expect_used, reason = "a benchmark ends where it fails")]

use std::collections::{HashMap, VecDeque};

use divan::{Bencher, black_box};
use weir::base::clock::Timestamp;
use weir::function::{Engine, Limits};
use weir::keyspace::{Effects, Execution, Keyspace};
use weir::resp::Reply;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FUNCTIONS: [&str; 2] = ["limiter.decide", "mylimiter.allow"];
const KEY_COUNTS: [usize; 2] = [10_000, 100_000];
const UNITS: u64 = 50;
const WINDOW_MS: u64 = 100_000_000;

/// Time between two decisions, such that a key sees one unit leave for each it gets.
const fn step_us(key_count: usize) -> u64 {
    WINDOW_MS * 1_000 / (key_count as u64 * UNITS)
}

fn main() {
    divan::main();
}

/// The store as the limiter uses it, without lock and log.
struct World {
    engine: Engine,
    keyspace: Keyspace,
    effects: Effects,
    reply: Reply,
    now: u64,
    keys: Keys,
}

impl World {
    /// A world in which `function` has filled every key.
    fn full(function: &str, key_count: usize) -> World {
        let mut world = World {
            engine: Engine::new(Limits::DEFAULT).expect("an engine"),
            keyspace: Keyspace::new(),
            effects: Effects::new(),
            reply: Reply::new(),
            now: 1_700_000_000_000_000,
            keys: Keys { count: key_count, turn: 0 },
        };
        world.engine.load(include_str!("../../functions/limiter.lua"), false).expect("a library");
        world.engine.load(include_str!("../../functions/mylimiter.lua"), false).expect("a library");
        for _ in 0..key_count as u64 * UNITS {
            world.decide(function, b"1000000", step_us(key_count));
        }
        world
    }

    /// One decision on the next key.
    fn decide(&mut self, function: &str, quota: &[u8], step_us: u64) {
        self.now += step_us;
        let key = self.keys.next();
        self.effects.clear();
        self.reply.clear();
        let mut run =
            Execution::live(Timestamp::from_micros(self.now), &mut self.effects, &mut self.reply);
        let shipped: [&[u8]; 6] = [b"sliding_window", quota, b"100000000", b"1", b"-", b"0"];
        let args = if function == "limiter.decide" { &shipped[..] } else { &shipped[1..4] };
        self.engine
            .call(function, &[key.as_bytes()], args, &mut self.keyspace, &mut run)
            .expect("a reply");
        black_box(&self.reply);
    }
}

/// Keys in an order that jumps about and meets each equally often.
struct Keys {
    count: usize,
    turn: usize,
}

impl Keys {
    fn next(&mut self) -> Key {
        self.turn = (self.turn + 61_803) % self.count;
        let mut key = Key { bytes: *b"weir:api-per-client:0:{10.00.000.000}" };
        let mut number = self.turn;
        for place in [35, 34, 33, 31, 30, 29] {
            key.bytes[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        key
    }
}

struct Key {
    bytes: [u8; 37],
}

impl Key {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[divan::bench(args = FUNCTIONS, consts = KEY_COUNTS, sample_count = 100, sample_size = 2_000)]
fn admitted<const KEY_COUNT: usize>(bencher: Bencher<'_, '_>, function: &str) {
    let mut world = World::full(function, KEY_COUNT);
    bencher.bench_local(|| world.decide(function, b"1000000", step_us(KEY_COUNT)));
}

#[divan::bench(args = FUNCTIONS, consts = KEY_COUNTS, sample_count = 100, sample_size = 2_000)]
fn refused<const KEY_COUNT: usize>(bencher: Bencher<'_, '_>, function: &str) {
    let mut world = World::full(function, KEY_COUNT);
    bencher.bench_local(|| world.decide(function, b"50", 0));
}

/// The same logic without commands, replies, effects and Lua.
struct Plain {
    hits: HashMap<Vec<u8>, VecDeque<u64>>,
    now: u64,
    keys: Keys,
}

impl Plain {
    fn full(key_count: usize) -> Plain {
        let keys = Keys { count: key_count, turn: 0 };
        let mut plain = Plain { hits: HashMap::new(), now: 1_700_000_000_000_000, keys };
        for _ in 0..key_count as u64 * UNITS {
            plain.decide(1_000_000, step_us(key_count));
        }
        plain
    }

    fn decide(&mut self, quota: u64, step_us: u64) -> [u64; 4] {
        self.now += step_us;
        let key = self.keys.next();
        let window = WINDOW_MS * 1_000;
        if !self.hits.contains_key(key.as_bytes()) {
            self.hits.insert(key.as_bytes().to_vec(), VecDeque::new());
        }
        let hits = self.hits.get_mut(key.as_bytes()).expect("inserted above");
        while hits.front().is_some_and(|hit| hit + window <= self.now) {
            hits.pop_front();
        }
        let used = hits.len() as u64;
        let reset = hits.front().map_or(0, |hit| (hit + window - self.now).div_ceil(1_000));
        if used < quota {
            hits.push_back(self.now);
            [1, quota - used - 1, reset, 0]
        } else {
            let hit = hits[(used - quota) as usize];
            [0, 0, reset, (hit + window - self.now).div_ceil(1_000)]
        }
    }
}

#[divan::bench(consts = KEY_COUNTS, sample_count = 100, sample_size = 2_000)]
fn admitted_in_plain_rust<const KEY_COUNT: usize>(bencher: Bencher<'_, '_>) {
    let mut plain = Plain::full(KEY_COUNT);
    bencher.bench_local(|| plain.decide(1_000_000, step_us(KEY_COUNT)));
}

#[divan::bench(consts = KEY_COUNTS, sample_count = 100, sample_size = 2_000)]
fn refused_in_plain_rust<const KEY_COUNT: usize>(bencher: Bencher<'_, '_>) {
    let mut plain = Plain::full(KEY_COUNT);
    bencher.bench_local(|| plain.decide(UNITS, 0));
}
