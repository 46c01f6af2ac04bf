//! The body of a response, taken out of its framing.
//!
//! ```text
//! 5;ext=1\r\n hello \r\n    a chunk: its size in hexadecimal digits, its data
//! 0\r\n                     the last
//! X-Used: 9\r\n             trailers
//! \r\n
//! ```

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

/// Bytes of a chunk's size with its extensions, at most.
const SIZE_LINE_LEN_MAX: usize = 4 << 10;

/// Bytes of the trailers, and lines, at most.
const TRAILERS_LEN_MAX: usize = 16 << 10;
const TRAILER_COUNT_MAX: usize = 64;

/// Why a body ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The upstream closed the connection before the end.
    #[error("the body breaks off")]
    BrokenOff,
    /// What stands in the place of a chunk is none.
    #[error("a chunk is malformed")]
    Chunk,
    /// What follows the last chunk are no fields, or too many.
    #[error("the trailers are malformed")]
    Trailers,
}

/// How a body ends, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// With the chunk of size 0.
    Chunked(Chunk),
    /// With the connection.
    ToTheEnd,
}

/// What comes next of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of data.
    Data(u64),
    /// The end of a line, after the data.
    DataEnd,
    /// Trailers, and an empty line.
    Trailers,
}

impl Framing {
    /// In chunks, of which none has come.
    pub const CHUNKED: Framing = Framing::Chunked(Chunk::Size);

    /// Nothing is left.
    pub fn is_done(&self) -> bool {
        *self == Framing::Length(0)
    }

    /// How much is left, as far as that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Framing::Length(left) => SizeHint::with_exact(*left),
            Framing::Chunked(_) | Framing::ToTheEnd => SizeHint::default(),
        }
    }

    /// Takes the next piece from the bytes that have come; `None` if more must come
    /// first, or nothing is left.
    ///
    /// # Errors
    /// What comes is not in this framing.
    pub fn take(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame<Bytes>>, BadBody> {
        match self {
            Framing::Length(left) => Ok(take_data(left, bytes)),
            Framing::ToTheEnd => Ok(take_data(&mut u64::MAX.clone(), bytes)),
            Framing::Chunked(_) => self.take_chunked(bytes),
        }
    }

    fn take_chunked(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame<Bytes>>, BadBody> {
        while let Framing::Chunked(next) = self {
            match next {
                Chunk::Size => match take_size(bytes)? {
                    Some(0) => *next = Chunk::Trailers,
                    Some(size) => *next = Chunk::Data(size),
                    None => return Ok(None),
                },
                Chunk::Data(left) => {
                    let data = take_data(left, bytes);
                    if *left == 0 {
                        *next = Chunk::DataEnd;
                    }
                    return Ok(data);
                }
                Chunk::DataEnd => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        *next = Chunk::Size;
                    }
                    Some(_) => return Err(BadBody::Chunk),
                    None => return Ok(None),
                },
                Chunk::Trailers => {
                    let Some(trailers) = take_trailers(bytes)? else { return Ok(None) };
                    *self = Framing::Length(0);
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
            }
        }
        Ok(None)
    }

    /// The upstream has closed the connection.
    ///
    /// # Errors
    /// That was too early.
    pub fn end(&mut self) -> Result<(), BadBody> {
        match self {
            Framing::ToTheEnd | Framing::Length(0) => {
                *self = Framing::Length(0);
                Ok(())
            }
            Framing::Length(_) | Framing::Chunked(_) => Err(BadBody::BrokenOff),
        }
    }
}

/// Takes no more than is `left`.
fn take_data(left: &mut u64, bytes: &mut BytesMut) -> Option<Frame<Bytes>> {
    let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= len as u64;
    (len > 0).then(|| Frame::data(bytes.split_to(len).freeze()))
}

/// The line with the size of a chunk. A line ends with CR and LF, and has neither
/// elsewhere: an LF alone ends it for some readers and not for others.
fn take_size(bytes: &mut BytesMut) -> Result<Option<u64>, BadBody> {
    let Some(len) = memchr::memchr2(b'\r', b'\n', bytes) else {
        return if bytes.len() < SIZE_LINE_LEN_MAX { Ok(None) } else { Err(BadBody::Chunk) };
    };
    match bytes.get(len..len + 2) {
        Some(b"\r\n") => {}
        None if bytes[len] == b'\r' => return Ok(None),
        _ => return Err(BadBody::Chunk),
    }
    let line = &bytes[..len];
    let digits_len = line.iter().position(|it| !it.is_ascii_hexdigit()).unwrap_or(len);
    let (digits, rest) = line.split_at(digits_len);
    let is_extension = matches!(rest.trim_ascii_start().first(), None | Some(b';'));
    // Over 16 digits do not fit, whatever they are.
    let size = std::str::from_utf8(digits).ok().filter(|it| it.len() <= 16);
    let size = size.and_then(|it| u64::from_str_radix(it, 16).ok());
    let size = size.filter(|_| is_extension).ok_or(BadBody::Chunk)?;
    bytes.advance(len + 2);
    Ok(Some(size))
}

