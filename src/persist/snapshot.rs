//! A snapshot on its way from the keyspace to a file.
//!
//! ```text
//!   engine's lock                     another thread
//!   walk ─▶ sink ─encoded chunks─▶ backlog ─▶ image ─▶ base file
//!                └─big values, frozen─▶
//! ```
//!
//! Small values are encoded while the engine waits; big ones are frozen in a few
//! microseconds and encoded by the writer. When the disk falls behind, the walk
//! pauses; when what requests change meanwhile exceeds [`BACKLOG_LEN_MAX`], the
//! snapshot is given up: no request waits for it.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::base::encode;
use super::base::file::BaseFile;
use super::error::Error;
use super::seal::Place;
use super::writer::lock;
use crate::base::clock::Timestamp;
use crate::keyspace::rdb::encode::scored;
use crate::keyspace::{FrozenSortedSet, Keyspace, SnapshotSink, Value};

/// Bytes of entries that are handed over at once.
const CHUNK_LEN: usize = 64 << 10;
/// The walk pauses while this much waits for the disk.
const BACKLOG_LEN_PAUSE: usize = 8 << 20;
/// The snapshot is given up when this much waits.
const BACKLOG_LEN_MAX: usize = 64 << 20;
/// Values of more elements than this are encoded by the writer, not under the
/// engine's lock.
const INLINE_LEN_MAX: usize = 1_000;

/// The disk's end of a snapshot: what goes into the file.
#[derive(Debug)]
pub struct Image {
    backlog: Arc<Backlog>,
    libraries: Vec<Arc<str>>,
    key_count: u64,
}

impl Image {
    /// Begins a snapshot of this very moment. In constant time.
    ///
    /// # Errors
    /// The keyspace has one already.
    pub fn begin(
        keyspace: &mut Keyspace,
        libraries: Vec<Arc<str>>,
    ) -> Result<(Feed, Image), Error> {
        let backlog = Arc::new(Backlog::default());
        let sink = Sink { backlog: backlog.clone(), chunk: Vec::new(), complete: false };
        let key_count = keyspace.len() as u64;
        keyspace.cut(Box::new(sink)).map_err(|_running| Error::RewriteRunning)?;
        Ok((Feed(backlog.clone()), Image { backlog, libraries, key_count }))
    }

    /// Writes it as it arrives, and makes the file durable. Its length.
    ///
    /// # Errors
    /// The disk refused, or the snapshot was given up.
    pub fn write(
        &self,
        mut base: BaseFile,
        now: Timestamp,
        place: Option<Place>,
    ) -> Result<u64, Error> {
        encode::head(&mut base.buffer, now, place);
        for code in &self.libraries {
            encode::library(&mut base.buffer, code);
        }
        encode::database(&mut base.buffer, self.key_count);
        while let Some(piece) = self.backlog.next()? {
            match piece {
                Piece::Chunk(entries) => base.append(&entries)?,
                Piece::Big { key, value: Frozen::SortedSet(set), expires_at_ms } => {
                    encode::sorted_set_head(&mut base.buffer, &key, set.len(), expires_at_ms);
                    for (member, score) in set.iter().rev() {
                        scored(&mut base.buffer, &member, score);
                        base.flush_if_full()?;
                    }
                }
                Piece::Big { key, value: Frozen::Other(value), expires_at_ms } => {
                    base.entry(&key, &value, expires_at_ms)?;
                }
            }
            base.flush_if_full()?;
        }
        base.seal()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Whoever still feeds is told to stop.
        self.backlog.end(End::Abandoned("its writer has ended"));
    }
}

/// What the walk should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Go on.
    Walk,
    /// Let the disk catch up first.
    Pause,
    /// Abort the snapshot: the rewrite was given up or has failed.
    Abort,
}

/// The keyspace's end of a rewrite: for whoever walks it.
#[derive(Debug)]
pub struct Feed(Arc<Backlog>);

impl Feed {
    /// What the walk should do next. Two atomic reads.
    pub fn pace(&self) -> Pace {
        match self.0.len.load(Ordering::Relaxed) {
            CLOSED => Pace::Abort,
            len if len > BACKLOG_LEN_PAUSE => Pace::Pause,
            _ => Pace::Walk,
        }
    }

    /// The walk is done: `sink` is what [`Walk::Done`](crate::keyspace::Walk)
    /// handed back. A sink that is dropped instead gives the rewrite up.
    pub fn finish(self, sink: Box<dyn SnapshotSink>) {
        if let Ok(mut sink) = sink.into_any().downcast::<Sink>() {
            sink.complete = true;
        }
    }
}

