//! Timelines of requests that wait for their turn: the runtime's clock and the store's
//! are moved together, a millisecond at a time.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time;

use super::super::{FailureMode, Limiter, Scratch, Verdict};
use super::{Fields, World};
use crate::base::clock::Timestamp;
use crate::policy::RequestFacts;

/// Plays requests, `AT KEY [cost C] [leaves AT] [holds MS] [used UNITS] [violates]` in ms,
/// for so long, and compares what happened, in the order in which it did: `AT KEY admit`.
#[track_caller]
pub(super) fn check(
    policies: &str,
    requests: &[&str],
    lasts_ms: u64,
    expected: &[&str],
) -> Limiter {
    let World { limiter, clock, mut payments, .. } = World::new(policies, FailureMode::Open);
    let happened = RefCell::new(Vec::new());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let began = limiter.store().now();
        type Part<'p> = Pin<Box<dyn Future<Output = ()> + 'p>>;
        let mut parts: Vec<Part<'_>> = Vec::new();
        for line in requests {
            parts.push(Box::pin(play(&limiter, line, began, &happened)));
        }
        parts.push(Box::pin(async {
            for _ in 0..lasts_ms {
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                payments.pay_waiting(&limiter).await;
                clock.advance(Duration::from_millis(1));
                time::advance(Duration::from_millis(1)).await;
            }
        }));
        poll_fn(|cx| {
            parts.retain_mut(|part| part.as_mut().poll(cx).is_pending());
            if parts.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    assert_eq!(*happened.borrow(), expected);
    limiter
}

/// Plays one request and notes what became of it.
async fn play(limiter: &Limiter, line: &str, began: Timestamp, happened: &RefCell<Vec<String>>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let named = |name: &str| words.iter().position(|it| *it == name).map(|at| at + 1);
    let cost = named("cost").map_or("1", |at| words[at]).to_owned();
    time::sleep(Duration::from_millis(number(0))).await;
    let group = words[1].trim_end_matches(char::is_numeric).to_owned();
    let fields = Fields(vec![("x-key".to_owned(), group), ("x-cost".to_owned(), cost)]);
    let facts = RequestFacts {
        method: "GET",
        host: "example.com",
        path: "/",
        query: "",
        client: "192.0.2.1".parse().unwrap(),
        headers: &fields,
        body_bytes: None,
        descriptors: &[],
    };
    let mut scratch = Scratch::default();
    let decided = limiter.check_within(Duration::MAX, &facts, &mut scratch);
    let stays = named("leaves").map_or(1 << 40, |at| number(at) - number(0));
    let decided = time::timeout(Duration::from_millis(stays), decided).await;
    let at = limiter.store().now().since(began).as_millis();
    let mut dues = None;
    let what = match decided {
        Err(_) => "left".to_owned(),
        Ok(decision) => match (decision.verdict, decision.refusal) {
            (Verdict::Admit, _) => {
                dues = decision.dues;
                "admit".to_owned()
            }
            (_, Some(refusal)) if named("violates").is_some() => {
                let problem: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap();
                format!("{} {}", refusal.status, problem["violated-policies"])
            }
            (_, Some(refusal)) => match refusal.retry_after_seconds {
                Some(wait) => format!("{} retry in {wait}s", refusal.status),
                None => format!("{}", refusal.status),
            },
            (Verdict::Deny, None) => "deny".to_owned(),
        },
    };
    happened.borrow_mut().push(format!("{at} {} {what}", words[1]));
    time::sleep(Duration::from_millis(named("holds").map_or(0, number))).await;
    if let (Some(dues), Some(at)) = (&mut dues, named("used")) {
        dues.head(200, &Fields(vec![("x-used".to_owned(), words[at].to_owned())]));
    }
    drop(dues);
}

fn policy(limit: &str, delay: &str) -> String {
    format!(
        "
policies:
  - name: p
    key: header:x-key
    cost: header:x-cost
    limits: [{{ {limit} }}]
    on_deny: {{ delay: {{ {delay} }} }}
"
    )
}

const SIX: [&str; 6] = ["0 a1", "0 a2", "0 a3", "0 a4", "0 a5", "0 a6"];

#[test]
fn six_at_once_under_two_a_second_pass_two_a_second_in_their_order() {
    check(
        &policy("quota: 2, window: 1s", "wait_max: 5s"),
        &SIX,
        2_100,
        &[
            "0 a1 admit",
            "0 a2 admit",
            "1000 a3 admit",
            "1000 a4 admit",
            "2000 a5 admit",
            "2000 a6 admit",
        ],
    );
    check(
        &policy("quota: 2, window: 1s, algorithm: token_bucket, burst: 1", "wait_max: 5s"),
        &SIX,
        2_600,
        &[
            "0 a1 admit",
            "500 a2 admit",
            "1000 a3 admit",
            "1500 a4 admit",
            "2000 a5 admit",
            "2500 a6 admit",
        ],
    );
}

#[test]
fn nobody_overtakes_one_who_waits_even_with_room_for_him() {
    check(
        &policy("quota: 3, window: 1s", "wait_max: 5s"),
        &["0 a1 cost 2", "10 a2 cost 2", "20 a3 cost 1", "20 b1 cost 3"],
        1_100,
        &["0 a1 admit", "20 b1 admit", "1000 a2 admit", "1000 a3 admit"],
    );
}

#[test]
fn what_cannot_be_in_time_or_finds_no_place_is_refused() {
    // The third would have to wait for two seconds: told when that is sure.
    check(
        &policy("quota: 1, window: 1s", "wait_max: 1500ms"),
        &["0 a1", "0 a2", "0 a3"],
        1_100,
        &["0 a1 admit", "1000 a2 admit", "1000 a3 429 retry in 1s"],
    );
    check(
        &policy("quota: 1, window: 10s", "wait_max: 1500ms"),
        &["0 a1", "0 a2"],
        1_600,
        &["0 a1 admit", "0 a2 429 retry in 10s"],
    );
    check(
        &policy("quota: 1, window: 1s", "wait_max: 5s, waiting_max: 1"),
        &["0 a1", "0 a2", "0 a3", "0 b1", "0 b2"],
        1_100,
        &[
            "0 a1 admit",
            "0 a3 429 retry in 1s",
            "0 b1 admit",
            "0 b2 429 retry in 1s",
            "1000 a2 admit",
        ],
    );
    check(
        &policy("quota: 1, window: 1s", "wait_max: 5s, memory_max: 2KiB"),
        &["0 a1", "0 a2", "0 a3"],
        1_100,
        &["0 a1 admit", "0 a3 429 retry in 1s", "1000 a2 admit"],
    );
    // What was never asked about holds no lease.
    let leased = "
  - name: leased
    limits: [{ quota: 9, algorithm: concurrency, candidate: { quota: 1, algorithm: concurrency } }]";
    check(
        &(policy("quota: 1, window: 1s", "wait_max: 5s, waiting_max: 1") + leased),
        &["0 a1", "0 a2", "0 a3"],
        1_100,
        &["0 a1 admit", "0 a3 429 retry in 1s", "1000 a2 admit"],
    );
    // Over the quota: waiting does not help.
    check(&policy("quota: 1, window: 1s", "wait_max: 5s"), &["0 a1 cost 2"], 10, &["0 a1 429"]);
}

#[test]
fn whoever_leaves_leaves_his_place_to_the_next() {
    check(
        &policy("quota: 1, window: 1s", "wait_max: 5s, waiting_max: 2"),
        &["0 a1", "0 a2 leaves 500", "0 a3", "100 a4", "600 a5"],
        2_200,
        &["0 a1 admit", "100 a4 429 retry in 1s", "500 a2 left", "1000 a3 admit", "2000 a5 admit"],
    );
}

#[test]
fn requests_under_two_policies_that_delay_never_wait_for_each_other() {
    let policies = "
policies:
  - name: each
    key: header:x-key
    limits: [{ quota: 1, window: 1s }]
    on_deny: { delay: { wait_max: 9s } }
  - name: all
    limits: [{ quota: 2, window: 1s }]
    on_deny: { delay: { wait_max: 9s } }
";
    check(
        policies,
        &["0 a1", "0 b1", "0 a2", "0 b2", "1 c1", "1 c2"],
        3_200,
        &[
            "0 a1 admit",
            "0 b1 admit",
            "1000 a2 admit",
            "1000 b2 admit",
            "2000 c1 admit",
            "3000 c2 admit",
        ],
    );
}

#[test]
fn a_policy_that_does_not_delay_refuses_at_once() {
    let policies = "
policies:
  - name: slow
    limits: [{ quota: 1, window: 1s }]
    on_deny: { delay: { wait_max: 9s } }
  - name: hard
    key: header:x-key
    limits: [{ quota: 1, window: 10s }]
";
    check(
        policies,
        &["0 a1", "0 a2", "0 b1"],
        1_100,
        &["0 a1 admit", "0 a2 429 retry in 10s", "1000 b1 admit"],
    );
}

#[test]
fn whoever_waits_for_a_lease_gets_it_soon_after_it_comes_back() {
    check(
        &policy("quota: 1, window: 10s, algorithm: concurrency", "wait_max: 2s"),
        &["0 a1 holds 480", "0 a2 holds 5000", "10 a3", "20 b1 holds 50"],
        2_200,
        &["0 a1 admit", "20 b1 admit", "490 a2 admit", "2010 a3 429 retry in 1s"],
    );
}

#[test]
fn who_does_not_get_his_turn_is_told_of_limits_that_refuse_and_of_no_others() {
    let policies = "
policies:
  - name: p
    key: header:x-key
    cost: header:x-cost
    limits: [{ quota: 3, window: 1s }, { quota: 9, window: 60s, name: long }]
    penalty: { refusals: 9, window: 1m, ban: 1m }
    on_deny: { delay: { wait_max: 5s, waiting_max: 1 } }
  - { name: others, limits: [{ quota: 9, window: 60s }] }
";
    check(
        policies,
        &["0 a1 cost 3", "10 a2 cost 2", "20 a3 violates"],
        1_100,
        &["0 a1 admit", "20 a3 429 [\"p.1\"]", "1000 a2 admit"],
    );
    // There is room for it, and another comes first.
    check(
        policies,
        &["0 a1 cost 2", "10 a2 cost 2", "20 a3 violates"],
        1_100,
        &["0 a1 admit", "20 a3 429 [\"p.1\",\"p.long\"]", "1000 a2 admit"],
    );
}
