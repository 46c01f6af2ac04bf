//! Writing commands and frames.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\na\r\n        a command: an array of bulk strings
//! ```

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

/// A type byte, twenty digits, and two line ends.
const FRAMING_BYTES_MAX: usize = 25;

/// Appends a type byte, a length and the end of the line.
#[inline]
pub(super) fn header(kind: u8, len: usize, out: &mut Vec<u8>) {
    let mut line = [0; FRAMING_BYTES_MAX];
    let mut writer = Writer::new(&mut line);
    writer.header(kind, len);
    let written = writer.written();
    out.extend_from_slice(&line[..written]);
}

/// Appends an integer's frame.
#[inline]
pub(super) fn integer(value: i64, out: &mut Vec<u8>) {
    let mut line = [0; FRAMING_BYTES_MAX];
    let mut writer = Writer::new(&mut line);
    writer.number_line(b':', value);
    let written = writer.written();
    out.extend_from_slice(&line[..written]);
}

/// Header lines of the lengths that occur all the time, and their own lengths.
/// The type byte is left blank.
static SHORT_LENGTHS: [([u8; 8], usize); 100] = {
    let mut lines = [(*b" 0\r\n    ", 4); 100];
    let mut len = 0;
    while len < lines.len() {
        let ones = b'0' + (len % 10) as u8;
        lines[len] = match len / 10 {
            0 => ([b' ', ones, b'\r', b'\n', 0, 0, 0, 0], 4),
            tens => ([b' ', b'0' + tens as u8, ones, b'\r', b'\n', 0, 0, 0], 5),
        };
        len += 1;
    }
    lines
};

/// Writes frames into bytes set aside for them.
///
/// A command of known size is written several times faster so than by appending
/// piece by piece to a `Vec`. Set aside [`Writer::room`] for each frame; writing
/// past the end panics.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, at: 0 }
    }

    /// The most bytes that a bulk string of `len` bytes, or an array header, takes.
    pub const fn room(len: usize) -> usize {
        len + FRAMING_BYTES_MAX
    }

    /// Bytes written.
    pub fn written(&self) -> usize {
        self.at
    }

    /// Writes the header of an array of `len` frames.
    #[inline]
    pub fn array_header(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// Writes a bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.put(bytes);
        self.put(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        if let Some((line, line_len)) = SHORT_LENGTHS.get(len) {
            // Eight bytes at once, of which the next write covers the surplus.
            let place = &mut self.bytes[self.at..self.at + line.len()];
            place.copy_from_slice(line);
            place[0] = kind;
            self.at += line_len;
        } else {
            self.number_line(kind, len);
        }
    }

    #[inline]
    fn number_line(&mut self, kind: u8, number: impl itoa::Integer) {
        self.put(&[kind]);
        self.put(itoa::Buffer::new().format(number).as_bytes());
        self.put(b"\r\n");
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.bytes[self.at..end].copy_from_slice(bytes);
        self.at = end;
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

            let mut set_aside = vec![0; Writer::room(len)];
            let mut writer = Writer::new(&mut set_aside);
            writer.bulk(&vec![b'x'; len]);
            let written = writer.written();
            assert_eq!(set_aside[..written], out);
        }
    }
}
