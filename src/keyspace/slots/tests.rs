//! Random sessions: commands, the clock, transactions, snapshots, in any order.
//!
//! Whatever happens, three things hold.
//! 1. A snapshot is the keyspace at its cut: every key, once, and no other.
//! 2. A rolled back transaction has left no trace.
//! 3. A snapshot, and the effects recorded since its cut, replay to the present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;

use super::slab::SEGMENT_LEN;
use super::*;
use crate::base::clock::Timestamp;
use crate::keyspace::{Arg, Effects, Execution, Keyspace, Mode, command};
use crate::resp::Reply;
use crate::resp::decode::{Decoded, Decoder, Limits};

/// A value as text, and a deadline.
type Entry = (String, Option<u64>);
type State = BTreeMap<Vec<u8>, Entry>;

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn describe(value: &Value, deadline: Option<u64>) -> Entry {
    let description = match value {
        Value::String(string) => format!("{:?}", string.to_vec().escape_ascii().to_string()),
        Value::SortedSet(set) => format!("{:?}", set.iter().collect::<Vec<_>>()),
        Value::Hash(hash) => {
            let fields = hash.iter().map(|(field, value)| (text(field), text(value)));
            if hash.is_big() {
                format!("big {:?}", fields.collect::<BTreeMap<_, _>>())
            } else {
                format!("{:?}", fields.collect::<Vec<_>>())
            }
        }
        Value::Set(set) => {
            let members: BTreeSet<_> = set.iter().map(|it| text(&it)).collect();
            format!("{} {members:?}", value.encoding())
        }
        Value::List(list) => format!("{:?}", list.iter().map(text).collect::<Vec<_>>()),
    };
    (description, deadline)
}

fn state(space: &Keyspace) -> State {
    space.entries().map(|(key, value, at)| (key.to_vec(), describe(value, at))).collect()
}

/// Keeps what it is shown, and a copy of each value to load from.
#[derive(Default)]
struct Image {
    entries: Vec<(Vec<u8>, Value, Option<u64>)>,
}

struct Sink(Arc<Mutex<Image>>);

