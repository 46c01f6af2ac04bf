//! One argument of a command: bytes, or a number that Lua passed.
//!
//! A Lua number reaches a score, a count or a deadline without becoming text and
//! being parsed again. Where text is wanted (a key, a member, an effect) it is
//! formatted as Redis does it for `redis.call`: `%.17g`.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};

use super::error::CommandError;
use super::long_double::parse_hex_double;
use crate::resp::number::{NumberText, whole};
use crate::resp::until_zero;

/// An argument. `Copy`, so an argv is a slice on the caller's stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg<'a> {
    /// As it came over the wire.
    Bytes(&'a [u8]),
    /// A Lua number.
    Number(f64),
}

/// The text of an argument or a string: borrowed, or a number formatted on the
/// stack.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// Bytes that stand elsewhere.
    Borrowed(&'a [u8]),
    /// A number as text.
    Number(NumberText),
}

impl Text<'_> {
    /// The bytes of a range within the text.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        match self {
            Text::Borrowed(bytes) => Text::Borrowed(&bytes[range]),
            Text::Number(text) => Text::Number(text.part(range)),
        }
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Borrowed(bytes) => bytes,
            Text::Number(text) => text,
        }
    }
}

/// By bytes: a number equals its text.
impl PartialEq for Text<'_> {
    fn eq(&self, other: &Text<'_>) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<'a> Arg<'a> {
    /// The argument as bytes.
    #[inline]
    pub(super) fn text(self) -> Text<'a> {
        match self {
            Arg::Bytes(bytes) => Text::Borrowed(bytes),
            Arg::Number(value) => Text::Number(NumberText::double(value)),
        }
    }

    /// No fewer bytes than the text has.
    pub(super) fn len_max(self) -> usize {
        match self {
            Arg::Bytes(bytes) => bytes.len(),
            Arg::Number(_) => NumberText::CAPACITY,
        }
    }

    /// True if the argument is this word, in any case.
    pub(super) fn is_word(self, word: &str) -> bool {
        match self {
            Arg::Bytes(bytes) => bytes.eq_ignore_ascii_case(word.as_bytes()),
            Arg::Number(_) => false,
        }
    }

    /// The integer that this is, if it is one; see [`Arg::integer`].
    pub fn as_integer(self) -> Option<i64> {
        self.integer().ok()
    }

    /// A 64-bit integer in canonical decimal, as Redis demands one: no blanks,
    /// no plus, no leading zero.
    pub fn integer(self) -> Result<i64, CommandError> {
        match self {
            Arg::Bytes(bytes) => parse_integer(bytes),
            Arg::Number(value) => whole(value),
        }
        .ok_or(CommandError::NotInteger)
    }

    /// An integer between these two, both included.
    pub(super) fn integer_within(self, least: i64, most: i64) -> Result<i64, CommandError> {
        let value = self.integer()?;
        let is_within = least <= value && value <= most;
        if is_within { Ok(value) } else { Err(CommandError::NotWithin(least, most)) }
    }

    /// A count: an integer that is not negative.
    pub(super) fn count(self) -> Result<usize, CommandError> {
        // What is no integer at all is called the same.
        let value = self.integer().map_err(|_| CommandError::NotPositive)?;
        usize::try_from(value).map_err(|_| CommandError::NotPositive)
    }

    /// A double, as `strtod` reads one; no blanks, no nan, no overflow.
    pub(super) fn double(self) -> Result<f64, CommandError> {
        match self {
            Arg::Bytes(bytes) => parse_double(bytes),
            Arg::Number(value) => (!value.is_nan()).then_some(value),
        }
        .ok_or(CommandError::NotFloat)
    }
}

/// Reads a canonical decimal: what [`NumberText::integer`] would print.
pub(super) fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, bytes),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    // Summed below zero: the magnitude of `i64::MIN` has no positive twin.
    let negated = digits.iter().try_fold(0i64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative { Some(negated) } else { negated.checked_neg() }
}

/// Reads a double as Redis' `string2d` does: all of the text, and a value that
/// neither overflows nor vanishes.
pub(super) fn parse_double(bytes: &[u8]) -> Option<f64> {
    // Scores are mostly whole numbers, and those read faster as such.
    if bytes.len() <= 15
        && let Some(integer) = parse_integer(bytes)
    {
        return Some(integer as f64);
    }
    let value = parse_lenient_double(bytes)?;
    let digits = bytes.strip_prefix(b"-").or(bytes.strip_prefix(b"+")).unwrap_or(bytes);
    let is_word = digits.first().is_some_and(u8::is_ascii_alphabetic);
    let overflowed = value.is_infinite() && !is_word;
    let mantissa = digits.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (!overflowed && !vanished).then_some(value)
}

/// Reads a double; overflow gives infinity and underflow zero. Never nan.
fn parse_lenient_double(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let magnitude = text.strip_prefix(['-', '+']).unwrap_or(text);
    let value: f64 = if magnitude.starts_with("0x") || magnitude.starts_with("0X") {
        let value = parse_hex_double(magnitude)?;
        if text.starts_with('-') { -value } else { value }
    } else {
        text.parse().ok()?
    };
    (!value.is_nan()).then_some(value)
}

