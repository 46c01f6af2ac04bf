//! Timelines of what a policy can say beyond limits: tiers, overrides, lists, costs
//! and their settling, penalties, header fields.

use super::super::FailureMode;
use super::super::dues::give_back_abandoned;
use super::operator::left;
use super::{World, check};

#[test]
fn tiers_and_overrides_choose_the_limits_and_share_the_counts() {
    check(
        "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 1, window: 10s }]
    tiers:
      by: header:x-plan
      limits: { pro: [{ quota: 3, window: 10s }] }
    overrides:
      - { key: [vip], limits: [{ quota: 9, window: 10s }] }
      - { key: [banned], deny: true }
      - { when: { header:x-role: staff, client_ip: 192.0.2.0/24 }, unlimited: true }
",
        r#"
        0s GET / x-key=a  admit, "p";r=0;t=10
        1s GET / x-key=a  429 retry in 9s, "p";r=0;t=9
        1s GET / x-key=a x-plan=pro  admit, "p";r=1;t=9      # it goes on from one used
        1s GET / x-key=a x-plan=unknown  429 retry in 10s, "p";r=0;t=10
        2s GET / x-key=vip x-plan=pro  admit, "p";r=8;t=10
        2s GET / x-key=banned  403
        2s GET / x-key=a x-role=staff  admit
        2s GET / x-key=a x-role=staff from 198.51.100.1  429 retry in 9s, "p";r=0;t=9
        "#,
    );
}

#[test]
fn tiers_of_several_lengths_do_not_forget_for_one_another() {
    check(
        "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 2, window: 60s }]
    tiers: { by: header:x-plan, limits: { pro: [{ quota: 3, window: 1s }] } }
    overrides: [{ when: { header:x-role: staff }, limits: [{ quota: 4, window: 2m }] }]
",
        r#"
        0s GET / x-key=a  admit, "p";r=1;t=60
        1s GET / x-key=a  admit, "p";r=0;t=59
        1s GET / x-key=a  429 retry in 59s, "p";r=0;t=59
        3s GET / x-key=a x-plan=pro  admit, "p";r=2;t=1       # counts its own second
        9s GET / x-key=a  429 retry in 52s, "p";r=0;t=52      # and takes nothing away
        9s GET / x-key=a x-role=staff  admit, "p";r=0;t=111
       10s GET / x-key=a x-plan=pro  admit, "p";r=2;t=1
       10s GET / x-key=a x-plan=pro  admit, "p";r=1;t=1
       10s GET / x-key=a x-plan=pro  admit, "p";r=0;t=1
       69s GET / x-key=a  429 retry in 1s, "p";r=0;t=1       # the newest three count
       70s GET / x-key=a  admit, "p";r=1;t=60
       71s GET / x-key=a x-role=staff  429 retry in 59s, "p";r=0;t=59
        "#,
    );
}

#[test]
fn lists_and_networks_treat_clients_differently() {
    check(
        "
policies:
  - name: p
    key: client_ip
    allow: { file: partners.txt }
    limits: [{ quota: 1, window: 10s }]
    overrides:
      - { key: [198.51.100.0/24], limits: [{ quota: 5, window: 10s }] }
      - { key: [198.51.100.128/25], deny: true }
      - { key: [198.51.100.200], unlimited: true }
",
        r#"
        0s GET / from 192.0.2.1  admit
        0s GET / from ::ffff:192.0.2.1  admit
        0s GET / from 2001:db8:5::1  admit
        0s GET / from 192.0.2.16  admit, "p";r=0;t=10
        0s GET / from 198.51.100.1  admit, "p";r=4;t=10
        0s GET / from 198.51.100.199  403
        0s GET / from 198.51.100.200  admit
        "#,
    );
}

