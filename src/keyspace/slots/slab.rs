//! The slab: segments of slots, the index of their keys, and what they weigh.
//!
//! A slab knows nothing of snapshots and transactions; those hang at
//! [`Slots::touch`](super::Slots::touch), through which every change of a live
//! slot goes. It keeps books that every change of a slot must keep right: the
//! index, the deadlines (`deadlines`), what may be evicted (`evictable`), and the
//! account of bytes.
//!
//! # The account
//!
//! The bytes of a slot are asked for before its change and after it. After means
//! when the next slot is about to change, or when somebody asks for the sum: one
//! slot at a time is *open*. So whoever holds a value need not say what he does
//! to it, and a call that changes one key ten times pays once.

use std::mem;

use super::deadlines::{Deadlines, Links};
use super::evictable::Evictable;
use super::usage::Usage;
use super::{NEVER, NO_SLOT, SlotId};
use crate::keyspace::index::Index;
use crate::keyspace::sizes::block_bytes;
use crate::keyspace::value::Value;

/// Slots of one segment. Few, so that one more is a small step of memory.
pub(super) const SEGMENT_LEN: usize = 256;

#[derive(Debug)]
pub(super) struct Slab {
    segments: Vec<Box<[Slot]>>,
    /// Slots ever used; the rest of the last segment is blank.
    pub(super) used: u32,
    pub(super) first_free: u32,
    pub(super) index: Index<u32>,
    /// The slot found last. A Function runs several commands on one key, and
    /// comparing it is cheaper than hashing it again.
    pub(super) recent: u32,
    pub(super) deadlines: Deadlines,
    pub(super) evictable: Evictable,
    account: Account,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Box<[u8]>,
    /// `None` in a free slot.
    pub(super) value: Option<Value>,
    pub(super) expires_at_ms: u64,
    /// The snapshot that need not look at this slot any more.
    pub(super) epoch: u32,
    pub(super) usage: Usage,
    /// Neighbours in a list of deadlines; in a free slot, the next free one.
    pub(super) links: Links,
}

/// What the keys and values of a slab take on the heap.
#[derive(Debug, Default)]
struct Account {
    /// The sum, with the open slot as it was.
    settled: usize,
    /// The slot that is being changed, and what it took before.
    open: Option<(SlotId, usize)>,
}

impl Slot {
    pub(super) fn blank() -> Slot {
        Slot {
            key: Box::default(),
            value: None,
            expires_at_ms: NEVER,
            epoch: 0,
            usage: Usage::default(),
            links: Links::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        (self.expires_at_ms != NEVER).then_some(self.expires_at_ms)
    }

    /// Bytes of the key and the value on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.key.len()) + self.value.as_ref().map_or(0, Value::heap_bytes)
    }
}

impl Slab {
    pub(super) fn new() -> Slab {
        Slab {
            segments: Vec::new(),
            used: 0,
            first_free: NO_SLOT,
            index: Index::new(),
            recent: 0,
            deadlines: Deadlines::default(),
            evictable: Evictable::default(),
            account: Account::default(),
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.segments.get(slot as usize / SEGMENT_LEN)?.get(slot as usize % SEGMENT_LEN)
    }

    /// True if this is the live slot of this key.
    pub(super) fn holds(&self, slot: u32, key: &[u8]) -> bool {
        self.get(slot).is_some_and(|it| it.value.is_some() && *it.key == *key)
    }

    pub(super) fn slot(&self, id: SlotId) -> &Slot {
        &self.segments[id.0 as usize / SEGMENT_LEN][id.0 as usize % SEGMENT_LEN]
    }

    /// For [`Slots::touch`](super::Slots::touch), for births, and for what no
    /// snapshot and no transaction remembers: usage and links.
    pub(super) fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.segments[id.0 as usize / SEGMENT_LEN][id.0 as usize % SEGMENT_LEN]
    }

    /// A free slot, off the list or behind the last.
    pub(super) fn take_free(&mut self) -> SlotId {
        if self.first_free != NO_SLOT {
            let id = SlotId(self.first_free);
            self.first_free = self.slot(id).links.next;
            return id;
        }
        let id = SlotId(self.used);
        if self.used as usize == self.segments.len() * SEGMENT_LEN {
            self.segments.push((0..SEGMENT_LEN).map(|_| Slot::blank()).collect());
        }
        self.used += 1;
        id
    }

    /// Puts a slot that is blank again at the head of the free ones.
    pub(super) fn give_back(&mut self, id: SlotId) {
        let next = mem::replace(&mut self.first_free, id.0);
        self.slot_mut(id).links = Links::to(next);
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Slot> {
        self.segments.iter().flat_map(|segment| segment.iter()).filter(|slot| slot.value.is_some())
    }

    /// Says that the bytes of a slot are about to change.
    pub(super) fn open_account(&mut self, id: SlotId) {
        if self.account.open.is_some_and(|(open, _)| open == id) {
            return;
        }
        self.account.settled = self.content_bytes();
        self.account.open = Some((id, self.slot(id).heap_bytes()));
    }

    /// Bytes of keys and values.
    pub(super) fn content_bytes(&self) -> usize {
        match self.account.open {
            Some((id, before)) => self.account.settled - before + self.slot(id).heap_bytes(),
            None => self.account.settled,
        }
    }

    /// Bytes of the slab with all that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let segments = self.segments.len() * block_bytes(SEGMENT_LEN * size_of::<Slot>());
        let list = block_bytes(self.segments.capacity() * size_of::<Box<[Slot]>>());
        self.content_bytes() + segments + list + self.index.heap_bytes()
    }

    /// Takes a segment off a slab that nobody uses any more.
    pub(super) fn pop_segment(&mut self) -> Option<Box<[Slot]>> {
        self.account.settled = self.content_bytes();
        self.account.open = None;
        let segment = self.segments.pop()?;
        self.account.settled -= segment.iter().map(Slot::heap_bytes).sum::<usize>();
        Some(segment)
    }
}
