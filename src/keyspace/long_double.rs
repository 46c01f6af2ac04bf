//! The arithmetic of `INCRBYFLOAT`: 80-bit floats, as x86 has them.
//!
//! Redis adds C's `long double`s and prints the sum with `%.17Lf`, without the
//! zeros at its end. Clients see that text and the log keeps it, so both must be
//! the same to the last digit: sums of doubles would differ. Reading and adding
//! is a library's (LLVM's, ported); printing stands here, with exact integers.
//!
//! ```text
//! bits   | sign: 1 | exponent: 15 | mantissa: 64 |      mantissa * 2^(exponent - 16446)
//! ```

use std::str::FromStr;

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, Round};

/// Longer texts are no numbers to Redis.
const TEXT_LEN_MAX: usize = 5119;

/// Digits behind the point.
const FRACTION_DIGITS: usize = 17;

/// An 80-bit float that is not nan; it may be infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Reads all of a text as C's `strtold` does: decimal, hexadecimal, `inf`. No
    /// blanks, no nan, and nothing that overflows or vanishes.
    pub(super) fn parse(text: &[u8]) -> Option<LongDouble> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_LEN_MAX)?;
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let magnitude = if ["inf", "infinity"].iter().any(|it| digits.eq_ignore_ascii_case(it)) {
            X87DoubleExtended::INFINITY
        } else {
            parse_finite(digits)?
        };
        Some(LongDouble(if is_negative { -magnitude } else { magnitude }))
    }

    /// False of the two infinities.
    pub(super) fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The sum, rounded to nearest; `None` if it is infinite or none at all.
    pub(super) fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let sum = self.0.add_r(other.0, Round::NearestTiesToEven).value;
        sum.is_finite().then_some(LongDouble(sum))
    }

    /// What `%.17Lf` prints, without zeros at the end of the fraction, and
    /// without the sign of a zero. The number must be finite.
    pub(super) fn text(self) -> String {
        let bits = self.0.to_bits();
        let (mantissa, exponent) = (bits as u64, (bits >> 64) as i32 & 0x7FFF);
        // The smallest numbers share the exponent of the next larger ones.
        let exponent = exponent.max(1) - 16_446;
        let digits = match u32::try_from(exponent) {
            Ok(exponent) => whole_digits(mantissa, exponent),
            Err(_) => fraction_digits(mantissa, exponent.unsigned_abs()),
        };
        let is_negative = self.0.is_negative() && digits != "0";
        if is_negative { format!("-{digits}") } else { digits }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> LongDouble {
        // A mantissa of 64 bits holds every `i64`.
        LongDouble(X87DoubleExtended::from_i128(i128::from(value)).value)
    }
}

/// Reads a double in hexadecimal, without its sign: what `strtod` takes and the
/// standard library does not. It may have overflowed to infinity.
pub(super) fn parse_hex_double(text: &str) -> Option<f64> {
    let value: Double = parse_magnitude(text)?;
    Some(f64::from_bits(value.to_bits() as u64))
}

/// Reads a number without its sign that neither overflows nor vanishes.
fn parse_finite(text: &str) -> Option<X87DoubleExtended> {
    let value: X87DoubleExtended = parse_magnitude(text)?;
    let vanished = value.is_zero() && !is_zero(text);
    (value.is_finite() && !vanished).then_some(value)
}

/// True if every digit before the exponent is a zero.
fn is_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E', 'p', 'P']).next().unwrap_or_default();
    mantissa.bytes().all(|it| b"0.xX".contains(&it)) && !mantissa.is_empty()
}

/// Reads a number without its sign.
fn parse_magnitude<F: Float + FromStr>(text: &str) -> Option<F> {
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let (digits, exponent_mark) = match hex {
        Some(digits) => (digits, ['p', 'P']),
        None => (text, ['e', 'E']),
    };
    let (mantissa, exponent) = match digits.split_once(exponent_mark) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let is_digit =
        |it: char| if hex.is_some() { it.is_ascii_hexdigit() } else { it.is_ascii_digit() };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_is_number = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())
    });
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    if !has_digits || !whole.chars().chain(fraction.chars()).all(is_digit) || !exponent_is_number {
        return None;
    }
    // The library wants an exponent behind hexadecimal digits.
    let value = match (hex, exponent) {
        (Some(_), None) => format!("{text}p0").parse(),
        _ => text.parse(),
    };
    value.ok()
}