impl SnapshotSink for Sink {
    fn entry(&mut self, key: &[u8], value: &Value, expires_at_ms: Option<u64>) -> usize {
        self.0.lock().unwrap().entries.push((key.to_vec(), value.clone(), expires_at_ms));
        value.heap_bytes()
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

#[derive(Clone, Debug)]
enum Step {
    Command(String),
    Wait(u64),
    Begin { guarded: bool },
    Commit,
    Rollback,
    Cut,
    Walk(usize),
    Abort,
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0u8..12).prop_map(|key| format!("k{key}"));
    let member = || 0u8..20;
    prop_oneof![
        6 => (key(), member(), 0u8..9).prop_map(|(key, member, score)| {
            Step::Command(format!("ZADD {key} {score} m{member}"))
        }),
        1 => (key(), 0u32..200).prop_map(|(key, count)| {
            let many: String = (0..count).map(|it| format!(" {it} member:{it}")).collect();
            Step::Command(format!("ZADD {key} 1 m1{many}"))
        }),
        3 => (key(), 0u8..9).prop_map(|(key, max)| {
            Step::Command(format!("ZREMRANGEBYSCORE {key} -inf {max}"))
        }),
        2 => (key(), member()).prop_map(|(key, member)| {
            Step::Command(format!("ZREM {key} m{member}"))
        }),
        1 => (key(), member()).prop_map(|(key, member)| {
            Step::Command(format!("ZINCRBY {key} 2 m{member}"))
        }),
        9 => on_collections(),
        3 => key().prop_map(|key| Step::Command(format!("SET {key} text"))),
        2 => key().prop_map(|key| Step::Command(format!("INCR {key}"))),
        2 => (key(), prop_oneof![0usize..2, 0usize..60]).prop_map(|(key, more)| {
            Step::Command(format!("APPEND {key} more{}", "more".repeat(more)))
        }),
        2 => (key(), prop_oneof![0u16..60, 0u16..1_000]).prop_map(|(key, at)| {
            Step::Command(format!("SETRANGE {key} {at} between"))
        }),
        1 => (key(), key()).prop_map(|(a, b)| Step::Command(format!("COPY {a} {b} REPLACE"))),
        1 => key().prop_map(|key| Step::Command(format!("GETEX {key} PX 20"))),
        1 => key().prop_map(|key| Step::Command(format!("ZPOPMAX {key} 2"))),
        1 => (key(), key()).prop_map(|(a, b)| {
            Step::Command(format!("ZUNIONSTORE {a} 2 {a} {b}"))
        }),
        2 => (key(), 0u8..50).prop_map(|(key, ms)| Step::Command(format!("PEXPIRE {key} {ms}"))),
        1 => key().prop_map(|key| Step::Command(format!("PERSIST {key}"))),
        2 => (key(), key()).prop_map(|(from, to)| Step::Command(format!("RENAME {from} {to}"))),
        2 => (key(), key()).prop_map(|(a, b)| Step::Command(format!("DEL {a} {b}"))),
        1 => key().prop_map(|key| Step::Command(format!("GET {key}"))),
        1 => Just(Step::Command("FLUSHALL".to_owned())),
        3 => (0u64..20).prop_map(Step::Wait),
        3 => any::<bool>().prop_map(|guarded| Step::Begin { guarded }),
        2 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        3 => Just(Step::Cut),
        6 => (0usize..4).prop_map(Step::Walk),
        1 => Just(Step::Abort),
        2 => (0usize..6).prop_map(Step::Sweep),
    ]
}

/// Commands that change hashes, sets and lists, small and big, of few keys.
fn on_collections() -> impl Strategy<Value = Step> {
    let key = || 0u8..4;
    let element = || prop_oneof![(0u8..20).prop_map(|it| it.to_string()), "[a-e]{1,3}", "x{70}"];
    let line = prop_oneof![
        3 => (key(), element(), element()).prop_map(|(k, f, v)| format!("HSET h{k} {f} {v}")),
        1 => (key(), 0u32..600).prop_map(|(k, count)| format!("HSET h{k} a 1{}", pairs(count))),
        2 => (key(), element(), element()).prop_map(|(k, a, b)| format!("HDEL h{k} {a} {b}")),
        1 => (key(), element()).prop_map(|(k, f)| format!("HINCRBY h{k} {f} 1")),
        3 => (key(), element(), element()).prop_map(|(k, a, b)| format!("SADD s{k} {a} {b}")),
        1 => (key(), 0u32..600).prop_map(|(k, count)| format!("SADD s{k} 1{}", pairs(count))),
        2 => (key(), element(), element()).prop_map(|(k, a, b)| format!("SREM s{k} {a} {b}")),
        1 => (key(), 1u8..5).prop_map(|(k, count)| format!("SPOP s{k} {count}")),
        1 => (key(), key(), element()).prop_map(|(a, b, it)| format!("SMOVE s{a} s{b} {it}")),
        1 => (key(), key(), key()).prop_map(|(a, b, c)| format!("SUNIONSTORE s{a} s{b} s{c}")),
        1 => (key(), key(), key()).prop_map(|(a, b, c)| format!("SDIFFSTORE s{a} s{b} s{c}")),
        3 => (key(), element(), element()).prop_map(|(k, a, b)| format!("RPUSH l{k} {a} {b}")),
        2 => (key(), element()).prop_map(|(k, a)| format!("LPUSH l{k} {a}")),
        1 => (key(), 0u32..200).prop_map(|(k, count)| format!("RPUSH l{k} 1{}", pairs(count))),
        2 => (key(), 1u8..9).prop_map(|(k, count)| format!("LPOP l{k} {count}")),
        1 => (key(), 1u8..9).prop_map(|(k, count)| format!("RPOP l{k} {count}")),
        1 => (key(), -3i8..4, element()).prop_map(|(k, n, it)| format!("LREM l{k} {n} {it}")),
        1 => (key(), -9i8..9, element()).prop_map(|(k, n, it)| format!("LSET l{k} {n} {it}")),
        1 => (key(), element(), element())
            .prop_map(|(k, a, b)| format!("LINSERT l{k} AFTER {a} {b}")),
        1 => (key(), 0i8..9, -9i8..0).prop_map(|(k, a, b)| format!("LTRIM l{k} {a} {b}")),
        1 => (key(), key()).prop_map(|(a, b)| format!("RPOPLPUSH l{a} l{b}")),
        1 => (prop_oneof!["h", "s", "l"], key()).prop_map(|(kind, k)| format!("DEL {kind}{k}")),
        1 => (prop_oneof!["h", "s", "l"], key(), key())
            .prop_map(|(kind, a, b)| format!("RENAME {kind}{a} {kind}{b}")),
    ];
    line.prop_map(Step::Command)
}

fn pairs(count: u32) -> String {
    (0..count).map(|it| format!(" e{it} {it}")).collect()
}

/// A keyspace under test, with everything that is expected of it.
struct Session {
    space: Keyspace,
    now: Timestamp,
    effects: Effects,
    /// The state at `begin`, while a transaction is open.
    before: Option<State>,
    /// The image being taken, the state at its cut, the records since.
    image: Option<(Arc<Mutex<Image>>, State)>,
    since_cut: Vec<u8>,
    images_checked: usize,
}

impl Session {
    fn new() -> Session {
        Session {
            space: Keyspace::new(),
            now: Timestamp::from_millis(1_000),
            effects: Effects::new(),
            before: None,
            image: None,
            since_cut: Vec::new(),
            images_checked: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Command(line) => self.command(line),
            Step::Wait(ms) => {
                self.now = Timestamp::from_millis(self.now.millis() + ms);
            }
            Step::Begin { guarded } if self.before.is_none() => {
                self.before = Some(state(&self.space));
                if *guarded { self.space.begin_guarded() } else { self.space.begin() }
            }
            Step::Commit if self.before.take().is_some() => {
                self.space.commit();
                self.remember();
            }
            Step::Rollback => self.rollback(),
            Step::Cut if self.before.is_none() => self.cut(),
            Step::Walk(slot_count) => self.walk(*slot_count),
            Step::Abort if self.space.abort_snapshot().is_some() => self.image = None,
            Step::Sweep(slot_count) => {
                let mut reply = Reply::new();
                let mut run = execution(self.now, &mut self.effects, &mut reply);
                self.space.sweep(*slot_count, &mut run);
            }
            _ => {}
        }
        if self.before.is_none() {
            self.remember();
        }
        self.check_books();
    }

