//! An oracle: the algorithms of `limiter.lua` once more, in whole numbers and in
//! plain Rust, beside which every decision of a random stream is held.
//!
//! A decision is over one to four limits of different algorithms and keys. Admitted,
//! remaining and the time to retry must be the same, limit by limit, and what one
//! limit refuses must have cost the others nothing.

use std::collections::VecDeque;

use super::limiter::{Outcome, outcome};
use super::*;

const ALGORITHMS: [&str; 5] =
    ["sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency"];

/// Quota and window in ms of each algorithm; the burst is twice the quota.
const NUMBERS: [(u64, u64); 5] = [(20, 1_000), (30, 700), (10, 1_300), (25, 900), (8, 400)];

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
    /// Admitted, remaining, and when to retry in ms (-1 for never).
    fn look(&mut self, algorithm: usize, cost: u64, now: u64) -> (bool, u64, i64) {
        let (quota, window_ms) = NUMBERS[algorithm];
        let window = window_ms * 1_000;
        let ms = |us: u64| us.div_ceil(1_000) as i64;
        let (used, capacity, fits_after): (u64, u64, Box<dyn Fn(u64) -> i64>) = match algorithm {
            0 => {
                self.times.retain(|time| time + window > now);
                let times = self.times.clone();
                let used = times.len() as u64;
                let after = move |free: u64| ms(times[(used - free - 1) as usize] + window - now);
                (used, quota, Box::new(after))
            }
            1 => {
                let index = now / window;
                match index - self.index {
                    0 => {}
                    1 => (self.previous, self.current) = (self.current, 0),
                    _ => (self.previous, self.current) = (0, 0),
                }
                self.index = index;
                let (previous, current) = (self.previous, self.current);
                let level = move |at: u64| {
                    let (index_then, rest) = (at / window, window - at % window);
                    match index_then - index {
                        0 => current * window + previous * rest,
                        _ => current * rest,
                    }
                };
                let used = level(now).div_ceil(window);
                let end = now + 2 * window - now % window - 1;
                let after =
                    move |free: u64| ms(first(now, end, |at| level(at) <= free * window) - now);
                (used, quota, Box::new(after))
            }
            2 => {
                let drained = u128::from(now - self.at) * u128::from(quota);
                self.level = self.level.saturating_sub(drained);
                self.at = now;
                let level = self.level;
                let used = level.div_ceil(u128::from(window)) as u64;
                let after = move |free: u64| {
                    let over = level - u128::from(free * window);
                    ms(over.div_ceil(u128::from(quota)) as u64)
                };
                (used, 2 * quota, Box::new(after))
            }
            3 => {
                if now / window != self.index {
                    (self.index, self.current) = (now / window, 0);
                }
                (self.current, quota, Box::new(move |_| ms(window - now % window)))
            }
            _ => {
                self.times.retain(|ends| *ends > now);
                (self.times.len() as u64, quota, Box::new(|_| 0))
            }
        };
        let remaining = capacity - used;
        let retry = match () {
            () if cost <= remaining => 0,
            () if cost > capacity => -1,
            () => fits_after(capacity - cost),
        };
        (cost <= remaining, remaining, retry)
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

/// Asks `count` random questions about `key_count` keys; how many were admitted.
fn judge(count: u64, key_count: u64, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::with_libraries();
    let mut states: Vec<[State; 5]> = (0..key_count).map(|_| Default::default()).collect();
    let mut admitted_count = 0;
    for number in 0..count {
        // Time passes so that keys come near their quotas.
        let step = random.u64(0..80_000 / key_count + 2);
        world.now = Timestamp::from_micros(world.now.micros() + step);
        let now = world.now.micros();
        let limits: Vec<(usize, usize, u64)> = (0..random.usize(1..5))
            .map(|_| (random.usize(0..key_count as usize), random.usize(0..5), random.u64(0..4)))
            .collect();
        let (mut keys, mut args, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for (key, algorithm, cost) in limits {
            let store_key = format!("{}:{key}", ALGORITHMS[algorithm]);
            if keys.contains(&store_key) {
                continue;
            }
            let (quota, window_ms) = NUMBERS[algorithm];
            let option = match algorithm {
                2 => (2 * quota).to_string(),
                4 => format!("lease-{number}"),
                _ => "-".to_owned(),
            };
            let [quota, window_ms, cost_text] = [quota, window_ms, cost].map(|it| it.to_string());
            let name = ALGORITHMS[algorithm].to_owned();
            args.extend([name, quota, window_ms, cost_text, option, "0".to_owned()]);
            keys.push(store_key);
            asked.push((key, algorithm, cost));
        }
        let expected: Vec<(bool, u64, i64)> = asked
            .iter()
            .map(|&(key, algorithm, cost)| states[key][algorithm].look(algorithm, cost, now))
            .collect();
        let admitted = expected.iter().all(|(admitted, ..)| *admitted);
        admitted_count += u64::from(admitted);
        if admitted {
            for &(key, algorithm, cost) in &asked {
                states[key][algorithm].charge(algorithm, cost, now);
            }
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        world.try_call("limiter.decide", &keys, &args).unwrap();
        let View::Array(items) = world.reply.view() else { panic!("{:?}", world.reply) };
        for ((said, expected), asked) in items.map(outcome).zip(expected).zip(&asked) {
            let cost = if admitted { asked.2 as i64 } else { 0 };
            let Outcome { admitted, remaining, retry_after_ms, .. } = said;
            let told = (admitted, remaining + cost, retry_after_ms);
            let expected = (expected.0, expected.1 as i64, expected.2);
            assert_eq!(told, expected, "decision {number} at {now}: {keys:?} {args:?}");
        }
        world.effects.clear();
    }
    admitted_count
}

#[test]
fn every_decision_is_the_oracles() {
    for (key_count, seed) in [(1, 1), (3, 2), (20, 3)] {
        let admitted = judge(6_000, key_count, seed);
        assert!((600..5_400).contains(&admitted), "{admitted} of 6000: nothing is shown");
    }
}

/// Minutes, in a build that is optimised:
/// `cargo test --release --lib ten_million -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn ten_million_decisions_over_ten_thousand_keys_are_the_oracles() {
    let admitted = judge(10_000_000, 10_000, 7);
    assert!((1_000_000..9_000_000).contains(&admitted), "{admitted}");
}
