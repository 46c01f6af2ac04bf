//! Numbers as text, the way Redis 7.0 prints them.
//!
//! A double is printed with C's `%.17g`: `3`, `0.10000000000000001`, `1e+17`,
//! `inf`, `-0`. Seventeen digits always read back as the same double. Whole
//! numbers below 1e17 come out of `%.17g` as plain integers, so they take the
//! integer path, which is some ten times faster.

use std::fmt::Write;
use std::ops::{Deref, Range};

/// From here on `%.17g` switches to an exponent.
const WHOLE_MAX: f64 = 1e17;

/// The text of one number, kept on the stack.
#[derive(Clone, Copy, Debug)]
pub struct NumberText {
    bytes: [u8; NumberText::CAPACITY],
    len: u8,
}

impl NumberText {
    /// The longest text is `-2.2250738585072014e-308`, 24 bytes.
    pub const CAPACITY: usize = 32;

    /// An integer in decimal.
    pub fn integer(value: i64) -> NumberText {
        let mut text = NumberText { bytes: [0; NumberText::CAPACITY], len: 0 };
        text.push(itoa::Buffer::new().format(value).as_bytes());
        text
    }

    /// A double as C prints it with `%.17g`.
    pub fn double(value: f64) -> NumberText {
        if let Some(whole) = whole(value) {
            return NumberText::integer(whole);
        }
        let mut text = NumberText { bytes: [0; NumberText::CAPACITY], len: 0 };
        if value.is_nan() {
            text.push(b"nan");
        } else if value.is_infinite() {
            text.push(if value > 0.0 { b"inf" } else { b"-inf" });
        } else {
            text.push_general(value);
        }
        text
    }

    /// The bytes of a range within the text.
    pub fn part(&self, range: Range<usize>) -> NumberText {
        let mut part = NumberText { bytes: [0; NumberText::CAPACITY], len: 0 };
        part.push(&self[range]);
        part
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        debug_assert!(start + bytes.len() <= NumberText::CAPACITY);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    /// `%.17g` of a finite value, from Rust's `d.dddddddddddddddde±x`.
    fn push_general(&mut self, value: f64) {
        let mut scientific = NumberText { bytes: [0; NumberText::CAPACITY], len: 0 };
        let written = write!(scientific, "{:.16e}", value.abs());
        debug_assert!(written.is_ok(), "a double in scientific form fits");
        let text = &scientific[..];
        let e = text.iter().position(|&b| b == b'e').unwrap_or(text.len());
        let exponent = parse_exponent(&text[(e + 1).min(text.len())..]);
        let mut digits = [b'0'; 17];
        for (digit, &byte) in digits.iter_mut().zip(text[..e].iter().filter(|&&b| b != b'.')) {
            *digit = byte;
        }
        let significant = 17 - digits.iter().rev().take_while(|&&b| b == b'0').count();
        let digits = &digits[..significant.max(1)];

        if value.is_sign_negative() {
            self.push(b"-");
        }
        match exponent {
            -4..=-1 => {
                self.push(b"0.");
                self.push(&b"000"[..exponent.unsigned_abs() as usize - 1]);
                self.push(digits);
            }
            0..=16 => {
                let whole_len = exponent as usize + 1;
                self.push(&digits[..digits.len().min(whole_len)]);
                for _ in digits.len()..whole_len {
                    self.push(b"0");
                }
                if digits.len() > whole_len {
                    self.push(b".");
                    self.push(&digits[whole_len..]);
                }
            }
            _ => {
                self.push(&digits[..1]);
                if digits.len() > 1 {
                    self.push(b".");
                    self.push(&digits[1..]);
                }
                self.push(if exponent < 0 { b"e-" } else { b"e+" });
                if exponent.abs() < 10 {
                    self.push(b"0");
                }
                self.push(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
            }
        }
    }
}

impl Deref for NumberText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Write for NumberText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if usize::from(self.len) + text.len() > NumberText::CAPACITY {
            return Err(std::fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The integer that `%.17g` would print for `value`, if it prints one.
/// `-0.0` is not one: it prints as `-0`.
#[inline]
pub fn whole(value: f64) -> Option<i64> {
    let truncated = value as i64;
    let is_whole = value.abs() < WHOLE_MAX
        && truncated as f64 == value
        && (truncated != 0 || value.is_sign_positive());
    is_whole.then_some(truncated)
}

fn parse_exponent(text: &[u8]) -> i32 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The integer that a text begins with, as C's `atoi` reads it: blanks before it and
/// anything behind it are passed over, no digit is zero, and only the lower 32 bits
/// count.
pub fn c_int(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0i64, |sum, byte| {
        let digit = i64::from(byte - b'0');
        let digit = if is_negative { -digit } else { digit };
        sum.saturating_mul(10).saturating_add(digit)
    });
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_c_reads_them() {
        let read = |text: &str| c_int(text.as_bytes());
        assert_eq!((read("12"), read("-3"), read("+4"), read("01")), (12, -3, 4, 1));
        assert_eq!((read(" \t5x"), read("x5"), read(""), read("- 5")), (5, 0, 0, 0));
        assert_eq!((read("4294967297"), read("99999999999999999999")), (1, -1));
    }

    #[track_caller]
    fn check(value: f64, expected: &str) {
        let text = NumberText::double(value);
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }

    #[test]
    fn doubles_print_as_redis_prints_them() {
        check(0.0, "0");
        check(-0.0, "-0");
        check(3.0, "3");
        check(-17.0, "-17");
        check(1e15, "1000000000000000");
        check(99_999_999_999_999_984.0, "99999999999999984");
        check(1e17, "1e+17");
        check(1e100, "1e+100");
        check(0.1, "0.10000000000000001");
        check(0.5, "0.5");
        check(-2.25, "-2.25");
        check(1.1, "1.1000000000000001");
        check(0.000_1, "0.0001");
        check(0.000_012_5, "1.2500000000000001e-05");
        check(1.5e-7, "1.4999999999999999e-07");
        check(1e300, "1.0000000000000001e+300");
        check(f64::MIN_POSITIVE, "2.2250738585072014e-308");
        check(-f64::MIN_POSITIVE, "-2.2250738585072014e-308");
        check(5e-324, "4.9406564584124654e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(1234.5, "1234.5");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
        check(f64::NAN, "nan");
    }

    proptest::proptest! {
        #[test]
        fn the_text_of_a_double_reads_back_as_the_same_double(bits in proptest::num::u64::ANY) {
            let value = f64::from_bits(bits);
            proptest::prop_assume!(value.is_finite());
            let text = NumberText::double(value);
            let back: f64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
            proptest::prop_assert_eq!(back.to_bits(), value.to_bits());
        }
    }
}
