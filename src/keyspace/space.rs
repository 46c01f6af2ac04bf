//! [`Keyspace`]: slots with time and commands.
//!
//! Slots know nothing of time. Here a key whose deadline has passed is found
//! expired: it is removed, and the removal is an effect like any other, because
//! a replay must not depend on when it happens. In a replay nothing expires and
//! nothing is an effect.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::arg::Arg;
use super::channels::{Announced, Channels, Ear};
use super::command::{Command, Flags, Run};
use super::effects::Effects;
use super::error::CommandError;
use super::eviction::{MemoryLimits, Pool};
use super::notices::EventClass;
use super::slots::{Remains, SlotId, Slots, SnapshotRunning, SnapshotSink, Vacant, Walk};
use super::value::Value;
use super::watches::Watches;
use crate::base::clock::Timestamp;
use crate::resp::Reply;

/// Keys, values, deadlines. See the module's header.
#[derive(Debug)]
pub struct Keyspace {
    pub(super) slots: Slots,
    pub(super) limits: MemoryLimits,
    pub(super) pool: Pool,
    pub(super) evicted_count: u64,
    expired_count: u64,
    hit_count: u64,
    miss_count: u64,
    peak_bytes: usize,
    /// Whether [`Keyspace::sweep`] does anything; a test may want it still.
    pub(super) sweeps_by_itself: bool,
    watches: Watches,
    /// Who listens to which channels.
    pub(super) channels: Channels,
    /// Draws keys and members; not for secrets.
    pub(super) random: fastrand::Rng,
}

/// What surrounds one command: the moment, and where its results go.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The present moment. It stands still within a call.
    pub now: Timestamp,
    /// Whether this happens now or has happened before.
    pub mode: Mode,
    /// Why nothing may be written, if so, as a client is told it.
    pub denied: Option<&'a str>,
    /// What the command changes is added here.
    pub effects: &'a mut Effects,
    /// What the command answers is added here: one reply, or on an error none.
    pub reply: &'a mut Reply,
}

