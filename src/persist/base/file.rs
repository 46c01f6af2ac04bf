//! A base file on its way to the disk: what [`encode`] puts into its buffer is
//! checksummed, written in chunks, and synced on the way.

use std::mem;
use std::sync::Arc;
use std::thread;

use super::encode;
use crate::keyspace::Value;
use crate::keyspace::rdb::crc64;
use crate::keyspace::rdb::encode::Encoding;
use crate::persist::disk::{AppendFile, FORGET_STEP, Outgoing};
use crate::persist::error::Error;
use crate::persist::pace::{Course, Effort};

/// Bytes that are written at once.
const CHUNK_LEN: usize = 64 << 10;
/// The disk is asked to begin with what is new each time the file has grown by this
/// much. What the kernel does for a piece of that size keeps a core from nobody for long;
/// a sync that finds megabytes to write has others wait for milliseconds.
const BEGIN_STEP: u64 = 256 << 10;
/// A sync each time it has grown by this much, so that the last one is short and a disk
/// that fails is noticed.
const SYNC_STEP: u64 = 32 << 20;

/// A base file being written: checksummed as it grows, synced on the way.
#[derive(Debug)]
pub struct BaseFile {
    file: AppendFile,
    /// What is written next.
    pub buffer: Vec<u8>,
    crc: u64,
    /// Up to here the disk was asked to begin.
    begun: u64,
    /// Up to here it is synced.
    synced: u64,
    /// What is deleted when it is there.
    outgoing: Outgoing,
    effort: Effort,
}

impl BaseFile {
    /// Writes to `file`, which is empty and takes the place of `outgoing`, from this thread
    /// alone and as fast as `course` wants it.
    pub fn new(file: AppendFile, outgoing: Outgoing, course: Arc<Course>) -> BaseFile {
        let buffer = Vec::with_capacity(2 * CHUNK_LEN);
        let effort = Effort::begin(course);
        BaseFile { file, buffer, crc: 0, begun: 0, synced: 0, outgoing, effort }
    }

    /// Appends encoded entries behind what is in the buffer.
    pub fn append(&mut self, entries: &[u8]) -> Result<(), Error> {
        self.flush()?;
        self.write(entries)
    }

    /// Appends a key with its value, of any size.
    pub fn entry(
        &mut self,
        key: &[u8],
        value: &Value,
        expires_at_ms: Option<u64>,
    ) -> Result<(), Error> {
        let encoding = Encoding::of(value);
        let mut buffer = mem::take(&mut self.buffer);
        encode::key_head(&mut buffer, encoding.kind(), key, expires_at_ms);
        let written = encoding.write_in_pieces(&mut buffer, |buffer| {
            if buffer.len() >= CHUNK_LEN {
                self.write(buffer)?;
                buffer.clear();
            }
            Ok(())
        });
        self.buffer = buffer;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc = crc64(self.crc, bytes);
        self.file.append(bytes)?;
        // Who wakes meanwhile need not wait until this thread's slice is over: the kernel
        // may leave it the core for milliseconds.
        thread::yield_now();
        let len = self.file.len();
        if len - self.begun >= BEGIN_STEP {
            self.file.begin_sync(self.begun);
            self.outgoing.forget(len - self.begun);
            self.begun = len;
        }
        if len - self.synced >= SYNC_STEP {
            self.file.sync()?;
            self.synced = len;
        }
        self.effort.has_written(len);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut buffer = mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// Writes the buffer down once it is worth it.
    pub fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() >= CHUNK_LEN { self.flush() } else { Ok(()) }
    }

    /// Ends the file and makes it durable, not yet under its name. Its length.
    pub fn seal(mut self) -> Result<u64, Error> {
        encode::end(&mut self.buffer);
        self.flush()?;
        self.file.append(&self.crc.to_le_bytes())?;
        self.file.sync()?;
        while self.outgoing.forget(FORGET_STEP) {
            self.effort.rest();
        }
        Ok(self.file.len())
    }
}
