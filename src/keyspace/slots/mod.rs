//! Slots: where keys, values and deadlines live, and the one way to change them.
//!
//! A key keeps its slot for life. Slots stand in segments that are never moved
//! nor reallocated, so nothing here is ever O(keys). Every change of a slot goes
//! through [`Slots::touch`], and the fields are private to this folder: no
//! command, script or sweep can forget what hangs there.
//!
//! ```text
//! slab       [ segment of 256 slots ][ segment ][ segment … ]
//! slot       key | value | deadline | epoch | usage | links
//! index      hash of key -> slot
//! deadlines  which slots expire next
//! foresight  where the keys stand that are asked for next
//! ```
//!
//! What hangs there:
//! - the running snapshot (`snapshot`): the slot as it was at the cut is handed
//!   to the sink before it changes;
//! - the open transaction (`journal`): how to undo the change is noted down; of a
//!   change within a value by `within`, piece by piece;
//! - the account of bytes (`slab`): what the slot took before the change;
//! - the guard: what the limiter writes is never evicted.
//!
//! Two things change without a touch, for nothing remembers them: how a key was
//! used (`usage`), and where it is filed among the deadlines (`deadlines`).
//!
//! # Invariants
//!
//! 1. A slot is live exactly when it holds a value, and then the index names it.
//! 2. Free slots form one list, last freed first. Undoing a transaction step by
//!    step, backward, therefore revives each key in the slot it had.
//! 3. A slot that is born takes the present epoch: no snapshot that runs emits it.

mod deadlines;
mod evictable;
mod foresight;
mod graveyard;
mod journal;
mod slab;
mod snapshot;
#[cfg(test)]
mod tests;
mod usage;
mod within;

use std::hash::{BuildHasher, RandomState};
use std::mem;

use fastrand::Rng;

use self::deadlines::Links;
pub(super) use self::evictable::Candidates;
use self::foresight::Foresight;
use self::graveyard::Graveyard;
pub use self::graveyard::Remains;
use self::journal::{Journal, Undo};
use self::slab::{Slab, Slot};
use self::snapshot::Snapshot;
pub use self::snapshot::{SnapshotRunning, SnapshotSink, Walk};
pub(super) use self::usage::{Counting, Usage};
pub(super) use self::within::{SortedSetMut, ValueMut};
use super::index::Index;
use super::value::Value;
use crate::base::clock::Timestamp;

/// The end of a list of slots.
const NO_SLOT: u32 = u32::MAX;

/// Slots that are tried before a random key is taken from the index.
const RANDOM_TRIES: usize = 64;

/// No deadline. A deadline is never this late: commands refuse to overflow.
const NEVER: u64 = u64::MAX;

/// A live slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u32);

/// Proof that a key was looked up and is not there; it carries the hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vacant {
    hash: u32,
}

/// Every slot, and who must know of changes. See the module's header.
#[derive(Debug)]
pub(super) struct Slots {
    slab: Slab,
    /// Keyed at random: strangers choose keys, and must not choose collisions.
    hasher: RandomState,
    epoch: u32,
    snapshot: Option<Snapshot>,
    journal: Journal,
    /// What is gone and still to be freed.
    graveyard: Graveyard,
    foresight: Foresight,
    /// The moment of the last look-up; a birth takes it for its first use.
    present: Timestamp,
    counting: Counting,
    chance: Rng,
    /// While this is set, what is touched or born is guarded from eviction.
    is_guarding: bool,
}

/// Reading.
impl Slots {
    pub(super) fn new() -> Slots {
        let hasher = RandomState::new();
        Slots {
            slab: Slab::new(),
            chance: Rng::with_seed(hasher.hash_one(0)),
            hasher,
            epoch: 0,
            snapshot: None,
            journal: Journal::default(),
            graveyard: Graveyard::default(),
            foresight: Foresight::default(),
            present: Timestamp::default(),
            counting: Counting::Recency,
            is_guarding: false,
        }
    }

