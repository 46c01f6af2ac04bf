//! A base file read ahead: a thread reads, checks and decodes it while the caller
//! puts into the keyspace what came before.
//!
//! ```text
//!   log-reader   read, checksum, decode ──batches──▶ caller   insert, in order
//! ```
//!
//! Few batches wait, so the memory for it is bounded by the largest values.

use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::base::tasks::spawn_thread;
use crate::persist::base::decode::{BaseReader, Part};
use crate::persist::disk::ReadFile;
use crate::persist::error::{Error, Op};
use crate::persist::source::Source;

/// Parts that are handed over at once, unless the bytes they were read from are
/// many.
const BATCH_LEN: usize = 512;
const BATCH_BYTES: u64 = 256 << 10;
/// Batches that may wait.
const BATCHES_AHEAD: usize = 4;

/// A part, and where it stands in the file.
#[derive(Debug)]
pub struct Read {
    /// The part.
    pub part: Part,
    /// Offset of its first byte.
    pub start: u64,
    /// Offset behind its last.
    pub end: u64,
}

/// Reads the base file that begins here. `each` is given every part in order; at
/// its first error the reading ends. Returns the reader, which is at the end.
pub fn read(
    source: Source<ReadFile>,
    each: impl FnMut(Read) -> Result<(), Error>,
) -> Result<BaseReader<ReadFile>, Error> {
    let path = source.path().to_owned();
    let (sender, batches) = sync_channel(BATCHES_AHEAD);
    let reader = spawn_thread("log-reader", move || decode(source, &sender))
        .map_err(Error::io(Op::StartThread, &path))?;
    let taken = batches.iter().flatten().try_for_each(each);
    // If the caller has had enough, the thread learns of it here.
    drop(batches);
    let decoded = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
    taken.and(decoded)
}

/// The thread. What was decoded before a fault is handed over before it is told.
fn decode(
    source: Source<ReadFile>,
    batches: &SyncSender<Vec<Read>>,
) -> Result<BaseReader<ReadFile>, Error> {
    let mut base = BaseReader::new(source)?;
    let mut batch = Vec::new();
    let mut batch_start = base.offset();
    loop {
        let next = base.next();
        let (start, end) = (base.start(), base.offset());
        let is_last = !matches!(next, Ok(Some(_)));
        let ended = match next {
            Ok(Some(part)) => {
                batch.push(Read { part, start, end });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if is_last || batch.len() >= BATCH_LEN || end - batch_start >= BATCH_BYTES {
            batch_start = end;
            let is_heard = batches.send(mem::take(&mut batch)).is_ok();
            ended?;
            if is_last || !is_heard {
                return Ok(base);
            }
        }
    }
}