impl<'a> Execution<'a> {
    /// Something that happens now and may write.
    pub fn live(now: Timestamp, effects: &'a mut Effects, reply: &'a mut Reply) -> Execution<'a> {
        Execution { now, mode: Mode::Live, denied: None, effects, reply }
    }

    /// Refuses what writes while nothing may be written.
    ///
    /// # Errors
    /// [`CommandError::WritesDenied`].
    pub fn permit(&self, flags: Flags) -> Result<(), CommandError> {
        match self.denied {
            Some(reason) if flags.contains(Flags::WRITE) => {
                Err(CommandError::WritesDenied(reason.into()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a command happens for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It happens now: keys expire, changes are recorded.
    Live,
    /// It is read from the log: nothing expires by itself, nothing is recorded.
    Replay,
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Keys found expired and removed.
    pub expired: usize,
    /// True when no other deadline has passed.
    pub finished: bool,
}

/// What a keyspace holds, and what became of the keys that went by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    /// Keys, including those that have expired and were not yet found.
    pub keys: usize,
    /// Keys that have a deadline.
    pub expiring: usize,
    /// Bytes that everything takes.
    pub used_bytes: usize,
    /// The most that [`Keyspace::stats`] has seen in use.
    pub peak_bytes: usize,
    /// Keys that have expired and were removed, so far.
    pub expired_count: u64,
    /// Keys that were evicted, so far.
    pub evicted_count: u64,
    /// Keys that were there when a command came to read them, so far.
    pub hit_count: u64,
    /// Keys that were not, so far.
    pub miss_count: u64,
}

/// [`Keyspace::insert_loaded`] was given a key that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key exists already")]
pub struct DuplicateKey;

impl Execution<'_> {
    /// Records an effect.
    pub fn record(&mut self, args: &[Arg<'_>]) {
        if self.mode == Mode::Live {
            self.effects.push(args);
        }
    }

    /// Tells listeners what happened to a key.
    pub(super) fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        if self.mode == Mode::Live {
            self.effects.notify(class, event, key);
        }
    }

    /// Tells who listens to a channel, when the call has ended.
    pub(super) fn publish(&mut self, ear: Ear, channel: &[u8], message: &[u8]) {
        if self.mode == Mode::Live {
            self.effects.publish(ear, channel, message);
        }
    }

    /// True if a key with this deadline is gone. At the deadline itself it is
    /// still there, as in Redis.
    pub(super) fn has_expired(&self, deadline: Option<u64>) -> bool {
        self.mode == Mode::Live && deadline.is_some_and(|deadline| deadline < self.now.millis())
    }
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace::new()
    }
}

impl Keyspace {
    /// A keyspace without keys.
    pub fn new() -> Keyspace {
        // The standard library's keys are the one source of chance without a clock.
        let seed = RandomState::new().build_hasher().finish();
        Keyspace {
            slots: Slots::new(),
            random: fastrand::Rng::with_seed(seed),
            limits: MemoryLimits::NONE,
            pool: Pool::default(),
            evicted_count: 0,
            expired_count: 0,
            hit_count: 0,
            miss_count: 0,
            peak_bytes: 0,
            sweeps_by_itself: true,
            watches: Watches::default(),
            channels: Channels::default(),
        }
    }

    /// Runs one command of [`Run::Keyspace`]. `args[0]` is its name. Adds one
    /// reply to `run.reply`.
    ///
    /// # Errors
    /// A [`CommandError`]; then nothing was changed, replied or recorded, except
    /// that a key found expired is gone.
    pub fn execute(
        &mut self,
        command: &'static Command,
        args: &[Arg<'_>],
        run: &mut Execution<'_>,
    ) -> Result<(), CommandError> {
        let command = command.resolve(args)?;
        let Run::Keyspace(handler) = command.run else {
            return Err(CommandError::Elsewhere(command.name));
        };
        run.permit(command.flags)?;
        let mark = run.reply.mark();
        let result = self.watched(run, |space, run| handler(space, args, run));
        if result.is_err() {
            run.reply.truncate(mark);
        }
        result
    }

    /// Keys, including those that have expired and were not yet found.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens a transaction: what follows stands or falls together.
    pub fn begin(&mut self) {
        self.slots.begin();
    }

    /// Opens a transaction of the limiter: the keys that it writes are guarded
    /// from eviction, see [`Asker`](super::Asker).
    pub fn begin_guarded(&mut self) {
        self.slots.begin();
        self.slots.set_guarding(true);
    }

    /// Closes the transaction; its changes stand.
    pub fn commit(&mut self) {
        self.slots.commit();
        self.slots.set_guarding(false);
        self.watches.close_transaction(false);
    }

    /// Closes the transaction and undoes it. The caller takes back its effects
    /// with [`Effects::truncate`].
    pub fn rollback(&mut self) {
        self.slots.rollback();
        self.slots.set_guarding(false);
        self.watches.close_transaction(true);
    }

    /// Begins a snapshot of this very moment, in constant time.
    ///
    /// # Errors
    /// A snapshot is running already.
    pub fn cut(&mut self, sink: Box<dyn SnapshotSink>) -> Result<(), SnapshotRunning> {
        self.slots.cut(sink)
    }

    /// Hands the next `slot_count` slots of the running snapshot to its sink, or
    /// fewer if they are big.
    pub fn walk(&mut self, slot_count: usize) -> Walk {
        self.slots.walk(slot_count)
    }

    /// Ends the running snapshot early and gives its sink back.
    pub fn abort_snapshot(&mut self) -> Option<Box<dyn SnapshotSink>> {
        self.slots.abort_snapshot()
    }

    /// Adds a key from a base file, expired or not: the log that follows may
    /// say more of it.
    ///
    /// # Errors
    /// The key is there already; a base file holds each key once.
    pub fn insert_loaded(
        &mut self,
        key: &[u8],
        value: Value,
        expires_at_ms: Option<u64>,
    ) -> Result<(), DuplicateKey> {
        let Err(vacant) = self.slots.find(key) else { return Err(DuplicateKey) };
        self.slots.insert(vacant, key, value, expires_at_ms);
        Ok(())
    }

    /// Looks at up to `step_count` keys whose deadline may have passed and removes
    /// those that have expired, with a `DEL` each as an effect.
    pub fn sweep(&mut self, step_count: usize, run: &mut Execution<'_>) -> Swept {
        if !self.sweeps_by_itself {
            return Swept { expired: 0, finished: true };
        }
        self.watched(run, |space, run| {
            let mut expired = 0;
            for _ in 0..step_count {
                let Some(id) = space.slots.pop_due(run.now.millis()) else {
                    return Swept { expired, finished: true };
                };
                if space.expire_if_due(id, run) {
                    expired += 1;
                } else {
                    space.slots.file(id);
                }
            }
            Swept { expired, finished: false }
        })
    }

    /// A piece of what a flush left behind or of what was large, to be dropped where
    /// nobody waits; `None` when nothing is left.
    pub fn bury(&mut self) -> Option<Remains> {
        self.slots.bury()
    }

    /// Bytes of the whole keyspace, by what its allocations really take.
    /// Constant time.
    pub fn used_bytes(&self) -> usize {
        self.slots.heap_bytes()
    }

    /// How many keys there are, and what they take. Constant time.
    pub fn stats(&mut self) -> KeyspaceStats {
        let used_bytes = self.used_bytes();
        self.peak_bytes = self.peak_bytes.max(used_bytes);
        KeyspaceStats {
            keys: self.len(),
            expiring: self.slots.expiring(),
            used_bytes,
            peak_bytes: self.peak_bytes,
            expired_count: self.expired_count,
            evicted_count: self.evicted_count,
            hit_count: self.hit_count,
            miss_count: self.miss_count,
        }
    }

    /// Has the processor fetch what stands of these keys, all at once. A key alone
    /// waits for the memory four times in a row; several, looked up side by side
    /// before the first is used, wait together; and what was found is not looked for
    /// again. Changes no key.
    pub fn foresee<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.slots.foresee(keys);
    }

    /// True if a key is there and has not expired. No use of it.
    pub fn contains(&self, key: &[u8], now: Timestamp) -> bool {
        self.slots.lookup(key).is_some_and(|id| {
            self.slots.deadline(id).is_none_or(|deadline| deadline >= now.millis())
        })
    }

    /// The present moment, for what is loaded before anything runs.
    pub fn set_present(&mut self, now: Timestamp) {
        self.slots.set_present(now);
    }

    /// Every key with its value and its deadline in unix milliseconds, in no
    /// order. For tests and digests.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Value, Option<u64>)> {
        self.slots.entries()
    }
}

