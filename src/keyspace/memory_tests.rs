//! Memory and watches as clients see them: ceilings, eviction, guards, `WATCH`.

use super::*;
use crate::base::clock::Timestamp;
use crate::resp::{Protocol, Reply};

/// A keyspace with a clock of its own.
struct Session {
    space: Keyspace,
    effects: Effects,
    now: Timestamp,
}

impl Session {
    fn new() -> Session {
        let (space, effects) = (Keyspace::new(), Effects::new());
        Session { space, effects, now: Timestamp::from_millis(1_700_000_000_000) }
    }

    fn with_limits(maxmemory: u64, policy: EvictionPolicy) -> Session {
        let mut session = Session::new();
        session.space.set_memory_limits(MemoryLimits { maxmemory, policy, ..MemoryLimits::NONE });
        session
    }

    fn wait(&mut self, ms: u64) {
        self.now = Timestamp::from_millis(self.now.millis() + ms);
    }

    /// Runs a command; what it answers, as it goes over the wire.
    fn run(&mut self, line: &str) -> String {
        let args: Vec<_> = line.split(' ').map(|word| Arg::Bytes(word.as_bytes())).collect();
        let mut reply = Reply::new();
        self.effects.clear();
        let effects = &mut self.effects;
        let mut run = Execution::live(self.now, effects, &mut reply);
        let command = command(line.split(' ').next().unwrap().as_bytes()).unwrap();
        if let Err(error) = self.space.execute(command, &args, &mut run) {
            return error.to_string();
        }
        let mut out = Vec::new();
        reply.encode(Protocol::Resp2, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", " ").trim_end().to_owned()
    }

    /// Runs a command as a call of the limiter does.
    fn call(&mut self, line: &str) {
        self.space.begin_guarded();
        self.run(line);
        self.space.commit();
    }

    /// Makes room until there is enough, or none to be had.
    fn make_room(&mut self, asker: Asker) -> Room {
        loop {
            let mut reply = Reply::new();
            let (effects, reply) = (&mut self.effects, &mut reply);
            let mut run = Execution::live(self.now, effects, reply);
            match self.space.make_room(asker, 16, &mut run) {
                Room::Evicting => {}
                room => return room,
            }
        }
    }

    /// Removes what has expired.
    fn sweep(&mut self) -> Swept {
        let mut reply = Reply::new();
        let (effects, reply) = (&mut self.effects, &mut reply);
        let mut run = Execution::live(self.now, effects, reply);
        self.space.sweep(usize::MAX, &mut run)
    }

    /// Sets a key as a client does whose commands are refused without room.
    fn set(&mut self, line: &str) -> Room {
        let room = self.make_room(Asker::Client);
        if room == Room::Enough {
            self.run(line);
        }
        room
    }

    fn exists(&self, key: &str) -> bool {
        self.space.contains(key.as_bytes(), self.now)
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn every_use_of_a_key_counts_once() {
    let mut session = Session::new();
    session.space.set_memory_limits(MemoryLimits {
        maxmemory: 1 << 30,
        policy: EvictionPolicy::AllKeysLfu,
        lfu_log_factor: 0,
        ..MemoryLimits::NONE
    });
    // What is new has been used five times, as in Redis.
    for (lines, key, uses) in [
        ("SET a 1", "a", 5),
        ("SET a 1;GETEX a", "a", 6),
        ("SET a 1;GETEX a EX 100", "a", 6),
        ("SET a 1;RENAME a b", "b", 6),
        ("SET a 1;RENAMENX a a", "a", 6),
        ("SET a 1;COPY a b", "a", 6),
        ("SET a 1;COPY a b", "b", 5),
        ("SADD b x;SMOVE a b x", "b", 6),
        ("SET a 1;TTL a;TYPE a;OBJECT ENCODING a", "a", 5),
        ("ZADD a 1 x;SET b 1;ZRANGESTORE b a 0 -1", "b", 6),
    ] {
        session.run("FLUSHALL");
        lines.split(';').for_each(|line| drop(session.run(line)));
        assert_eq!(session.run(&format!("OBJECT FREQ {key}")), format!(":{uses}"), "{lines}");
    }
}

#[test]
fn a_flood_of_keys_stays_under_the_ceiling_under_every_policy() {
    for policy in EvictionPolicy::ALL {
        let mut session = Session::with_limits(2 * MIB, policy);
        let mut refused = 0;
        for key in 0..20_000 {
            let room = session.set(&format!("SET key:{key} {key:0100} PX 1000000"));
            refused += u32::from(room == Room::None);
            assert!(session.space.used_bytes() <= 2 << 20, "{policy:?} at {key}");
        }
        let evicted = session.space.stats().evicted_count;
        let is_noeviction = policy == EvictionPolicy::NoEviction;
        assert_eq!(refused > 0, is_noeviction, "{policy:?}: {refused} refused");
        assert_eq!(evicted > 0, !is_noeviction, "{policy:?}: {evicted} evicted");
    }
}

#[test]
fn who_makes_room_drops_no_large_value_while_others_wait() {
    let mut session = Session::with_limits(2 * MIB, EvictionPolicy::AllKeysLru);
    session.run(&format!("RPUSH large {}", "x".repeat(10_000)));
    session.run("DEL large");
    for key in 0..20_000 {
        assert_eq!(session.set(&format!("SET key:{key} {key:0100}")), Room::Enough);
    }
    assert!(session.space.stats().evicted_count > 0);
    assert!(session.space.bury().is_some(), "it lies where it was laid");
    assert!(session.space.bury().is_none());
}

#[test]
fn a_long_transaction_leaves_no_memory_in_use() {
    for is_kept in [true, false] {
        let mut session = Session::new();
        let before = session.space.used_bytes();
        session.run(&format!("RPUSH list{}", format!(" {}", "x".repeat(500)).repeat(10_000)));
        let with_list = session.space.used_bytes();
        session.space.begin();
        session.run("LTRIM list 1 0");
        if is_kept {
            session.space.commit()
        } else {
            session.space.rollback()
        }
        let more = session.space.used_bytes() - if is_kept { before } else { with_list };
        assert!(more < 2 << 20, "{more} bytes; kept: {is_kept}");
    }
}

#[test]
fn policies_for_keys_with_deadlines_spare_all_others() {
    for policy in [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ] {
        let mut session = Session::with_limits(4 * MIB, policy);
        (0..2_000).for_each(|key| {
            session.run(&format!("SET lasting:{key} v"));
        });
        (0..40_000).for_each(|key| {
            session.set(&format!("SET passing:{key} v PX 1000000"));
        });
        assert!((0..2_000).all(|key| session.exists(&format!("lasting:{key}"))), "{policy:?}");
        session.run("SET lasting v");
        let mut room = Room::Enough;
        for key in 0..40_000 {
            room = session.set(&format!("SET more:{key} v"));
        }
        assert_eq!(room, Room::None, "{policy:?}: nothing with a deadline is left");
    }
}

#[test]
fn keys_in_use_outlive_keys_that_are_not() {
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysLfu] {
        let mut session = Session::with_limits(2 * MIB, policy);
        (0..100).for_each(|key| {
            session.run(&format!("SET used:{key} v"));
        });
        for key in 0..40_000 {
            session.set(&format!("SET unused:{key} v"));
            session.run(&format!("GET used:{}", key % 100));
            session.wait(10);
        }
        let kept = (0..100).filter(|key| session.exists(&format!("used:{key}"))).count();
        assert!(kept >= 95, "{policy:?} kept {kept} of the 100 that are used");
    }
}

#[test]
fn what_expires_soonest_goes_first() {
    let mut session = Session::with_limits(2 * MIB, EvictionPolicy::VolatileTtl);
    session.sweep();
    for key in 0..20_000 {
        session.set(&format!("SET late:{key} v PX {}", 10_000_000 + key));
        if session.space.stats().evicted_count == 0 {
            session.run(&format!("SET soon:{key} v PX {}", 1_000 + key));
        }
    }
    let soon = (0..20_000).filter(|key| session.exists(&format!("soon:{key}"))).count();
    assert_eq!(soon, 0);
}

#[test]
fn what_the_limiter_wrote_is_never_evicted_for_strangers() {
    for policy in EvictionPolicy::ALL {
        let mut session = Session::with_limits(2 * MIB, policy);
        (0..1_000).for_each(|key| session.call(&format!("SET counter:{key} 1 PX 1000000")));
        (0..30_000).for_each(|key| {
            session.set(&format!("SET stranger:{key} v PX 1000000"));
        });
        assert!((0..1_000).all(|key| session.exists(&format!("counter:{key}"))), "{policy:?}");
    }
}

#[test]
fn counters_that_live_have_room_when_new_ones_and_clients_have_none() {
    let mut session = Session::with_limits(2 * MIB, EvictionPolicy::AllKeysLru);
    let mut count = 0;
    while session.make_room(Asker::NewCounter) == Room::Enough {
        session.call(&format!("ZADD counter:{count} 1 a"));
        count += 1;
    }
    assert!(count > 1_000, "{count} fit into 2 MiB");
    assert_eq!(session.make_room(Asker::Client), Room::None);
    assert_eq!(session.make_room(Asker::Counter), Room::Enough);
    session.call("ZADD counter:1 2 b");
    assert!(session.space.used_bytes() <= 2 << 20);
}

#[test]
fn a_key_that_was_used_or_set_since_it_was_sampled_is_judged_anew() {
    let mut session = Session::with_limits(MIB, EvictionPolicy::AllKeysLru);
    session.run("SET first v");
    session.wait(1_000);
    while session.space.stats().evicted_count == 0 {
        let next = session.space.len();
        session.set(&format!("SET key:{next} v"));
    }
    let survivors = session.space.len();
    session.run("FLUSHALL");
    assert_eq!(session.make_room(Asker::Client), Room::Enough);
    (0..survivors).for_each(|key| {
        session.set(&format!("SET anew:{key} v"));
    });
    assert!(session.space.used_bytes() <= 1 << 20);
}

#[test]
fn every_key_that_expired_is_found_without_being_asked_for() {
    let mut session = Session::new();
    (0..5_000).for_each(|key| {
        session.run(&format!("SET key:{key} v PX {}", 1 + key * 7 % 10_000));
        session.run(&format!("SET lasting:{key} v PX 100000"));
        // A limiter moves its deadlines with each hit.
        session.run(&format!("PEXPIRE lasting:{key} 200000"));
    });
    assert_eq!(session.run("DEBUG SET-ACTIVE-EXPIRE 0"), "+OK");
    session.wait(10_100);
    assert_eq!(session.sweep().expired, 0);
    session.run("DEBUG SET-ACTIVE-EXPIRE 1");
    assert_eq!(session.sweep(), Swept { expired: 5_000, finished: true });
    session.wait(150_000);
    assert_eq!(session.sweep(), Swept { expired: 0, finished: true });
    session.wait(50_000);
    assert_eq!(session.sweep(), Swept { expired: 5_000, finished: true });
    assert!(session.space.is_empty());
}

/// Runs lines as one client while client 1 watches `k`: is it intact at the end?
/// `wait MS` lets time pass, `WATCH` begins to watch.
fn is_intact(lines: &[&str]) -> bool {
    let mut session = Session::new();
    for line in lines {
        match line.split_once(' ') {
            _ if *line == "WATCH" => session.space.watch(1, b"k", session.now),
            Some(("wait", ms)) => session.wait(ms.parse().unwrap()),
            _ => {
                session.run(line);
            }
        }
    }
    session.space.is_intact(1, session.now)
}

#[test]
fn a_watch_breaks_exactly_when_something_happened_to_the_key() {
    for (lines, intact) in [
        (&["SET k v", "WATCH"][..], true),
        (&["SET k v", "WATCH", "SET other v"], true),
        (&["SET k v", "WATCH", "GET k", "TTL k", "EXISTS k"], true),
        (&["SET k v", "WATCH", "SET k v"], false),
        (&["WATCH", "SET k v"], false),
        (&["WATCH", "DEL k"], true),
        (&["SET k v", "WATCH", "DEL k"], false),
        (&["SET k v", "WATCH", "EXPIRE k 100"], false),
        (&["SET k v", "WATCH", "EXPIRE k 100 XX"], true),
        (&["SET k v", "WATCH", "RENAME k l"], false),
        (&["SET l v", "WATCH", "RENAME l k"], false),
        (&["SET k v", "WATCH", "SETNX k w"], true),
        (&["SET k 1", "WATCH", "INCR k"], false),
        (&["SET k v", "WATCH", "FLUSHALL"], false),
        (&["WATCH", "FLUSHALL"], true),
        (&["SET k v PX 10", "WATCH", "wait 11"], false),
        (&["SET k v PX 10", "WATCH", "wait 11", "GET k"], false),
        // It had expired before the watch began: that it goes is no change.
        (&["SET k v PX 10", "wait 11", "WATCH"], true),
        (&["SET k v PX 10", "wait 11", "WATCH", "GET k"], true),
        (&["SET k v PX 10", "wait 11", "WATCH", "FLUSHALL"], true),
        (&["SET k v PX 10", "wait 11", "WATCH", "SET k v"], false),
    ] {
        assert_eq!(is_intact(lines), intact, "{lines:?}");
    }
}

#[test]
fn a_watch_does_not_see_what_was_undone() {
    for (undone, intact) in [(true, true), (false, false)] {
        let mut session = Session::new();
        session.space.watch(1, b"k", session.now);
        session.space.begin();
        session.run("SET k v");
        if undone {
            session.space.rollback()
        } else {
            session.space.commit()
        }
        assert_eq!(session.space.is_intact(1, session.now), intact);
    }
}

#[test]
fn who_stops_watching_starts_with_a_clean_slate() {
    let mut session = Session::new();
    session.space.watch(1, b"k", session.now);
    session.space.watch(2, b"k", session.now);
    session.run("SET k v");
    assert!(!session.space.is_intact(1, session.now) && !session.space.is_intact(2, session.now));
    session.space.unwatch(1);
    session.space.watch(1, b"k", session.now);
    assert!(session.space.is_intact(1, session.now) && !session.space.is_intact(2, session.now));
}

#[test]
fn a_reload_leaves_all_keys_as_they_were_and_drops_what_has_expired() {
    let mut session = Session::new();
    let lines = [
        "SET text hello",
        "SET number 12 PX 90000",
        "RPUSH list a b 3",
        "SADD numbers 1 2 3",
        "SADD words a b",
        "HSET hash f v",
        "ZADD scores 1.5 a inf b",
    ];
    for line in lines {
        session.run(line);
    }
    session.run("SET gone 1");
    session.run("DEL gone");
    let (digest, bytes) = (session.run("DEBUG DIGEST"), session.space.used_bytes());
    for line in ["DEBUG RELOAD", "DEBUG RELOAD NOFLUSH MERGE"] {
        assert_eq!(session.run(line), "+OK", "{line}");
        assert_eq!(session.run("DEBUG DIGEST"), digest, "{line}");
        assert_eq!(session.run("OBJECT ENCODING numbers"), "$6 intset", "{line}");
        assert_eq!(session.run("PTTL number"), ":90000", "{line}");
    }
    assert!(session.space.used_bytes() <= bytes, "a value that was loaded is no larger");
    session.wait(100_000);
    session.run("DEBUG RELOAD");
    assert_eq!(session.space.len(), lines.len() - 1);
    assert!(session.run("DEBUG RELOAD NOSAVE").starts_with("ERR DEBUG RELOAD works in memory"));
    assert!(session.run("DEBUG RELOAD x").starts_with("ERR DEBUG RELOAD only supports"));
}

#[test]
fn object_tells_how_a_key_is_kept_and_used() {
    let mut session = Session::new();
    session.run("SET k 12");
    session.wait(5_000);
    assert_eq!(session.run("OBJECT IDLETIME k"), ":5");
    assert_eq!(session.run("object Encoding k"), "$3 int");
    assert_eq!(session.run("OBJECT REFCOUNT k"), ":2147483647");
    assert_eq!(session.run("OBJECT ENCODING none"), "$-1");
    assert!(session.run("OBJECT FREQ k").starts_with("ERR An LFU maxmemory policy is not"));
    for line in ["EXISTS k", "TYPE k", "TTL k", "PEXPIRETIME k"] {
        session.run(line);
    }
    assert_eq!(session.run("OBJECT IDLETIME k"), ":5", "to ask is no use");
    session.run("TOUCH k");
    assert_eq!(session.run("OBJECT IDLETIME k"), ":0");
    session.wait(3_000);
    assert_eq!(session.run("OBJECT IDLETIME k"), ":3");
    session.run("GET k");
    assert_eq!(session.run("OBJECT IDLETIME k"), ":0");
    assert_eq!(session.run("OBJECT nope k"), "ERR unknown subcommand 'nope'. Try OBJECT HELP.");
    assert_eq!(
        session.run("OBJECT ENCODING"),
        "ERR wrong number of arguments for 'object|encoding' command"
    );
}

#[test]
fn memory_usage_counts_the_key_and_its_value() {
    let mut session = Session::new();
    session.run("SET k v");
    session.run(&format!("RPUSH long {}", "x".repeat(100_000)));
    let usage = |session: &mut Session, key: &str| -> usize {
        session.run(&format!("MEMORY USAGE {key} SAMPLES 0"))[1..].parse().unwrap()
    };
    assert!(usage(&mut session, "k") < 120);
    let long = usage(&mut session, "long");
    assert!((100_000..130_000).contains(&long), "{long}");
    assert_eq!(session.run("MEMORY USAGE none"), "$-1");
    assert_eq!(session.run("MEMORY USAGE k SAMPLES -1"), "ERR syntax error");
}

#[test]
fn what_all_keys_use_is_what_the_keyspace_uses_but_for_room_that_is_free() {
    /// Tables of the index are a quarter full at the least.
    const FREE_BYTES_MAX: usize = 32;
    let mut session = Session::new();
    let count = 20_000;
    (0..count).for_each(|key| drop(session.run(&format!("SET key:{key} value"))));
    let usage = |key| session.run(&format!("MEMORY USAGE key:{key}"))[1..].parse::<usize>();
    let sum: usize = (0..count).map(usage).map(Result::unwrap).sum();
    let used = session.space.used_bytes();
    assert!((sum..sum + count * FREE_BYTES_MAX).contains(&used), "{sum} of {used}");
}

#[test]
fn help_lists_what_can_follow_a_command() {
    let mut session = Session::new();
    for (container, part) in [("OBJECT", "FREQ"), ("client", "KILL"), ("Debug", "RELOAD")] {
        let told = session.run(&format!("{container} HELP"));
        let head = format!("+{} <subcommand> [<arg>", container.to_ascii_uppercase());
        assert!(told.contains(&head) && told.contains(&format!(" +{part} +    ")), "{told}");
    }
}
