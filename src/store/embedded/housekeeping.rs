//! The store's own thread: what is due now and then, in turns that hold the
//! keyspace only briefly.
//!
//! | job | when |
//! |---|---|
//! | the sweep removes keys that have expired | each tick, also during a rewrite |
//! | eviction goes on where calls have left it | when memory is short |
//! | what a flush left behind, and what was large, is freed, outside the lock | when there is any |
//! | the rewrite replaces the log by a snapshot | when the log has outgrown it |
//! | the save writes a snapshot beside the log | on request, and at save points |
//!
//! A turn is cut to a time, not to a count, because keys cost differently. The turns of a
//! snapshot lie far apart while calls come: see [`Pace`].

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::chain::Chain;
use crate::base::clock::Stopwatch;
use crate::base::tasks::{spawn_patient_thread, spawn_thread};
use crate::keyspace::{Asker, Execution, Remains, Walk};
use crate::persist::{Error, Feed, Log, Pace};
use crate::resp::Reply;

use super::{Owned, Shared};

/// How often the thread looks for work.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A turn that takes longer is followed by a shorter one.
const TURN_TARGET: Duration = Duration::from_micros(50);

/// Slots of a turn, at the least and at the most.
const TURN_SLOTS_MIN: usize = 16;
const TURN_SLOTS_MAX: usize = 4096;

/// Pause of a walk whose writer waits for the disk, and between looks at a writer that has
/// everything.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);
const WRITER_PAUSE: Duration = Duration::from_millis(5);

/// With fewer calls in a tick, hardly one of them would meet a snapshot that is made
/// briskly, and it is over the sooner.
pub(super) const DEMAND_CALLS_MIN: u64 = 10;

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
            let is_stopped = || stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected);
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                tidy(&shared, &mut turns, &is_stopped);
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
    /// Takes one turn: runs `work` over some slots while holding the keyspace, and rests.
    fn take<T>(
        &mut self,
        shared: &Shared,
        pace: Pace,
        work: impl FnOnce(&mut Owned, usize) -> T,
    ) -> T {
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
        thread::sleep(pace.rest_after(elapsed));
        worked
    }
}

/// Whether calls come, as of the last tick.
#[derive(Debug)]
pub(super) struct Demand {
    asked_count: u64,
    since: Stopwatch,
    is_there: bool,
}

impl Demand {
    /// As long as nothing is known, it is there.
    pub(super) fn new(shared: &Shared) -> Demand {
        let asked_count = shared.engine.asked_count();
        Demand { asked_count, since: Stopwatch::start(), is_there: true }
    }

    /// Whether it is there now.
    pub(super) fn look(&mut self, shared: &Shared) -> bool {
        if self.since.elapsed() >= TICK {
            let asked_count = shared.engine.asked_count();
            self.is_there = asked_count - self.asked_count >= DEMAND_CALLS_MIN;
            (self.asked_count, self.since) = (asked_count, Stopwatch::start());
        }
        self.is_there
    }
}

/// What is due at each tick. Ends when all of it is done, or when `is_stopped`.
fn tidy(shared: &Shared, turns: &mut Turns, is_stopped: &dyn Fn() -> bool) {
    let mut reply = Reply::default();
    let mut is_swept = false;
    while !is_swept && !is_stopped() {
        is_swept = turns.take(shared, Pace::Briskly, |owned, key_count| {
            owned.effects.clear();
            let effects = &mut owned.effects;
            let now = shared.clock.now();
            let mut run = Execution::live(now, effects, &mut reply);
            let swept = owned.keyspace.sweep(key_count, &mut run);
            owned.record(shared.log.as_ref());
            swept.finished
        });
    }
    free_remains(shared, is_stopped);
    while shared.lock().keyspace.lacks_room(Asker::Client) && !is_stopped() {
        let has_room = turns.take(shared, Pace::Briskly, |owned, _| {
            owned.make_room(Asker::Client, shared.clock.now(), shared)
        });
        free_remains(shared, is_stopped);
        if !has_room {
            break;
        }
    }
    let stats = {
        let mut owned = shared.lock();
        owned.functions.show_metrics();
        owned.keyspace.stats()
    };
    shared.metrics.show(&stats);
}

/// Frees what a flush left behind, and what was large.
fn free_remains(shared: &Shared, is_stopped: &dyn Fn() -> bool) {
    while let Some(remains) = bury(shared)
        && !is_stopped()
    {
        drop(remains);
    }
}

/// A piece of it. Freed by whom it is given to, when the lock is free again.
fn bury(shared: &Shared) -> Option<Remains> {
    shared.lock().keyspace.bury()
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
        .and_then(|(feed, writer)| write(shared, log, turns, &feed, || writer.run(), is_stopped));
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
        .and_then(|(feed, writer)| write(shared, log, turns, &feed, || writer.run(), is_stopped));
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
    log: &Log,
    turns: &mut Turns,
    feed: &Feed,
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<T>, Error> {
    let writing = match spawn_patient_thread("snapshot", run) {
        Ok(writing) => writing,
        Err(error) => {
            drop(shared.lock().keyspace.abort_snapshot());
            tracing::warn!(%error, "cannot start a thread to write a snapshot");
            return Ok(None);
        }
    };
    let (mut demand, mut since_tidied) = (Demand::new(shared), Stopwatch::start());
    let mut is_walked = false;
    while !writing.is_finished() && !is_stopped() {
        if since_tidied.elapsed() > TICK {
            tidy(shared, turns, is_stopped);
            since_tidied = Stopwatch::start();
        }
        match log.pace(feed, demand.look(shared)) {
            _ if is_walked => thread::sleep(WRITER_PAUSE),
            Pace::Pause => thread::sleep(BACKLOG_PAUSE),
            pace @ (Pace::Gently | Pace::Briskly) => {
                match turns.take(shared, pace, |owned, count| owned.keyspace.walk(count)) {
                    Walk::More => {}
                    Walk::Done(sink) => {
                        feed.finish(sink);
                        is_walked = true;
                    }
                    // There is no snapshot any more: its sink is gone, and has told the writer.
                    Walk::Idle => is_walked = true,
                }
            }
            Pace::Abort => break,
        }
    }
    // Nobody is to wait at the end for a writer that rests.
    log.pace(feed, false);
    if !is_walked {
        drop(shared.lock().keyspace.abort_snapshot());
    }
    // A panic of the thread has been reported by its hook.
    writing.join().map_or(Ok(None), |written| written.map(Some))
}
