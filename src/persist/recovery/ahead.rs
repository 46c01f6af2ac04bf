//! A base file read ahead: threads read, check and decode it while the caller puts into
//! the keyspace what came before.
//!
//! ```text
//!   log-reader    read, checksum, take apart ──stored──▶ decoders, in turn
//!   log-decoder   unpack                    ──parts──▶ caller, from each in turn
//!   caller        insert, in the order of the file
//! ```
//!
//! Batches go round: the first to the first decoder, the next to the next. So they come
//! out in the order in which they went in, and nobody sorts. Few wait, so the memory
//! for it is bounded by the largest values.

use std::io;
use std::mem;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::base::tasks::spawn_thread;
use crate::keyspace::Value;
use crate::keyspace::rdb::decode::Stored;
use crate::keyspace::rdb::unpack::Expected;
use crate::persist::base::decode::{BaseReader, Part};
use crate::persist::disk::ReadFile;
use crate::persist::error::{Error, Op};
use crate::persist::source::Source;

/// Threads that decode. Two keep up with one that reads and one that inserts.
const DECODER_COUNT: usize = 2;
/// Parts that are handed over at once, unless the bytes they were read from are
/// many.
const BATCH_LEN: usize = 512;
const BATCH_BYTES: u64 = 256 << 10;
/// Batches that may wait before each decoder, and behind it.
const BATCHES_AHEAD: usize = 2;

/// A part, and where it stands in the file.
#[derive(Debug)]
pub struct Read<V = Value> {
    /// The part.
    pub part: Part<V>,
    /// Offset of its first byte.
    pub start: u64,
    /// Offset behind its last.
    pub end: u64,
}

/// Parts that were decoded, and what is wrong with the one behind them.
type Decoded = (Vec<Read>, Option<Error>);

/// Reads the base file that begins here. `each` is given every part in order; at
/// its first error the reading ends. Returns the reader, which is at the end.
pub fn read(
    source: Source<ReadFile>,
    mut each: impl FnMut(Read) -> Result<(), Error>,
) -> Result<BaseReader<ReadFile>, Error> {
    let path = source.path().to_owned();
    let cannot_start = |error| Error::io(Op::StartThread, &path)(error);
    let mut to_decoders = Vec::new();
    let mut decoders = Vec::new();
    for _ in 0..DECODER_COUNT {
        let (to_decoder, stored) = sync_channel(BATCHES_AHEAD);
        to_decoders.push(to_decoder);
        decoders.push(Decoder::start(stored, path.clone()).map_err(cannot_start)?);
    }
    let reader = spawn_thread("log-reader", move || take_apart(source, &to_decoders))
        .map_err(cannot_start)?;
    // The first that has none to give, in its turn, has given its last.
    let batches = decoders.iter().cycle().map_while(|decoder| decoder.decoded.recv().ok());
    let mut taken = Ok(());
    for (parts, fault) in batches {
        taken = parts.into_iter().try_for_each(&mut each).and(fault.map_or(Ok(()), Err));
        if taken.is_err() {
            break;
        }
    }
    // If the caller has had enough, the threads learn of it here.
    let threads: Vec<_> = decoders.into_iter().map(|decoder| decoder.thread).collect();
    threads.into_iter().for_each(joined);
    taken.and(joined(reader))
}

/// What a thread came to.
fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The reading thread. What was read before a fault is handed over before it is told.
fn take_apart(
    source: Source<ReadFile>,
    decoders: &[SyncSender<Vec<Read<Stored>>>],
) -> Result<BaseReader<ReadFile>, Error> {
    let mut base = BaseReader::new(source)?;
    let mut batch = Vec::new();
    let mut batch_start = base.offset();
    let mut turns = decoders.iter().cycle();
    loop {
        let next = base.next_stored();
        let (start, end) = (base.start(), base.offset());
        let is_last = !matches!(next, Ok(Some(_)));
        let ended = next.map(|part| batch.extend(part.map(|part| Read { part, start, end })));
        if is_last || batch.len() >= BATCH_LEN || end - batch_start >= BATCH_BYTES {
            batch_start = end;
            let batch = mem::take(&mut batch);
            let is_heard = turns.next().is_some_and(|decoder| decoder.send(batch).is_ok());
            ended?;
            if is_last || !is_heard {
                return Ok(base);
            }
        }
    }
}

/// A thread that decodes, and what it has decoded.
struct Decoder {
    decoded: Receiver<Decoded>,
    thread: JoinHandle<()>,
}

impl Decoder {
    fn start(stored: Receiver<Vec<Read<Stored>>>, path: PathBuf) -> io::Result<Decoder> {
        let (sender, decoded) = sync_channel(BATCHES_AHEAD);
        let thread = spawn_thread("log-decoder", move || {
            for batch in stored {
                let decoded = decode(batch, &path);
                let goes_on = decoded.1.is_none();
                if sender.send(decoded).is_err() || !goes_on {
                    break;
                }
            }
        })?;
        Ok(Decoder { decoded, thread })
    }
}

/// Decodes what stands before a fault, and tells that.
fn decode(batch: Vec<Read<Stored>>, path: &Path) -> Decoded {
    let mut parts = Vec::with_capacity(batch.len());
    for Read { part, start, end } in batch {
        match part.unpack() {
            Ok(part) => parts.push(Read { part, start, end }),
            Err(Expected(expected)) => {
                let path = path.to_owned();
                return (parts, Some(Error::Damaged { path, offset: end, expected }));
            }
        }
    }
    (parts, None)
}
