//! Values in Redis' RDB form: what a base file holds after each key, and what
//! `DUMP` gives and `RESTORE` takes.
//!
//! ```text
//! length    00xxxxxx | 01xxxxxx yyyyyyyy | 80 u32 | 81 u64      big-endian
//! string    length, bytes | C0 i8 | C1 i16 | C2 i32             little-endian
//!           | C3 packed length, length, LZF stream
//! value     a kind byte, then what that kind says
//! ```
//!
//! We write what Redis 7.0 reads, and read every form in which any Redis has
//! written a value that we hold. What is read is not trusted: a length reserves
//! nothing, a packed blob is walked within its own bytes, a member that comes
//! twice or a score that is no number is refused.
//!
//! # Not here
//!
//! Files: their head, keys, deadlines and checksum are `persist`'s.

mod crc64;
pub mod decode;
pub mod encode;
mod listpack;
mod lzf;
mod packed;
pub mod payload;
pub mod unpack;
mod ziplist;
mod zipmap;

pub use crc64::crc64;

/// The version of the form that we write: that of Redis 7.0.
pub const VERSION: u16 = 10;

/// The byte before the code of a library, in files and in payloads.
pub const LIBRARY: u8 = 0xF5;

/// Kinds of values: the byte that says how a value is written.
mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const SORTED_SET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const SORTED_SET: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const SORTED_SET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const QUICKLIST: u8 = 14;
    pub const HASH_LISTPACK: u8 = 16;
    pub const SORTED_SET_LISTPACK: u8 = 17;
    pub const QUICKLIST_2: u8 = 18;
    pub const SET_LISTPACK: u8 = 20;
}
