//! What each algorithm says of the future comes true: properties over random streams
//! of requests, at whatever moments.
//!
//! A world is asked, its clock moved by hand; what it says is tried out on the same
//! key, looking before it leaps.

use proptest::prelude::*;

use super::limiter::{Outcome, outcome};
use super::*;

/// The algorithms that forget with time alone. A lease may come back at any moment,
/// so of those nothing is foretold.
const ALGORITHMS: [&str; 4] = ["sliding_window", "sliding_counter", "token_bucket", "fixed_window"];

/// A limit, and the world it is asked in.
struct Tried {
    world: World,
    algorithm: &'static str,
    quota: u64,
    window_ms: u64,
    option: String,
}

impl Tried {
    fn new(
        algorithm: &'static str,
        quota: u64,
        window_ms: u64,
        burst: u64,
        first_hit: bool,
    ) -> Tried {
        let option = match (algorithm, first_hit) {
            ("token_bucket", _) => burst.to_string(),
            ("fixed_window", true) => "first_hit".to_owned(),
            _ => "-".to_owned(),
        };
        Tried { world: World::with_libraries(), algorithm, quota, window_ms, option }
    }

    fn wait_us(&mut self, us: u64) {
        self.world.now = Timestamp::from_micros(self.world.now.micros() + us);
    }

    fn wait_ms(&mut self, ms: i64) {
        self.wait_us(u64::try_from(ms).unwrap() * 1_000);
    }

    fn ask(&mut self, function: &str, cost: u64) -> Outcome {
        let numbers = [self.quota, self.window_ms, cost].map(|it| it.to_string());
        let [quota, window_ms, cost] = numbers.each_ref().map(String::as_str);
        let args = [self.algorithm, quota, window_ms, cost, &self.option, "0"];
        self.world.try_call(function, &["k"], &args).unwrap();
        let View::Array(mut items) = self.world.reply.view() else { panic!() };
        outcome(items.next().unwrap())
    }

    fn decide(&mut self, cost: u64) -> Outcome {
        self.ask("limiter.decide", cost)
    }

    /// What would be said, with nothing charged.
    fn peek(&mut self, cost: u64) -> Outcome {
        self.ask("limiter.peek", cost)
    }

    /// Whether a refused cost is admitted a millisecond before it was told to come back,
    /// and then. The second charges nothing.
    fn wait_out(&mut self, refused: &Outcome, cost: u64) -> [bool; 2] {
        self.wait_ms(refused.retry_after_ms - 1);
        let too_early = self.decide(cost).admitted;
        self.wait_ms(1);
        [too_early, self.peek(cost).admitted]
    }
}

/// Any of the limits, and requests: microseconds to wait, and a cost.
fn streams() -> impl Strategy<Value = (Tried, Vec<(u64, u64)>)> {
    let numbers = (0..ALGORITHMS.len(), 1_u64..8, 1_u64..5_000, 1_u64..12, any::<bool>());
    numbers.prop_flat_map(|(algorithm, quota, window_ms, burst, first_hit)| {
        // Half of the requests come together, the others within two windows.
        let wait = prop_oneof![Just(0), 0..2_000 * window_ms / quota + 1];
        proptest::collection::vec((wait, 1_u64..4), 1..40).prop_map(move |requests| {
            (Tried::new(ALGORITHMS[algorithm], quota, window_ms, burst, first_hit), requests)
        })
    })
}

impl std::fmt::Debug for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tried { algorithm, quota, window_ms, option, .. } = self;
        write!(f, "{algorithm} {quota} per {window_ms} ms, {option}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn who_waits_as_told_is_admitted_and_who_waits_a_millisecond_less_is_not(
        (mut limit, requests) in streams(),
    ) {
        for (wait_us, cost) in requests {
            limit.wait_us(wait_us);
            let said = limit.decide(cost);
            prop_assert_eq!(said.admitted, said.retry_after_ms == 0);
            if said.retry_after_ms > 0 {
                let waited = limit.wait_out(&said, cost);
                prop_assert_eq!(waited, [false, true], "too early, in time");
                prop_assert!(limit.decide(cost).admitted, "in time");
            } else if !said.admitted {
                // Never: not even by one who has not been here for ever.
                limit.wait_ms(1_000_000_000);
                prop_assert!(!limit.decide(cost).admitted);
            }
        }
    }

    #[test]
    fn a_limit_that_was_edited_tells_the_truth_of_what_others_wrote(
        (mut limit, requests) in streams(),
        (edited, then) in streams(),
    ) {
        for (wait_us, cost) in requests {
            limit.wait_us(wait_us);
            limit.decide(cost);
        }
        // Hits are kept for as long as the window was when they came, and no longer.
        if limit.algorithm != "sliding_window" {
            limit.window_ms = edited.window_ms;
        }
        (limit.algorithm, limit.quota, limit.option) =
            (edited.algorithm, edited.quota, edited.option);
        for (wait_us, cost) in then {
            limit.wait_us(wait_us);
            let said = limit.decide(cost);
            prop_assert_eq!(said.admitted, said.retry_after_ms == 0);
            if said.retry_after_ms > 0 {
                let waited = limit.wait_out(&said, cost);
                prop_assert_eq!(waited, [false, true], "too early, in time");
            }
        }
    }

    #[test]
    fn what_remains_can_be_used_at_once_and_no_more((mut limit, requests) in streams()) {
        for (wait_us, cost) in requests {
            limit.wait_us(wait_us);
            let remaining = u64::try_from(limit.decide(cost).remaining).unwrap();
            prop_assert!(!limit.peek(remaining + 1).admitted);
            prop_assert!(limit.peek(remaining).admitted);
        }
    }

    #[test]
    fn there_is_more_when_the_reset_is_over_and_not_a_millisecond_before(
        (mut limit, requests) in streams(),
    ) {
        for (wait_us, cost) in requests {
            limit.wait_us(wait_us);
            let said = limit.decide(cost);
            if said.reset_after_ms > 0 {
                limit.wait_ms(said.reset_after_ms - 1);
                prop_assert_eq!(limit.peek(0).remaining, said.remaining, "too early");
                limit.wait_ms(1);
                prop_assert!(limit.peek(0).remaining > said.remaining, "in time");
            }
        }
    }

    #[test]
    fn no_window_wherever_it_begins_holds_more_than_the_quota(
        quota in 1_u64..8,
        window_ms in 1_u64..5_000,
        requests in proptest::collection::vec((0_u64..1_000_000, 0_u64..4), 1..120),
    ) {
        let mut limit = Tried::new("sliding_window", quota, window_ms, 0, false);
        let mut admitted: Vec<u64> = Vec::new();
        for (wait, cost) in requests {
            limit.wait_us(if wait % 2 == 0 { 0 } else { wait });
            if limit.decide(cost).admitted {
                admitted.extend((0..cost).map(|_| limit.world.now.micros()));
            }
        }
        for window in admitted.windows(quota as usize + 1) {
            let (first, last) = (window[0], window[quota as usize]);
            prop_assert!(last - first >= window_ms * 1_000, "{first} to {last}");
        }
    }
}
