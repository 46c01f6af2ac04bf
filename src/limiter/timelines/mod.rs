//! Timelines: what the limiter answers, request by request, in virtual time.
//!
//! The store is an embedded one without a log, under a clock that the timeline
//! moves. A line is `AT METHOD PATH [from ADDRESS] [NAME=VALUE …]  ANSWER`. A
//! request `as NAME` stays under way until a line `AT END NAME [STATUS [BODY]]  paid`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use prometheus::Registry;

use crate::base::clock::{Clock, Timestamp};
use crate::base::units::Span;
use crate::base::yaml;
use crate::persist;
use crate::policy::{self, Explained, Functions, Headers, RequestFacts};
use crate::store::{self, Embedded, Library, Store};

use super::{Decision, Dues, FailureMode, Limiter, Metrics, Payments, Scratch};

/// A Function that fails when asked, and one that admits everything.
const TEST_LIBRARY: &str = "#!lua name=test
redis.register_function('fail', function(keys, args)
  redis.call('SET', keys[1], 'written before the failure')
  return redis.error_reply('ERR on purpose')
end)
redis.register_function('nonsense', function(keys, args) return 'yes' end)
";

mod candidates;
mod language;
mod operator;
mod truths;
mod turns;

struct World {
    limiter: Limiter,
    payments: Payments,
    /// Requests under way, by the name that a line gives them.
    under_way: HashMap<String, Dues>,
    clock: Clock,
    scratch: Scratch,
    now: Duration,
}

struct Fields(Vec<(String, String)>);

impl Headers for Fields {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_bytes())
    }
}

fn compile(store: &Store, policies: &str) -> policy::PolicySet {
    let functions = Functions::new(store.functions());
    let files = |name: &str| match name {
        "partners.txt" => Ok(b"192.0.2.0/28 # partners\n2001:db8::/32\n".to_vec()),
        "secret" => Ok(b"a secret of some length".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    match policy::compile("policies.yaml", policies, &functions, &files) {
        Ok(set) => set,
        Err(problems) => panic!("{problems}"),
    }
}

impl World {
    fn new(policies: &str, failure_mode: FailureMode) -> World {
        World::with_log(None, policies, failure_mode)
    }

    /// A world that is remembered in `folder`, and answers when it is on disk.
    fn remembered(folder: &Path, policies: &str) -> World {
        let text = format!("{{ dir: {}, appendfsync: always }}", folder.display());
        let raw = yaml::read::<persist::RawConfig>("weir.yaml", &text).unwrap().value;
        let log = raw.check(Path::new("weir.yaml"), "store.embedded").unwrap();
        World::with_log(Some(log), policies, FailureMode::Open)
    }

    fn with_log(log: Option<persist::Config>, policies: &str, failure_mode: FailureMode) -> World {
        let registry = Registry::new();
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
        let library =
            |origin: &str, code: &str| Library { origin: origin.to_owned(), code: code.to_owned() };
        let libraries = [
            library("limiter.lua", include_str!("../../../functions/limiter.lua")),
            library("mylimiter.lua", include_str!("../../../functions/mylimiter.lua")),
            library("test.lua", TEST_LIBRARY),
        ];
        let metrics = store::Metrics::register(&registry).unwrap();
        let opened = Embedded::open(&libraries, log, clock.clone(), metrics, &mut |_| {}).unwrap();
        let store = Store::Embedded(opened.store);
        let set = compile(&store, policies);
        let metrics = Metrics::register(&registry).unwrap();
        let limiter = Limiter::new(store, set, failure_mode, metrics);
        let payments = limiter.take_payments().unwrap();
        World {
            limiter,
            payments,
            under_way: HashMap::new(),
            clock,
            scratch: Scratch::default(),
            now: Duration::ZERO,
        }
    }

    /// Runs a timeline and compares what happened, as text, with what is written.
    #[track_caller]
    fn run(&mut self, timeline: &str) {
        let lines: Vec<&str> = timeline
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim())
            .filter(|line| !line.is_empty())
            .collect();
        let mut happened = Vec::new();
        for line in &lines {
            let (request, _answer) = line.split_once("  ").expect("request, two spaces, answer");
            happened.push(format!("{request}  {}", self.answer(request)));
        }
        let (happened, written) = (happened.join("\n"), lines.join("\n"));
        assert!(happened == written, "\nwritten:\n{written}\n\nhappened:\n{happened}\n");
    }

    fn answer(&mut self, request: &str) -> String {
        if let Some((at, end)) = request.split_once(" END ") {
            self.move_to(at);
            let mut words = end.split_whitespace();
            let mut dues = self.under_way.remove(words.next().unwrap()).expect("under way");
            if let Some(status) = words.next() {
                dues.head(status.parse().unwrap(), &Fields(Vec::new()));
                dues.data(words.next().unwrap_or_default().as_bytes());
            }
            drop(dues);
            self.wait(async |world| world.payments.pay_waiting(&world.limiter).await);
            return "paid".to_owned();
        }
        describe(&self.decide(request))
    }

    fn move_to(&mut self, at: &str) {
        let at = at.parse::<Span>().unwrap().0;
        self.clock.advance(at - self.now);
        self.now = at;
    }

    fn decide(&mut self, request: &str) -> Decision {
        let asked = Asked::read(request);
        self.move_to(asked.at);
        let facts = asked.facts();
        let mut decision =
            self.wait(async |world| world.limiter.check(&facts, &mut world.scratch).await);
        if let (Some(name), Some(dues)) = (asked.stays_as, decision.dues.take()) {
            self.under_way.insert(name.to_owned(), dues);
        }
        decision
    }

    /// What every policy would make of a request, which is not asked.
    fn explain(&mut self, request: &str) -> Vec<Explained> {
        let asked = Asked::read(request);
        self.move_to(asked.at);
        let facts = asked.facts();
        self.wait(async |world| world.limiter.explain(&facts).await.unwrap())
    }

    fn wait<T>(&mut self, work: impl AsyncFnOnce(&mut World) -> T) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work(self))
    }
}

