//! Writing base files: each function appends one part to a buffer.
//!
//! [`rewrite`](super::super::rewrite) puts the parts together, [`file`](super::file)
//! writes them.

use super::listpack::{Packer, canonical_integer};
use super::{MAGIC, kind, opcode};
use crate::base::clock::Timestamp;
use crate::keyspace::Value;

/// The version of the form that we write: that of Redis 7.0.
const VERSION: &[u8; 4] = b"0010";
/// The Redis whose form this is; tools show it.
const REDIS_VERSION: &[u8] = b"7.0.15";
/// Sorted sets up to this many members, none longer than
/// [`LISTPACK_MEMBER_LEN_MAX`], are packed: Redis' own limits.
const LISTPACK_MEMBERS_MAX: usize = 128;
const LISTPACK_MEMBER_LEN_MAX: usize = 64;
/// Longest text that is written as an integer.
const INTEGER_TEXT_LEN_MAX: usize = 11;
/// Whole scores within this are packed as integers.
const WHOLE_SCORE_MAX: f64 = (1u64 << 62) as f64;

/// The start of the file, with the notes that Redis writes and may look for.
pub fn head(out: &mut Vec<u8>, now: Timestamp) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(VERSION);
    note(out, b"redis-ver", REDIS_VERSION);
    note(out, b"redis-bits", b"64");
    note(out, b"ctime", now.seconds().to_string().as_bytes());
    note(out, b"aof-base", b"1");
    note(out, b"weir-ver", env!("CARGO_PKG_VERSION").as_bytes());
}

fn note(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(opcode::AUX);
    string(out, key);
    string(out, value);
}

/// A library, whole: its code with the shebang line.
pub fn library(out: &mut Vec<u8>, code: &str) {
    out.push(opcode::FUNCTION);
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
    match value {
        Value::String(text) => {
            key_head(out, kind::STRING, key, expires_at_ms);
            string(out, &text.text());
        }
        Value::SortedSet(set) => {
            let short = |(member, _): (&[u8], f64)| member.len() <= LISTPACK_MEMBER_LEN_MAX;
            if set.len() <= LISTPACK_MEMBERS_MAX && set.iter().all(short) {
                key_head(out, kind::SORTED_SET_LISTPACK, key, expires_at_ms);
                packed(out, set.iter());
            } else {
                sorted_set_head(out, key, set.len(), expires_at_ms);
                set.iter().rev().for_each(|(member, score)| sorted_set_member(out, member, score));
            }
        }
    }
}

/// A key with a sorted set of `len` members, which follow one by one.
pub fn sorted_set_head(out: &mut Vec<u8>, key: &[u8], len: usize, expires_at_ms: Option<u64>) {
    key_head(out, kind::SORTED_SET, key, expires_at_ms);
    length(out, len as u64);
}

/// One member after [`sorted_set_head`]. The highest comes first: that is the
/// order in which Redis inserts fastest.
pub fn sorted_set_member(out: &mut Vec<u8>, member: &[u8], score: f64) {
    string(out, member);
    out.extend_from_slice(&score.to_le_bytes());
}

fn key_head(out: &mut Vec<u8>, kind: u8, key: &[u8], expires_at_ms: Option<u64>) {
    if let Some(deadline) = expires_at_ms {
        out.push(opcode::DEADLINE_MS);
        out.extend_from_slice(&deadline.to_le_bytes());
    }
    out.push(kind);
    string(out, key);
}

/// Members and scores as one packed string, lowest first.
fn packed<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a [u8], f64)>) {
    let mut packer = Packer::new(Vec::new());
    for (member, score) in members {
        packer.push(member);
        if score.fract() == 0.0 && score.abs() < WHOLE_SCORE_MAX {
            packer.push_integer(score as i64);
        } else {
            packer.push(score_text(score).as_bytes());
        }
    }
    let blob = packer.finish();
    length(out, blob.len() as u64);
    out.extend_from_slice(&blob);
}

/// The shortest text that reads back to the same score, short enough for
/// Redis' buffer: `inf`, `-inf`, `0.1`, `1e300`.
fn score_text(score: f64) -> String {
    let magnitude = score.abs();
    if magnitude.is_infinite() || (1e-5..1e17).contains(&magnitude) {
        format!("{score}")
    } else {
        format!("{score:e}")
    }
}

/// A length in its shortest form.
fn length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3F => out.push(len as u8),
        0x40..=0x3FFF => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xFFFF_FFFF => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// A string: as an integer if it is the canonical decimal of an `i32`, else raw.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= INTEGER_TEXT_LEN_MAX
        && let Some(integer) = canonical_integer(text)
    {
        if let Ok(integer) = i8::try_from(integer) {
            out.push(0xC0);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
        if let Ok(integer) = i16::try_from(integer) {
            out.push(0xC1);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
        if let Ok(integer) = i32::try_from(integer) {
            out.push(0xC2);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = Vec::new();
        written(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        check(|out| length(out, 63), &[63]);
        check(|out| length(out, 64), &[0x40, 64]);
        check(|out| length(out, 16_383), &[0x7F, 0xFF]);
        check(|out| length(out, 16_384), &[0x80, 0, 0, 0x40, 0]);
        check(|out| length(out, 0xFFFF_FFFF), &[0x80, 0xFF, 0xFF, 0xFF, 0xFF]);
        check(|out| length(out, 1 << 32), &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn small_integers_are_written_as_such() {
        check(|out| string(out, b"10"), &[0xC0, 10]);
        check(|out| string(out, b"-128"), &[0xC0, 0x80]);
        check(|out| string(out, b"128"), &[0xC1, 128, 0]);
        check(|out| string(out, b"-2147483648"), &[0xC2, 0, 0, 0, 0x80]);
        check(|out| string(out, b"2147483648"), b"\x0a2147483648");
        check(|out| string(out, b"007"), b"\x03007");
        check(|out| string(out, b""), &[0]);
    }

    #[test]
    fn scores_are_short_and_read_back_the_same() {
        for (score, text) in [
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (1e300, "1e300"),
            (1.5e-7, "1.5e-7"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(score_text(score), text);
            assert_eq!(text.parse::<f64>().unwrap(), score);
        }
    }
}
