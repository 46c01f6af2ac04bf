//! What the log says of itself: to the log file, `/readyz` and Prometheus.

use std::sync::Arc;
use std::time::Duration;

use super::config::Fsync;

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
    /// Bytes of the whole log: the base file and every incr file.
    pub log_size: u64,
    /// Bytes of the base file.
    pub base_size: u64,
    /// Whether a rewrite is running, from its preparation to its commit.
    pub rewrite_running: bool,
}
