//! What the log says of itself: to the log file, `/readyz` and Prometheus.

use std::sync::Arc;
use std::time::Duration;

use super::config::Fsync;
use crate::base::clock::Timestamp;

/// The state of the log at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why nothing is acknowledged as durable now; `None` when all is well.
    pub failed: Option<Arc<str>>,
    /// When records are forced to disk.
    pub appendfsync: Fsync,
    /// Bytes appended that the operating system does not have yet.
    pub unwritten_bytes: u64,
    /// Bytes appended that are not known to be on disk.
    pub unsynced_bytes: u64,
    /// How long the oldest of them has waited for a sync.
    pub unsynced_age: Option<Duration>,
    /// Syncs that were still running when the next one was due.
    pub delayed_sync_count: u64,
    /// Bytes of the whole log: the base file and every incr file.
    pub log_size: u64,
    /// Bytes of the base file.
    pub base_size: u64,
    /// Whether a rewrite is running, from its preparation to its commit.
    pub rewrite_running: bool,
    /// Whether one was asked for that has not begun.
    pub rewrite_requested: bool,
    /// Rewrites that have begun since the log was opened.
    pub rewrite_count: u64,
    /// Those that have failed since the last one that succeeded.
    pub rewrite_failure_count: u32,
    /// How long the one has taken that is running.
    pub current_rewrite_duration: Option<Duration>,
    /// Whether the last one succeeded; true before the first.
    pub last_rewrite_succeeded: bool,
    /// How long the last one took that was committed.
    pub last_rewrite_duration: Option<Duration>,
    /// Whether `dump.rdb` is being written, or about to be.
    pub save_running: bool,
    /// Saves that have begun since the log was opened.
    pub save_count: u64,
    /// How long the one has taken that is running.
    pub current_save_duration: Option<Duration>,
    /// When it was written last, or the log was opened.
    pub last_save: Timestamp,
    /// Whether the last attempt at it succeeded; true before the first. One that was
    /// given up does not count.
    pub last_save_succeeded: bool,
    /// How long the last one took that succeeded.
    pub last_save_duration: Option<Duration>,
    /// Commands that changed something since.
    pub changes_since_save: u64,
}
