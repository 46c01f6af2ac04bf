//! Spans of time and sizes as people write them: `10s`, `250ms`, `64MiB`.
//!
//! A number without a unit is refused: nobody should have to guess it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A span of time as written: `250ms`, `10s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes as written: `512B`, `64KiB`, `64MiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A text that is not a span of time or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a whole number followed by a unit of time.
    #[error(
        "`{0}` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d"
    )]
    NotASpan(String),
    /// Not a whole number followed by a unit of size.
    #[error(
        "`{0}` is not a size; write a whole number and a unit, such as 512B, 64KiB, 64MiB, 2GiB"
    )]
    NotASize(String),
    /// More than 64 bits can hold.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Units of time, in milliseconds.
const SPANS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size, in bytes.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Splits `text` into a number and a unit of `units`; `None` if it is neither.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<Option<u64>> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale)))
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Span, Error> {
        let millis = scaled(text, &SPANS)
            .ok_or_else(|| Error::NotASpan(text.to_owned()))?
            .ok_or_else(|| Error::TooLarge(text.to_owned()))?;
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<ByteSize, Error> {
        let bytes = scaled(text, &SIZES)
            .ok_or_else(|| Error::NotASize(text.to_owned()))?
            .ok_or_else(|| Error::TooLarge(text.to_owned()))?;
        Ok(ByteSize(bytes))
    }
}

/// Writes `number` in the largest of `units` that divides it.
fn write_scaled(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let largest =
        units.iter().rev().find(|(_, scale)| number >= *scale && number.is_multiple_of(*scale));
    let (name, scale) = largest.unwrap_or(&units[0]);
    write!(f, "{}{name}", number / scale)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPANS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZES)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_read_and_written_the_same() {
        for text in ["1ms", "250ms", "10s", "5m", "1h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["1B", "64KiB", "64MiB", "2GiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "90s");
    }

    #[test]
    fn what_is_neither_is_refused_with_an_example() {
        for text in ["", "5", "s", "-1s", "1.5s", "10 s", "1w", "1e3s"] {
            assert_eq!(text.parse::<Span>(), Err(Error::NotASpan(text.to_owned())));
        }
        for text in ["", "5", "64mb", "1KB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(Error::NotASize(text.to_owned())));
        }
        let huge = "99999999999999999999d";
        assert_eq!(huge.parse::<Span>(), Err(Error::TooLarge(huge.to_owned())));
    }
}
