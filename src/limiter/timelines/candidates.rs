//! Timelines of candidates beside everything else that a policy can say: what a
//! candidate would do is told, and nothing that happens depends on it.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use super::super::{FailureMode, Limiter};
use super::operator::left;
use super::{Asked, World, check, turns};
use crate::policy::NamedKey;

#[test]
fn a_candidate_is_compared_and_changes_nothing() {
    let mut world = World::new(
        "
policies:
  - name: p
    limits:
      - { quota: 1, window: 10s, candidate: { quota: 2, window: 10s } }
      - { quota: 9, window: 1h, name: hourly }
",
        FailureMode::Open,
    );
    world.run(
        r#"
        0s GET /  admit, "p.1";r=0;t=10, "p.hourly";r=8;t=3600
        1s GET /  429 retry in 9s, "p.1";r=0;t=9, "p.hourly";r=8;t=3599
        2s GET /  429 retry in 8s, "p.1";r=0;t=8, "p.hourly";r=8;t=3598
        "#,
    );
    let said = |live, candidate| world.limiter.metrics.compared_of("p", live, candidate);
    assert_eq!(said("admit", "admit"), 1);
    assert_eq!(said("deny", "admit"), 1, "the candidate has room for one more");
    assert_eq!(said("deny", "deny"), 1);
}

/// What is left of each limit of a key, candidates included.
fn remaining(world: &mut World, key: &str) -> Vec<u64> {
    let (_, left) = left(&world.look("p", key));
    left.into_iter().map(|it| it.unwrap().remaining).collect()
}

#[test]
fn a_candidate_is_settled_with_its_limit_where_it_was_charged() {
    let mut world = World::new(
        "
policies:
  - name: p
    cost: 40
    settle: { from: 'json:used' }
    limits: [{ quota: 100, window: 60s, candidate: { quota: 60, window: 60s, algorithm: token_bucket } }]
",
        FailureMode::Open,
    );
    world.run("0s GET / as a  admit, \"p\";r=60;t=60");
    assert_eq!(remaining(&mut world, "all"), [60, 20]);
    // The candidate has no room for the second, and so owes nothing for it.
    world.run("0s GET / as b  admit, \"p\";r=20;t=60");
    assert_eq!(remaining(&mut world, "all"), [20, 20]);
    world.run("0s END a 200 {\"used\":10}  paid");
    assert_eq!(remaining(&mut world, "all"), [50, 50]);
    world.run("0s END b 200 {\"used\":30}  paid");
    assert_eq!(remaining(&mut world, "all"), [60, 50]);
    let said = |live, candidate| world.limiter.metrics.compared_of("p", live, candidate);
    assert_eq!([said("admit", "admit"), said("admit", "deny")], [1, 1]);
}

#[test]
fn tiers_and_overrides_have_candidates_of_their_own() {
    let mut world = World::new(
        "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 1, window: 10s }]
    tiers:
      by: header:x-plan
      limits: { pro: [{ quota: 2, window: 10s, candidate: { quota: 1, window: 10s } }] }
    overrides:
      - { key: [vip], limits: [{ quota: 1, window: 10s, candidate: { quota: 9, window: 10s } }] }
",
        FailureMode::Open,
    );
    world.run(
        r#"
        0s GET / x-key=a x-plan=pro  admit, "p";r=1;t=10
        0s GET / x-key=a x-plan=pro  admit, "p";r=0;t=10
        0s GET / x-key=b  admit, "p";r=0;t=10
        0s GET / x-key=vip  admit, "p";r=0;t=10
        0s GET / x-key=vip  429 retry in 10s, "p";r=0;t=10
        "#,
    );
    assert_eq!(remaining(&mut world, "vip"), [0, 7]);
    let said = |live, candidate| world.limiter.metrics.compared_of("p", live, candidate);
    assert_eq!([said("admit", "admit"), said("admit", "deny"), said("deny", "admit")], [2, 1, 1]);
}

#[test]
fn what_only_a_candidate_refuses_brings_nobody_nearer_to_a_ban() {
    check(
        "
policies:
  - name: p
    key: client_ip
    limits: [{ quota: 9, window: 10s, candidate: { quota: 1, window: 10s } }]
    penalty: { refusals: 1, window: 10s, ban: 30s }
  - { name: other, match: { path: /other }, limits: [{ quota: 1, window: 10s }] }
",
        r#"
        0s GET /other  admit, "p";r=8;t=10, "other";r=0;t=10
        1s GET /other  429 retry in 9s, "p";r=8;t=9, "other";r=0;t=9    # the candidate, too
        2s GET /  admit, "p";r=7;t=8                                    # no ban
        "#,
    );
}

#[test]
fn a_candidate_is_told_apart_from_the_ban_that_the_live_limit_began() {
    let mut world = World::new(
        "
policies:
  - name: p
    key: client_ip
    limits: [{ quota: 1, window: 1s, candidate: { quota: 9, window: 60s } }]
    penalty: { refusals: 1, window: 10s, ban: 30s }
",
        FailureMode::Open,
    );
    world.run(
        r#"
        0s GET /  admit, "p";r=0;t=1
        0s GET /  429 retry in 30s, "p";r=0;t=1
        2s GET /  429 retry in 28s, "p";r=1;t=0
        "#,
    );
    // The candidate let the second pass, and was not asked what the ban refused.
    assert_eq!(remaining(&mut world, "192.0.2.1")[1], 7);
    let said = |live, candidate| world.limiter.metrics.compared_of("p", live, candidate);
    assert_eq!([said("admit", "admit"), said("deny", "admit"), said("deny", "deny")], [1, 1, 1]);
}

