//! Which keys may be evicted: how many there are, and a few of them at random.
//!
//! A guarded key never goes, and some policies spare keys without a deadline. A
//! sample looks at the slots behind random places. Where hardly any slot may go,
//! that finds nothing, and a cursor goes on from where the last search ended: so
//! a search takes a bounded time, and several find every key there is.

use fastrand::Rng;

use super::SlotId;
use super::slab::{Slab, Slot};

/// Slots that are looked at behind a random place.
const PROBE_LEN: u32 = 16;

/// Slots that the cursor passes in one search.
const SCAN_LEN: u32 = 2048;

/// Which keys a policy may evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyspace) enum Candidates {
    /// Any that is not guarded.
    All,
    /// Only those that have a deadline.
    Volatile,
}

/// How many keys may be evicted.
#[derive(Debug, Default)]
pub(super) struct Evictable {
    all: u32,
    volatile: u32,
    /// Where the next search goes on.
    cursor: u32,
}

impl Candidates {
    fn include(self, slot: &Slot) -> bool {
        let is_volatile = self == Candidates::All || slot.deadline().is_some();
        is_volatile && slot.value.is_some() && !slot.usage.is_guarded()
    }
}

impl Slab {
    /// Counts a slot that is live now, or may be evicted now.
    pub(super) fn count_evictable(&mut self, id: SlotId) {
        let slot = self.slot(id);
        let (all, volatile) = (Candidates::All.include(slot), Candidates::Volatile.include(slot));
        self.evictable.all += u32::from(all);
        self.evictable.volatile += u32::from(volatile);
    }

    /// No longer counts a slot, before what is counted of it changes.
    pub(super) fn uncount_evictable(&mut self, id: SlotId) {
        let slot = self.slot(id);
        let (all, volatile) = (Candidates::All.include(slot), Candidates::Volatile.include(slot));
        self.evictable.all -= u32::from(all);
        self.evictable.volatile -= u32::from(volatile);
    }

    /// Guards a live slot from eviction.
    pub(super) fn guard(&mut self, id: SlotId) {
        if !self.slot(id).usage.is_guarded() {
            self.uncount_evictable(id);
            self.slot_mut(id).usage.guard();
        }
    }

    /// Keys that may be evicted.
    pub(super) fn evictable_count(&self, candidates: Candidates) -> u32 {
        match candidates {
            Candidates::All => self.evictable.all,
            Candidates::Volatile => self.evictable.volatile,
        }
    }

    /// Up to `count` slots that may be evicted, into `found`. May find none
    /// where there are few; the next search then looks elsewhere.
    pub(super) fn sample(
        &mut self,
        candidates: Candidates,
        count: usize,
        chance: &mut Rng,
        found: &mut Vec<SlotId>,
    ) {
        if self.evictable_count(candidates) == 0 {
            return;
        }
        for _ in 0..count {
            let start = chance.u32(..self.used);
            let end = start.saturating_add(PROBE_LEN).min(self.used);
            found.extend((start..end).map(SlotId).find(|id| candidates.include(self.slot(*id))));
        }
        for _ in 0..SCAN_LEN {
            if !found.is_empty() {
                return;
            }
            let at = self.evictable.cursor;
            self.evictable.cursor = if at + 1 < self.used { at + 1 } else { 0 };
            let at = SlotId(at.min(self.used - 1));
            found.extend(candidates.include(self.slot(at)).then_some(at));
        }
    }

    /// Up to `count` slots that may be evicted among those filed nearest.
    pub(super) fn sample_soonest(&self, count: usize, found: &mut Vec<SlotId>) {
        let nearest = self.soonest(SCAN_LEN as usize);
        found.extend(nearest.filter(|id| Candidates::Volatile.include(self.slot(*id))).take(count));
    }

    /// True if this slot holds a key that may be evicted.
    pub(super) fn is_evictable(&self, id: SlotId, candidates: Candidates) -> bool {
        self.get(id.0).is_some_and(|slot| candidates.include(slot))
    }
}
