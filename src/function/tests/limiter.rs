//! The libraries that ship, as timelines. Both files also load into redis-server
//! 7.0.15, where a short sequence was compared by hand.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

impl World {
    fn with_libraries() -> World {
        // A build that is not optimised may take its time.
        let call_time_max = Duration::from_secs(5);
        let mut world = World::with_limits(Limits { call_time_max, ..Limits::DEFAULT });
        world.engine.load(include_str!("../../../functions/limiter.lua"), false).unwrap();
        world.engine.load(include_str!("../../../functions/mylimiter.lua"), false).unwrap();
        world
    }

    fn wait(&mut self, micros: u64) {
        self.now = Timestamp::from_micros(self.now.micros() + micros);
    }

    /// Asks `limiter.decide` over limits of key, quota, window in ms and cost.
    fn decide(&mut self, limits: &[(&str, u64, u64, u64)]) -> Vec<Outcome> {
        let keys: Vec<&str> = limits.iter().map(|it| it.0).collect();
        let numbers: Vec<String> =
            limits.iter().flat_map(|it| [it.1, it.2, it.3]).map(|it| it.to_string()).collect();
        let args: Vec<&str> = numbers.iter().map(String::as_str).collect();
        self.try_call("limiter.decide", &keys, &args).unwrap();
        let View::Array(items) = self.reply.view() else { panic!("{:?}", self.reply) };
        items.map(outcome).collect()
    }

    /// Asks for one limit.
    fn ask(&mut self, key: &str, quota: u64, window_ms: u64, cost: u64) -> Outcome {
        self.decide(&[(key, quota, window_ms, cost)])[0]
    }
}

/// `{admitted, remaining, reset_after_ms, retry_after_ms}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    admitted: bool,
    remaining: i64,
    reset_after_ms: i64,
    retry_after_ms: i64,
}