/// Listening.
impl Keyspace {
    /// Who listens to which channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The same, to be changed.
    pub fn channels_mut(&mut self) -> &mut Channels {
        &mut self.channels
    }

    /// From here on these events are noted in `effects` and told.
    pub fn announce(&mut self, announced: Announced, effects: &mut Effects) {
        self.channels.announce(announced);
        effects.want_notices(announced.heard());
    }

    /// Tells listeners what a call that has ended did and published.
    pub fn tell(&mut self, effects: &Effects) {
        effects.tell(&mut self.channels);
    }
}

/// Watching. A watcher is a client, by a number of its own.
impl Keyspace {
    /// From here on a change of this key makes the watcher's keys stale.
    pub fn watch(&mut self, watcher: u64, key: &[u8], now: Timestamp) {
        let deadline = self.slots.lookup(key).and_then(|id| self.slots.deadline(id));
        let had_expired = deadline.is_some_and(|it| it < now.millis());
        self.watches.add(watcher, key, had_expired);
    }

    /// The watcher watches nothing any more.
    pub fn unwatch(&mut self, watcher: u64) {
        self.watches.remove(watcher);
    }

    /// True if none of the watcher's keys has changed or expired since it began
    /// to watch it. A key that had expired already has nothing to lose.
    pub fn is_intact(&self, watcher: u64, now: Timestamp) -> bool {
        let slots = &self.slots;
        self.watches.are_intact(watcher, |key| {
            let deadline = slots.lookup(key).and_then(|id| slots.deadline(id));
            deadline.is_some_and(|deadline| deadline < now.millis())
        })
    }

