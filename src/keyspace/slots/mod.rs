//! Slots: where keys, values and deadlines live, and the one way to change them.
//!
//! A key keeps its slot for life. Slots stand in segments that are never moved
//! nor reallocated, so nothing here is ever O(keys). Every change of a slot goes
//! through [`Slots::touch`], and the fields are private to this folder: no
//! command, script or sweep can forget what hangs there.
//!
//! ```text
//! slab    [ segment of 4096 slots ][ segment ][ segment … ]
//! slot    key | value | deadline | epoch | next free
//! index   hash of key -> slot
//! ```
//!
//! What hangs there:
//! - the running snapshot (`snapshot`): the slot as it was at the cut is handed
//!   to the sink before it changes;
//! - the open transaction (`journal`): how to undo the change is noted down.
//!
//! # Invariants
//!
//! 1. A slot is live exactly when it holds a value, and then the index names it.
//! 2. Free slots form one list, last freed first. Undoing a transaction step by
//!    step, backward, therefore revives each key in the slot it had.
//! 3. A slot that is born takes the present epoch: no snapshot that runs emits it.

mod journal;
mod snapshot;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::mem;

use self::journal::{Journal, Undo};
use self::snapshot::Snapshot;
pub use self::snapshot::{SnapshotRunning, SnapshotSink, Walk};
use super::index::Index;
use super::sorted_set::SortedSet;
use super::value::Value;

/// Slots of one segment.
const SEGMENT_LEN: usize = 4096;

/// The end of the list of free slots.
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
    /// Emptied slabs that are freed piece by piece.
    graveyard: Vec<Slab>,
}

#[derive(Debug)]
struct Slab {
    segments: Vec<Box<[Slot]>>,
    /// Slots ever used; the rest of the last segment is blank.
    used: u32,
    first_free: u32,
    index: Index<u32>,
    /// The slot found last. A Function runs several commands on one key, and
    /// comparing it is cheaper than hashing it again.
    recent: u32,
}

#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    /// `None` in a free slot.
    value: Option<Value>,
    expires_at_ms: u64,
    /// The snapshot that need not look at this slot any more.
    epoch: u32,
    next_free: u32,
}

impl Slot {
    fn blank() -> Slot {
        Slot {
            key: Box::default(),
            value: None,
            expires_at_ms: NEVER,
            epoch: 0,
            next_free: NO_SLOT,
        }
    }

    fn deadline(&self) -> Option<u64> {
        (self.expires_at_ms != NEVER).then_some(self.expires_at_ms)
    }
}

impl Slab {
    fn new() -> Slab {
        Slab { segments: Vec::new(), used: 0, first_free: NO_SLOT, index: Index::new(), recent: 0 }
    }

    fn get(&self, slot: u32) -> Option<&Slot> {
        self.segments.get(slot as usize / SEGMENT_LEN)?.get(slot as usize % SEGMENT_LEN)
    }

    fn slot(&self, id: SlotId) -> &Slot {
        &self.segments[id.0 as usize / SEGMENT_LEN][id.0 as usize % SEGMENT_LEN]
    }

    /// For [`Slots::touch`] and for births only.
    fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.segments[id.0 as usize / SEGMENT_LEN][id.0 as usize % SEGMENT_LEN]
    }

    /// A free slot, off the list or behind the last.
    fn take_free(&mut self) -> SlotId {
        if self.first_free != NO_SLOT {
            let id = SlotId(self.first_free);
            self.first_free = self.slot(id).next_free;
            return id;
        }
        let id = SlotId(self.used);
        if self.used as usize == self.segments.len() * SEGMENT_LEN {
            self.segments.push((0..SEGMENT_LEN).map(|_| Slot::blank()).collect());
        }
        self.used += 1;
        id
    }

    fn live(&self) -> impl Iterator<Item = &Slot> {
        self.segments.iter().flat_map(|segment| segment.iter()).filter(|slot| slot.value.is_some())
    }
}

/// Reading.
impl Slots {
    pub(super) fn new() -> Slots {
        Slots {
            slab: Slab::new(),
            hasher: RandomState::new(),
            epoch: 0,
            snapshot: None,
            journal: Journal::default(),
            graveyard: Vec::new(),
        }
    }

    /// Live slots.
    pub(super) fn len(&self) -> usize {
        self.slab.index.len()
    }

    /// The slot of a key, or the proof that there is none. Hashes the key once,
    /// or not at all if it is the one found last.
    pub(super) fn find(&mut self, key: &[u8]) -> Result<SlotId, Vacant> {
        let slab = &mut self.slab;
        if let Some(recent) = slab.get(slab.recent)
            && recent.value.is_some()
            && *recent.key == *key
        {
            return Ok(SlotId(slab.recent));
        }
        let hash = hash_of(&self.hasher, key);
        match slab.index.find(hash, |slot| *slab.slot(SlotId(slot)).key == *key) {
            Some(slot) => {
                slab.recent = slot;
                Ok(SlotId(slot))
            }
            None => Err(Vacant { hash }),
        }
    }

    /// The live slot of this number, for a sweep.
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

    /// Slots ever used; a sweep goes from 0 to here.
    pub(super) fn used(&self) -> usize {
        self.slab.used as usize
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

    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &Value, Option<u64>)> {
        self.slab
            .live()
            .filter_map(|slot| Some((&*slot.key, slot.value.as_ref()?, slot.deadline())))
    }
}