fn take_trailers(bytes: &mut BytesMut) -> Result<Option<HeaderMap>, BadBody> {
    let mut lines = [httparse::EMPTY_HEADER; TRAILER_COUNT_MAX];
    let parsed = httparse::parse_headers(bytes, &mut lines).map_err(|_| BadBody::Trailers)?;
    let httparse::Status::Complete((len, lines)) = parsed else {
        return if bytes.len() < TRAILERS_LEN_MAX { Ok(None) } else { Err(BadBody::Trailers) };
    };
    let mut trailers = HeaderMap::new();
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        let (Ok(name), Ok(value)) = (name, value) else { return Err(BadBody::Trailers) };
        trailers.append(name, value);
    }
    bytes.advance(len);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of a body that comes in pieces of `piece_len` bytes: its data, then
    /// its trailers, `…` if more must come, and what is left over.
    fn taken(mut framing: Framing, text: &[u8], piece_len: usize) -> Result<String, BadBody> {
        let (mut told, mut ahead) = (String::new(), BytesMut::new());
        for piece in text.chunks(piece_len) {
            ahead.extend_from_slice(piece);
            while !framing.is_done() {
                let Some(frame) = framing.take(&mut ahead)? else { break };
                match frame.into_data() {
                    Ok(data) => told += &String::from_utf8_lossy(&data),
                    Err(frame) => told += &format!("{:?}", frame.into_trailers().unwrap()),
                }
            }
        }
        if !framing.is_done() {
            told += "…";
        }
        Ok(told + &String::from_utf8_lossy(&ahead))
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, BadBody>) {
        for piece_len in [1, 2, 3, 7, 1_000_000] {
            let taken = taken(Framing::CHUNKED, text.as_bytes(), piece_len);
            assert_eq!(taken.as_deref(), expected.as_ref().map(|it| &**it), "{text:?} {piece_len}");
        }
    }

    #[test]
    fn chunks_give_their_data_however_they_come() {
        check("5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
        check("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", Ok("hello!"));
        check("00a;ext=\"1\"\r\n0123456789\r\n0 ; x\r\n\r\n", Ok("0123456789"));
        check("0\r\nX-Used: 9\r\n\r\n", Ok("{\"x-used\": \"9\"}"));
        check("5\r\nhello\r\n0\r\n", Ok("hello…"));
        check("5\r\nhel", Ok("hel…"));
    }

    #[test]
    fn what_could_be_two_sizes_is_none() {
        for line in [
            "",
            "x",
            "-1",
            "+1",
            "0x5",
            "5 5",
            "5\n",
            "5;a\nb",
            "5;a\rb",
            " 5",
            "5,5",
            "1_0",
            "10000000000000000",
            "00000000000000001",
        ] {
            check(&format!("{line}\r\nhello\r\n"), Err(BadBody::Chunk));
        }
        check("5\r\nhelloX\n0\r\n\r\n", Err(BadBody::Chunk));
        check("5\r\nhello0\r\n\r\n", Err(BadBody::Chunk));
        check(&format!("5;{}", "x".repeat(SIZE_LINE_LEN_MAX)), Err(BadBody::Chunk));
        check("0\r\nno field\r\n\r\n", Err(BadBody::Trailers));
        check(&format!("0\r\nA: {}", "x".repeat(TRAILERS_LEN_MAX)), Err(BadBody::Trailers));
    }

    #[test]
    fn a_body_that_breaks_off_is_not_whole() {
        assert_eq!(Framing::Length(1).end(), Err(BadBody::BrokenOff));
        assert_eq!(Framing::Chunked(Chunk::Size).end(), Err(BadBody::BrokenOff));
        assert_eq!(Framing::ToTheEnd.end(), Ok(()));
    }

    #[test]
    fn no_more_is_taken_than_belongs_to_the_body() {
        assert_eq!(taken(Framing::Length(3), b"abcde", 2).unwrap(), "abcde");
        let mut bytes = BytesMut::from("abcde");
        let frame = Framing::Length(3).take(&mut bytes).unwrap().unwrap();
        assert_eq!((frame.into_data().unwrap(), &bytes[..]), (Bytes::from("abc"), &b"de"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end_or_an_error(
            text in "([0-9a-fA-F]{0,3}|[ -~]{0,4}|\r|\n|\r\n|0\r\n\r\n){0,20}",
            piece_len in 1_usize..9,
        ) {
            let whole = taken(Framing::CHUNKED, text.as_bytes(), 1_000_000);
            prop_assert_eq!(whole, taken(Framing::CHUNKED, text.as_bytes(), piece_len));
        }
    }
}