    /// The books of the slab say what its slots say.
    fn check_books(&self) {
        let slab = &self.space.slots.slab;
        let bytes: usize = slab.live().map(Slot::heap_bytes).sum();
        assert_eq!(slab.content_bytes(), bytes, "the account of bytes");
        let has_deadline = |slot: &&Slot| slot.deadline().is_some();
        let is_open = |slot: &&Slot| !slot.usage.is_guarded();
        assert_eq!(slab.deadlines.len(), slab.live().filter(has_deadline).count(), "filed");
        let all = slab.live().filter(is_open).count();
        let volatile = slab.live().filter(is_open).filter(has_deadline).count();
        assert_eq!(slab.evictable_count(Candidates::All) as usize, all);
        assert_eq!(slab.evictable_count(Candidates::Volatile) as usize, volatile);
    }

    fn command(&mut self, line: &str) {
        let args: Vec<_> = line.split(' ').map(|word| Arg::Bytes(word.as_bytes())).collect();
        let mut reply = Reply::new();
        let mut run = execution(self.now, &mut self.effects, &mut reply);
        let command = command(line.split(' ').next().unwrap().as_bytes()).unwrap();
        let _ = self.space.execute(command, &args, &mut run);
    }

    /// Moves the effects of a call to the log, as a store does.
    fn remember(&mut self) {
        self.since_cut.extend_from_slice(self.effects.record());
        self.effects.clear();
    }

    fn rollback(&mut self) {
        let Some(before) = self.before.take() else { return };
        self.space.rollback();
        self.effects.clear();
        assert_eq!(state(&self.space), before, "a rollback leaves no trace");
        for key in before.keys() {
            assert!(self.space.slots.find(key).is_ok(), "the index names every key");
        }
    }

    fn cut(&mut self) {
        let image = Arc::new(Mutex::new(Image::default()));
        let cut = self.space.cut(Box::new(Sink(Arc::clone(&image))));
        assert_eq!(cut.is_err(), self.image.is_some(), "one snapshot at a time");
        if cut.is_ok() {
            self.image = Some((image, state(&self.space)));
            self.since_cut.clear();
        }
    }

    fn walk(&mut self, slot_count: usize) {
        match self.space.walk(slot_count) {
            Walk::Idle => assert!(self.image.is_none()),
            Walk::More => assert!(self.image.is_some()),
            Walk::Done(_) => self.check_image(),
        }
    }

