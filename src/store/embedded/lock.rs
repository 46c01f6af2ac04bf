//! The engine's lock: whoever holds it is the one owner.
//!
//! A hold is short, a few microseconds for a call and less than a millisecond for a
//! batch, so a thread waits for it. But a client's call may run for as long as
//! `busy-reply-threshold` says, and that may be for ever. A thread that hears signals, or
//! that serves other connections, must not stand still as long. So a task waits in two
//! steps: with its thread for a moment, and then without it.
//!
//! ```text
//!   holder   ├──────────── a call that runs for long ────────────┤ wakes those who sleep
//!   task       ├ thread waits ┤· · · · · · · · · · · · · · · · · ·├ holds
//! ```
//!
//! # Invariants
//!
//! 1. A panic during a hold aborts the process: what is locked may be half changed.
//! 2. Where nobody waits for long, a hold costs one look at a flag more than that of a
//!    bare mutex.

use std::ops::{Deref, DerefMut};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time;

use crate::base::clock::Stopwatch;
use crate::base::log;

/// How long a task lets its thread wait, twice at most; longer than a batch or a turn
/// takes.
const THREAD_WAIT_MAX: Duration = Duration::from_millis(2);

/// How soon a task looks again, should a core have let it fall asleep at the very moment
/// of the release.
const LOOK_AGAIN_PERIOD: Duration = Duration::from_millis(100);

/// How often who waits for a bounded time looks, and how much of it a look can cost.
const LOOK_PERIOD: Duration = Duration::from_millis(25);
const LOOK_COST_MAX: Duration = Duration::from_millis(50);

/// See the module's header.
#[derive(Debug)]
pub(super) struct Lock<T> {
    locked: Mutex<T>,
    /// Holds by tasks: by those who ask for something.
    asked_count: AtomicU64,
    /// A task sleeps until this hold ends.
    is_long: AtomicBool,
    released: Notify,
}

/// A hold. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Locked<'a, T> {
    was_panicking: bool,
    // Dropped in this order: who is woken finds the lock free.
    guard: MutexGuard<'a, T>,
    _waker: Waker<'a>,
}

/// Wakes those who sleep, when it is dropped.
#[derive(Debug)]
struct Waker<'a> {
    is_long: &'a AtomicBool,
    released: &'a Notify,
}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Lock<T> {
        Lock {
            locked: Mutex::new(value),
            asked_count: AtomicU64::new(0),
            is_long: AtomicBool::new(false),
            released: Notify::new(),
        }
    }

    /// Waits with the thread, however long that takes.
    pub(super) fn lock(&self) -> Locked<'_, T> {
        self.locked(self.locked.lock())
    }

    /// Waits with the thread for a moment; `None` if that was not enough.
    pub(super) fn lock_soon(&self) -> Option<Locked<'_, T>> {
        let guard = match self.is_long.load(Ordering::Relaxed) {
            true => self.locked.try_lock(),
            false => self.locked.try_lock_for(THREAD_WAIT_MAX),
        };
        guard.map(|guard| {
            // Who counts holds the lock, so no count is lost.
            let asked_count = self.asked_count.load(Ordering::Relaxed) + 1;
            self.asked_count.store(asked_count, Ordering::Relaxed);
            self.locked(guard)
        })
    }

    /// How often a task has held it.
    pub(super) fn asked_count(&self) -> u64 {
        self.asked_count.load(Ordering::Relaxed)
    }

    /// As [`Lock::lock_as_task`], and `None` if what is left was not enough; it becomes
    /// less by what was waited.
    ///
    /// While the whole machine stands still, who holds the lock does too, and nobody has
    /// waited for them: between two looks no more than [`LOOK_COST_MAX`] counts.
    pub(super) async fn lock_within(&self, wait_left: &mut Duration) -> Option<Locked<'_, T>> {
        loop {
            // As nearly always, and without a timer.
            if let Some(locked) = self.lock_soon() {
                return Some(locked);
            }
            if wait_left.is_zero() {
                return None;
            }
            let watch = Stopwatch::start();
            let _ = time::timeout(LOOK_PERIOD.min(*wait_left), self.released()).await;
            *wait_left = wait_left.saturating_sub(watch.elapsed().min(LOOK_COST_MAX));
        }
    }

    /// Waits, and does not keep the thread for longer than a moment. Cancel safe.
    pub(super) async fn lock_as_task(&self) -> Locked<'_, T> {
        loop {
            if let Some(locked) = self.lock_soon() {
                return locked;
            }
            self.released().await;
        }
    }

    /// Sleeps until a hold that runs for long has ended, or a little less.
    pub(super) async fn released(&self) {
        let released = self.released.notified();
        self.is_long.store(true, Ordering::SeqCst);
        // It may have ended before that was seen.
        if self.lock_soon().is_none() {
            let _ = time::timeout(LOOK_AGAIN_PERIOD, released).await;
        }
    }

    fn locked<'a>(&'a self, guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        let waker = Waker { is_long: &self.is_long, released: &self.released };
        Locked { was_panicking: thread::panicking(), guard, _waker: waker }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            tracing::error!("the keyspace may be half changed after a panic, aborting");
            log::flush_soon();
            process::abort();
        }
    }
}

