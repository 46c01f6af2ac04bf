//! The wire codec of Redis: replies, commands, and the text of numbers.
//!
//! [`Reply`] is what a command or a Function answers, [`encode`] writes commands
//! and frames, [`decode`] finds commands in bytes, [`request`] what clients send,
//! [`number`] is how Redis prints a double.
//!
//! No I/O happens here and nothing is known of commands or of keys. The log and
//! every door that speaks RESP share this one codec.

pub mod decode;
pub mod encode;
pub mod number;
mod reply;
pub mod request;

pub use reply::{Items, Mark, Protocol, Reply, View};

/// A client's word as far as Redis sees it where it takes it for a C string: up to
/// its first zero byte. So end the words that errors repeat, and bounds of scores.
pub fn until_zero(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}