/// Encoded entries and big values on their way to the writer.
#[derive(Debug, Default)]
struct Backlog {
    pieces: Mutex<Pieces>,
    arrived: Condvar,
    /// Bytes that wait, or [`CLOSED`].
    len: AtomicUsize,
}

/// Length of a backlog that takes no more.
const CLOSED: usize = usize::MAX;

#[derive(Debug, Default)]
struct Pieces {
    waiting: VecDeque<Piece>,
    end: Option<End>,
}

#[derive(Debug)]
enum Piece {
    /// Entries, encoded.
    Chunk(Vec<u8>),
    /// A big value as it was.
    Big { key: Box<[u8]>, value: Frozen, expires_at_ms: Option<u64> },
}

/// A value as it was at the cut. It shares its elements with the live one.
#[derive(Debug)]
enum Frozen {
    SortedSet(FrozenSortedSet),
    /// Of a kind whose clone costs little.
    Other(Value),
}

impl Frozen {
    /// Freezes a value that is too big to be encoded while the engine waits.
    fn of(value: &Value) -> Option<Frozen> {
        let len = match value {
            Value::String(_) => 0,
            Value::SortedSet(set) => set.len(),
            Value::Hash(hash) => hash.len(),
            Value::Set(set) => set.len(),
            Value::List(list) => list.len(),
        };
        match value {
            _ if len <= INLINE_LEN_MAX => None,
            Value::SortedSet(set) => Some(Frozen::SortedSet(set.freeze())),
            _ => Some(Frozen::Other(value.clone())),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Complete,
    Abandoned(&'static str),
}

impl Piece {
    /// Memory it holds. A frozen value shares its elements with the live one; what
    /// it costs is what changes meanwhile, which nobody knows beforehand.
    fn len(&self) -> usize {
        match self {
            Piece::Chunk(bytes) => bytes.len(),
            Piece::Big { key, .. } => key.len() + size_of::<Piece>(),
        }
    }
}

impl Backlog {
    fn push(&self, piece: Piece) {
        let mut pieces = lock(&self.pieces);
        if pieces.end.is_some() {
            return;
        }
        let len = self.len.load(Ordering::Relaxed) + piece.len();
        if len > BACKLOG_LEN_MAX {
            drop(pieces);
            return self.end(End::Abandoned("the disk fell too far behind"));
        }
        self.len.store(len, Ordering::Relaxed);
        pieces.waiting.push_back(piece);
        self.arrived.notify_one();
    }

    /// Nothing comes any more. The first end is the one that counts.
    fn end(&self, end: End) {
        let mut pieces = lock(&self.pieces);
        pieces.end.get_or_insert(end);
        if let Some(End::Abandoned(_)) = pieces.end {
            self.len.store(CLOSED, Ordering::Relaxed);
            pieces.waiting.clear();
        }
        self.arrived.notify_one();
    }

    /// Waits for the next piece; `None` after the last.
    fn next(&self) -> Result<Option<Piece>, Error> {
        let mut pieces = lock(&self.pieces);
        loop {
            if let Some(End::Abandoned(reason)) = pieces.end {
                return Err(Error::RewriteAbandoned { reason });
            }
            if let Some(piece) = pieces.waiting.pop_front() {
                self.len.fetch_sub(piece.len(), Ordering::Relaxed);
                return Ok(Some(piece));
            }
            if pieces.end.is_some() {
                return Ok(None);
            }
            pieces = self.arrived.wait(pieces).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where the keyspace puts its entries.
struct Sink {
    backlog: Arc<Backlog>,
    chunk: Vec<u8>,
    complete: bool,
}

impl Sink {
    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            let room = Vec::with_capacity(CHUNK_LEN + CHUNK_LEN / 8);
            self.backlog.push(Piece::Chunk(mem::replace(&mut self.chunk, room)));
        }
    }
}

impl SnapshotSink for Sink {
    fn entry(&mut self, key: &[u8], value: &Value, expires_at_ms: Option<u64>) {
        if self.backlog.len.load(Ordering::Relaxed) == CLOSED {
            return;
        }
        match Frozen::of(value) {
            Some(value) => self.backlog.push(Piece::Big { key: key.into(), value, expires_at_ms }),
            None => encode::entry(&mut self.chunk, key, value, expires_at_ms),
        }
        if self.chunk.len() >= CHUNK_LEN {
            self.flush();
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.complete {
            self.flush();
            self.backlog.end(End::Complete);
        } else {
            self.backlog.end(End::Abandoned("its snapshot was aborted"));
        }
    }
}
