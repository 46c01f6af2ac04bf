//! One decision in process, beside the same logic in plain Rust.
//!
//! 100 000 keys, each with about 50 units in its window; keys are asked in an
//! order that defeats the caches. Time stands in the engine's hand: on the
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
use weir::keyspace::{Effects, Execution, Keyspace, Mode};
use weir::resp::Reply;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FUNCTIONS: [&str; 2] = ["limiter.decide", "mylimiter.allow"];
const KEY_COUNT: usize = 100_000;
const UNITS: u64 = 50;
const WINDOW_MS: u64 = 100_000_000;
/// Between two decisions, such that a key sees one unit leave for each it gets.
const STEP_US: u64 = WINDOW_MS * 1_000 / (KEY_COUNT as u64 * UNITS);

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
    turn: usize,
}

impl World {
    /// A world in which `function` has filled every key.
    fn full(function: &str) -> World {
        let mut world = World {
            engine: Engine::new(Limits::DEFAULT).expect("an engine"),
            keyspace: Keyspace::new(),
            effects: Effects::new(),
            reply: Reply::new(),
            now: 1_700_000_000_000_000,
            turn: 0,
        };
        world.engine.load(include_str!("../../functions/limiter.lua"), false).expect("a library");
        world.engine.load(include_str!("../../functions/mylimiter.lua"), false).expect("a library");
        for _ in 0..KEY_COUNT as u64 * UNITS {
            world.decide(function, b"1000000", STEP_US);
        }
        world
    }

    /// One decision on the next key.
    fn decide(&mut self, function: &str, quota: &[u8], step_us: u64) {
        self.now += step_us;
        let key = key_of(&mut self.turn);
        self.effects.clear();
        self.reply.clear();
        let mut run = Execution {
            now: Timestamp::from_micros(self.now),
            mode: Mode::Live,
            denied: None,
            effects: &mut self.effects,
            reply: &mut self.reply,
        };
        let shipped: [&[u8]; 6] = [b"sliding_window", quota, b"100000000", b"1", b"-", b"0"];
        let args = if function == "limiter.decide" { &shipped[..] } else { &shipped[1..4] };
        self.engine
            .call(function, &[key.as_bytes()], args, &mut self.keyspace, &mut run)
            .expect("a reply");
        black_box(&self.reply);
    }
}

/// The next key, in an order that jumps about and meets each equally often.
fn key_of(turn: &mut usize) -> Key {
    *turn = (*turn + 61_803) % KEY_COUNT;
    let mut key = Key { bytes: *b"weir:api-per-client:0:{10.00.000.000}" };
    let mut number = *turn;
    for place in [35, 34, 33, 31, 30, 29] {
        key.bytes[place] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

struct Key {
    bytes: [u8; 37],
}

impl Key {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[divan::bench(args = FUNCTIONS, sample_count = 100, sample_size = 2_000)]
fn admitted(bencher: Bencher<'_, '_>, function: &str) {
    let mut world = World::full(function);
    bencher.bench_local(|| world.decide(function, b"1000000", STEP_US));
}

#[divan::bench(args = FUNCTIONS, sample_count = 100, sample_size = 2_000)]
fn refused(bencher: Bencher<'_, '_>, function: &str) {
    let mut world = World::full(function);
    bencher.bench_local(|| world.decide(function, b"10", 0));
}

/// The same logic without commands, replies, effects and Lua.
#[derive(Default)]
struct Plain {
    keys: HashMap<Vec<u8>, VecDeque<u64>>,
    now: u64,
    turn: usize,
}

impl Plain {
    fn full() -> Plain {
        let mut plain = Plain { now: 1_700_000_000_000_000, ..Plain::default() };
        for _ in 0..KEY_COUNT as u64 * UNITS {
            plain.decide(1_000_000, STEP_US);
        }
        plain
    }

    fn decide(&mut self, quota: u64, step_us: u64) -> [u64; 4] {
        self.now += step_us;
        let key = key_of(&mut self.turn);
        let window = WINDOW_MS * 1_000;
        if !self.keys.contains_key(key.as_bytes()) {
            self.keys.insert(key.as_bytes().to_vec(), VecDeque::new());
        }
        let hits = self.keys.get_mut(key.as_bytes()).expect("inserted above");
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

#[divan::bench(sample_count = 100, sample_size = 2_000)]
fn admitted_in_plain_rust(bencher: Bencher<'_, '_>) {
    let mut plain = Plain::full();
    bencher.bench_local(|| plain.decide(1_000_000, STEP_US));
}

#[divan::bench(sample_count = 100, sample_size = 2_000)]
fn refused_in_plain_rust(bencher: Bencher<'_, '_>) {
    let mut plain = Plain::full();
    bencher.bench_local(|| plain.decide(10, 0));
}