/// A request, as a line of a timeline writes it.
struct Asked<'l> {
    at: &'l str,
    method: &'l str,
    path: &'l str,
    query: &'l str,
    client: IpAddr,
    fields: Fields,
    stays_as: Option<&'l str>,
}

impl<'l> Asked<'l> {
    fn read(request: &'l str) -> Asked<'l> {
        let mut words = request.split_whitespace();
        let [at, method, path] = [(); 3].map(|()| words.next().unwrap());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (client, fields) = ("192.0.2.1".parse().unwrap(), Fields(Vec::new()));
        let mut asked = Asked { at, method, path, query, client, fields, stays_as: None };
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((name, value)) => asked.fields.0.push((name.to_owned(), value.to_owned())),
                None if word == "as" => asked.stays_as = words.next(),
                None => asked.client = words.next().unwrap().parse().unwrap(),
            }
        }
        asked
    }

    fn facts(&self) -> RequestFacts<'_> {
        let length = self.fields.get("content-length");
        RequestFacts {
            method: self.method,
            host: "example.com",
            path: self.path,
            query: self.query,
            client: self.client,
            headers: &self.fields,
            body_bytes: length.and_then(|it| std::str::from_utf8(it).ok()?.parse().ok()),
            descriptors: &[],
        }
    }
}

fn describe(decision: &Decision) -> String {
    let mut text = match &decision.refusal {
        None => "admit".to_owned(),
        Some(refusal) => match refusal.retry_after_seconds {
            Some(seconds) => format!("{} retry in {seconds}s", refusal.status),
            None => format!("{}", refusal.status),
        },
    };
    if let Some(fields) = &decision.fields {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "ratelimit-policy") {
            let shown = if name == "ratelimit" { String::new() } else { format!("{name}: ") };
            text.push_str(&format!(", {shown}{}", std::str::from_utf8(value).unwrap()));
        }
    }
    text
}

