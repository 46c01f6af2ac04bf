//! Writing base files: each function appends one part to a buffer.
//!
//! [`rewrite`](super::super::rewrite) puts the parts together, [`file`](super::file)
//! writes them.

use super::{MAGIC, NOTE_POSITION, NOTE_RUN, opcode};
use crate::base::clock::Timestamp;
use crate::keyspace::Value;
use crate::keyspace::rdb::VERSION;
use crate::keyspace::rdb::encode::{Encoding, SORTED_SET_KIND, length, string};
use crate::persist::seal::Place;

/// The Redis whose form this is; tools show it.
const REDIS_VERSION: &[u8] = b"7.0.15";
/// The start of the file, with the notes that Redis writes and may look for.
/// `place` is that of the cut, in the base file of a log.
pub fn head(out: &mut Vec<u8>, now: Timestamp, place: Option<Place>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(format!("{VERSION:04}").as_bytes());
    note(out, b"redis-ver", REDIS_VERSION);
    note(out, b"redis-bits", b"64");
    note(out, b"ctime", now.seconds().to_string().as_bytes());
    note(out, b"aof-base", if place.is_some() { b"1" } else { b"0" });
    if let Some(Place { run, position }) = place {
        note(out, NOTE_RUN, run.name().as_bytes());
        note(out, NOTE_POSITION, position.to_string().as_bytes());
    }
    note(out, b"weir-ver", env!("CARGO_PKG_VERSION").as_bytes());
}

fn note(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(opcode::AUX);
    string(out, key);
    string(out, value);
}

/// A library, whole: its code with the shebang line.
pub fn library(out: &mut Vec<u8>, code: &str) {
    out.push(opcode::LIBRARY);
    string(out, code.as_bytes());
}

/// The start of the keys. The counts are hints for the reader's tables; nearly
/// every key of a limiter has a deadline.
pub fn database(out: &mut Vec<u8>, key_count: u64) {
    out.push(opcode::DATABASE);
    length(out, 0);
    out.push(opcode::DATABASE_SIZE);
    length(out, key_count);
    length(out, key_count);
}

/// The end of the file but for the checksum, which covers it.
pub fn end(out: &mut Vec<u8>) {
    out.push(opcode::END);
}

/// A key with its value.
pub fn entry(out: &mut Vec<u8>, key: &[u8], value: &Value, expires_at_ms: Option<u64>) {
    let encoding = Encoding::of(value);
    key_head(out, encoding.kind(), key, expires_at_ms);
    encoding.write(out);
}

/// A key with a sorted set of `len` members, which follow one by one, see
/// [`scored`](crate::keyspace::rdb::encode::scored).
pub fn sorted_set_head(out: &mut Vec<u8>, key: &[u8], len: usize, expires_at_ms: Option<u64>) {
    key_head(out, SORTED_SET_KIND, key, expires_at_ms);
    length(out, len as u64);
}

/// What stands before a value: its deadline, its kind, its key.
pub fn key_head(out: &mut Vec<u8>, kind: u8, key: &[u8], expires_at_ms: Option<u64>) {
    if let Some(deadline) = expires_at_ms {
        out.push(opcode::DEADLINE_MS);
        out.extend_from_slice(&deadline.to_le_bytes());
    }
    out.push(kind);
    string(out, key);
}