/// The decimal of `mantissa * 2^exponent`.
fn whole_digits(mantissa: u64, exponent: u32) -> String {
    /// Of a limb, the least significant first.
    const BASE: u64 = 1_000_000_000;
    /// Bits by which a limb can be shifted within 64 bits, carry included.
    const SHIFT_MAX: u32 = 32;

    let mut limbs = vec![mantissa % BASE, mantissa / BASE % BASE, mantissa / BASE / BASE];
    let mut remaining = exponent;
    while remaining > 0 {
        let shift = remaining.min(SHIFT_MAX);
        let mut carry = 0;
        for limb in &mut limbs {
            let shifted = (*limb << shift) + carry;
            (*limb, carry) = (shifted % BASE, shifted / BASE);
        }
        while carry > 0 {
            limbs.push(carry % BASE);
            carry /= BASE;
        }
        remaining -= shift;
    }
    let digits: String = limbs.iter().rev().map(|limb| format!("{limb:09}")).collect();
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

/// The decimal of `mantissa / 2^exponent` to 17 places, ties to even, without
/// zeros at its end.
fn fraction_digits(mantissa: u64, exponent: u32) -> String {
    // Below 2^121, so what is shifted out further than that is below a half.
    let scaled = u128::from(mantissa) * 10u128.pow(FRACTION_DIGITS as u32);
    let rounded = if exponent > 121 {
        0
    } else {
        let (quotient, rest) = (scaled >> exponent, scaled & ((1 << exponent) - 1));
        let half = 1u128 << (exponent - 1);
        let rounds_up = rest > half || rest == half && quotient % 2 == 1;
        quotient + u128::from(rounds_up)
    };
    let digits = format!("{rounded:018}");
    let (whole, fraction) = digits.split_at(digits.len() - FRACTION_DIGITS);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: &str) {
        let sum = LongDouble::parse(a.as_bytes()).unwrap();
        let sum = sum.checked_add(LongDouble::parse(b.as_bytes()).unwrap());
        assert_eq!(sum.map_or("not finite".to_owned(), LongDouble::text), expected, "{a} + {b}");
    }

    #[test]
    fn sums_are_printed_as_redis_prints_them() {
        check("10.50", "0.1", "10.6");
        check("3.0e3", "200", "3200");
        check("0.1", "0.2", "0.3");
        check("1", "-1", "0");
        check("-1", "1", "0");
        check("-0", "-0", "0");
        check("0x1p-18", "0", "0.00000381469726562");
        check("-1e-30", "0", "0");
        check("1e-4940", "0", "0");
        check("1e20", "0.5", "100000000000000000000");
        check("9223372036854775807", "1", "9223372036854775808");
        check("1e30", "0", "1000000000000000000024696061952");
        check("inf", "1", "not finite");
        check("inf", "-inf", "not finite");
        check("1e4932", "1e4932", "not finite");
    }

    #[test]
    fn texts_are_read_as_strtold_reads_them() {
        let read = ["5.", ".5", "+1", "0x10", "0X.8P-3", "1E5", "Infinity", "-INF", "1e-4940"];
        for text in read {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text}");
        }
        let refused =
            ["", ".", "-", "1e", "1e+", "nan", " 1", "1 ", "1_0", "0x", "1e5000", "1e-5000"];
        for text in refused {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(LongDouble::parse(&[b'1'; 5000]).is_none(), "overflows");
        assert!(LongDouble::parse(&[b'0'; 5120]).is_none(), "too long");
        assert_eq!(LongDouble::from(i64::MIN).text(), i64::MIN.to_string());
    }
}