    /// Runs something whose events watchers must know of.
    pub(super) fn watched<'a, T>(
        &mut self,
        run: &mut Execution<'a>,
        work: impl FnOnce(&mut Keyspace, &mut Execution<'a>) -> T,
    ) -> T {
        if self.watches.is_empty() {
            return work(self, run);
        }
        let mark = run.effects.note_everything();
        let worked = work(self, run);
        let in_transaction = self.slots.in_transaction();
        for notice in run.effects.notices_since(mark) {
            self.watches.happened(notice.class, notice.key, in_transaction);
        }
        worked
    }
}

/// What commands are made of.
impl Keyspace {
    /// The slot of a key, which is used by this. A key found expired is removed
    /// first.
    pub(super) fn find(&mut self, key: &[u8], run: &mut Execution<'_>) -> Result<SlotId, Vacant> {
        let found = self.peek(key, run);
        if let Ok(id) = found {
            self.slots.note_use(id);
        }
        found
    }

    /// The slot of a key, which is not used by this and not counted.
    pub(super) fn peek(&mut self, key: &[u8], run: &mut Execution<'_>) -> Result<SlotId, Vacant> {
        self.slots.set_present(run.now);
        let id = self.slots.find(key)?;
        if self.expire_if_due(id, run) { self.slots.find(key) } else { Ok(id) }
    }

    /// The slot of a key that is only read: listeners may want to know of a miss.
    pub(super) fn look_up(&mut self, key: &[u8], run: &mut Execution<'_>) -> Option<SlotId> {
        let found = self.glance(key, run);
        if let Some(id) = found {
            self.slots.note_use(id);
        }
        found
    }

    /// The same, for commands that ask about the key and do not use it.
    pub(super) fn glance(&mut self, key: &[u8], run: &mut Execution<'_>) -> Option<SlotId> {
        let found = self.peek(key, run).ok();
        if found.is_some() {
            self.hit_count += 1;
        } else {
            self.miss_count += 1;
            run.notify(EventClass::MISSED, "keymiss", key);
        }
        found
    }

    /// The value of a key that is only read, which uses it.
    pub(super) fn value(&mut self, key: &[u8], run: &mut Execution<'_>) -> Option<&Value> {
        let id = self.look_up(key, run)?;
        self.slots.value(id)
    }

    /// Gives a key that is not there a value.
    pub(super) fn create(
        &mut self,
        vacant: Vacant,
        key: &[u8],
        value: Value,
        run: &mut Execution<'_>,
    ) -> SlotId {
        run.notify(EventClass::NEW, "new", key);
        self.slots.insert(vacant, key, value, None)
    }

    /// Sets a key to a value, whatever it was before; a deadline stays.
    pub(super) fn put(
        &mut self,
        at: Result<SlotId, Vacant>,
        key: &[u8],
        value: Value,
        run: &mut Execution<'_>,
    ) -> SlotId {
        match at {
            Ok(id) => {
                self.slots.replace(id, value);
                id
            }
            Err(vacant) => self.create(vacant, key, value, run),
        }
    }

    /// Removes every key.
    pub fn clear(&mut self) {
        let slots = &self.slots;
        self.watches.flushed(slots.in_transaction(), |key| slots.lookup(key).is_some());
        self.slots.clear();
    }

    /// Removes a key whose deadline has passed; true if it is gone.
    pub(super) fn expire_if_due(&mut self, id: SlotId, run: &mut Execution<'_>) -> bool {
        let is_due = run.has_expired(self.slots.deadline(id));
        if is_due {
            self.expire(id, run);
        }
        is_due
    }

    /// Any live slot, each as likely as any other unless most slots are free.
    pub(super) fn random_slot(&mut self) -> Option<SlotId> {
        self.slots.random(&mut self.random)
    }

    fn expire(&mut self, id: SlotId, run: &mut Execution<'_>) {
        let key = self.slots.key(id);
        run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(key)]);
        run.notify(EventClass::EXPIRED, "expired", key);
        self.slots.free(id);
        self.expired_count += 1;
    }
}