    fn check_image(&mut self) {
        let (image, at_cut) = self.image.take().expect("a snapshot ran");
        let image = std::mem::take(&mut *image.lock().unwrap());
        assert_eq!(image.entries.len(), at_cut.len(), "each key once");
        let mut loaded = Keyspace::new();
        for (key, value, deadline) in image.entries {
            loaded.insert_loaded(&key, value, deadline).expect("each key once");
        }
        assert_eq!(state(&loaded), at_cut, "the image is the moment of the cut");
        replay(&mut loaded, &self.since_cut);
        assert_eq!(state(&loaded), state(&self.space), "the image and the log make the present");
        self.images_checked += 1;
    }
}

fn execution<'a>(now: Timestamp, effects: &'a mut Effects, reply: &'a mut Reply) -> Execution<'a> {
    Execution::live(now, effects, reply)
}

fn replay(space: &mut Keyspace, mut log: &[u8]) {
    let (mut effects, mut reply) = (Effects::new(), Reply::new());
    let mut decoder = Decoder::new(Limits::RECORDS);
    while !log.is_empty() {
        let Ok(Decoded::Command { len }) = decoder.decode(log) else { unreachable!("a cut log") };
        let args: Vec<_> = decoder.args().iter().map(|it| Arg::Bytes(&log[it.clone()])).collect();
        let Arg::Bytes(name) = args[0] else { unreachable!() };
        if !matches!(name, b"MULTI" | b"EXEC") {
            let mut run = execution(Timestamp::from_millis(9_999_999), &mut effects, &mut reply);
            run.mode = Mode::Replay;
            space.execute(command(name).unwrap(), &args, &mut run).expect("an effect applies");
        }
        log = &log[len..];
    }
    assert!(effects.is_empty(), "a replay records nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn snapshots_transactions_and_the_log_agree(steps in vec(step(), 0..150)) {
        let mut session = Session::new();
        for step in &steps {
            session.step(step);
        }
        if session.before.is_some() {
            session.rollback();
        }
        while session.image.is_some() {
            session.walk(3);
        }
        session.step(&Step::Cut);
        session.walk(usize::MAX);
        prop_assert!(session.images_checked > 0);
    }
}

#[test]
fn a_flush_frees_in_pieces_and_leaves_the_snapshot_alone() {
    let mut session = Session::new();
    let count = 3 * SEGMENT_LEN;
    for key in 0..count {
        session.command(&format!("SET key:{key} v"));
    }
    session.effects.clear();
    session.step(&Step::Cut);
    session.walk(10);
    session.step(&Step::Command("FLUSHALL".to_owned()));
    session.step(&Step::Command("SET key:1 anew".to_owned()));
    assert_eq!(session.space.len(), 1);
    assert!(session.space.slots.bury().is_none(), "the snapshot still needs the slots");
    session.walk(usize::MAX);
    assert_eq!(session.images_checked, 1);
    let pieces = std::iter::from_fn(|| session.space.slots.bury()).count();
    assert!(pieces >= 3, "freed in {pieces} pieces");
}

#[test]
fn a_large_value_is_freed_where_nobody_waits() {
    for (open, close) in [(None, None), (Some(Step::Begin { guarded: false }), Some(Step::Commit))]
    {
        let mut session = Session::new();
        session.command(&format!("SADD large{}", pairs(1_000)));
        session.command("SADD small a");
        open.iter().for_each(|step| session.step(step));
        session.command("SET large text");
        session.command("DEL small");
        close.iter().for_each(|step| session.step(step));
        assert!(session.space.slots.bury().is_some(), "the large set is laid down");
        assert!(session.space.slots.bury().is_none(), "the small one is gone at once");
    }
}

#[test]
fn there_is_always_room_for_one_large_value_of_any_size() {
    let mut session = Session::new();
    for _ in 0..3 {
        session.command(&format!("SET large {}", "x".repeat(100_000)));
        session.command(&format!("SET larger {}", "x".repeat(100_000)));
        session.command("DEL large larger");
        assert!(session.space.slots.bury().is_some(), "the first is laid down");
        assert!(session.space.slots.bury().is_none(), "the second found it full");
    }
}

#[test]
fn slots_are_used_again() {
    let mut session = Session::new();
    for round in 0..10 {
        for key in 0..100 {
            session.command(&format!("SET {round}:{key} v"));
        }
        for key in 0..100 {
            session.command(&format!("DEL {round}:{key}"));
        }
    }
    assert_eq!((session.space.len(), session.space.slots.slab.used), (0, 100));
}
