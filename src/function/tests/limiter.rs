//! The libraries that ship: what is not said by timelines ([`super::timelines`]), and
//! the decisions of a naive model beside theirs.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

impl World {
    pub(super) fn with_libraries() -> World {
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
        let words: Vec<String> = limits
            .iter()
            .flat_map(|it| {
                let [quota, window_ms, cost] = [it.1, it.2, it.3].map(|it| it.to_string());
                ["sliding_window".into(), quota, window_ms, cost, "-".into(), "0".into()]
            })
            .collect();
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
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
pub(super) struct Outcome {
    pub(super) admitted: bool,
    pub(super) remaining: i64,
    pub(super) reset_after_ms: i64,
    pub(super) retry_after_ms: i64,
}

pub(super) fn outcome(view: View<'_>) -> Outcome {
    let View::Array(items) = view else { panic!("{view:?}") };
    let numbers: Vec<i64> = items
        .map(|item| match item {
            View::Integer(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    let [admitted, remaining, reset_after_ms, retry_after_ms, _now_us] = numbers[..] else {
        panic!("{numbers:?}")
    };
    Outcome { admitted: admitted == 1, remaining, reset_after_ms, retry_after_ms }
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
    let told = timelines::told(world.ask("k", 4, 10_000, 1));
    assert_eq!(told, "deny 0 left until 6000 retry 6000", "that is when there is more quota");
}

#[test]
fn what_is_settled_does_not_shorten_how_long_hits_are_kept() {
    let mut world = World::with_libraries();
    world.ask("k", 5, 1_000, 1);
    // The window became longer while a request was under way.
    world.ask("k", 5, 60_000, 1);
    let charged_at = world.now.micros().to_string();
    for (units, kept_ms) in [("2", "60001"), ("-1", "60001")] {
        let args = ["sliding_window", "5", "1000", units, "-", &charged_at];
        assert_eq!(world.call("adjust", &["k"], &args), "1");
        assert_eq!(world.run("return redis.call('pttl', 'k')"), kept_ms);
    }
    world.wait(30_000_000);
    assert_eq!(world.ask("k", 5, 60_000, 0).remaining, 2);
    // Of a key that is new, or holds what another algorithm wrote, hits are kept, too.
    for key in ["new", "text"] {
        world.call("fixed_window", &["text"], &["5", "1000", "1"]);
        let args = ["sliding_window", "5", "1000", "1", "-", "0"];
        assert_eq!(world.call("adjust", &[key], &args), "1");
        assert_eq!(world.run(&format!("return redis.call('pttl', '{key}')")), "1001");
    }
}

#[test]
fn a_wrong_call_says_what_is_wrong_and_writes_nothing() {
    let mut world = World::with_libraries();
    let six = "-ERR each key takes six arguments: algorithm quota window_ms cost option group";
    let whole = "-ERR quota, window_ms and cost must be whole numbers";
    let cases: [(&[&str], &str, &str); 11] = [
        (&[], "", six),
        (&["k"], "", six),
        (&["k"], "sliding_window 1 1000 1 -", six),
        (&["k"], "sliding_window 1 1000 1 - 0 0", six),
        (&["k"], "window 1 1000 1 - 0", "-ERR unknown algorithm"),
        (&["k"], "sliding_window x 1000 1 - 0", whole),
        (&["k"], "sliding_window 1 0 1 - 0", "-ERR window_ms must be at least 1"),
        (&["k"], "sliding_window 1 1000 -1 - 0", whole),
        (&["k"], "sliding_window 1 1000 nan - 0", whole),
        (
            &["k"],
            "token_bucket 1 1000 1 - 0",
            "-ERR a token bucket needs a quota, and its burst as option",
        ),
        (
            &["k", "k"],
            "sliding_window 1 1000 1 - 0 sliding_window 1 1000 1 - 0",
            "-ERR each limit needs a key of its own",
        ),
    ];
    for (keys, args, expected) in cases {
        let args: Vec<&str> = args.split_whitespace().collect();
        assert_eq!(world.call("decide", keys, &args), expected, "{keys:?} {args:?}");
    }
    let one = "-ERR sliding_window takes one key and quota window_ms cost [option]";
    assert_eq!(world.call("sliding_window", &["k"], &["1"]), one);
    assert_eq!(world.call("sliding_window", &["a", "b"], &["1", "1000", "1"]), one);
    assert_eq!(world.keyspace.len(), 0);
}

#[test]
fn each_algorithm_is_a_function_of_its_own() {
    let mut world = World::with_libraries();
    for (name, first, second) in [
        ("sliding_window", "[1 0 1000 0 ", "[0 0 1000 1000 "),
        ("sliding_counter", "[1 0 1877 0 ", "[0 0 1877 1877 "),
        ("token_bucket", "[1 0 1000 0 ", "[0 0 1000 1000 "),
        ("fixed_window", "[1 0 877 0 ", "[0 0 877 877 "),
        ("concurrency", "[1 0 0 0 ", "[0 0 0 0 "),
    ] {
        for expected in [first, second] {
            let said = world.call(name, &[name], &["1", "1000", "1"]);
            assert!(said.starts_with(expected), "{name}: {said}");
        }
    }
}

proptest! {
    #[test]
    fn limits_of_several_lengths_over_one_key_forget_nothing_for_one_another(
        limits in proptest::collection::vec((1u64..8, 1u64..40), 2..4),
        asked in proptest::collection::vec((0usize..3, 0u64..9_000, 1u64..3), 1..200),
    ) {
        let mut world = World::with_libraries();
        let kept_ms = limits.iter().map(|it| it.1).max().unwrap();
        let kept = limits.iter().map(|it| it.0).max().unwrap();
        let option = format!("{kept_ms}/{kept}");
        let mut hits: Vec<u64> = Vec::new();
        for (index, wait_us, cost) in asked {
            world.wait(wait_us);
            let (quota, window_ms) = limits[index % limits.len()];
            let now = world.now.micros();
            let used = hits.iter().filter(|hit| **hit + window_ms * 1_000 > now).count() as u64;
            let words = [quota, window_ms, cost].map(|it| it.to_string());
            let args = [&words[0], &words[1], &words[2], &option].map(|it| it.as_str());
            world.try_call("limiter.sliding_window", &["k"], &args).unwrap();
            let said = outcome(world.reply.view());
            prop_assert_eq!(said.admitted, used + cost <= quota);
            let charged = if said.admitted { cost } else { 0 };
            prop_assert_eq!(said.remaining, quota.saturating_sub(used + charged) as i64);
            hits.extend((0..charged).map(|_| now));
            if !said.admitted {
                let more_at = now + said.reset_after_ms as u64 * 1_000;
                let left = |at: u64| hits.iter().filter(|it| **it + window_ms * 1_000 > at).count();
                prop_assert!((left(more_at) as u64) < quota);
                let is_early = left(more_at - 1_000) as u64 >= quota.min(used);
                prop_assert!(is_early, "there was more quota a millisecond before");
            }
            if !said.admitted && cost <= quota {
                let after_us = said.retry_after_ms as u64 * 1_000;
                let left = |at: u64| hits.iter().filter(|it| **it + window_ms * 1_000 > at).count();
                prop_assert!(left(now + after_us) as u64 + cost <= quota);
                prop_assert!(left(now + after_us - 1_000) as u64 + cost > quota);
            }
            let members = world.send(&["eval", "return redis.call('ZCARD', 'k')", "0"]);
            prop_assert!(members.parse::<u64>().unwrap() <= kept + cost, "{members} of {kept}");
        }
    }
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
}
