//! Snapshots that clients ask for (`BGREWRITEAOF`, `BGSAVE`, `SAVE`): a rewrite of
//! the log, whose new base file is a snapshot of everything. The store's own
//! thread makes them; whoever asks may wait for the next to end.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::base::clock::Timestamp;

/// What was asked for, and what came of it.
#[derive(Debug)]
pub struct Snapshots {
    is_asked: AtomicBool,
    last: watch::Sender<LastSnapshot>,
}

/// How the last snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSnapshot {
    /// How many have ended.
    pub count: u64,
    /// When the last one succeeded; at first, when the store was opened.
    pub succeeded_at: Timestamp,
    /// Whether the last one did.
    pub succeeded: bool,
}

impl Snapshots {
    /// None was asked for yet.
    pub fn new(now: Timestamp) -> Snapshots {
        let last = LastSnapshot { count: 0, succeeded_at: now, succeeded: true };
        Snapshots { is_asked: AtomicBool::new(false), last: watch::Sender::new(last) }
    }

    /// Asks for one.
    pub fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    /// True, once, if one was asked for.
    pub fn take(&self) -> bool {
        self.is_asked.swap(false, Ordering::Relaxed)
    }

    /// One has ended.
    pub fn ended(&self, succeeded: bool, now: Timestamp) {
        self.last.send_modify(|last| {
            last.count += 1;
            last.succeeded = succeeded;
            if succeeded {
                last.succeeded_at = now;
            }
        });
    }

    /// How the last one ended.
    pub fn last(&self) -> LastSnapshot {
        *self.last.borrow()
    }

    /// Asks for one and waits until it has ended; says if it succeeded.
    pub async fn make(&self) -> bool {
        let mut ends = self.last.subscribe();
        self.ask();
        ends.changed().await.is_ok() && ends.borrow().succeeded
    }
}