/// Changing. Every method but [`Slots::insert`] and [`Slots::clear`] begins with
/// a touch.
impl Slots {
    /// The slot, to be changed. The only way to one.
    fn touch(&mut self, id: SlotId) -> &mut Slot {
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
        let id = self.occupy(vacant.hash, key.into(), value, deadline.unwrap_or(NEVER));
        self.journal.note(Undo::Born(id));
        id
    }

    /// Removes a key.
    pub(super) fn free(&mut self, id: SlotId) {
        let (key, value, expires_at_ms) = self.vacate(id);
        if self.journal.is_open() {
            self.journal.note_freed(key, value, expires_at_ms);
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
        if self.journal.is_open()
            && let Some(old) = old
        {
            self.journal.note_replaced(id, old);
        }
    }

    /// Sets or removes a key's deadline.
    pub(super) fn set_deadline(&mut self, id: SlotId, deadline: Option<u64>) {
        let slot = self.touch(id);
        let was = mem::replace(&mut slot.expires_at_ms, deadline.unwrap_or(NEVER));
        self.journal.note(Undo::Deadline { id, was });
    }

    /// Writes bytes over the string of a slot from `at` on; the string grows as
    /// needed, and a gap is filled with zeros.
    pub(super) fn overwrite(&mut self, id: SlotId, at: usize, text: &[u8]) {
        self.touch(id);
        let journal = &mut self.journal;
        let Some(Value::String(string)) = &mut self.slab.slot_mut(id).value else {
            debug_assert!(false, "only a string is written into");
            return;
        };
        if journal.is_open() {
            match string.overwritten(at, text.len()) {
                Some(bytes) => {
                    let was_len = string.len() as u32;
                    let at = at as u32;
                    journal.note_member(bytes, |len| Undo::Overwrote { id, at, len, was_len });
                }
                None => journal.note_replaced(id, Value::String(string.clone())),
            }
        }
        string.overwrite(at, text);
    }

    /// The sorted set of a slot, to be changed. `None` if it holds another kind.
    pub(super) fn sorted_set(&mut self, id: SlotId) -> Option<SortedSetMut<'_>> {
        self.touch(id);
        match &mut self.slab.slot_mut(id).value {
            Some(Value::SortedSet(set)) => {
                Some(SortedSetMut { id, set, journal: &mut self.journal })
            }
            _ => None,
        }
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

    /// Frees a piece of what [`Slots::clear`] left behind; false when nothing is
    /// left.
    pub(super) fn bury(&mut self) -> bool {
        let Some(slab) = self.graveyard.last_mut() else { return false };
        if slab.segments.pop().is_none() {
            self.graveyard.pop();
        }
        true
    }

    /// A slab that was cleared away belongs to the snapshot that walks it, if
    /// one does, and else to the graveyard.
    fn retire(&mut self, slab: Slab) {
        match &mut self.snapshot {
            Some(snapshot) if snapshot.walks_live_slab() => snapshot.detach(slab),
            _ => self.graveyard.push(slab),
        }
    }

    fn occupy(&mut self, hash: u32, key: Box<[u8]>, value: Value, expires_at_ms: u64) -> SlotId {
        let id = self.slab.take_free();
        self.slab.index.insert(hash, id.0);
        self.slab.recent = id.0;
        let epoch = self.epoch;
        let slot = self.slab.slot_mut(id);
        *slot = Slot { key, value: Some(value), expires_at_ms, epoch, next_free: NO_SLOT };
        id
    }

    fn vacate(&mut self, id: SlotId) -> (Box<[u8]>, Option<Value>, u64) {
        let first_free = self.slab.first_free;
        let slot = self.touch(id);
        slot.next_free = first_free;
        let (key, value) = (mem::take(&mut slot.key), slot.value.take());
        let expires_at_ms = mem::replace(&mut slot.expires_at_ms, NEVER);
        self.slab.first_free = id.0;
        self.slab.index.remove(hash_of(&self.hasher, &key), |slot| slot == id.0);
        (key, value, expires_at_ms)
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

/// A sorted set in its slot, to be changed so that the change can be undone.
#[derive(Debug)]
pub(super) struct SortedSetMut<'a> {
    id: SlotId,
    set: &'a mut SortedSet,
    journal: &'a mut Journal,
}

impl SortedSetMut<'_> {
    /// Adds a member that is not there.
    pub(super) fn add(&mut self, member: &[u8], score: f64) {
        self.set.add(member, score);
        if self.journal.is_open() {
            self.journal.note_member(member, |len| Undo::Joined { id: self.id, len });
        }
    }

    /// Changes the score of a member that is there with the score `current`.
    pub(super) fn rescore(&mut self, member: &[u8], current: f64, score: f64) {
        self.set.rescore(member, score);
        if self.journal.is_open() {
            let id = self.id;
            self.journal.note_member(member, |len| Undo::Rescored { id, len, was: current });
        }
    }

    /// Takes a member out; true if it was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.set.remove(member) else { return false };
        if self.journal.is_open() {
            self.journal.note_member(member, |len| Undo::Left { id: self.id, len, score });
        }
        true
    }

    /// Takes out the members of these ranks.
    pub(super) fn remove_range(&mut self, ranks: std::ops::Range<usize>) {
        let (id, journal) = (self.id, &mut *self.journal);
        let is_open = journal.is_open();
        self.set.remove_range(ranks, |member, score| {
            if is_open {
                journal.note_member(member, |len| Undo::Left { id, len, score });
            }
        });
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.set.score(member)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}
