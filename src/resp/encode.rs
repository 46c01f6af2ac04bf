//! Writing commands and frames.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\na\r\n        a command: an array of bulk strings
//! ```

use super::number::{NumberText, whole};

/// Appends a command: an array of bulk strings.
pub fn command<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    array_header(args.len(), out);
    for arg in args {
        bulk(arg.as_ref(), out);
    }
}

/// Appends the header of an array of `len` frames.
pub fn array_header(len: usize, out: &mut Vec<u8>) {
    header(b'*', len, out);
}

/// Appends a bulk string.
#[inline]
pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + FRAMING_BYTES_MAX);
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number as the text of a bulk string, as C prints it with `%.17g`.
pub fn bulk_double(value: f64, out: &mut Vec<u8>) {
    match whole(value) {
        Some(whole) => bulk(itoa::Buffer::new().format(whole).as_bytes(), out),
        None => bulk(&NumberText::double(value), out),
    }
}

/// A type byte, twenty digits, and two line ends.
const FRAMING_BYTES_MAX: usize = 25;

/// Appends a type byte, a length and the end of the line. Nearly every length
/// has one digit or two, and those are written as one array.
#[inline]
pub(super) fn header(kind: u8, len: usize, out: &mut Vec<u8>) {
    match len {
        0..10 => out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']),
        10..100 => {
            let (tens, ones) = (b'0' + (len / 10) as u8, b'0' + (len % 10) as u8);
            out.extend_from_slice(&[kind, tens, ones, b'\r', b'\n']);
        }
        _ => {
            out.push(kind);
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&["SET", "key", "a value of 20 bytes."], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$20\r\na value of 20 bytes.\r\n");
    }

    #[test]
    fn lengths_of_any_size_are_written() {
        for (len, expected) in [(0, "$0"), (9, "$9"), (10, "$10"), (99, "$99"), (100, "$100")] {
            let mut out = Vec::new();
            bulk(&vec![b'x'; len], &mut out);
            assert_eq!(out, format!("{expected}\r\n{}\r\n", "x".repeat(len)).into_bytes());
        }
    }
}
