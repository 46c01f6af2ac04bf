//! Numbers as C prints and reads them, which is what Lua's libraries promise.

#![allow(unsafe_code, reason = "the C library's printf and strtod")]

use std::ffi::CStr;
use std::ops::Deref;

/// A number as text, on the stack.
#[derive(Clone, Copy)]
pub(super) struct Printed {
    bytes: [u8; Printed::CAPACITY],
    len: usize,
}

impl Printed {
    /// `%99.99f` of the largest double takes 410.
    const CAPACITY: usize = 512;

    /// `%.*g`
    pub(super) fn general(value: f64, digits: i32) -> Printed {
        // SAFETY: the format takes an int and a double.
        Printed::with(|bytes, len| unsafe {
            libc::snprintf(bytes, len, c"%.*g".as_ptr(), digits, value)
        })
    }

    /// A double by `format`, which has one conversion, for a double.
    ///
    /// # Safety
    /// It has.
    pub(super) unsafe fn double(format: &CStr, value: f64) -> Printed {
        // SAFETY: promised by the caller.
        Printed::with(|bytes, len| unsafe { libc::snprintf(bytes, len, format.as_ptr(), value) })
    }

    /// An integer by `format`, which has one conversion, for a long.
    ///
    /// # Safety
    /// It has.
    pub(super) unsafe fn integer(format: &CStr, value: i64) -> Printed {
        // SAFETY: promised by the caller.
        Printed::with(|bytes, len| unsafe { libc::snprintf(bytes, len, format.as_ptr(), value) })
    }

    fn with(print: impl FnOnce(*mut libc::c_char, usize) -> libc::c_int) -> Printed {
        let mut bytes = [0; Printed::CAPACITY];
        let len = print(bytes.as_mut_ptr().cast(), bytes.len());
        // Whatever does not fit is cut by printf.
        let len = usize::try_from(len).unwrap_or(0).min(bytes.len() - 1);
        Printed { bytes, len }
    }
}

impl Deref for Printed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The number that `text` begins with, as `strtod` reads it, and its length; no
/// length when there is none.
pub(super) fn parse_prefix(text: &[u8]) -> (f64, usize) {
    // A copy that ends in a zero: most numbers fit the stack.
    let mut short = [0_u8; 64];
    let len = text.iter().position(|it| !is_numeric(*it)).unwrap_or(text.len());
    if len < short.len() {
        short[..len].copy_from_slice(&text[..len]);
        return parse_terminated(&short);
    }
    let mut long = text[..len].to_vec();
    long.push(0);
    parse_terminated(&long)
}

/// Whatever may stand in a number: digits, signs, `0x`, `inf`, `nan`, exponents.
fn is_numeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn parse_terminated(text: &[u8]) -> (f64, usize) {
    debug_assert!(text.contains(&0), "strtod stops at the zero");
    let mut end = std::ptr::null_mut();
    // SAFETY: the text ends in a zero byte, and `end` points into it.
    unsafe {
        let start = text.as_ptr().cast::<libc::c_char>();
        let value = libc::strtod(start, &raw mut end);
        (value, end.offset_from(start).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_number_at_the_start_is_read() {
        let cases: [(&str, f64, usize); 7] = [
            ("12,", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e", 1.0, 1),
            ("0x10", 16.0, 4),
            ("infinity!", f64::INFINITY, 8),
            ("-", 0.0, 0),
            ("", 0.0, 0),
        ];
        for (text, value, len) in cases {
            assert_eq!(parse_prefix(text.as_bytes()), (value, len), "{text:?}");
        }
        assert_eq!(parse_prefix("9".repeat(300).as_bytes()), (1e300, 300));
    }
}