impl Drop for Waker<'_> {
    fn drop(&mut self) {
        if self.is_long.load(Ordering::SeqCst) {
            self.is_long.store(false, Ordering::SeqCst);
            self.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::base::tasks::spawn_thread;

    /// A hold by another thread, until what is returned is dropped.
    fn hold(lock: &Arc<Lock<u32>>) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
        let lock = Arc::clone(lock);
        let (end, ended) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let holder = spawn_thread("holder", move || {
            let mut locked = lock.lock();
            begin.send(()).unwrap();
            let _ = ended.recv();
            *locked += 1;
        })
        .unwrap();
        begun.recv().unwrap();
        (end, holder)
    }

    #[tokio::test]
    async fn a_thread_whose_tasks_wait_for_a_long_hold_goes_on() {
        let lock = Arc::new(Lock::new(0));
        let (end, holder) = hold(&lock);
        let ended = std::cell::RefCell::new(Some(end));
        let seen = |locked: Locked<'_, u32>| *locked;
        let waits = async || seen(lock.lock_as_task().await);
        // The last of these runs on the same thread, while the others wait.
        let (first, second, ()) = tokio::join!(waits(), waits(), async {
            time::sleep(Duration::from_millis(20)).await;
            assert!(lock.lock_soon().is_none());
            drop(ended.take());
        });
        assert_eq!((first, second), (1, 1));
        holder.join().unwrap();
    }

    #[tokio::test]
    async fn who_waits_no_longer_than_so_long_waits_so_long_in_all() {
        let lock = Arc::new(Lock::new(0));
        let (end, holder) = hold(&lock);
        let mut left = Duration::from_millis(40);
        assert!(lock.lock_within(&mut left).await.is_none());
        assert_eq!(left, Duration::ZERO);
        assert!(lock.lock_within(&mut left).await.is_none());
        drop(end);
        holder.join().unwrap();
        assert_eq!(lock.lock_within(&mut left).await.map(|it| *it), Some(1), "it is free");
    }

    #[tokio::test]
    async fn what_stands_still_with_the_holder_has_not_waited() {
        let lock = Arc::new(Lock::new(0));
        let (end, holder) = hold(&lock);
        let mut left = Duration::from_millis(250);
        let (waited, ()) = tokio::join!(lock.lock_within(&mut left), async {
            // Longer than all of it, and nobody looks meanwhile.
            thread::sleep(Duration::from_millis(300));
            time::sleep(Duration::from_millis(1)).await;
            drop(end);
        });
        assert_eq!(waited.map(|it| *it), Some(1));
        holder.join().unwrap();
    }

    #[tokio::test]
    async fn a_short_hold_is_waited_for() {
        let lock = Arc::new(Lock::new(0));
        let (end, holder) = hold(&lock);
        drop(end);
        assert_eq!(*lock.lock(), 1);
        holder.join().unwrap();
        assert_eq!(*lock.lock_as_task().await, 1);
    }
}