#[track_caller]
fn check(policies: &str, timeline: &str) {
    World::new(policies, FailureMode::Open).run(timeline);
}

#[test]
fn a_window_slides_hit_by_hit() {
    check(
        "policies: [{ name: p, key: [client_ip], limits: [{ quota: 3, window: 10s }] }]",
        r#"
         0s GET / from 192.0.2.1  admit, "p";r=2;t=10
         4s GET / from 192.0.2.1  admit, "p";r=1;t=6
         5s GET / from 192.0.2.1  admit, "p";r=0;t=5
         6s GET / from 192.0.2.1  429 retry in 4s, "p";r=0;t=4
         6s GET / from 192.0.2.2  admit, "p";r=2;t=10            # quotas are per key
         9999ms GET / from 192.0.2.1  429 retry in 1s, "p";r=0;t=1
        10s GET / from 192.0.2.1  admit, "p";r=0;t=4             # exactly one place came free
        11s GET / from 192.0.2.1  429 retry in 3s, "p";r=0;t=3   # a refused request cost nothing
        "#,
    );
}

#[test]
fn limits_on_different_keys_are_charged_all_or_none() {
    check(
        "
policies:
  - { name: each, key: [client_ip], limits: [{ quota: 3, window: 10s }] }
  - { name: all, limits: [{ quota: 2, window: 20s }] }
",
        r#"
         0s GET / from 192.0.2.1  admit, "each";r=2;t=10, "all";r=1;t=20
         1s GET / from 192.0.2.2  admit, "each";r=2;t=10, "all";r=0;t=19
         2s GET / from 192.0.2.1  429 retry in 18s, "each";r=2;t=8, "all";r=0;t=18
         3s GET / from 192.0.2.1  429 retry in 17s, "each";r=2;t=7, "all";r=0;t=17
        20s GET / from 192.0.2.1  admit, "each";r=2;t=10, "all";r=0;t=1
        "#,
    );
}

#[test]
fn several_limits_of_a_policy_are_told_apart() {
    check(
        "
policies:
  - name: p
    key: [client_ip]
    limits: [{ quota: 1, window: 1s }, { quota: 2, window: 10s, name: long }]
",
        r#"
        0s GET /  admit, "p.1";r=0;t=1, "p.long";r=1;t=10
        0s GET /  429 retry in 1s, "p.1";r=0;t=1, "p.long";r=1;t=10
        1s GET /  admit, "p.1";r=0;t=1, "p.long";r=0;t=9
        2s GET /  429 retry in 8s, "p.1";r=1;t=0, "p.long";r=0;t=8
        "#,
    );
}

#[test]
fn a_shadowed_policy_is_counted_and_never_refuses() {
    let mut world = World::new(
        "
policies:
  - { name: live, key: [client_ip], limits: [{ quota: 2, window: 10s }] }
  - { name: trial, mode: shadow, key: [client_ip], limits: [{ quota: 1, window: 10s }] }
",
        FailureMode::Open,
    );
    world.run(
        r#"
        0s GET /  admit, "live";r=1;t=10
        1s GET /  admit, "live";r=0;t=9
        2s GET /  429 retry in 8s, "live";r=0;t=8
        "#,
    );
    let counted = |policy: &str, mode: &str, verdict: &str| {
        world.limiter.metrics.decisions_of(policy, mode, verdict)
    };
    assert_eq!(counted("live", "enforce", "admit"), 2);
    assert_eq!(counted("live", "enforce", "deny"), 1);
    assert_eq!(counted("trial", "shadow", "admit"), 1);
    assert_eq!(counted("trial", "shadow", "deny"), 1, "a refused request is not shadowed");
}

