//! What a policy costs: each algorithm, several limits on a request, policies that
//! concern others, and what the counters of a key take.
//!
//! ```text
//! cargo bench --bench policies
//! ```
//!
//! A decision goes the whole way inside the process: facts, plan, call, outcome,
//! header fields; over 10,000 keys, without a log. Matching is the plan alone.

#![allow(clippy::expect_used, reason = "a benchmark ends where it fails")]
#![allow(clippy::print_stdout, reason = "it reports to whoever runs it")]

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use divan::{Bencher, black_box};
use prometheus::Registry;
use weir::base::clock::{Clock, Timestamp};
use weir::function::{Engine, Limits};
use weir::keyspace::{Effects, Execution, Keyspace, Mode};
use weir::limiter::{self, FailureMode, Limiter, Scratch};
use weir::policy::{self, Functions, Headers, Plan, PolicySet, RequestFacts};
use weir::resp::Reply;
use weir::store::{self, Embedded, Library, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIBRARY: &str = include_str!("../../functions/limiter.lua");
const ALGORITHMS: [&str; 5] =
    ["sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency"];
const KEY_COUNT: u32 = 10_000;

fn main() {
    divan::main();
    memory();
}

struct NoHeaders;

impl Headers for NoHeaders {
    fn get<'h>(&'h self, _name: &str) -> Option<&'h [u8]> {
        None
    }
}

fn facts<'a>(path: &'a str, client: u32) -> RequestFacts<'a> {
    RequestFacts {
        method: "GET",
        host: "www.example.com",
        path,
        query: "",
        client: IpAddr::V4(Ipv4Addr::from(0x0A00_0000 | client)),
        headers: &NoHeaders,
        body_bytes: None,
        descriptors: &[],
    }
}

fn compile(policies: &str, functions: Vec<String>) -> PolicySet {
    let no_files = |_: &str| Err("no files".to_owned());
    let functions = Functions::new(functions);
    policy::compile("policies.yaml", policies, &functions, &no_files).expect("policies")
}

/// A limiter over a store without a log, and requests of one client after the other.
struct World {
    limiter: Limiter,
    scratch: Scratch,
    client: u32,
}

impl World {
    fn new(policies: &str) -> World {
        let registry = Registry::new();
        let metrics = store::Metrics::register(&registry).expect("metrics");
        let libraries = [Library { origin: "limiter.lua".to_owned(), code: LIBRARY.to_owned() }];
        let opened = Embedded::open(&libraries, None, Clock::system(), metrics, &mut |_| {});
        let store = Store::Embedded(opened.expect("a store").store);
        let policies = compile(policies, store.functions());
        let metrics = limiter::Metrics::register(&registry).expect("metrics");
        let limiter = Limiter::new(store, policies, FailureMode::Closed, metrics);
        let mut world = World { limiter, scratch: Scratch::default(), client: 0 };
        // Every key has been used a few times.
        (0..3 * KEY_COUNT).for_each(|_| world.decide());
        world
    }

    fn decide(&mut self) {
        // An order that jumps about and meets each equally often.
        self.client = (self.client + 6_181) % KEY_COUNT;
        let facts = facts("/api/v1/items", self.client);
        let decision = pin!(self.limiter.check(&facts, &mut self.scratch));
        let decision = match decision.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(decision) => decision,
            Poll::Pending => unreachable!("without a log nothing is waited for"),
        };
        // Nobody gives leases back here; they end after their second.
        black_box(decision.verdict);
    }
}

#[divan::bench(args = ALGORITHMS, sample_count = 50, sample_size = 1_000)]
fn decision_by_algorithm(bencher: Bencher<'_, '_>, algorithm: &str) {
    let mut world = World::new(&format!(
        "policies: [{{ name: p, key: client_ip, limits: [{{ quota: 1000, window: 1s, algorithm: {algorithm} }}] }}]"
    ));
    bencher.bench_local(|| world.decide());
}

#[divan::bench(args = [1, 3, 10], sample_count = 50, sample_size = 1_000)]
fn decision_by_limit_count(bencher: Bencher<'_, '_>, limit_count: usize) {
    let limits: Vec<String> = (1..=limit_count)
        .map(|number| format!("{{ quota: {}, window: {number}s }}", 1_000 * number))
        .collect();
    let limits = limits.join(", ");
    let mut world =
        World::new(&format!("policies: [{{ name: p, key: client_ip, limits: [{limits}] }}]"));
    bencher.bench_local(|| world.decide());
}

