//! Base files: the whole keyspace at one moment, in Redis' RDB form.
//!
//! ```text
//! REDIS0010                              magic and version
//! FA key value …                         notes about the file (AUX)
//! F5 code …                              libraries
//! FE 0  FB keys deadlines                the one database, and its size
//! [FC i64 ms] type key value …           each key; a deadline stands before it
//! FF  u64                                the end, CRC64 of all before it
//! ```
//!
//! Strings and values are those of [`keyspace::rdb`](crate::keyspace::rdb). We
//! write version 10, what Redis 7.0 reads, and read 9 to 11. What we cannot hold
//! is refused by name, never skipped.

pub mod decode;
pub mod encode;
pub mod file;

/// What a base file starts with. Five bytes, then four digits of a version.
pub const MAGIC: &[u8; 5] = b"REDIS";

/// Notes that tie the file to the incr file that begins at its cut: see
/// [`seal`](super::seal).
const NOTE_RUN: &[u8] = b"weir-run";
const NOTE_POSITION: &[u8] = b"weir-position";

/// Bytes that start a part of the file. All else is the type of a value.
mod opcode {
    pub use crate::keyspace::rdb::LIBRARY;

    pub const FUNCTION_PRERELEASE: u8 = 0xF6;
    pub const MODULE_AUX: u8 = 0xF7;
    pub const IDLE: u8 = 0xF8;
    pub const FREQUENCY: u8 = 0xF9;
    pub const AUX: u8 = 0xFA;
    pub const DATABASE_SIZE: u8 = 0xFB;
    pub const DEADLINE_MS: u8 = 0xFC;
    pub const DEADLINE_SECONDS: u8 = 0xFD;
    pub const DATABASE: u8 = 0xFE;
    pub const END: u8 = 0xFF;
}