fn outcome(view: View<'_>) -> Outcome {
    let View::Array(items) = view else { panic!("{view:?}") };
    let numbers: Vec<i64> = items
        .map(|item| match item {
            View::Integer(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    let [admitted, remaining, reset_after_ms, retry_after_ms] = numbers[..] else {
        panic!("{numbers:?}")
    };
    Outcome { admitted: admitted == 1, remaining, reset_after_ms, retry_after_ms }
}

/// Runs a timeline and compares what happened, as text, with what is written.
///
/// The first line names the limits of every call, `key: quota per ms`. Each line
/// after it is a moment in ms, the keys, and what the limits say: units left and
/// reset, or `deny` and when to retry.
#[track_caller]
fn spec(timeline: &str) {
    let lines: Vec<&str> = timeline
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .collect();
    let limits: Vec<(&str, u64, u64)> = lines[0]
        .split(", ")
        .map(|limit| {
            let (key, rest) = limit.split_once(": ").unwrap();
            let (quota, window_ms) = rest.split_once(" per ").unwrap();
            (key, quota.parse().unwrap(), window_ms.parse().unwrap())
        })
        .collect();
    let mut world = World::with_libraries();
    let mut happened = vec![lines[0].to_owned()];
    for line in &lines[1..] {
        let (call, _) = line.split_once(" -> ").unwrap();
        let mut words = call.split_whitespace();
        let at: f64 = words.next().unwrap().parse().unwrap();
        world.now = Timestamp::from_micros(START.micros() + (at * 1000.0) as u64);
        let asked: Vec<(&str, u64, u64, u64)> = words
            .map(|word| {
                let (key, cost) = word.split_once('*').unwrap_or((word, "1"));
                let (_, quota, window_ms) = *limits.iter().find(|it| it.0 == key).unwrap();
                (key, quota, window_ms, cost.parse().unwrap())
            })
            .collect();
        let outcomes: Vec<String> = world.decide(&asked).into_iter().map(told).collect();
        happened.push(format!("{call} -> {}", outcomes.join(", ")));
    }
    let (happened, written) = (happened.join("\n"), lines.join("\n"));
    assert!(happened == written, "\nwritten:\n{written}\n\nhappened:\n{happened}\n");
}

fn told(it: Outcome) -> String {
    match it.admitted {
        true => format!("{} left until {}", it.remaining, it.reset_after_ms),
        false => format!(
            "deny {} left until {} retry {}",
            it.remaining, it.reset_after_ms, it.retry_after_ms
        ),
    }
}

#[test]
fn a_window_slides_hit_by_hit() {
    spec(
        "
        ann: 3 per 10000, bob: 3 per 10000
        0 ann -> 2 left until 10000
        4000 ann -> 1 left until 6000
        5000 ann -> 0 left until 5000
        6000 ann -> deny 0 left until 4000 retry 4000       # the hit of 0 leaves at 10000
        6000 bob -> 2 left until 10000                      # quotas are per key
        9999.999 ann -> deny 0 left until 1 retry 1         # a microsecond too early
        10000 ann -> 0 left until 4000                      # exactly one place came free
        11000 ann -> deny 0 left until 3000 retry 3000      # a refused hit cost nothing
        14000 ann -> 0 left until 1000
        50000 ann -> 2 left until 10000                     # all forgotten
    ",
    );
}

#[test]
fn several_limits_are_charged_all_or_none() {
    spec(
        "
        second: 2 per 1000, hour: 3 per 3600000
        0 second hour -> 1 left until 1000, 2 left until 3600000
        100 second hour -> 0 left until 900, 1 left until 3599900
        200 second hour -> deny 0 left until 800 retry 800, 1 left until 3599800
        200 hour second -> 1 left until 3599800, deny 0 left until 800 retry 800
        1000 second hour -> 0 left until 100, 0 left until 3599000
        1500 second hour -> 1 left until 500, deny 0 left until 3598500 retry 3598500
        1500 second -> 0 left until 500                     # it was not charged
    ",
    );
}

#[test]
fn a_cost_waits_for_as_many_units_as_it_needs() {
    spec(
        "
        ann: 5 per 10000
        0 ann*2 -> 3 left until 10000
        1000 ann*2 -> 1 left until 9000
        2000 ann*2 -> deny 1 left until 8000 retry 8000     # one unit short
        2000 ann*3 -> deny 1 left until 8000 retry 8000     # two, of the same hit
        2000 ann*4 -> deny 1 left until 8000 retry 9000     # three, of two hits
        2000 ann*5 -> deny 1 left until 8000 retry 9000
        2000 ann*6 -> deny 1 left until 8000 retry -1       # never
        2000 ann*0 -> 1 left until 8000                     # only looks
        2000 ann -> 0 left until 8000
        2000 ann*0 -> 0 left until 8000
        10000 ann*2 -> 0 left until 1000
    ",
    );
}

#[test]
fn a_burst_within_one_microsecond_admits_the_quota_and_no_more() {
    let mut world = World::with_libraries();
    let admitted = (0..10_000).filter(|_| world.ask("k", 100, 10_000, 1).admitted).count();
    assert_eq!(admitted, 100);
    world.wait(9_999_999);
    assert!(!world.ask("k", 100, 10_000, 1).admitted);
    world.wait(1);
    assert_eq!((0..200).filter(|_| world.ask("k", 100, 10_000, 1).admitted).count(), 100);
}

#[test]
fn members_stay_unique_when_the_library_is_loaded_anew() {
    let mut world = World::with_libraries();
    let code = include_str!("../../../functions/limiter.lua");
    for left in (0..50).rev() {
        assert_eq!(world.ask("k", 50, 10_000, 1).remaining, left);
        world.engine.load(code, true).unwrap();
    }
    assert!(!world.ask("k", 50, 10_000, 1).admitted);
    assert_eq!(world.ask("big", 5_000, 10_000, 2_500).remaining, 2_500);
    world.engine.load(code, true).unwrap();
    assert_eq!(world.ask("big", 5_000, 10_000, 2_500).remaining, 0);
    assert!(!world.ask("big", 5_000, 10_000, 1).admitted);
}

#[test]
fn a_key_is_gone_when_its_last_unit_has_left() {
    let mut world = World::with_libraries();
    world.ask("k", 5, 1_000, 1);
    assert_eq!(world.keyspace.len(), 1);
    world.wait(1_003_000);
    assert_eq!(world.run("return redis.call('exists', 'k')"), "0");
    assert_eq!(world.ask("none", 5, 1_000, 0).remaining, 5);
    assert_eq!(world.run("return redis.call('exists', 'none')"), "0", "a look leaves nothing");
}

#[test]
fn a_lowered_quota_refuses_until_enough_has_left() {
    let mut world = World::with_libraries();
    for _ in 0..10 {
        assert!(world.ask("k", 10, 10_000, 1).admitted);
        world.wait(1_000_000);
    }
    // The tenth second: the first hit leaves now; nine count.
    let told = told(world.ask("k", 4, 10_000, 1));
    assert_eq!(told, "deny 0 left until 1000 retry 6000");
}

#[test]
fn what_is_no_limit_is_refused() {
    let mut world = World::with_libraries();
    let three = "-ERR each key takes three arguments: quota window_ms cost";
    let whole = "-ERR quota, window_ms and cost must be whole numbers";
    let cases: [(&[&str], &[&str], &str); 10] = [
        (&[], &[], three),
        (&["k"], &[], three),
        (&["k"], &["1", "1000"], three),
        (&["k"], &["1", "1000", "1", "1"], three),
        (&["k"], &["x", "1000", "1"], whole),
        (&["k"], &["1", "0", "1"], "-ERR window_ms must be at least 1"),
        (&["k"], &["1", "1000", "-1"], whole),
        (&["k"], &["1", "1000", "0.5"], whole),
        (&["k"], &["1", "1000", "nan"], whole),
        (
            &["k", "k"],
            &["1", "1000", "1", "1", "1000", "1"],
            "-ERR each limit needs a key of its own",
        ),
    ];
    for (keys, args, expected) in cases {
        assert_eq!(world.call("decide", keys, args), expected, "{keys:?} {args:?}");
    }
    assert_eq!(world.call("sliding_window", &["k"], &["1"]), three);
    let one = "-ERR sliding_window takes one key";
    assert_eq!(world.call("sliding_window", &["a", "b"], &["1", "1000", "1"]), one);
    assert_eq!(world.call("sliding_window", &["k"], &["1", "1000", "1"]), "[1 0 1000 0]");
    assert_eq!(world.call("sliding_window", &["k"], &["1", "1000", "1"]), "[0 0 1000 1000]");
    assert!(world.keyspace.len() == 1, "what was refused wrote nothing");
}

#[test]
fn the_example_admits_its_quota_in_each_window() {
    let mut world = World::with_libraries();
    let ask =
        |world: &mut World, cost| world.call("mylimiter.allow", &["k"], &["3", "10000", cost]);
    assert_eq!([0; 4].map(|_| ask(&mut world, "1")), ["1", "1", "1", "0"]);
    world.wait(9_999_999);
    assert_eq!(ask(&mut world, "1"), "0");
    world.wait(1);
    assert_eq!(["2", "2", "1", "1"].map(|cost| ask(&mut world, cost)), ["1", "0", "1", "0"]);
}

/// The limiter as anyone would write it who has all the time in the world.
#[derive(Default)]
struct Model {
    hits: [VecDeque<u64>; 3],
}

impl Model {
    fn decide(&mut self, now: u64, limits: &[(usize, u64, u64, u64)]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = limits
            .iter()
            .map(|&(key, quota, ms, cost)| self.look(now, key, quota, ms, cost))
            .collect();
        if outcomes.iter().all(|it| it.admitted) {
            for (outcome, &(key, quota, window_ms, cost)) in outcomes.iter_mut().zip(limits) {
                self.hits[key].extend((0..cost).map(|_| now));
                *outcome = Outcome { admitted: true, ..self.look(now, key, quota, window_ms, 0) };
            }
        }
        outcomes
    }

    fn look(&mut self, now: u64, key: usize, quota: u64, window_ms: u64, cost: u64) -> Outcome {
        let window = window_ms * 1000;
        self.hits[key].retain(|hit| hit + window > now);
        let hits = &self.hits[key];
        let used = hits.len() as u64;
        let leaves_after_ms = |hit: u64| (hit + window - now).div_ceil(1000) as i64;
        let admitted = used + cost <= quota;
        Outcome {
            admitted,
            remaining: quota as i64 - used.min(quota) as i64,
            reset_after_ms: hits.front().map_or(0, |&oldest| leaves_after_ms(oldest)),
            retry_after_ms: match () {
                () if admitted => 0,
                () if cost > quota => -1,
                () => leaves_after_ms(hits[(used + cost - quota - 1) as usize]),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_those_of_the_naive_model(
        calls in proptest::collection::vec(
            (0_u64..400_000, proptest::sample::subsequence(vec![0_usize, 1, 2], 1..=3), 0_u64..4),
            1..120,
        ),
        quotas in proptest::array::uniform3(0_u64..8),
    ) {
        const KEYS: [&str; 3] = ["a", "b", "c"];
        const WINDOWS_MS: [u64; 3] = [100, 1_000, 777];
        let (mut world, mut model) = (World::with_libraries(), Model::default());
        for (wait, keys, cost) in calls {
            // Half of the calls come in the same microsecond as the one before.
            world.wait(if wait % 2 == 0 { 0 } else { wait });
            let asked: Vec<_> =
                keys.iter().map(|&key| (KEYS[key], quotas[key], WINDOWS_MS[key], cost)).collect();
            let modelled: Vec<_> =
                keys.iter().map(|&key| (key, quotas[key], WINDOWS_MS[key], cost)).collect();
            let expected = model.decide(world.now.micros(), &modelled);
            prop_assert_eq!(world.decide(&asked), expected);
        }
    }

    #[test]
    fn waiting_as_told_is_admitted_and_a_millisecond_less_is_not(
        waits in proptest::collection::vec(0_u64..3_000_000, 1..40),
        quota in 1_u64..6,
        cost in 1_u64..6,
    ) {
        let mut world = World::with_libraries();
        for wait in waits {
            world.wait(wait);
            let refused = world.ask("k", quota, 5_000, cost);
            if refused.retry_after_ms > 0 {
                world.wait(refused.retry_after_ms as u64 * 1000 - 1000);
                prop_assert!(!world.ask("k", quota, 5_000, cost).admitted);
                world.wait(1000);
                prop_assert!(world.ask("k", quota, 5_000, cost).admitted);
            } else {
                prop_assert_eq!(refused.retry_after_ms, if cost > quota { -1 } else { 0 });
            }
        }
    }
}
