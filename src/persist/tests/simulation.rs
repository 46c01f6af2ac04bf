//! A log on a disk that fails and loses power, by a seed.
//!
//! No threads: the test takes the steps of the writer, of the sync thread and of
//! a rewrite itself, in any order. After each life of the process the log is
//! opened again. What it then holds must be what it held after some record, no
//! earlier than the last one that was acknowledged.

use super::*;
use crate::persist::disk::Directory;
use crate::persist::disk::simulated::{Fault, Random, Simulated};

/// Worlds that every run of the tests lives through.
const SEEDS: std::ops::Range<u64> = 0..1_000;

/// A process with its log.
struct Life {
    disk: Simulated,
    log: Log,
    pen: Pen,
    keyspace: Keyspace,
    effects: Effects,
    reply: Reply,
    rewrite: Option<(Feed, RewriteWriter)>,
    /// What the keyspace held after each record, the empty one first.
    states: Vec<State>,
    /// The position of each record of this life, with its index in `states`.
    positions: Vec<(Lsn, usize)>,
    /// Index of the last record that is known to be on disk.
    acknowledged: usize,
}

/// Opens the log on `disk`.
fn open_on(disk: &Simulated, appendfsync: Fsync) -> Result<(Keyspace, Log, Pen, Recovery), Error> {
    let mut keyspace = Keyspace::new();
    let directory = Directory::on(Arc::new(disk.clone()));
    let config = config(Path::new("/disk"), appendfsync);
    let (log, pen, recovery) = Log::open_on(directory, config, &mut keyspace, NOW, &mut |_| {})?;
    Ok((keyspace, log, pen, recovery))
}

fn any_policy(random: &mut Random) -> Fsync {
    [Fsync::Always, Fsync::EverySec, Fsync::No][random.below(3)]
}

impl Life {
    /// A process that starts on `disk` and must find what `states` says.
    fn begin(disk: Simulated, appendfsync: Fsync, states: Vec<State>, acknowledged: usize) -> Life {
        let opened = open_on(&disk, appendfsync).map_err(|error| error.chain());
        let opened = opened.expect("what a crash leaves can be started from");
        Life::of(opened, disk, states, acknowledged)
    }

    fn of(
        (keyspace, log, pen, _): (Keyspace, Log, Pen, Recovery),
        disk: Simulated,
        mut states: Vec<State>,
        acknowledged: usize,
    ) -> Life {
        let found = state(&keyspace);
        let seq = found.get("seq").map_or("0", |text| text.trim_matches('"'));
        let index: usize = seq.parse().unwrap();
        assert!(acknowledged <= index, "{acknowledged} was acknowledged, {index} is there");
        assert!(index < states.len(), "{index} was never written");
        assert_eq!(found, states[index], "what it held after record {index}");
        states.truncate(index + 1);
        Life {
            disk,
            log,
            pen,
            keyspace,
            effects: Effects::new(),
            reply: Reply::default(),
            rewrite: None,
            states,
            positions: Vec::new(),
            acknowledged: index,
        }
    }

    /// A call of some commands: one record.
    fn call(&mut self, random: &mut Random) {
        let index = self.states.len();
        let (key, number) = (random.below(6), random.below(1_000));
        let line = match random.below(9) {
            0 | 1 => format!("SET s{key} {number}"),
            2 => format!("DEL s{key} z{key}"),
            3 => format!("PEXPIRE z{key} {}", 1_000_000 + number),
            4 => format!("ZREM z{key} m{}", number % 20),
            5 => format!("INCR s{}", key + 100),
            6 if number < 30 => "FLUSHALL".to_owned(),
            _ => format!("ZADD z{key} {number} m{}", number % 20),
        };
        self.effects.clear();
        for line in [line, format!("SET seq {index}")] {
            let args: Vec<Arg<'_>> = line.split(' ').map(|it| Arg::Bytes(it.as_bytes())).collect();
            let name = line.split(' ').next().unwrap();
            let mut run = Execution::live(NOW, &mut self.effects, &mut self.reply);
            let command = command(name.as_bytes()).unwrap();
            self.keyspace.execute(command, &args, &mut run).unwrap();
        }
        let position = self.log.append(&self.effects);
        self.positions.push((position, index));
        self.states.push(state(&self.keyspace));
    }

    fn shared(&self) -> Arc<Shared> {
        self.log.0.shared.clone()
    }

    /// Notes what the log says is on disk now.
    fn note_acknowledged(&mut self) {
        let Some((last, _)) = self.positions.last() else { return };
        let durable = Lsn(last.0 - self.log.status().unsynced_bytes.min(last.0));
        let safe = self.positions.iter().rev().find(|(position, _)| *position <= durable);
        self.acknowledged = safe.map_or(self.acknowledged, |(_, index)| *index);
    }

    fn begin_rewrite(&mut self) {
        if self.rewrite.is_some() {
            return;
        }
        let begun = self
            .log
            .prepare_rewrite()
            .and_then(|pending| pending.cut(&mut self.keyspace, vec!["#!lua name=l\n".into()]));
        self.rewrite = begun.ok();
    }