#[test]
fn an_override_is_for_one_choice_of_a_key_and_for_nobody_who_sends_its_value_as_another() {
    check(
        "
policies:
  - name: p
    key: 'header:x-key | client_ip'
    limits: [{ quota: 1, window: 10s }]
    overrides:
      - { key: client_ip=192.0.2.7, limits: [{ quota: 9, window: 10s }] }
      - { key: client_ip=198.51.100.0/24, unlimited: true }
      - { key: 192.0.2.9, deny: true }
      - { key: header:x-key=client_ip=192.0.2.8, unlimited: true }
",
        r#"
        0s GET / from 192.0.2.7  admit, "p";r=8;t=10
        0s GET / x-key=192.0.2.7 from 192.0.2.7  admit, "p";r=0;t=10
        0s GET / x-key=client_ip=192.0.2.7 from 192.0.2.7  admit, "p";r=0;t=10
        0s GET / x-key=~1:192.0.2.7 from 192.0.2.7  admit, "p";r=0;t=10
        0s GET / from 198.51.100.3  admit
        0s GET / x-key=198.51.100.3 from 198.51.100.3  admit, "p";r=0;t=10
        0s GET / x-key=client_ip=198.51.100.3 from 198.51.100.3  admit, "p";r=0;t=10
        0s GET / from 192.0.2.9  admit, "p";r=0;t=10
        0s GET / x-key=192.0.2.9 from 192.0.2.9  403
        0s GET / x-key=client_ip=192.0.2.8 from 192.0.2.9  admit
        "#,
    );
}

#[test]
fn a_cost_is_fixed_or_told_by_the_request() {
    check(
        "
policies:
  - { name: fixed, match: { path: /fixed }, cost: 3, limits: [{ quota: 10, window: 10s }] }
  - { name: told, match: { path: /told }, cost: header:x-cost, limits: [{ quota: 10, window: 10s }] }
  - name: size
    match: { path: /size }
    cost: { from: body_bytes, per: 1024, max: 8, default: 2 }
    limits: [{ quota: 10, window: 10s, algorithm: token_bucket }]
",
        r#"
        0s GET /fixed  admit, "fixed";r=7;t=10
        0s GET /told x-cost=4  admit, "told";r=6;t=10
        0s GET /told x-cost=many  admit, "told";r=5;t=10
        0s GET /told x-cost=0  admit, "told";r=5;t=10
        0s GET /told x-cost=6  429 retry in 10s, "told";r=5;t=10
        0s GET /told x-cost=11  429, "told";r=5;t=10             # never
        0s POST /size content-length=1025  admit, "size";r=8;t=1
        0s POST /size  admit, "size";r=6;t=1
        0s POST /size content-length=999999  429 retry in 2s, "size";r=6;t=1
        "#,
    );
}

#[test]
fn who_is_refused_too_often_is_banned_for_longer_each_time() {
    check(
        "
policies:
  - name: login
    key: client_ip
    limits: [{ quota: 1, window: 1s }]
    penalty: { refusals: 2, window: 10s, ban: 30s, ban_max: 100s }
",
        r#"
         0s GET /  admit, "login";r=0;t=1
         0s GET /  429 retry in 1s, "login";r=0;t=1
         0s GET /  429 retry in 30s, "login";r=0;t=1        # the second refusal
         1s GET /  429 retry in 29s, "login";r=1;t=0        # banned
         1s GET / from 192.0.2.9  admit, "login";r=0;t=1
        30s GET /  admit, "login";r=0;t=1
        30s GET /  429 retry in 1s, "login";r=0;t=1
        30s GET /  429 retry in 60s, "login";r=0;t=1
        31s GET /  429 retry in 59s, "login";r=1;t=0        # twice as long
        90s GET /  admit, "login";r=0;t=1
        190001ms GET /  admit, "login";r=0;t=1
        190001ms GET /  429 retry in 1s, "login";r=0;t=1
        190001ms GET /  429 retry in 30s, "login";r=0;t=1   # behaved for 100 s: it begins anew
        "#,
    );
}

