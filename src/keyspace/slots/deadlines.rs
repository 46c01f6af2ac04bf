//! Which keys expire next: a wheel of lists of slots.
//!
//! A deadline is filed by its tick of 64 ms. Level 0 has a list for each of the
//! next 64 ticks, level 1 one for each of the 64 turns of level 0 after that, and
//! so on: six levels reach for a century. The lists run through the slots
//! themselves, so filing allocates nothing and takes constant time.
//!
//! ```text
//! level 0   64 lists of 64 ms    | 4 s        a list that is reached becomes
//! level 1   64 lists of 4 s      | 4 min      the due list; each of its slots
//! level 2   64 lists of 4 min    | 4 h        is looked at once, and has then
//! …                                           expired or is filed anew
//! ```
//!
//! A limiter moves a deadline with each hit, nearly always to a later moment.
//! That files nothing: a slot may be filed too early, never too late, and finds
//! out when it is looked at. Every expired key is found, within a tick or two if
//! there is time, and nothing else is searched.
//!
//! # Invariants
//!
//! 1. A live slot with a deadline is in exactly one list; any other in none.
//! 2. A slot is filed at its deadline or before.
//! 3. All lists before `tick` are empty.

use super::slab::Slab;
use super::{NEVER, NO_SLOT, SlotId};

/// Binary digits of the milliseconds of a tick.
const TICK_BITS: u32 = 6;

/// Binary digits of the lists of a level.
const LEVEL_BITS: u32 = 6;

const LEVEL_LEN: u32 = 1 << LEVEL_BITS;
const LEVEL_COUNT: u32 = 6;

/// The list of slots whose filed moment has come.
const DUE: u32 = LEVEL_COUNT * LEVEL_LEN;
const LIST_COUNT: u32 = DUE + 1;

/// A `prev` from here on says: the first of this list.
const FIRST_OF: u32 = NO_SLOT - LIST_COUNT;

/// Neighbours of a slot in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    prev: u32,
    pub(super) next: u32,
}

/// The heads of the lists. See the module's header.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// The tick that the wheel has come to.
    tick: u64,
    heads: [u32; LIST_COUNT as usize],
    /// For each level, which of its lists have slots.
    occupied: [u64; LEVEL_COUNT as usize],
    /// Slots in all lists.
    len: usize,
}

impl Default for Links {
    fn default() -> Links {
        Links { prev: NO_SLOT, next: NO_SLOT }
    }
}

impl Links {
    /// In no list of deadlines, but leading on.
    pub(super) fn to(next: u32) -> Links {
        Links { prev: NO_SLOT, next }
    }

    fn is_filed(self) -> bool {
        self.prev != NO_SLOT
    }
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            tick: 0,
            heads: [NO_SLOT; LIST_COUNT as usize],
            occupied: [0; LEVEL_COUNT as usize],
            len: 0,
        }
    }
}

impl Deadlines {
    /// Slots with a deadline.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The list for a deadline: the lowest level on which it and the present
    /// tick differ in nothing above.
    fn list_for(&self, deadline: u64) -> u32 {
        // A key is expired once its deadline has passed, hence the tick after.
        let tick = (deadline >> TICK_BITS) + 1;
        if tick <= self.tick {
            return DUE;
        }
        let level = (63 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
        if level >= LEVEL_COUNT {
            // Further off than the wheel reaches: looked at again when it ends.
            return DUE - 1;
        }
        level * LEVEL_LEN + (tick >> (level * LEVEL_BITS)) as u32 % LEVEL_LEN
    }

    /// The next list that has slots, and the tick at which it is reached.
    fn next_list(&self) -> Option<(u32, u64)> {
        for level in 0..LEVEL_COUNT {
            let shift = level * LEVEL_BITS;
            let at = (self.tick >> shift) as u32 % LEVEL_LEN;
            // What lies at the hand or before it belongs to the next turn, which
            // only the last level has.
            let ahead = self.occupied[level as usize].rotate_right(at + 1);
            if ahead != 0 {
                let steps = ahead.trailing_zeros() + 1;
                let tick = ((self.tick >> shift) + u64::from(steps)) << shift;
                return Some((level * LEVEL_LEN + (at + steps) % LEVEL_LEN, tick));
            }
        }
        None
    }

    fn mark(&mut self, list: u32) {
        if list < DUE {
            let bit = 1 << (list % LEVEL_LEN);
            let level = &mut self.occupied[(list / LEVEL_LEN) as usize];
            if self.heads[list as usize] == NO_SLOT { *level &= !bit } else { *level |= bit }
        }
    }
}

impl Slab {
    /// Files a slot by its deadline; one without is in no list.
    pub(super) fn file(&mut self, id: SlotId) {
        let deadline = self.slot(id).expires_at_ms;
        debug_assert!(!self.slot(id).links.is_filed(), "a slot is in one list");
        if deadline != NEVER {
            let list = self.deadlines.list_for(deadline);
            self.push(list, id);
        }
    }

    /// Takes a slot out of its list, if it is in one.
    pub(super) fn unfile(&mut self, id: SlotId) {
        let Links { prev, next } = self.slot(id).links;
        if prev == NO_SLOT {
            return;
        }
        if next != NO_SLOT {
            self.slot_mut(SlotId(next)).links.prev = prev;
        }
        if let Some(list) = prev.checked_sub(FIRST_OF) {
            self.deadlines.heads[list as usize] = next;
            self.deadlines.mark(list);
        } else {
            self.slot_mut(SlotId(prev)).links.next = next;
        }
        self.slot_mut(id).links = Links::default();
        self.deadlines.len -= 1;
    }

