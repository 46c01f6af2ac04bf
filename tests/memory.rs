//! Accounted bytes against what the process really takes.
//!
//! A process of its own, with the allocator of the binary: it fills keyspaces with
//! keys of each kind and watches how much it grows.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, and its table")]

use weir::base::clock::Timestamp;
use weir::base::huge_pages;
use weir::keyspace::{Arg, Effects, Execution, Keyspace, command};
use weir::resp::Reply;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the account may be off by.
const TOLERANCE: f64 = 0.15;

/// Bytes that the process has in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The words that a command is given, by their places.
type Word<'a> = &'a dyn Fn(usize) -> String;

/// A keyspace, and what running commands on it needs.
struct Session {
    space: Keyspace,
    effects: Effects,
    reply: Reply,
}

impl Session {
    fn run(&mut self, words: &[&str]) {
        let args: Vec<_> = words.iter().map(|word| Arg::Bytes(word.as_bytes())).collect();
        self.effects.clear();
        self.reply.clear();
        let now = Timestamp::from_millis(1_700_000_000_000);
        let (effects, reply) = (&mut self.effects, &mut self.reply);
        let mut run = Execution::live(now, effects, reply);
        let command = command(words[0].as_bytes()).unwrap();
        self.space.execute(command, &args, &mut run).unwrap();
    }
}

/// Fills a keyspace with `key_count` keys and compares its account with the growth
/// of the process. Returns the keyspace: what it freed would be used again.
fn check(kind: &str, key_count: usize, fill: impl Fn(&mut Session, usize)) -> Session {
    let before = resident_bytes();
    let mut session =
        Session { space: Keyspace::new(), effects: Effects::new(), reply: Reply::new() };
    (0..key_count).for_each(|key| fill(&mut session, key));
    let grown = (resident_bytes() - before) as f64;
    let accounted = session.space.used_bytes() as f64;
    let share = accounted / grown;
    println!(
        "{kind}: {:.1} MB accounted, {:.1} MB grown, {share:.3}; {:.0} bytes a key",
        accounted / 1e6,
        grown / 1e6,
        accounted / key_count as f64,
    );
    assert!((1.0 - share).abs() <= TOLERANCE, "{kind}: the account is {share:.3} of the growth");
    session
}

#[test]
fn the_account_is_close_to_what_the_process_takes() {
    huge_pages::disable().unwrap();
    let timestamp =
        |key: usize, hit: usize| (1_764_037_295_123_456 + key * 13 + hit * 7_001).to_string();
    let set = |session: &mut Session, key: usize, hit_count: usize| {
        let mut words = vec!["ZADD".to_owned(), format!("policy:limit:{{198.51.{key}}}")];
        for hit in 0..hit_count {
            words.extend([timestamp(key, hit), timestamp(key, hit)]);
        }
        session.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let mut kept = Vec::new();
    kept.push(check("counters", 100_000, |session, key| {
        session.run(&["SET", &format!("counter:{key}"), &key.to_string(), "PX", "60000"]);
    }));
    kept.push(check("strings of 100 bytes", 50_000, |session, key| {
        session.run(&["SET", &format!("cache:{key}"), &format!("{key:0100}")]);
    }));
    kept.push(check("strings of 3,000 bytes", 5_000, |session, key| {
        session.run(&["SET", &format!("page:{key}"), &format!("{key:03000}")]);
    }));
    let many = |command: &str, key: usize, words: usize, word: Word<'_>| {
        let begin = [command.to_owned(), format!("{command}:{key}")];
        begin.into_iter().chain((0..words).map(word)).collect::<Vec<_>>()
    };
    // Of each: small ones, big ones, and what is not text.
    let collections: [(&str, &str, usize, usize, Word<'_>); 9] = [
        ("hashes of 5", "HSET", 10, 20_000, &|it| format!("field-{it}")),
        ("hashes of 2,000", "HSET", 4_000, 100, &|it| format!("field-{it}")),
        ("hashes of long values", "HSET", 100, 2_000, &|it| format!("{it:0200}")),
        ("sets of 10 texts", "SADD", 10, 20_000, &|it| format!("member-{it}")),
        ("sets of 1,000 texts", "SADD", 1_000, 200, &|it| format!("member-{it}")),
        ("sets of 100 integers", "SADD", 100, 5_000, &|it| (it * 7_919).to_string()),
        ("lists of 10", "RPUSH", 10, 20_000, &|it| format!("element {it}")),
        ("lists of 1,000", "RPUSH", 1_000, 200, &|it| format!("element {it}")),
        ("lists of 5,000 bytes each", "RPUSH", 10, 400, &|it| format!("{it:05000}")),
    ];
    for (kind, command, words, key_count, word) in collections {
        kept.push(check(kind, key_count, |session, key| {
            let words = many(command, key, words, word);
            session.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }));
    }
    for (hit_count, key_count) in [(1, 50_000), (10, 20_000), (100, 4_000), (1_000, 400)] {
        kept.push(check(&format!("sorted sets of {hit_count}"), key_count, |session, key| {
            set(session, key, hit_count);
        }));
    }
}

#[test]
#[ignore = "prints a table: what one key takes, beside redis-server's MEMORY USAGE"]
fn what_a_key_takes() {
    let mut session =
        Session { space: Keyspace::new(), effects: Effects::new(), reply: Reply::new() };
    for count in [10usize, 100, 1_000] {
        let key = format!("z{count}us");
        for hit in 0..count {
            let at = (1_764_037_295_123_456 + hit * 7_001).to_string();
            session.run(&["ZADD", &key, &at, &at]);
        }
        session.run(&["MEMORY", "USAGE", &key]);
        println!("{count}: {:?}", session.reply.view());
    }
}