    /// Live slots.
    pub(super) fn len(&self) -> usize {
        self.slab.index.len()
    }

    /// The slot of a key, or the proof that there is none. Hashes the key once,
    /// or not at all if it was foreseen or is the one found last.
    pub(super) fn find(&mut self, key: &[u8]) -> Result<SlotId, Vacant> {
        let slab = &mut self.slab;
        if let Some(slot) = self.foresight.next()
            && slab.holds(slot, key)
        {
            self.foresight.pass();
            slab.recent = slot;
            return Ok(SlotId(slot));
        }
        if slab.holds(slab.recent, key) {
            return Ok(SlotId(slab.recent));
        }
        let hash = hash_of(&self.hasher, key);
        self.foresight.pass_by(hash);
        match slab.index.find(hash, |slot| *slab.slot(SlotId(slot)).key == *key) {
            Some(slot) => {
                slab.recent = slot;
                Ok(SlotId(slot))
            }
            None => Err(Vacant { hash }),
        }
    }

    /// See [`Keyspace::foresee`](super::Keyspace::foresee).
    pub(super) fn foresee<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.foresight.look(&self.slab, keys.map(|key| hash_of(&self.hasher, key)));
    }

    /// The slot of a key, without changing what was found last.
    pub(super) fn lookup(&self, key: &[u8]) -> Option<SlotId> {
        let hash = hash_of(&self.hasher, key);
        let is_it = |slot: u32| *self.slab.slot(SlotId(slot)).key == *key;
        self.slab.index.find(hash, is_it).map(SlotId)
    }

    /// The live slot of this number.
    pub(super) fn live_at(&self, slot: usize) -> Option<SlotId> {
        let slot = u32::try_from(slot).ok()?;
        self.slab.get(slot)?.value.as_ref().map(|_| SlotId(slot))
    }

    /// Any live slot. Each is as likely as any other unless so many slots are free
    /// that the tries miss; then the index gives one, a little less fairly.
    pub(super) fn random(&self, random: &mut fastrand::Rng) -> Option<SlotId> {
        if self.len() == 0 {
            return None;
        }
        let tried = (0..RANDOM_TRIES).find_map(|_| self.live_at(random.usize(..self.used())));
        tried.or_else(|| self.slab.index.any(random).map(SlotId))
    }

    /// Slots ever used.
    pub(super) fn used(&self) -> usize {
        self.slab.used as usize
    }

    /// True between [`Slots::begin`] and its end.
    pub(super) fn in_transaction(&self) -> bool {
        self.journal.is_open()
    }

    pub(super) fn key(&self, id: SlotId) -> &[u8] {
        &self.slab.slot(id).key
    }

    pub(super) fn value(&self, id: SlotId) -> Option<&Value> {
        let value = self.slab.slot(id).value.as_ref();
        debug_assert!(value.is_some(), "a slot id names a live slot");
        value
    }

    /// When the key expires, in unix milliseconds.
    pub(super) fn deadline(&self, id: SlotId) -> Option<u64> {
        self.slab.slot(id).deadline()
    }

    /// How the key was used.
    pub(super) fn usage(&self, id: SlotId) -> Usage {
        self.slab.slot(id).usage
    }

    /// Keys with a deadline.
    pub(super) fn expiring(&self) -> usize {
        self.slab.deadlines.len()
    }

    /// Bytes of a key with its value, of its slot, and of its entry in the index.
    pub(super) fn bytes_of(&self, id: SlotId) -> usize {
        Index::<u32>::ENTRY_BYTES + size_of::<Slot>() + self.slab.slot(id).heap_bytes()
    }

    /// Bytes of keys and values alone.
    pub(super) fn content_bytes(&self) -> usize {
        self.slab.content_bytes()
    }

    /// Bytes of everything that is kept, also of what was cleared away and is
    /// still to be freed.
    pub(super) fn heap_bytes(&self) -> usize {
        let detached = self.snapshot.as_ref().map_or(0, Snapshot::heap_bytes);
        let buried = self.graveyard.slab_bytes();
        self.slab.heap_bytes() + detached + buried + self.journal.heap_bytes()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &Value, Option<u64>)> {
        self.slab
            .live()
            .filter_map(|slot| Some((&*slot.key, slot.value.as_ref()?, slot.deadline())))
    }
}