    /// Walks some slots; at the end, writes the base file and commits.
    fn walk(&mut self, slot_count: usize) {
        let Some((feed, writer)) = self.rewrite.take() else { return };
        match self.keyspace.walk(slot_count) {
            Walk::More => self.rewrite = Some((feed, writer)),
            Walk::Done(sink) => {
                feed.finish(sink);
                let _ = writer.run();
            }
            Walk::Idle => drop(writer.run().unwrap_err()),
        }
    }

    fn give_rewrite_up(&mut self) {
        if let Some((_, writer)) = self.rewrite.take() {
            drop(self.keyspace.abort_snapshot());
            assert!(writer.run().is_err());
        }
    }

    fn step(&mut self, random: &mut Random) {
        let shared = self.shared();
        match random.below(100) {
            0..45 => self.call(random),
            45..65 => drop(shared.write_now(&mut self.pen)),
            65..72 => shared.sync_now(random.one_in(2)),
            72..78 => self.begin_rewrite(),
            78..92 => self.walk(1 + random.below(8)),
            92..94 => self.give_rewrite_up(),
            94 => self.disk.fail_within(12, Fault::Broken, random),
            95 => self.disk.fail_within(12, Fault::Full, random),
            96 => self.disk.set_room(Some(random.below(400))),
            97 | 98 => self.disk.set_room(None),
            _ => {
                let settings = shared.settings();
                let appendfsync = any_policy(random);
                self.log.change(Settings { appendfsync, ..Settings::clone(&settings) });
            }
        }
        self.note_acknowledged();
    }

    /// The process ends: killed, or with the power. What the next one finds.
    fn end(mut self, random: &mut Random) -> (Simulated, Vec<State>, usize) {
        if random.one_in(2) {
            self.disk.fail_within(25, Fault::Death, random);
            self.begin_rewrite();
            for _ in 0..40 {
                self.walk(5);
                let shared = self.shared();
                shared.write_now(&mut self.pen);
                shared.sync_now(true);
                self.note_acknowledged();
            }
        }
        self.note_acknowledged();
        let left =
            if random.one_in(4) { self.disk.killed() } else { self.disk.without_power(random) };
        drop(self.rewrite);
        (left, self.states, self.acknowledged)
    }
}

/// One world: some lives of a process on one disk.
fn live(seed: u64) {
    let random = &mut Random::new(seed);
    let mut disk = Simulated::default();
    let (mut states, mut acknowledged) = (vec![State::new()], 0);
    for _ in 0..3 {
        // A start that fails, or dies, leaves something to start from.
        if random.one_in(3) {
            let fault = [Fault::Broken, Fault::Full, Fault::Death][random.below(3)];
            disk.fail_within(20, fault, random);
            drop(open_on(&disk, any_policy(random)));
            disk = disk.without_power(random);
        }
        let mut life = Life::begin(disk, any_policy(random), states, acknowledged);
        for _ in 0..20 + random.below(80) {
            life.step(random);
        }
        (disk, states, acknowledged) = life.end(random);
    }
    Life::begin(disk, Fsync::No, states, acknowledged);
}

#[test]
fn whatever_a_disk_does_nothing_acknowledged_is_lost_and_nothing_is_made_up() {
    for seed in SEEDS {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}

/// A life in which everything happens once, and whatever fails is healed.
fn eventful(disk: &Simulated, random: &mut Random) -> Option<(Vec<State>, usize)> {
    // Once the one call that fails has failed, a start succeeds.
    let opened = open_on(disk, Fsync::Always).or_else(|_| open_on(disk, Fsync::Always)).ok()?;
    let mut life = Life::of(opened, disk.clone(), vec![State::new()], 0);
    for round in 0..3 {
        for _ in 0..3 {
            life.call(random);
            life.shared().write_now(&mut life.pen);
            life.shared().sync_now(true);
            life.note_acknowledged();
        }
        if round > 0 || life.log.status().failed.is_some() {
            life.begin_rewrite();
            while life.rewrite.is_some() {
                life.call(random);
                life.shared().write_now(&mut life.pen);
                life.walk(4);
            }
        }
    }
    if life.log.status().failed.is_some() {
        life.begin_rewrite();
        while life.rewrite.is_some() {
            life.walk(100);
        }
        life.shared().write_now(&mut life.pen);
    }
    life.shared().write_now(&mut life.pen);
    life.note_acknowledged();
    assert_eq!(life.log.status().failed, None, "healed");
    assert_eq!(life.acknowledged + 1, life.states.len(), "all of it is on disk again");
    Some((life.states, life.acknowledged))
}

#[test]
fn every_call_that_fails_is_healed_and_loses_nothing() {
    let whole = Simulated::default();
    eventful(&whole, &mut Random::new(0)).unwrap();
    let call_count = whole.call_count();
    assert!(call_count > 100, "{call_count} calls");
    for call in 1..=call_count {
        for fault in [Fault::Broken, Fault::Full] {
            let disk = Simulated::default();
            disk.fail_at(call, fault);
            let random = &mut Random::new(call);
            let (states, acknowledged) =
                eventful(&disk, random).unwrap_or_else(|| unreachable!("call {call}, {fault:?}"));
            Life::begin(disk.without_power(random), Fsync::No, states, acknowledged);
        }
    }
}