#[test]
fn a_shadowed_policy_that_fails_changes_nothing() {
    let policies = "
policies:
  - { name: live, limits: [{ quota: 1, window: 10s }] }
  - { name: broken, mode: shadow, limits: [{ quota: 1, window: 1s, algorithm: test.fail }] }
  - { name: trial, mode: shadow, limits: [{ quota: 5, window: 10s }] }
";
    for failure_mode in [FailureMode::Open, FailureMode::Closed] {
        let mut world = World::new(policies, failure_mode);
        world.run(
            r#"
            0s GET /  admit, "live";r=0;t=10
            1s GET /  429 retry in 9s, "live";r=0;t=9
            "#,
        );
        assert_eq!(world.limiter.metrics.decisions_of("trial", "shadow", "admit"), 1);
    }
}

#[test]
fn a_function_of_the_users_stands_or_falls_with_the_rest() {
    check(
        "
policies:
  - name: mine
    key: [client_ip]
    limits: [{ quota: 1, window: 10s, algorithm: mylimiter.allow }]
  - { name: ours, key: [client_ip], limits: [{ quota: 5, window: 10s }] }
",
        // `allow` answers a bare 1 or 0: it has no item in `RateLimit`.
        r#"
         0s GET /  admit, "ours";r=4;t=10
         1s GET /  429 retry in 10s, "ours";r=4;t=9    # undone: 4 left, not 3
         2s GET /  429 retry in 10s, "ours";r=4;t=8
        10s GET /  admit, "ours";r=4;t=10
        "#,
    );
}

#[test]
fn an_exhausted_shipped_limit_does_not_charge_the_users_function() {
    check(
        "
policies:
  - { name: ours, key: [client_ip], limits: [{ quota: 1, window: 5s }] }
  - name: mine
    key: [client_ip]
    limits: [{ quota: 2, window: 60s, algorithm: mylimiter.allow }]
",
        r#"
         0s GET /  admit, "ours";r=0;t=5
         1s GET /  429 retry in 4s, "ours";r=0;t=4
         5s GET /  admit, "ours";r=0;t=5
        10s GET /  429 retry in 60s, "ours";r=1;t=0    # nothing is used
        "#,
    );
}

