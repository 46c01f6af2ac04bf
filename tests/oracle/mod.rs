//! An oracle: the algorithms of `limiter.lua` once more, in whole numbers and in
//! plain Rust, beside which every decision of a random stream is held.
//!
//! A decision is over one to four limits of different algorithms and keys. Admitted,
//! remaining and the time to retry must be the same, limit by limit, and what one
//! limit refuses must have cost the others nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends where it fails"
)]

use std::collections::VecDeque;
use std::time::Duration;

use weir::base::clock::Timestamp;
use weir::function::{Engine, Limits};
use weir::keyspace::{Effects, Execution, Keyspace};
use weir::resp::{Reply, View};

const ALGORITHMS: [&str; 5] =
    ["sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency"];

/// Quota and window in ms of each algorithm; the burst is twice the quota.
const NUMBERS: [(u64, u64); 5] = [(20, 1_000), (30, 700), (10, 1_300), (25, 900), (8, 400)];

/// What one limit says: admitted, remaining, and when to retry in ms (-1 for never).
type Said = (bool, u64, i64);

/// One limit of a question: key, algorithm, cost.
type Asked = (usize, usize, u64);

/// The state of one key under one algorithm.
#[derive(Default)]
struct State {
    /// Times of units or, of leases, of their ends.
    times: VecDeque<u64>,
    index: u64,
    previous: u64,
    current: u64,
    level: u128,
    at: u64,
}

impl State {
    /// What the algorithm says about so many units, now.
    fn look(&mut self, algorithm: usize, cost: u64, now: u64) -> Said {
        let (quota, window_ms) = NUMBERS[algorithm];
        let window = window_ms * 1_000;
        self.pass(algorithm, quota, window, now);
        let used = match algorithm {
            0 | 4 => self.times.len() as u64,
            1 => self.counter_level(window, now).div_ceil(window),
            2 => self.level.div_ceil(u128::from(window)) as u64,
            _ => self.current,
        };
        let capacity = if algorithm == 2 { 2 * quota } else { quota };
        let remaining = capacity - used;
        let retry = match () {
            () if cost <= remaining => 0,
            () if cost > capacity => -1,
            () => self.fits_after(algorithm, capacity - cost, now),
        };
        (cost <= remaining, remaining, retry)
    }

    /// Lets time pass: what no longer counts goes.
    fn pass(&mut self, algorithm: usize, quota: u64, window: u64, now: u64) {
        match algorithm {
            0 => {
                while self.times.front().is_some_and(|time| time + window <= now) {
                    self.times.pop_front();
                }
            }
            1 => {
                let index = now / window;
                match index - self.index {
                    0 => {}
                    1 => (self.previous, self.current) = (self.current, 0),
                    _ => (self.previous, self.current) = (0, 0),
                }
                self.index = index;
            }
            2 => {
                let drained = u128::from(now - self.at) * u128::from(quota);
                self.level = self.level.saturating_sub(drained);
                self.at = now;
            }
            3 => {
                if now / window != self.index {
                    (self.index, self.current) = (now / window, 0);
                }
            }
            _ => {
                while self.times.front().is_some_and(|ends| *ends <= now) {
                    self.times.pop_front();
                }
            }
        }
    }

    /// Units of a sliding counter, times its window, at a moment of this window or
    /// the next.
    fn counter_level(&self, window: u64, at: u64) -> u64 {
        let rest = window - at % window;
        match at / window - self.index {
            0 => self.current * window + self.previous * rest,
            _ => self.current * rest,
        }
    }

    /// In how many ms no more than `free` units will be in use.
    fn fits_after(&self, algorithm: usize, free: u64, now: u64) -> i64 {
        let (quota, window_ms) = NUMBERS[algorithm];
        let window = window_ms * 1_000;
        let us = match algorithm {
            0 => self.times[self.times.len() - free as usize - 1] + window - now,
            1 => {
                let end = now + 2 * window - now % window - 1;
                first(now, end, |at| self.counter_level(window, at) <= free * window) - now
            }
            2 => (self.level - u128::from(free * window)).div_ceil(u128::from(quota)) as u64,
            3 => window - now % window,
            // A lease may come back at any moment.
            _ => 0,
        };
        us.div_ceil(1_000) as i64
    }

    fn charge(&mut self, algorithm: usize, cost: u64, now: u64) {
        let window = NUMBERS[algorithm].1 * 1_000;
        match algorithm {
            0 => self.times.extend((0..cost).map(|_| now)),
            1 | 3 => self.current += cost,
            2 => self.level += u128::from(cost * window),
            _ => self.times.extend((0..cost).map(|_| now + window)),
        }
    }
}

