//! The forkless snapshot: cut, then walk.
//!
//! The cut is a moment between two calls: it raises the epoch, notes how many
//! slots there are and costs nothing else. From then on the walker hands slot
//! after slot to the sink, a few at a time, and whoever changes a slot that the
//! walker has not reached hands it over first, as it still is.
//!
//! ```text
//! slots   0 ………… cursor ………………………… limit ……… used
//!         walked  | to be walked, or  | born after the cut:
//!                 | touched and so    | never emitted
//!                 | emitted already   |
//! ```
//!
//! # Invariants
//!
//! 1. Coverage: a slot live at the cut is walked, or was emitted before its
//!    first change, or is as it was at the cut.
//! 2. Once: no slot is emitted twice. What is touched takes the epoch, and the
//!    walker skips that epoch.
//! 3. No strangers: what is born after the cut has the epoch, or lies behind the
//!    limit.
//! 4. Keys do not move between slots while the walk lasts.
//!
//! When every key is cleared away the snapshot keeps the slab: it goes on walking
//! what was there at the cut, and nothing can change it any more.

use std::any::Any;

use super::slab::{Slab, Slot};
use super::{SlotId, Slots};
use crate::keyspace::value::Value;

/// Where a snapshot's entries go. Called under the keyspace's owner, so it must
/// be quick: small values are written down at once, big ones frozen
/// ([`SortedSet::freeze`](crate::keyspace::SortedSet::freeze)) for later.
pub trait SnapshotSink: Send {
    /// One key as it was at the cut. Each key comes once, in no order. Returns how
    /// many bytes were written down for it.
    fn entry(&mut self, key: &[u8], value: &Value, expires_at_ms: Option<u64>) -> usize;

    /// The sink itself, for whoever made it to take back.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// Bytes that a step of the walk writes down before it ends, however few slots it
/// has seen.
const STEP_BYTES_MAX: usize = 64 << 10;

/// What a step of the walk came to.
pub enum Walk {
    /// No snapshot runs.
    Idle,
    /// There is more to walk.
    More,
    /// The sink has seen every key of the cut; the snapshot is over.
    Done(Box<dyn SnapshotSink>),
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Walk::Idle => "Idle",
            Walk::More => "More",
            Walk::Done(_) => "Done",
        })
    }
}

/// A cut was asked for while a snapshot runs, or inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is already running")]
pub struct SnapshotRunning;

/// A snapshot between its cut and its end.
pub(super) struct Snapshot {
    sink: Box<dyn SnapshotSink>,
    /// Slots below were walked.
    cursor: u32,
    /// Slots from here on were born after the cut.
    limit: u32,
    /// The slab of the cut, once the keyspace was cleared.
    detached: Option<Slab>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({}..{})", self.cursor, self.limit)
    }
}

impl Snapshot {
    /// The hook of [`Slots::touch`]: emits the slot if this is its first change
    /// since the cut and the walker has yet to come.
    pub(super) fn before_change(&mut self, id: SlotId, slot: &mut Slot, epoch: u32) {
        let is_ahead = self.cursor <= id.0 && id.0 < self.limit;
        if is_ahead && slot.epoch != epoch {
            emit(&mut *self.sink, slot);
            slot.epoch = epoch;
        }
    }

    /// Bytes of the slab of the cut, when it is kept for the snapshot alone.
    pub(super) fn heap_bytes(&self) -> usize {
        self.detached.as_ref().map_or(0, Slab::heap_bytes)
    }

    /// False once the slab of the cut was cleared away.
    pub(super) fn walks_live_slab(&self) -> bool {
        self.detached.is_none()
    }

    /// The keyspace was cleared: the walk goes on over the slab of the cut.
    pub(super) fn detach(&mut self, slab: Slab) {
        debug_assert!(self.detached.is_none(), "only the slab of the cut is walked");
        self.detached = Some(slab);
    }
}

impl Slots {
    /// Begins a snapshot of this very moment. O(1).
    pub(in crate::keyspace) fn cut(
        &mut self,
        sink: Box<dyn SnapshotSink>,
    ) -> Result<(), SnapshotRunning> {
        debug_assert!(!self.journal.is_open(), "a cut lies between two calls");
        if self.snapshot.is_some() || self.journal.is_open() {
            return Err(SnapshotRunning);
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.snapshot = Some(Snapshot { sink, cursor: 0, limit: self.slab.used, detached: None });
        Ok(())
    }

    /// Walks the next `slot_count` slots, or fewer that are big. Within a
    /// transaction it stands still: the slab of the cut may have been cleared away
    /// and may yet come back.
    pub(in crate::keyspace) fn walk(&mut self, slot_count: usize) -> Walk {
        let Some(snapshot) = &mut self.snapshot else { return Walk::Idle };
        if self.journal.is_open() {
            return Walk::More;
        }
        let slab = snapshot.detached.as_ref().unwrap_or(&self.slab);
        let step = u32::try_from(slot_count).unwrap_or(u32::MAX);
        let end = snapshot.cursor.saturating_add(step).min(snapshot.limit);
        let mut written = 0;
        while snapshot.cursor < end && written < STEP_BYTES_MAX {
            let slot = slab.slot(SlotId(snapshot.cursor));
            if slot.epoch != self.epoch {
                written += emit(&mut *snapshot.sink, slot);
            }
            snapshot.cursor += 1;
        }
        if snapshot.cursor < snapshot.limit {
            return Walk::More;
        }
        self.abort_snapshot().map_or(Walk::Idle, Walk::Done)
    }

    /// Ends the snapshot where it stands, and gives the sink back.
    pub(in crate::keyspace) fn abort_snapshot(&mut self) -> Option<Box<dyn SnapshotSink>> {
        let snapshot = self.snapshot.take()?;
        snapshot.detached.into_iter().for_each(|slab| self.graveyard.add(slab));
        Some(snapshot.sink)
    }
}

/// Hands a slot to the sink if it is live. Bytes that were written down for it.
fn emit(sink: &mut dyn SnapshotSink, slot: &Slot) -> usize {
    let value = slot.value.as_ref();
    value.map_or(0, |value| sink.entry(&slot.key, value, slot.deadline()))
}