#[test]
fn a_request_that_waits_is_charged_once_to_a_candidate() {
    let policies = |candidate: &str| {
        format!(
            "
policies:
  - {{ name: wide, limits: [{{ quota: 99, window: 60s }}] }}
  - name: p
    key: header:x-key
    limits: [{{ quota: 1, window: 1s, candidate: {{ {candidate} }} }}]
    on_deny: {{ delay: {{ wait_max: 5s }} }}
"
        )
    };
    let requests = ["0 a1", "0 a2", "0 a3"];
    let admitted = ["0 a1 admit", "1000 a2 admit", "2000 a3 admit"];
    for (candidate, expected) in [
        // It has room at once, and is not charged again when the wait is over.
        ("quota: 9, window: 60s", 6),
        // It lets the third wait, too, and is charged when it has waited.
        ("quota: 2, window: 2s", 1),
        // The third finds no room when its wait is over.
        ("quota: 2, window: 60s", 0),
    ] {
        let limiter = turns::check(&policies(candidate), &requests, 2_100, &admitted);
        assert_eq!(left_of(&limiter, 1), expected, "{candidate}");
    }
}

#[test]
fn a_candidate_that_was_charged_before_the_wait_is_settled_after_it() {
    let policies = "
policies:
  - name: p
    key: header:x-key
    cost: header:x-cost
    settle: { from: 'header:x-used' }
    limits: [{ quota: 5, window: 1s, candidate: { quota: 99, window: 60s } }]
    on_deny: { delay: { wait_max: 5s } }
";
    let limiter = turns::check(
        policies,
        &["0 a1 cost 4 used 4", "0 a2 cost 4 used 1", "0 a3 cost 4 used 9"],
        2_100,
        &["0 a1 admit", "1000 a2 admit", "2000 a3 admit"],
    );
    assert_eq!(left_of(&limiter, 0), 99 - 4 - 1 - 9, "each is charged what it used");
    // Of one that leaves nobody learns what it would have used: its estimate stands.
    let requests = ["0 a1 cost 4 used 4", "0 a2 cost 4 used 1 leaves 500"];
    let limiter = turns::check(policies, &requests, 1_100, &["0 a1 admit", "500 a2 left"]);
    assert_eq!(left_of(&limiter, 0), 99 - 4 - 4);
}

/// What is left of the candidate of the policy at `place`, for the key `a`.
fn left_of(limiter: &Limiter, place: u32) -> u64 {
    let live = limiter.live();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let named = NamedKey { place, key: b"a", tier: None };
    let looked = runtime.block_on(limiter.look(&live, named)).unwrap();
    left(&looked).1[1].unwrap().remaining
}

#[test]
fn a_lease_that_only_a_candidate_gave_ends_with_the_refusal() {
    let mut world = World::new(
        "
policies:
  - name: p
    limits: [{ quota: 1, algorithm: concurrency, candidate: { quota: 2, algorithm: concurrency } }]
",
        FailureMode::Open,
    );
    world.run("0s GET / as a  admit, \"p\";r=0");
    for _ in 0..3 {
        world.run("0s GET /  429 retry in 1s, \"p\";r=0");
        world.wait(async |world| world.payments.pay_waiting(&world.limiter).await);
    }
    assert_eq!(remaining(&mut world, "all"), [0, 1]);
    world.run("1s END a 200  paid");
    assert_eq!(remaining(&mut world, "all"), [1, 2]);
    assert_eq!(world.limiter.metrics.compared_of("p", "deny", "admit"), 3);
}

#[test]
fn whoever_leaves_while_his_lease_is_synced_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let policies = "
policies:
  - name: p
    limits: [{ quota: 4, algorithm: concurrency, candidate: { quota: 5, algorithm: concurrency } }]
  - { name: tried, mode: shadow, limits: [{ quota: 6, algorithm: concurrency }] }
";
    let mut world = World::remembered(folder.path(), policies);
    world.run("0s GET / as a  admit, \"p\";r=3");
    // Its lease is written, and hardly ever on disk as soon as that. Then it leaves.
    let asked = Asked::read("0s GET /");
    let facts = asked.facts();
    let check = world.limiter.check(&facts, &mut world.scratch);
    drop(pin!(check).poll(&mut Context::from_waker(Waker::noop())));
    world.wait(async |world| world.payments.pay_waiting(&world.limiter).await);
    assert_eq!(remaining(&mut world, "all"), [3, 4]);
    let (_, tried) = left(&world.look("tried", "all"));
    assert_eq!(tried[0].unwrap().remaining, 5);
}

#[test]
fn a_lease_of_a_candidate_ends_also_with_a_refusal_that_begins_a_ban() {
    let mut world = World::new(
        "
policies:
  - name: p
    key: client_ip
    limits: [{ quota: 1, algorithm: concurrency, candidate: { quota: 2, algorithm: concurrency } }]
    penalty: { refusals: 1, window: 10s, ban: 30s }
",
        FailureMode::Open,
    );
    world.run("0s GET / as a  admit, \"p\";r=0");
    world.run("0s GET /  429 retry in 30s, \"p\";r=0");
    world.wait(async |world| world.payments.pay_waiting(&world.limiter).await);
    assert_eq!(remaining(&mut world, "192.0.2.1")[1], 1);
}

#[test]
fn a_lease_that_a_candidate_gave_to_who_waits_ends_when_he_leaves() {
    let policies = "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 1, algorithm: concurrency, candidate: { quota: 9, algorithm: concurrency } }]
    on_deny: { delay: { wait_max: 5s } }
";
    let limiter = turns::check(
        policies,
        &["0 a1 holds 1000", "0 a2 leaves 500", "10 a3 holds 9000"],
        1_100,
        &["0 a1 admit", "500 a2 left", "1010 a3 admit"],
    );
    assert_eq!(left_of(&limiter, 0), 8, "one has it");
}
