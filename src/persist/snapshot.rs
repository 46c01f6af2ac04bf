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
use super::disk::{AppendFile, Outgoing};
use super::error::{Abandonment, Error};
use super::pace::{Course, Effort, Pace};
use super::seal::Place;
use super::writer::{Lsn, lock};
use crate::base::clock::Timestamp;
use crate::keyspace::rdb::encode::scored;
use crate::keyspace::{FrozenSortedSet, Keyspace, SnapshotSink, Value};

/// Bytes of entries that are handed over at once.
const CHUNK_LEN: usize = 64 << 10;
/// The walk pauses while this much waits for the disk.
const BACKLOG_LEN_PAUSE: usize = 8 << 20;
/// The snapshot is given up when this much waits.
const BACKLOG_LEN_MAX: usize = 64 << 20;
/// Values of more elements or of more bytes than this are encoded by the writer,
/// not under the engine's lock.
const INLINE_LEN_MAX: usize = 1_000;
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The disk's end of a snapshot: what goes into the file.
#[derive(Debug)]
pub struct Image {
    backlog: Arc<Backlog>,
    libraries: Vec<Arc<str>>,
    key_count: u64,
}

impl Image {
    /// Begins a snapshot of this very moment, when so much was `appended` to the log. In
    /// constant time.
    ///
    /// # Errors
    /// The keyspace has one already.
    pub fn begin(
        keyspace: &mut Keyspace,
        libraries: Vec<Arc<str>>,
        appended: Lsn,
    ) -> Result<(Feed, Image), Error> {
        let backlog = Arc::new(Backlog::default());
        let sink = Sink { backlog: backlog.clone(), chunk: Vec::new(), complete: false };
        let key_count = keyspace.len() as u64;
        keyspace.cut(Box::new(sink)).map_err(|_running| Error::RewriteRunning)?;
        let feed = Feed { backlog: backlog.clone(), appended };
        Ok((feed, Image { backlog, libraries, key_count }))
    }

    /// What this thread does for it besides.
    pub fn effort(&self) -> Effort {
        Effort::begin(self.backlog.course.clone())
    }

    /// Writes it to the empty `file`, which takes the place of `outgoing`, as it arrives,
    /// and makes that durable. Its length.
    ///
    /// # Errors
    /// The disk refused, or the snapshot was given up.
    pub fn write(
        &self,
        file: AppendFile,
        outgoing: Outgoing,
        now: Timestamp,
        place: Option<Place>,
    ) -> Result<u64, Error> {
        let mut base = BaseFile::new(file, outgoing, self.backlog.course.clone());
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
        self.backlog.end(End::Abandoned(Abandonment::Unwritten));
        // Freed here and not by whoever gives up, who may hold the keyspace: what waits
        // may be the last of a value that is big.
        let waiting = mem::take(&mut lock(&self.backlog.pieces).waiting);
        drop(waiting);
    }
}

/// The keyspace's end of a rewrite: for whoever walks it.
#[derive(Debug)]
pub struct Feed {
    backlog: Arc<Backlog>,
    /// What was appended to the log when the snapshot began.
    appended: Lsn,
}

impl Feed {
    /// What the walk should do next; tells the writer too how fast to go. `gently`: if
    /// possible, now that so much is `appended` to the log. A few atomic reads.
    pub(super) fn pace(&self, gently: bool, appended: Lsn) -> Pace {
        let waiting_len = self.backlog.len.load(Ordering::Relaxed);
        let grown_bytes = appended.0.saturating_sub(self.appended.0);
        let course = &self.backlog.course;
        // A writer that is behind has no time to rest, whoever asks.
        let is_behind = course.falls_behind(grown_bytes) || waiting_len > BACKLOG_LEN_PAUSE;
        let is_gentle = gently && !is_behind;
        course.set_gentle(is_gentle);
        match waiting_len {
            CLOSED => Pace::Abort,
            len if len > BACKLOG_LEN_PAUSE => Pace::Pause,
            _ if is_gentle => Pace::Gently,
            _ => Pace::Briskly,
        }
    }