/// Plans of a request that one of `count` policies concerns; `matched` writes the
/// `match` of the others.
fn plan(bencher: Bencher<'_, '_>, count: usize, matched: impl Fn(usize) -> String) {
    let mut text =
        "policies:\n  - { name: own, key: client_ip, limits: [{ quota: 9, window: 1s }] }\n"
            .to_owned();
    for number in 1..count {
        text.push_str(&format!(
            "  - {{ name: p{number}, match: {{ {} }}, key: client_ip, limits: [{{ quota: 9, window: 1s }}] }}\n",
            matched(number)
        ));
    }
    let set = compile(&text, Vec::new());
    let (facts, mut plan) = (facts("/api/v1/items", 7), Plan::default());
    bencher.bench_local(|| {
        set.plan(black_box(&facts), None, &mut plan);
        assert_eq!(plan.entries().len(), 1);
    });
}

const POLICY_COUNTS: [usize; 3] = [10, 100, 1_000];

#[divan::bench(args = POLICY_COUNTS, sample_count = 50, sample_size = 10_000)]
fn plan_beside_other_hosts(bencher: Bencher<'_, '_>, count: usize) {
    plan(bencher, count, |number| format!("host: h{number}.example.com"));
}

#[divan::bench(args = POLICY_COUNTS, sample_count = 50, sample_size = 10_000)]
fn plan_beside_other_hosts_below(bencher: Bencher<'_, '_>, count: usize) {
    plan(bencher, count, |number| format!("host: '*.h{number}.example.com'"));
}

#[divan::bench(args = POLICY_COUNTS, sample_count = 50, sample_size = 10_000)]
fn plan_beside_other_paths(bencher: Bencher<'_, '_>, count: usize) {
    plan(bencher, count, |number| format!("path: /api/v1/s{number}/**"));
}

/// Plans under a list of so many addresses that are not limited.
#[divan::bench(args = [10, 1_000, 100_000], sample_count = 50, sample_size = 10_000)]
fn plan_under_a_list(bencher: Bencher<'_, '_>, count: u32) {
    let line = |number| format!("{}\n", Ipv4Addr::from(0x0B00_0000 + 7 * number));
    let list: String = (0..count).map(line).collect();
    let text = "policies: [{ name: p, key: client_ip, allow: { file: list }, limits: [{ quota: 9, window: 1s }] }]";
    let files = |_: &str| Ok(list.clone().into_bytes());
    let set = policy::compile("p.yaml", text, &Functions::default(), &files).expect("policies");
    let (facts, mut plan) = (facts("/api/v1/items", 7), Plan::default());
    bencher.bench_local(|| {
        set.plan(black_box(&facts), None, &mut plan);
        assert_eq!(plan.entries().len(), 1);
    });
}

/// Bytes of a key with everything that belongs to it, as the keyspace accounts for
/// them, after so many units within the window.
fn memory() {
    const UNITS: [u64; 3] = [1, 10, 100];
    println!("\nbytes a key             1 unit  10 units  100 units");
    for algorithm in ALGORITHMS {
        let bytes = UNITS.map(|units| bytes_a_key(algorithm, units));
        println!("{algorithm:<20} {:>9} {:>9} {:>10}", bytes[0], bytes[1], bytes[2]);
    }
}

fn bytes_a_key(algorithm: &str, units: u64) -> usize {
    // Millions of calls, and a machine that may have much else to do.
    let call_time_max = Duration::from_secs(5);
    let limits = Limits { call_time_max, ..Limits::DEFAULT };
    let mut engine = Engine::new(limits).expect("an engine");
    engine.load(LIBRARY, false).expect("a library");
    let (mut keyspace, mut effects, mut reply) = (Keyspace::new(), Effects::new(), Reply::new());
    let before = keyspace.used_bytes();
    for unit in 0..units {
        let now = Timestamp::from_micros(1_700_000_000_000_000 + unit * 10_007);
        for client in 0..KEY_COUNT {
            let key = format!("weir:api-per-client:0:{{{}}}", Ipv4Addr::from(0x0A00_0000 | client));
            let lease = format!("5f3a9c0d1e2b4788-{unit:x}");
            let option = if algorithm == "concurrency" { lease.as_str() } else { "1000" };
            let args = [algorithm, "1000", "3600000", "1", option, "0"].map(str::as_bytes);
            effects.clear();
            reply.clear();
            let mode = Mode::Live;
            let mut run =
                Execution { now, mode, denied: None, effects: &mut effects, reply: &mut reply };
            engine
                .call("limiter.decide", &[key.as_bytes()], &args, &mut keyspace, &mut run)
                .expect("a reply");
        }
    }
    (keyspace.used_bytes() - before) / KEY_COUNT as usize
}