/// Usage, of which nothing is remembered: no touch.
impl Slots {
    /// The present moment, for births.
    pub(super) fn set_present(&mut self, now: Timestamp) {
        self.present = now;
    }

    /// Notes that a key was used.
    pub(super) fn note_use(&mut self, id: SlotId) {
        let (now, counting) = (self.present, self.counting);
        self.slab.slot_mut(id).usage.note(now, counting, || self.chance.u32(..));
    }

    /// Says how a key was used, as a restored one brings it along.
    pub(super) fn usage_mut(&mut self, id: SlotId) -> &mut Usage {
        &mut self.slab.slot_mut(id).usage
    }

    /// Counts usage in this way from here on.
    pub(super) fn count_by(&mut self, counting: Counting) {
        self.counting = counting;
    }

    /// From here on, until it is unset, what is touched or born is guarded from
    /// eviction.
    pub(super) fn set_guarding(&mut self, is_guarding: bool) {
        self.is_guarding = is_guarding;
    }
}

/// Expiry. A key that is looked at leaves its list; it is removed or filed anew.
impl Slots {
    /// A key whose deadline may have passed, by what is filed.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<SlotId> {
        self.slab.pop_due(now_ms)
    }

    /// Files a key that [`Slots::pop_due`] gave and that has not expired.
    pub(super) fn file(&mut self, id: SlotId) {
        self.slab.file(id);
    }
}

/// Eviction: see `evictable`.
impl Slots {
    pub(super) fn evictable_count(&self, candidates: Candidates) -> u32 {
        self.slab.evictable_count(candidates)
    }

    pub(super) fn is_evictable(&self, id: SlotId, candidates: Candidates) -> bool {
        self.slab.is_evictable(id, candidates)
    }

    pub(super) fn sample(&mut self, from: Candidates, count: usize, found: &mut Vec<SlotId>) {
        self.slab.sample(from, count, &mut self.chance, found);
    }

    pub(super) fn sample_soonest(&self, count: usize, found: &mut Vec<SlotId>) {
        self.slab.sample_soonest(count, found);
    }
}