    /// Sets a deadline and files the slot again if it would be filed too late;
    /// the deadline that was.
    pub(super) fn set_deadline(&mut self, id: SlotId, deadline: u64) -> u64 {
        let was = self.slot(id).expires_at_ms;
        self.uncount_evictable(id);
        self.slot_mut(id).expires_at_ms = deadline;
        self.count_evictable(id);
        if deadline < was || deadline == NEVER || was == NEVER {
            self.unfile(id);
            self.file(id);
        }
        was
    }

    /// A slot whose filed moment has come, out of every list. The caller removes
    /// it or files it anew.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<SlotId> {
        let end = now_ms >> TICK_BITS;
        while self.deadlines.heads[DUE as usize] == NO_SLOT {
            match self.deadlines.next_list() {
                Some((list, tick)) if tick <= end => {
                    self.deadlines.tick = tick;
                    self.make_due(list);
                }
                _ => {
                    self.deadlines.tick = self.deadlines.tick.max(end);
                    return None;
                }
            }
        }
        let id = SlotId(self.deadlines.heads[DUE as usize]);
        self.unfile(id);
        Some(id)
    }

    /// Up to `count` slots that are filed nearest.
    pub(super) fn soonest(&self, count: usize) -> impl Iterator<Item = SlotId> {
        let nearest = match self.deadlines.heads[DUE as usize] {
            NO_SLOT => self.deadlines.next_list().map(|(list, _)| list),
            _ => Some(DUE),
        };
        let first = nearest.map_or(NO_SLOT, |list| self.deadlines.heads[list as usize]);
        let known = |slot: u32| (slot != NO_SLOT).then_some(SlotId(slot));
        std::iter::successors(known(first), move |id| known(self.slot(*id).links.next)).take(count)
    }

    /// Makes a list the due one, which is empty.
    fn make_due(&mut self, list: u32) {
        let first = std::mem::replace(&mut self.deadlines.heads[list as usize], NO_SLOT);
        self.deadlines.mark(list);
        self.deadlines.heads[DUE as usize] = first;
        if first != NO_SLOT {
            self.slot_mut(SlotId(first)).links.prev = FIRST_OF + DUE;
        }
    }

    fn push(&mut self, list: u32, id: SlotId) {
        let next = std::mem::replace(&mut self.deadlines.heads[list as usize], id.0);
        if next != NO_SLOT {
            self.slot_mut(SlotId(next)).links.prev = id.0;
        }
        self.slot_mut(id).links = Links { prev: FIRST_OF + list, next };
        self.deadlines.len += 1;
        self.deadlines.mark(list);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::slots::Slots;
    use crate::keyspace::value::Value;

    #[derive(Clone, Debug)]
    enum Step {
        /// Sets the deadline of a key to so long from now.
        Set {
            key: u8,
            after_ms: u64,
        },
        Persist {
            key: u8,
        },
        Free {
            key: u8,
        },
        Wait {
            ms: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let after = prop_oneof![0u64..200, 0u64..20_000, 0u64..1 << 34, 0u64..1 << 50];
        prop_oneof![
            4 => (0u8..20, after).prop_map(|(key, after_ms)| Step::Set { key, after_ms }),
            1 => (0u8..20).prop_map(|key| Step::Persist { key }),
            1 => (0u8..20).prop_map(|key| Step::Free { key }),
            3 => prop_oneof![0u64..300, 0u64..30_000, 0u64..1 << 35].prop_map(|ms| Step::Wait { ms }),
        ]
    }

    fn set(slots: &mut Slots, key: u8, deadline: Option<u64>) {
        match slots.find(&[key]) {
            Ok(id) => slots.set_deadline(id, deadline),
            Err(vacant) => {
                slots.insert(vacant, &[key], Value::String((&b"v"[..]).into()), deadline);
            }
        }
    }

    /// Removes what has expired, as a sweep does; the keys, in order.
    fn sweep(slots: &mut Slots, now: u64) -> Vec<u8> {
        let mut expired = Vec::new();
        while let Some(id) = slots.pop_due(now) {
            if slots.deadline(id).is_some_and(|deadline| deadline < now) {
                expired.push(slots.key(id)[0]);
                slots.free(id);
            } else {
                slots.file(id);
            }
        }
        expired.sort_unstable();
        expired
    }

    proptest! {
        #[test]
        fn a_sweep_finds_what_expired_before_the_last_tick_and_nothing_else(
            start in prop_oneof![Just(0u64), 1_700_000_000_000..1_700_000_100_000u64],
            steps in vec(step(), 0..80),
        ) {
            let mut slots = Slots::new();
            let mut deadlines = BTreeMap::new();
            let mut now = start;
            for step in steps {
                match step {
                    Step::Set { key, after_ms } => {
                        set(&mut slots, key, Some(now + after_ms));
                        deadlines.insert(key, now + after_ms);
                    }
                    Step::Persist { key } => {
                        set(&mut slots, key, None);
                        deadlines.remove(&key);
                    }
                    Step::Free { key } => {
                        if let Ok(id) = slots.find(&[key]) {
                            slots.free(id);
                        }
                        deadlines.remove(&key);
                    }
                    Step::Wait { ms } => {
                        now += ms;
                        let found = sweep(&mut slots, now);
                        prop_assert!(found.iter().all(|key| deadlines[key] < now), "too early");
                        deadlines.retain(|key, _| !found.contains(key));
                        let tick = now >> TICK_BITS << TICK_BITS;
                        prop_assert!(deadlines.values().all(|it| *it >= tick), "too late");
                    }
                }
                prop_assert_eq!(slots.expiring(), deadlines.len());
            }
        }
    }
}