#[test]
fn each_dialect_tells_the_tightest_limit_or_all() {
    let with = |headers: &str| {
        format!(
            "
headers: {headers}
policies:
  - {{ name: a, key: client_ip, limits: [{{ quota: 3, window: 10s }}, {{ quota: 2, window: 60s }}] }}
"
        )
    };
    check(
        &with("draft-03"),
        r#"
        0s GET /  admit, x-ratelimit-limit: 2, x-ratelimit-remaining: 1, x-ratelimit-reset: 60
        "#,
    );
    check(
        &with("draft-07"),
        r#"
        0s GET /  admit, ratelimit-limit: 2, ratelimit-remaining: 1, ratelimit-reset: 60
        "#,
    );
    check(
        &with("both"),
        r#"
        0s GET /  admit, "a.1";r=2;t=10, "a.2";r=1;t=60, x-ratelimit-limit: 2, x-ratelimit-remaining: 1, x-ratelimit-reset: 60
        "#,
    );
    check(&with("none"), "0s GET /  admit");
    check(
        &with("{ dialect: draft-10, partition_key: true }"),
        r#"
        0s GET /  admit, "a.1";r=2;t=10;pk=:N/z/JL9iA1s=:, "a.2";r=1;t=60;pk=:N/z/JL9iA1s=:
        "#,
    );
}

#[test]
fn a_refusal_is_told_as_the_policy_says() {
    let mut world = World::new(
        "
policies:
  - name: p
    limits: [{ quota: 1, window: 10s }]
    on_deny:
      status: 503
      headers: { X-Why: quota }
      body: 'try {policy} again in {retry_after} s'
      jitter: 5s
",
        FailureMode::Open,
    );
    world.run("0s GET /  admit, \"p\";r=0;t=10");
    let refusal = world.decide("1s GET /").refusal.unwrap();
    let wait = refusal.retry_after_seconds.unwrap();
    assert!((9..=14).contains(&wait), "{wait}");
    assert_eq!(refusal.status, 503);
    assert_eq!(refusal.headers, [("x-why".into(), "quota".into())]);
    assert_eq!(refusal.body, format!("try p again in {wait} s"));
    assert_eq!(&*refusal.content_type, "text/plain; charset=utf-8");
}

#[test]
fn an_estimate_is_settled_by_what_the_response_says() {
    check(
        "
policies:
  - name: tokens
    cost: 40
    settle: { from: 'json:usage.total' }
    limits:
      - { quota: 100, window: 60s }
      - { quota: 1000, window: 60s, algorithm: token_bucket, burst: 200 }
",
        r#"
        0s GET / as a  admit, "tokens.1";r=60;t=60, "tokens.2";r=160;t=1
        0s GET / as b  admit, "tokens.1";r=20;t=60, "tokens.2";r=120;t=1
        0s GET /  429 retry in 60s, "tokens.1";r=20;t=60, "tokens.2";r=120;t=1
        0s END a 200 {"usage":{"total":5}}  paid
        0s GET / as c  admit, "tokens.1";r=15;t=60, "tokens.2";r=115;t=1
        0s END b 200 {"usage":{"total":70}}  paid
        0s END c 200 {"error":"no"}  paid
        0s GET /  429 retry in 60s, "tokens.1";r=0;t=60, "tokens.2";r=85;t=1
        "#,
    );
}

#[test]
fn only_responses_that_count_cost_anything() {
    check(
        "
policies:
  - name: logins
    key: client_ip
    settle: { when_status: [401, 403] }
    limits: [{ quota: 2, window: 60s, algorithm: fixed_window, begins: first_hit }]
",
        r#"
        0s POST /login as a  admit, "logins";r=1;t=60
        1s END a 200  paid
        2s POST /login as b  admit, "logins";r=1;t=58
        3s END b 401  paid
        4s POST /login as c  admit, "logins";r=0;t=56
        5s END c 403  paid
        6s POST /login  429 retry in 54s, "logins";r=0;t=54
        "#,
    );
}

