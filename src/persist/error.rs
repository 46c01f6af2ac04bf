//! Why the log could not be opened, written, replayed or rewritten.
//!
//! The text of an error says this level only: what, and where; the cause is in
//! `source()`. Every refusal to start names a file, and an offset where there
//! is one, so that an operator knows what to look at.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a key that a message shows.
const KEY_SHOWN_LEN_MAX: usize = 128;

/// What the operating system was asked to do, worded for *cannot … FILE*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a directory or a file.
    Create,
    /// Open a file that should exist.
    Open,
    /// List a directory.
    List,
    /// Take the lock of the directory.
    Lock,
    /// Read.
    Read,
    /// Append or write.
    Write,
    /// Force to disk.
    Sync,
    /// Cut to a length.
    Cut,
    /// Give another name.
    Rename,
    /// Delete.
    Remove,
    /// Start a thread; the path is the directory of the log.
    StartThread,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Create => "create",
            Op::Open => "open",
            Op::List => "list",
            Op::Lock => "lock",
            Op::Read => "read",
            Op::Write => "write to",
            Op::Sync => "sync",
            Op::Cut => "cut",
            Op::Rename => "rename",
            Op::Remove => "remove",
            Op::StartThread => "start the threads that write",
        })
    }
}

/// Why the log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was asked of it.
        op: Op,
        /// On which file.
        path: PathBuf,
        /// What it answered.
        #[source]
        source: io::Error,
    },

    /// Another process writes this log.
    #[error("{} is in use by another process{}", dir.display(), owner(*pid))]
    InUse {
        /// The directory of the log.
        dir: PathBuf,
        /// Who holds it, if it said so.
        pid: Option<u32>,
    },

    /// The manifest does not parse.
    #[error("{}: line {line}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// Data files lie there, and nothing says which of them count. Starting
    /// empty beside them would overwrite them.
    #[error("{} is missing, but {found} is there; restore the manifest or move the files away", path.display())]
    ManifestMissing {
        /// Where the manifest should be.
        path: PathBuf,
        /// A data file that was found.
        found: String,
    },

    /// There is nothing to look at.
    #[error("{} holds no log: no appendonlydir with a manifest, no appendonly.aof, no dump.rdb", dir.display())]
    NoLog {
        /// The data directory.
        dir: PathBuf,
    },

    /// The manifest names a file that the directory does not hold.
    #[error("{} is named by the manifest but missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },

    /// The files that the manifest names do not belong together: one was put in
    /// the place of another.
    #[error("{}: is not the file that belongs here: expected {expected}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What should have been in it, and what is.
        expected: String,
    },

    /// Bytes that are neither a record nor a torn tail. Nothing after them is
    /// trusted, and nothing was changed on disk.
    #[error("{}: damaged at byte {offset}: expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the bytes stop making sense.
        offset: u64,
        /// What should have stood there.
        expected: &'static str,
    },

    /// The file ends too early, and it is not one whose tail may be cut: a base
    /// file, one that has records after it, or `aof_load_truncated` is off.
    #[error("{}: ends in the middle of a record; whole up to byte {offset}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// End of the last whole record.
        offset: u64,
    },

    /// The checksum at the end of a base file does not fit its bytes.
    #[error("{}: checksum is {found:016x}, its bytes have {computed:016x}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: u64,
        /// What its bytes give.
        computed: u64,
    },

    /// Sound data of a kind that this keyspace does not hold.
    #[error("{}: byte {offset}: {what}{} cannot be loaded here", path.display(), of_key(key.as_deref()))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Where it starts.
        offset: u64,
        /// The kind, such as `a stream` or `database 3`.
        what: String,
        /// The key it belongs to, bytes escaped.
        key: Option<String>,
    },

    /// A record that is well formed and makes no sense: an unknown command, a
    /// wrong number of arguments.
    #[error("{}: byte {offset}: {reason}", path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// Why it cannot be applied.
        reason: String,
    },

    /// An earlier write or sync failed. What reached the disk is unknown, so
    /// nothing is acknowledged until a rewrite has written it all anew.
    #[error("the log is poisoned: {reason}")]
    Poisoned {
        /// The failure, with its cause.
        reason: String,
    },

    /// The disk does not take records as fast as they come.
    #[error("{unwritten} bytes of records wait for the disk, which does not take them")]
    Overrun {
        /// Bytes that waited when it was given up.
        unwritten: u64,
    },

    /// The log was closed.
    #[error("the log is closed")]
    Closed,

    /// Shutdown did not wait any longer for the disk.
    #[error("the log did not reach the disk within {waited:?}")]
    CloseTimedOut {
        /// How long it waited.
        waited: Duration,
    },

    /// A family of metrics is not one that Prometheus accepts.
    #[error("cannot make the metrics of the log")]
    Metrics(#[from] prometheus::Error),

    /// One rewrite at a time.
    #[error("a rewrite is already running")]
    RewriteRunning,

    /// The snapshot for a rewrite or a save was given up. All files are as before.
    #[error("the snapshot was abandoned: {reason}")]
    SnapshotAbandoned {
        /// Why.
        reason: Abandonment,
    },
}

/// Why a snapshot was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abandonment {
    /// Whoever walked the keyspace stopped: the process ends.
    #[error("the process ends")]
    Aborted,
    /// The disk did not take it as fast as it changed.
    #[error("the disk fell too far behind")]
    TooSlow,
    /// What should have written it has failed.
    #[error("its writer has failed")]
    Unwritten,
}

impl Error {
    /// The data directory whose log `weir log check --fix` can cut where this
    /// refused the start. Nothing if that would not help.
    pub fn mendable(&self) -> Option<&Path> {
        match self {
            Error::Damaged { path, .. } | Error::Truncated { path, .. } => {
                let is_incr = path.extension().is_some_and(|it| it == "aof");
                path.parent()?.parent().filter(|_| is_incr)
            }
            _ => None,
        }
    }

    /// The operating system's refusal of `op` on `path`.
    pub(super) fn io(op: Op, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { op, path, source }
    }

    /// Data of a kind that cannot be held, with its key shortened for people.
    pub(super) fn unsupported(path: &Path, offset: u64, what: &str, key: Option<&[u8]>) -> Error {
        let shown = |key: &[u8]| {
            let dots = if key.len() > KEY_SHOWN_LEN_MAX { "…" } else { "" };
            format!("{}{dots}", key[..key.len().min(KEY_SHOWN_LEN_MAX)].escape_ascii())
        };
        let (path, what) = (path.to_owned(), what.to_owned());
        Error::Unsupported { path, offset, what, key: key.map(shown) }
    }

    /// This error and its causes in one line, for a place that keeps only text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// ` (pid 12)`, or nothing.
fn owner(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// ` of key "a"`, or nothing.
fn of_key(key: Option<&str>) -> String {
    key.map(|key| format!(" (key \"{key}\")")).unwrap_or_default()
}