    /// The walk is done: `sink` is what [`Walk::Done`](crate::keyspace::Walk)
    /// handed back. A sink that is dropped instead gives the rewrite up.
    pub fn finish(&self, sink: Box<dyn SnapshotSink>) {
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
    course: Arc<Course>,
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
            Value::String(_) => 1,
            Value::SortedSet(set) => set.len(),
            Value::Hash(hash) => hash.len(),
            Value::Set(set) => set.len(),
            Value::List(list) => list.len(),
        };
        match value {
            _ if len <= INLINE_LEN_MAX && value.heap_bytes() <= INLINE_BYTES_MAX => None,
            Value::SortedSet(set) => Some(Frozen::SortedSet(set.freeze())),
            _ => Some(Frozen::Other(value.clone())),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Complete,
    Abandoned(Abandonment),
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
            return self.end(End::Abandoned(Abandonment::TooSlow));
        }
        self.len.store(len, Ordering::Relaxed);
        if len > BACKLOG_LEN_PAUSE {
            // Not the walk's: that pauses. Who looks after the pace may be busy with just
            // what makes this grow, as keys that expire in masses, or wait for a script.
            self.course.set_gentle(false);
        }
        pieces.waiting.push_back(piece);
        self.arrived.notify_one();
    }

    /// Nothing comes any more. The first end is the one that counts.
    fn end(&self, end: End) {
        let mut pieces = lock(&self.pieces);
        pieces.end.get_or_insert(end);
        if let Some(End::Abandoned(_)) = pieces.end {
            self.len.store(CLOSED, Ordering::Relaxed);
        }
        self.arrived.notify_one();
    }

    /// Waits for the next piece; `None` after the last.
    fn next(&self) -> Result<Option<Piece>, Error> {
        let mut pieces = lock(&self.pieces);
        loop {
            if let Some(End::Abandoned(reason)) = pieces.end {
                return Err(Error::SnapshotAbandoned { reason });
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
    fn entry(&mut self, key: &[u8], value: &Value, expires_at_ms: Option<u64>) -> usize {
        if self.backlog.len.load(Ordering::Relaxed) == CLOSED {
            return 0;
        }
        if let Some(value) = Frozen::of(value) {
            let big = Piece::Big { key: key.into(), value, expires_at_ms };
            let len = big.len();
            self.backlog.push(big);
            return len;
        }
        let before = self.chunk.len();
        encode::entry(&mut self.chunk, key, value, expires_at_ms);
        let written = self.chunk.len() - before;
        if self.chunk.len() >= CHUNK_LEN {
            self.flush();
        }
        written
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
            self.backlog.end(End::Abandoned(Abandonment::Aborted));
        }
    }
}

#[cfg(test)]
mod tests {
    //! The work of a moment is bounded, whatever the keyspace holds. Counted in
    //! bytes, not timed.

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::{Hash, List, Set, SortedSet, Walk};

    /// Bytes that one hold of the keyspace may write down or copy.
    const MOMENT_BYTES_MAX: usize = 256 << 10;

    /// A value of one of the kinds, with elements of this length.
    fn value(kind: usize, count: usize, len: usize) -> Value {
        // Never the text of a number, which may be kept as one and have no place.
        let text = |at: usize| [b"m", at.to_string().as_bytes(), &vec![b'x'; len]].concat();
        match kind {
            0 => Value::String(text(1).repeat(count).into()),
            1 => {
                let mut set = SortedSet::new();
                for at in 0..count {
                    set.insert(&text(at), at as f64);
                }
                Value::SortedSet(set)
            }
            2 => {
                let mut hash = Hash::new();
                for at in 0..count {
                    hash.insert(&at.to_le_bytes(), &text(at));
                }
                Value::Hash(hash)
            }
            3 => {
                let mut set = Set::new();
                for at in 0..count {
                    set.add(&text(at));
                }
                Value::Set(set)
            }
            _ => {
                let mut list = List::new();
                (0..count).for_each(|at| list.push_back(&text(at)));
                Value::List(list)
            }
        }
    }

    /// Where each text of a value lies, and how long it is.
    fn places(value: &Value) -> BTreeSet<(usize, usize)> {
        let place = |text: &[u8]| (text.as_ptr().addr(), text.len());
        match value {
            Value::String(string) => {
                string.pieces(0..string.len()).map(|piece| place(&piece)).collect()
            }
            Value::SortedSet(set) => set.iter().map(|(member, _)| place(&member)).collect(),
            Value::Hash(hash) => hash.iter().map(|(_, value)| place(value)).collect(),
            Value::Set(set) => set.iter().map(|member| place(&member)).collect(),
            Value::List(list) => list.iter().map(place).collect(),
        }
    }

    fn frozen_places(frozen: &Frozen) -> BTreeSet<(usize, usize)> {
        match frozen {
            Frozen::SortedSet(set) => {
                set.iter().map(|(member, _)| (member.as_ptr().addr(), member.len())).collect()
            }
            Frozen::Other(value) => places(value),
        }
    }

    #[test]
    fn a_snapshot_is_made_gently_if_possible() {
        let mut keyspace = Keyspace::new();
        let (feed, image) = Image::begin(&mut keyspace, Vec::new(), Lsn(1_000)).unwrap();
        let writer_is_gentle = || image.backlog.course.is_gentle();
        assert_eq!((feed.pace(true, Lsn(1_000)), writer_is_gentle()), (Pace::Gently, true));
        assert_eq!((feed.pace(false, Lsn(1_000)), writer_is_gentle()), (Pace::Briskly, false));
        // The log grows, and nothing has been written.
        assert_eq!(feed.pace(true, Lsn(1 << 20)), Pace::Gently);
        assert_eq!((feed.pace(true, Lsn(1 << 30)), writer_is_gentle()), (Pace::Briskly, false));
        assert_eq!((feed.pace(true, Lsn(1_000)), writer_is_gentle()), (Pace::Gently, true));
        for _ in 0..=BACKLOG_LEN_PAUSE / CHUNK_LEN {
            assert!(writer_is_gentle());
            feed.backlog.push(Piece::Chunk(vec![0; CHUNK_LEN]));
        }
        // What callers change meanwhile goes to the writer too, whoever walks or does not.
        assert!(!writer_is_gentle());
        assert_eq!((feed.pace(true, Lsn(1_000)), writer_is_gentle()), (Pace::Pause, false));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_step_of_the_walk_writes_little_down_whatever_the_sizes(
            kinds in proptest::collection::vec((0usize..5, 1usize..1_500, 0usize..1_200), 1..40),
        ) {
            let mut keyspace = Keyspace::new();
            for (number, (kind, count, len)) in kinds.into_iter().enumerate() {
                let value = value(kind, count, len);
                keyspace.insert_loaded(&number.to_le_bytes(), value, None).unwrap();
            }
            let (_feed, image) = Image::begin(&mut keyspace, Vec::new(), Lsn(0)).unwrap();
            let backlog = image.backlog.clone();
            loop {
                let before = backlog.len.load(Ordering::Relaxed);
                let walk = keyspace.walk(usize::MAX);
                let written = backlog.len.load(Ordering::Relaxed) - before;
                prop_assert!(written <= MOMENT_BYTES_MAX, "{written} bytes in one step");
                if matches!(walk, Walk::Done(_)) {
                    break;
                }
            }
        }

        #[test]
        fn what_waits_is_freed_by_its_writer_and_not_by_who_gives_up(len in 1_001usize..2_000) {
            let mut keyspace = Keyspace::new();
            for kind in 1..5 {
                keyspace.insert_loaded(&[kind as u8], value(kind, len, 8), None).unwrap();
            }
            let (feed, image) = Image::begin(&mut keyspace, Vec::new(), Lsn(0)).unwrap();
            let backlog = image.backlog.clone();
            prop_assert!(matches!(keyspace.walk(2), Walk::More));
            let waiting = || lock(&backlog.pieces).waiting.len();
            prop_assert_eq!(waiting(), 2);
            drop(keyspace.abort_snapshot());
            prop_assert_eq!((feed.pace(false, Lsn(0)), waiting()), (Pace::Abort, 2));
            drop(image);
            prop_assert_eq!(waiting(), 0);
        }

        #[test]
        fn a_big_value_is_kept_without_a_copy_and_its_first_change_copies_little(
            kind in 0usize..5,
            count in 2_000usize..6_000,
            len in 1usize..600,
        ) {
            let mut live = value(kind, count, len);
            let frozen = Frozen::of(&live);
            prop_assert_eq!(frozen.is_some(), live.heap_bytes() > INLINE_BYTES_MAX || kind != 0);
            let Some(frozen) = frozen else { return Ok(()) };
            let kept = frozen_places(&frozen);
            prop_assert_eq!(&kept, &places(&live), "the bytes are shared");
            match &mut live {
                Value::String(string) => {
                    string.overwrite(string.len() / 2, b"new");
                    string.overwrite(string.len(), b"new");
                }
                Value::SortedSet(set) => {
                    set.insert(b"new", 7.0);
                }
                Value::Hash(hash) => {
                    hash.insert(b"new", b"new");
                }
                Value::Set(set) => {
                    set.add(b"new");
                }
                Value::List(list) => list.push_back(b"new"),
            }
            let copied: usize = places(&live).difference(&kept).map(|(_, len)| len).sum();
            prop_assert!(copied <= MOMENT_BYTES_MAX, "{copied} bytes copied");
            prop_assert_eq!(frozen_places(&frozen), kept);
        }
    }
}
