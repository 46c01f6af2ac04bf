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
pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a type byte, a length and the end of the line.
pub(super) fn header(kind: u8, len: usize, out: &mut Vec<u8>) {
    out.push(kind);
    if len < 10 {
        out.push(b'0' + len as u8);
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
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
}