/// Changing. Every method but [`Slots::insert`] and [`Slots::clear`] begins with
/// a touch.
impl Slots {
    /// The slot, to be changed. The only way to one.
    fn touch(&mut self, id: SlotId) -> &mut Slot {
        self.slab.open_account(id);
        if self.is_guarding {
            self.slab.guard(id);
        }
        let slot = self.slab.slot_mut(id);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.before_change(id, slot, self.epoch);
        }
        slot
    }

    /// Puts a new key into a slot.
    pub(super) fn insert(
        &mut self,
        vacant: Vacant,
        key: &[u8],
        value: Value,
        deadline: Option<u64>,
    ) -> SlotId {
        debug_assert_eq!(vacant.hash, hash_of(&self.hasher, key), "the key that was looked up");
        let mut usage = Usage::born(self.present, self.counting);
        if self.is_guarding {
            usage.guard();
        }
        let id = self.occupy(vacant.hash, key.into(), value, deadline.unwrap_or(NEVER), usage);
        self.journal.note(Undo::Born(id));
        id
    }

    /// Removes a key.
    pub(super) fn free(&mut self, id: SlotId) {
        let freed = self.vacate(id);
        if self.journal.is_open() {
            self.journal.note_freed(freed);
        } else if let Some(value) = freed.value {
            self.graveyard.discard(value);
        }
    }

    /// Gives a slot another key, which must be vacant.
    pub(super) fn rename(&mut self, id: SlotId, vacant: Vacant, key: &[u8]) {
        let old = self.rekey(id, vacant.hash, key.into());
        if self.journal.is_open() {
            self.journal.note_renamed(id, old);
        }
    }

    /// Puts another value into a slot; the key and its deadline stay.
    pub(super) fn replace(&mut self, id: SlotId, value: Value) {
        let old = self.touch(id).value.replace(value);
        debug_assert!(old.is_some(), "a slot id names a live slot");
        let Some(old) = old else { return };
        if self.journal.is_open() {
            self.journal.note_replaced(id, old);
        } else {
            self.graveyard.discard(old);
        }
    }

    /// Sets or removes a key's deadline.
    pub(super) fn set_deadline(&mut self, id: SlotId, deadline: Option<u64>) {
        self.touch(id);
        let was = self.slab.set_deadline(id, deadline.unwrap_or(NEVER));
        self.journal.note(Undo::Deadline { id, was });
    }

    /// Removes every key at once, in constant time. The slots are freed later,
    /// by [`Slots::bury`], after the snapshot and the transaction need them no
    /// more.
    pub(super) fn clear(&mut self) {
        let slab = mem::replace(&mut self.slab, Slab::new());
        if self.journal.is_open() {
            self.journal.note_cleared(slab);
        } else {
            self.retire(slab);
        }
    }

    /// A piece of what was cleared away or was large, to be dropped where nobody
    /// waits; `None` when nothing is left.
    pub(super) fn bury(&mut self) -> Option<Remains> {
        self.graveyard.pop()
    }

    /// A piece of what was cleared away, which counts as used memory, to be dropped at
    /// once; `None` when nothing is left.
    pub(super) fn bury_slots(&mut self) -> Option<Remains> {
        self.graveyard.pop_slots()
    }

    /// A slab that was cleared away belongs to the snapshot that walks it, if
    /// one does, and else to the graveyard.
    fn retire(&mut self, slab: Slab) {
        match &mut self.snapshot {
            Some(snapshot) if snapshot.walks_live_slab() => snapshot.detach(slab),
            _ => self.graveyard.add(slab),
        }
    }

    fn occupy(
        &mut self,
        hash: u32,
        key: Box<[u8]>,
        value: Value,
        expires_at_ms: u64,
        usage: Usage,
    ) -> SlotId {
        let slab = &mut self.slab;
        let id = slab.take_free();
        slab.open_account(id);
        slab.index.insert(hash, id.0);
        slab.recent = id.0;
        let (value, epoch, links) = (Some(value), self.epoch, Links::default());
        *slab.slot_mut(id) = Slot { key, value, expires_at_ms, epoch, usage, links };
        slab.file(id);
        slab.count_evictable(id);
        id
    }

    /// Takes what a slot holds and gives the slot back.
    fn vacate(&mut self, id: SlotId) -> Slot {
        self.touch(id);
        let slab = &mut self.slab;
        slab.uncount_evictable(id);
        slab.unfile(id);
        let epoch = slab.slot(id).epoch;
        let taken = mem::replace(slab.slot_mut(id), Slot { epoch, ..Slot::blank() });
        slab.give_back(id);
        slab.index.remove(hash_of(&self.hasher, &taken.key), |slot| slot == id.0);
        taken
    }

    fn rekey(&mut self, id: SlotId, hash: u32, key: Box<[u8]>) -> Box<[u8]> {
        let old = mem::replace(&mut self.touch(id).key, key);
        self.slab.index.remove(hash_of(&self.hasher, &old), |slot| slot == id.0);
        self.slab.index.insert(hash, id.0);
        old
    }
}

fn hash_of(hasher: &RandomState, key: &[u8]) -> u32 {
    hasher.hash_one(key) as u32
}
