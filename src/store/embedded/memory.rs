//! Room: what is done before a call or a command when memory is short.
//!
//! Keys are evicted by whoever needs the room, within a bound of time; what is
//! still to go then goes later, by the next who asks or by the store's own
//! thread. What was evicted is a record of its own: it stands, whatever becomes
//! of the call.

use std::time::Duration;

use super::{Embedded, Owned, Shared};
use crate::base::clock::{Stopwatch, Timestamp};
use crate::keyspace::{Asker, Execution, MemoryLimits, Room};
use crate::resp::Reply;
use crate::store::Call;

/// How long one call may evict.
const EVICTION_TIME: Duration = Duration::from_micros(500);

/// Keys evicted between two looks at the clock.
const EVICTION_STEP: usize = 16;

impl Embedded {
    /// Puts other memory limits in force.
    pub fn set_memory_limits(&self, limits: MemoryLimits) {
        self.shared.lock().keyspace.set_memory_limits(limits);
    }
}

impl Owned {
    /// Makes room for whoever asks; false if there is none, and what needs memory
    /// must be refused. One comparison when memory is not short.
    pub(super) fn make_room(&mut self, asker: Asker, now: Timestamp, shared: &Shared) -> bool {
        if !self.keyspace.lacks_room(asker) {
            return true;
        }
        self.effects.clear();
        let mut reply = Reply::default();
        let mut run = Execution::live(now, &mut self.effects, &mut reply);
        let evicting = Stopwatch::start();
        let room = loop {
            match self.keyspace.make_room(asker, EVICTION_STEP, &mut run) {
                Room::Evicting if evicting.elapsed() < EVICTION_TIME => {}
                room => break room,
            }
        };
        self.record(shared.log.as_ref());
        room != Room::None
    }

    /// Makes room for calls of the limiter. Those that name a key that is not
    /// there are refused sooner, so that the counters that live can go on.
    pub(super) fn make_room_for_calls(
        &mut self,
        calls: &[Call<'_>],
        now: Timestamp,
        shared: &Shared,
    ) -> bool {
        if !self.keyspace.lacks_room(Asker::NewCounter) {
            return true;
        }
        let mut keys = calls.iter().flat_map(|call| call.keys);
        let asker = match keys.all(|key| self.keyspace.contains(key, now)) {
            true => Asker::Counter,
            false => Asker::NewCounter,
        };
        self.make_room(asker, now, shared)
    }
}