#[test]
fn an_estimate_that_nobody_settles_is_given_back() {
    let mut world = World::new(
        "
policies:
  - name: p
    cost: 8
    settle: { from: 'header:x-used', reserve: 30s }
    limits: [{ quota: 10, window: 1h }]
",
        FailureMode::Open,
    );
    world.run(
        r#"
         0s GET / as lost  admit, "p";r=2;t=3600
        29s GET /  429 retry in 3571s, "p";r=2;t=3571
        "#,
    );
    let give_back = async |world: &mut World| {
        give_back_abandoned(world.limiter.store()).await.unwrap();
    };
    world.wait(give_back);
    world.run("30s GET /  429 retry in 3570s, \"p\";r=2;t=3570");
    world.wait(give_back);
    // The response comes all the same, and says nothing: the estimate is charged.
    world.run(
        r#"
        31s GET / as next  admit, "p";r=2;t=3600
        32s END next 200  paid
        33s END lost 200  paid
        34s GET /  429 retry in 3599s, "p";r=0;t=3597
        "#,
    );
}

#[test]
fn a_refused_group_leaves_neither_a_charge_nor_a_reservation() {
    let mut world = World::new(
        "
policies:
  - name: p
    cost: 4
    settle: { from: 'header:x-used', reserve: 30s }
    limits: [{ quota: 10, window: 1h, algorithm: fixed_window, begins: first_hit }]
  - name: own
    cost: 2
    match: { path: /own }
    limits: [{ quota: 1, window: 10s, algorithm: mylimiter.allow }]
",
        FailureMode::Open,
    );
    world.run(
        r#"
         0s GET / as a  admit, "p";r=6;t=3600
         1s END a 200  paid
         2s GET /own  429 retry in 10s, "p";r=6;t=3598
        40s GET /own  429 retry in 10s, "p";r=6;t=3560
        "#,
    );
    // Were there a reservation, this would give back what was never charged.
    world.wait(async |world| give_back_abandoned(world.limiter.store()).await.unwrap());
    world.run("40s GET / as b  admit, \"p\";r=2;t=3560");
}

#[test]
fn what_a_shadowed_policy_did_not_charge_is_not_given_back() {
    let mut world = World::new(
        "
policies:
  - name: p
    mode: shadow
    cost: 4
    settle: { when_status: [401] }
    limits:
      - { quota: 10, window: 1h, algorithm: fixed_window }
      - { quota: 5, window: 1h, algorithm: fixed_window }
",
        FailureMode::Open,
    );
    let mut remaining = |timeline: &str| {
        world.run(timeline);
        let (_, left) = left(&world.look("p", "all"));
        left.into_iter().map(|it| it.unwrap().remaining).collect::<Vec<_>>()
    };
    assert_eq!(remaining("0s GET / as a  admit"), [6, 1]);
    // The second limit has no room, so that neither is charged and nothing is owed.
    assert_eq!(remaining("1s GET / as b  admit"), [6, 1]);
    assert_eq!(remaining("3s END a 200  paid"), [10, 5]);
    assert!(world.under_way.is_empty(), "b owes what it was not charged");
}

#[test]
fn a_flood_of_keys_shares_one_and_pushes_nobody_out() {
    check(
        "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 3, window: 10s }]
    key_budget: { keys: 2, limits: [{ quota: 2, window: 10s }] }
",
        r#"
         0s GET / x-key=a  admit, "p";r=2;t=10
         0s GET / x-key=b  admit, "p";r=2;t=10
         1s GET / x-key=c  admit, "p";r=1;t=10      # the budget is spent
         2s GET / x-key=d  admit, "p";r=0;t=9       # and so c and d share
         3s GET / x-key=e  429 retry in 8s, "p";r=0;t=8
         3s GET / x-key=a  admit, "p";r=1;t=7       # whoever was there goes on
        10s GET / x-key=b  admit, "p";r=2;t=10
        30s GET / x-key=e  admit, "p";r=2;t=10      # there is room again
        "#,
    );
}