/// The first moment from `low` to `high` at which `holds`, which then holds for good.
fn first(mut low: u64, mut high: u64, holds: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The engine under test, on a clock that the stream moves.
struct World {
    engine: Engine,
    keyspace: Keyspace,
    effects: Effects,
    reply: Reply,
    now: u64,
    /// The store key of each key under each algorithm.
    store_keys: Vec<[String; 5]>,
    /// Quota, window and burst of each algorithm, as text.
    texts: [[String; 3]; 5],
}

impl World {
    fn new(key_count: usize) -> World {
        // A build that is not optimised may take its time.
        let limits = Limits { call_time_max: Duration::from_secs(5), ..Limits::DEFAULT };
        let mut engine = Engine::new(limits).unwrap();
        engine.load(include_str!("../../functions/limiter.lua"), false).unwrap();
        let texts = NUMBERS.map(|(quota, window_ms)| {
            [quota, window_ms, 2 * quota].map(|number| number.to_string())
        });
        let names = |key| ALGORITHMS.map(|algorithm| format!("{algorithm}:{key}"));
        World {
            engine,
            keyspace: Keyspace::new(),
            effects: Effects::new(),
            reply: Reply::new(),
            now: 1_700_000_000_123_456,
            store_keys: (0..key_count).map(names).collect(),
            texts,
        }
    }

    /// Asks `limiter.decide`; what each limit said lands in `said`.
    fn decide(&mut self, number: u64, asked: &[Asked], said: &mut Vec<Said>) {
        const COSTS: [&str; 4] = ["0", "1", "2", "3"];
        let World { engine, keyspace, effects, reply, now, store_keys, texts } = self;
        let lease = format!("lease-{number}");
        let (mut keys, mut args): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
        for &(key, algorithm, cost) in asked {
            let [quota, window_ms, burst] = &texts[algorithm];
            let option = [burst, &lease, "-"][[2, 2, 0, 2, 1][algorithm]];
            let name = ALGORITHMS[algorithm];
            let words = [name, quota, window_ms, COSTS[cost as usize], option, "0"];
            args.extend(words.map(str::as_bytes));
            keys.push(store_keys[key][algorithm].as_bytes());
        }
        effects.clear();
        reply.clear();
        let now = Timestamp::from_micros(*now);
        let mut run = Execution::live(now, effects, reply);
        engine.call("limiter.decide", &keys, &args, keyspace, &mut run).unwrap();
        let View::Array(items) = self.reply.view() else { panic!("{:?}", self.reply) };
        said.extend(items.map(read));
    }
}

/// `{admitted, remaining, reset_after_ms, retry_after_ms, now_us}`.
fn read(view: View<'_>) -> Said {
    let View::Array(mut items) = view else { panic!("{view:?}") };
    let mut number = || match items.next() {
        Some(View::Integer(number)) => number,
        other => panic!("{other:?}"),
    };
    let (admitted, remaining, _reset, retry) = (number(), number(), number(), number());
    (admitted == 1, u64::try_from(remaining).unwrap(), retry)
}

/// Asks `count` random questions about `key_count` keys and judges every answer;
/// how many were admitted.
///
/// # Panics
/// At the first wrong answer.
pub fn judge(count: u64, key_count: usize, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(key_count);
    let mut states: Vec<[State; 5]> = (0..key_count).map(|_| Default::default()).collect();
    let (mut asked, mut expected, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let mut admitted_count = 0;
    for number in 0..count {
        // Time passes so that keys come near their quotas.
        world.now += random.u64(0..80_000 / key_count as u64 + 2);
        let now = world.now;
        asked.clear();
        for _ in 0..random.usize(1..5) {
            let limit = (random.usize(0..key_count), random.usize(0..5), random.u64(0..4));
            if !asked
                .iter()
                .any(|&(key, algorithm, _): &Asked| (key, algorithm) == (limit.0, limit.1))
            {
                asked.push(limit);
            }
        }
        expected.clear();
        for &(key, algorithm, cost) in &asked {
            expected.push(states[key][algorithm].look(algorithm, cost, now));
        }
        let admitted = expected.iter().all(|(admitted, ..)| *admitted);
        if admitted {
            admitted_count += 1;
            for (&(key, algorithm, cost), said) in asked.iter().zip(&mut expected) {
                states[key][algorithm].charge(algorithm, cost, now);
                said.1 -= cost;
            }
        }
        said.clear();
        world.decide(number, &asked, &mut said);
        assert!(
            said == expected,
            "decision {number} at {now} over {asked:?}:\n  said     {said:?}\n  expected {expected:?}"
        );
    }
    admitted_count
}
