//! The store's own thread: what is due now and then, in turns that hold the
//! keyspace only briefly.
//!
//! Three jobs: the sweep, which removes expired keys; the rewrite, which replaces
//! the log by a snapshot once it has outgrown it; the save, which writes one beside
//! it. All walk the slots
//! of the keyspace; a turn is cut to a time, not to a count, because slots cost
//! differently.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::chain::Chain;
use crate::base::clock::Stopwatch;
use crate::base::tasks::spawn_thread;
use crate::keyspace::{Execution, Mode, Walk};
use crate::persist::{Error, Feed, Pace};
use crate::resp::Reply;

use super::{Owned, Shared};

/// How often the thread looks for work.
const TICK: Duration = Duration::from_millis(100);

/// A turn that takes longer is followed by a shorter one.
const TURN_TARGET: Duration = Duration::from_micros(100);

/// Slots of a turn, at the least and at the most.
const TURN_SLOTS_MIN: usize = 16;
const TURN_SLOTS_MAX: usize = 4096;

/// The sweep visits every slot once in this many ticks: 10 s.
const SWEEP_TICKS: usize = 100;

/// Pause of a walk whose writer waits for the disk.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// The thread, and the way to end it.
#[derive(Debug)]
pub struct Housekeeping {
    thread: JoinHandle<()>,
    /// Dropping it ends the thread.
    stop: Sender<()>,
}

impl Housekeeping {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(shared: Arc<Shared>) -> io::Result<Housekeeping> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = spawn_thread("store", move || {
            let mut turns = Turns::default();
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let is_stopped = || stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected);
                sweep(&shared, &mut turns);
                rewrite_if_due(&shared, &mut turns, &is_stopped);
                save_if_due(&shared, &mut turns, &is_stopped);
            }
        })?;
        Ok(Housekeeping { thread, stop })
    }

    /// Ends the thread; a rewrite under way is given up.
    pub fn end(self) {
        drop(self.stop);
        // A panic of the thread has been reported by its hook.
        let _ = self.thread.join();
    }
}

/// How many slots a turn takes, so that it takes [`TURN_TARGET`].
#[derive(Debug)]
struct Turns {
    slot_count: usize,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { slot_count: 256 }
    }
}

impl Turns {
    /// Takes one turn: runs `work` over some slots while holding the keyspace.
    fn take<T>(&mut self, shared: &Shared, work: impl FnOnce(&mut Owned, usize) -> T) -> T {
        let mut owned = shared.lock();
        let held = Stopwatch::start();
        let worked = work(&mut owned, self.slot_count);
        let elapsed = held.elapsed();
        drop(owned);
        shared.metrics.held(elapsed);
        self.slot_count = if elapsed > TURN_TARGET {
            (self.slot_count / 2).max(TURN_SLOTS_MIN)
        } else {
            (self.slot_count + self.slot_count / 4).min(TURN_SLOTS_MAX)
        };
        // Whoever waits for the lock is woken by its release, but would lose
        // the race for it against a thread that asks again at once.
        thread::sleep(elapsed);
        worked
    }
}

/// Removes expired keys among the next part of the slots.
fn sweep(shared: &Shared, turns: &mut Turns) {
    let key_count = shared.lock().keyspace.len();
    shared.metrics.set_keys(key_count);
    let mut due = key_count / SWEEP_TICKS + 1;
    let mut reply = Reply::default();
    while due > 0 {
        let (visited, swept) = turns.take(shared, |owned, slot_count| {
            let slot_count = slot_count.min(due);
            let now = shared.clock.now();
            owned.effects.clear();
            let mut run =
                Execution { now, mode: Mode::Live, effects: &mut owned.effects, reply: &mut reply };
            let swept = owned.keyspace.sweep(slot_count, &mut run);
            owned.record(shared.log.as_ref());
            (slot_count, swept)
        });
        shared.metrics.swept(swept.expired);
        due = if swept.finished { 0 } else { due - visited };
    }
}

/// Rewrites the log if it has grown enough. Blocks until the new base is in
/// place; nothing else on this thread is urgent.
fn rewrite_if_due(shared: &Shared, turns: &mut Turns, is_stopped: &dyn Fn() -> bool) {
    let Some(log) = shared.log.as_ref().filter(|log| log.wants_rewrite()) else { return };
    let begun = log.prepare_rewrite().and_then(|pending| {
        let mut owned = shared.lock();
        let libraries = owned.library_codes();
        pending.cut(&mut owned.keyspace, libraries)
    });
    let outcome = begun
        .and_then(|(feed, writer)| write(shared, turns, feed, move || writer.run(), is_stopped));
    match outcome {
        Ok(Some(rewritten)) => tracing::info!(
            base_size_bytes = rewritten.base_size,
            duration = ?rewritten.duration,
            "log rewritten"
        ),
        Ok(None) => {}
        Err(error) => tracing::warn!(error = %Chain(&error), "the log was not rewritten"),
    }
}

/// Writes `dump.rdb` if a save point is reached, or if somebody has asked for it.
fn save_if_due(shared: &Shared, turns: &mut Turns, is_stopped: &dyn Fn() -> bool) {
    let Some(log) = shared.log.as_ref().filter(|log| log.wants_save()) else { return };
    let begun = {
        let mut owned = shared.lock();
        let libraries = owned.library_codes();
        log.begin_save(&mut owned.keyspace, libraries)
    };
    let outcome = begun
        .and_then(|(feed, writer)| write(shared, turns, feed, move || writer.run(), is_stopped));
    match outcome {
        Ok(Some(size_bytes)) => tracing::info!(size_bytes, "snapshot saved to dump.rdb"),
        Ok(None) => {}
        Err(error) => tracing::warn!(error = %Chain(&error), "no snapshot was saved"),
    }
}

/// Walks the keyspace while `run`, on a thread of its own, writes what the walk
/// hands over. What it came to; nothing if there was no thread for it.
fn write<T: Send + 'static>(
    shared: &Shared,
    turns: &mut Turns,
    feed: Feed,
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<T>, Error> {
    let writing = match spawn_thread("snapshot", run) {
        Ok(writing) => writing,
        Err(error) => {
            drop(shared.lock().keyspace.abort_snapshot());
            tracing::warn!(%error, "cannot start a thread to write a snapshot");
            return Ok(None);
        }
    };
    let mut complete = None;
    while complete.is_none() {
        match feed.pace() {
            Pace::Pause if !is_stopped() => thread::sleep(BACKLOG_PAUSE),
            Pace::Walk if !is_stopped() => {
                complete = match turns.take(shared, |owned, count| owned.keyspace.walk(count)) {
                    Walk::More => None,
                    Walk::Done(sink) => Some(sink),
                    // A flush of the keyspace ended the snapshot.
                    Walk::Idle => break,
                };
            }
            Pace::Abort | Pace::Pause | Pace::Walk => {
                drop(shared.lock().keyspace.abort_snapshot());
                break;
            }
        }
    }
    if let Some(sink) = complete {
        feed.finish(sink);
    }
    // A panic of the thread has been reported by its hook.
    writing.join().map_or(Ok(None), |written| written.map(Some))
}