#[test]
fn a_policy_may_refuse_requests_that_lack_its_key() {
    check(
        "
policies:
  - name: tenants
    key: [\"header:x-tenant\"]
    on_missing_key: deny
    limits: [{ quota: 1, window: 10s }]
",
        r#"
        0s GET / x-tenant=a  admit, "tenants";r=0;t=10
        0s GET / x-tenant=b  admit, "tenants";r=0;t=10
        0s GET /  403
        "#,
    );
}

#[test]
fn requests_that_match_nothing_are_not_limited() {
    check(
        "policies: [{ name: p, match: { path: /api/** }, limits: [{ quota: 1, window: 10s }] }]",
        r#"
        0s GET /api/x  admit, "p";r=0;t=10
        0s GET /other  admit
        0s GET /api/y  429 retry in 10s, "p";r=0;t=10
        "#,
    );
}

#[test]
fn counts_survive_an_edit_of_quota_and_window() {
    let policies = |quota: u32, window: &str| {
        format!("policies: [{{ name: p, limits: [{{ quota: {quota}, window: {window} }}] }}]")
    };
    let mut world = World::new(&policies(2, "10s"), FailureMode::Open);
    world.run(
        r#"
        0s GET /  admit, "p";r=1;t=10
        1s GET /  admit, "p";r=0;t=9
        1s GET /  429 retry in 9s, "p";r=0;t=9
        "#,
    );
    let edited = compile(world.limiter.store(), &policies(3, "20s"));
    assert_eq!(world.limiter.swap(edited), 2);
    world.run(
        r#"
        2s GET /  admit, "p";r=0;t=18    # two of the three are used
        3s GET /  429 retry in 17s, "p";r=0;t=17
        "#,
    );
}

#[test]
fn a_store_that_fails_leaves_it_to_the_failure_mode() {
    let policies = "
policies:
  - { name: ours, limits: [{ quota: 5, window: 10s }] }
  - { name: broken, match: { path: /fail }, limits: [{ quota: 1, window: 1s, algorithm: test.fail }] }
  - { name: odd, match: { path: /odd }, limits: [{ quota: 1, window: 1s, algorithm: test.nonsense }] }
";
    // What `decide` had charged before the failure is undone.
    World::new(policies, FailureMode::Open).run(
        r#"
        0s GET /fail  admit
        0s GET /odd  admit
        0s GET /  admit, "ours";r=4;t=10
        "#,
    );
    World::new(policies, FailureMode::Closed).run(
        r#"
        0s GET /fail  503 retry in 1s
        0s GET /odd  503 retry in 1s
        0s GET /  admit, "ours";r=4;t=10
        "#,
    );
}

#[test]
fn a_decision_waits_for_the_store_as_long_as_it_may_and_then_fails() {
    let mut world = World::new(
        "policies: [{ name: p, limits: [{ quota: 5, algorithm: concurrency }] }]",
        FailureMode::Closed,
    );
    let wait_max = Duration::from_millis(1);
    world.limiter = world.limiter.waiting_for_the_store(wait_max);
    let Store::Embedded(store) = world.limiter.store();
    let commands = store.commands();
    let held = commands.hold_soon().unwrap();
    let asked = Asked::read("0s GET /");
    let facts = asked.facts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let decision = runtime.block_on(world.limiter.check(&facts, &mut world.scratch));
    assert_eq!(describe(&decision), "503 retry in 1s");
    assert!(world.payments.0.is_empty(), "what was not asked gave no lease");
    drop(held);
    world.run("0s GET /  admit, \"p\";r=4");
}

#[test]
fn each_algorithm_says_its_own() {
    check(
        "
policies:
  - { name: log, limits: [{ quota: 2, window: 10s }] }
  - { name: counter, limits: [{ quota: 5, window: 10s, algorithm: sliding_counter }] }
  - { name: bucket, limits: [{ quota: 10, window: 10s, algorithm: token_bucket, burst: 3 }] }
  - { name: window, limits: [{ quota: 5, window: 10s, algorithm: fixed_window, begins: first_hit }] }
",
        r#"
        0s GET /  admit, "log";r=1;t=10, "counter";r=4;t=20, "bucket";r=2;t=1, "window";r=4;t=10
        1s GET /  admit, "log";r=0;t=9, "counter";r=3;t=14, "bucket";r=2;t=1, "window";r=3;t=9
        2s GET /  429 retry in 8s, "log";r=0;t=8, "counter";r=3;t=13, "bucket";r=3;t=0, "window";r=3;t=8
        "#,
    );
}

#[test]
fn requests_under_way_are_counted_until_they_end() {
    check(
        "
policies:
  - { name: jobs, key: client_ip, limits: [{ quota: 2, algorithm: concurrency, window: 60s }] }
  - { name: all, limits: [{ quota: 4, window: 100s }] }
",
        r#"
        0s GET / as a  admit, "jobs";r=1, "all";r=3;t=100
        1s GET / as b  admit, "jobs";r=0, "all";r=2;t=99
        2s GET /  429 retry in 1s, "jobs";r=0, "all";r=2;t=98
        3s GET / from 192.0.2.2 as c  admit, "jobs";r=1, "all";r=1;t=97
        4s END a  paid
        4s GET / as d  admit, "jobs";r=0, "all";r=0;t=96
        5s END c  paid
        5s GET / from 192.0.2.2  429 retry in 95s, "jobs";r=2, "all";r=0;t=95
        61s GET /  429 retry in 39s, "jobs";r=1, "all";r=0;t=39    # nobody ended b
        "#,
    );
}