/// One end of a range of scores: `5`, `(5`, `-inf`, `+inf`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ScoreBound {
    pub(super) score: f64,
    pub(super) exclusive: bool,
}

impl ScoreBound {
    /// Reads a bound as Redis' `zslParseRange` does, which is laxer than a
    /// score: an empty text is 0, an overflow is infinite, and a zero byte ends it.
    pub(super) fn parse(arg: Arg<'_>) -> Result<ScoreBound, CommandError> {
        let bytes = match arg {
            Arg::Number(score) if !score.is_nan() => {
                return Ok(ScoreBound { score, exclusive: false });
            }
            Arg::Number(_) => return Err(CommandError::RangeNotFloat),
            Arg::Bytes(bytes) => until_zero(bytes),
        };
        let (exclusive, text) = match bytes.strip_prefix(b"(") {
            Some(text) => (true, text),
            None => (false, bytes),
        };
        let text = text.trim_ascii_start();
        let score = match text {
            [] => Some(0.0),
            b"-inf" => Some(f64::NEG_INFINITY),
            b"+inf" | b"inf" => Some(f64::INFINITY),
            _ => match parse_integer(text) {
                Some(integer) => Some(integer as f64),
                None => parse_lenient_double(text),
            },
        };
        score.map(|score| ScoreBound { score, exclusive }).ok_or(CommandError::RangeNotFloat)
    }
}

/// One end of a range of members: `[a`, `(a`, `-`, `+`.
#[derive(Clone, Copy, Debug)]
pub(super) enum LexBound<'a> {
    Lowest,
    Highest,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    pub(super) fn parse(arg: Arg<'a>) -> Result<LexBound<'a>, CommandError> {
        match arg {
            Arg::Bytes(b"-") => Ok(LexBound::Lowest),
            Arg::Bytes(b"+") => Ok(LexBound::Highest),
            Arg::Bytes([b'[', member @ ..]) => Ok(LexBound::Inclusive(member)),
            Arg::Bytes([b'(', member @ ..]) => Ok(LexBound::Exclusive(member)),
            Arg::Bytes(_) | Arg::Number(_) => Err(CommandError::RangeNotString),
        }
    }

    /// True if a range from `self` to `max` is empty whatever the members.
    pub(super) fn leaves_nothing_up_to(self, max: LexBound<'_>) -> bool {
        match (self, max) {
            (LexBound::Inclusive(from), to @ (LexBound::Inclusive(_) | LexBound::Exclusive(_))) => {
                !to.is_above(from)
            }
            (LexBound::Exclusive(from), LexBound::Inclusive(to) | LexBound::Exclusive(to)) => {
                from >= to
            }
            (LexBound::Highest, LexBound::Highest) | (LexBound::Lowest, LexBound::Lowest) => false,
            (LexBound::Highest, _) | (_, LexBound::Lowest) => true,
            (LexBound::Lowest, _) | (_, LexBound::Highest) => false,
        }
    }

    /// True if a range that begins here holds the member, or begins before it.
    pub(super) fn is_below(self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Inclusive(bound) => bound <= member,
            LexBound::Exclusive(bound) => bound < member,
        }
    }

    /// True if a range that ends here holds the member, or ends behind it.
    pub(super) fn is_above(self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Inclusive(bound) => member <= bound,
            LexBound::Exclusive(bound) => member < bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical_decimals() {
        let cases: [(&str, Option<i64>); 12] = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        let cases: [(&str, Option<f64>); 19] = [
            ("1", Some(1.0)),
            ("+1.5", Some(1.5)),
            ("-.5", Some(-0.5)),
            ("1e3", Some(1000.0)),
            ("1700000000000001", Some(1_700_000_000_000_001.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
            ("-0x.8P1", Some(-1.0)),
            ("0x", None),
            ("0e5", Some(0.0)),
            ("1e400", None),
            ("1e-400", None),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
            ("(1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_double(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn score_bounds_are_laxer_than_scores() {
        let cases: [(&str, Option<(f64, bool)>); 11] = [
            ("5", Some((5.0, false))),
            ("(5", Some((5.0, true))),
            ("-inf", Some((f64::NEG_INFINITY, false))),
            ("(+inf", Some((f64::INFINITY, true))),
            ("", Some((0.0, false))),
            ("(", Some((0.0, true))),
            (" 1.5", Some((1.5, false))),
            ("1e400", Some((f64::INFINITY, false))),
            ("(1\0x", Some((1.0, true))),
            ("1x\0", None),
            ("nan", None),
        ];
        for (text, expected) in cases {
            let bound = ScoreBound::parse(Arg::Bytes(text.as_bytes())).ok();
            assert_eq!(bound.map(|it| (it.score, it.exclusive)), expected, "{text:?}");
        }
    }
}
