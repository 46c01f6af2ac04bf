//! Finding requests in what a client sends: commands as arrays of bulk strings,
//! or *inline*, a line of words as a person types them.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\na\r\n        an array
//! GET "a key"\r\n                      inline; the rules of quoting are Redis'
//! \r\n    *0\r\n    *-1\r\n            nothing: skipped
//! ```
//!
//! Every bound on what a stranger may make us hold is in [`RequestLimits`], and
//! what is said when one is passed in [`ProtocolError`], in Redis' words.
//!
//! Redis skips the two bytes after a bulk string unread; here they must be CR LF.

use std::ops::Range;

use smallvec::SmallVec;

use super::decode::{Decoded, Decoder, Fault, Limits, Malformed};

/// What a client may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments of one command, its name included.
    pub args_max: usize,
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Bytes of a command that has not come whole (`client-query-buffer-limit`).
    pub buffer_bytes_max: usize,
    /// Bytes of an inline command.
    pub inline_bytes_max: usize,
    /// True while the client has not said who it is: more is then refused in
    /// other words.
    pub is_stranger: bool,
}

impl RequestLimits {
    /// Redis' bounds for clients that may do something.
    pub const REDIS: RequestLimits = RequestLimits {
        args_max: i32::MAX as usize,
        bulk_bytes_max: 512 << 20,
        buffer_bytes_max: 1 << 30,
        inline_bytes_max: 64 << 10,
        is_stranger: false,
    };

    /// Redis' bounds for clients that have yet to authenticate: enough for that.
    pub const STRANGER: RequestLimits = RequestLimits {
        args_max: 10,
        bulk_bytes_max: 16 << 10,
        buffer_bytes_max: 1 << 20,
        inline_bytes_max: 64 << 10,
        is_stranger: true,
    };
}

/// What was found at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A command, which [`Requests::words`] gives; it took `len` bytes.
    Command {
        /// Bytes of the input that it took.
        len: usize,
    },
    /// An empty request; to be passed over without an answer.
    Nothing {
        /// Bytes of the input that it took.
        len: usize,
    },
    /// The input ends inside a request. Call again with more.
    Incomplete,
}

/// Bytes that are no request. The client is told, and its connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An inline command without an end.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooBig,
    /// A quote that is not closed, or is followed by something else than a blank.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The count of arguments is no number, or too large.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidCount,
    /// More arguments than a stranger may send.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    StrangersCount,
    /// The length of an argument is no number, or too large.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidLength,
    /// A longer argument than a stranger may send.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    StrangersLength,
    /// An argument does not begin with `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", shown(*.0))]
    ExpectedBulk(u8),
    /// A count without an end.
    #[error("ERR Protocol error: too big mbulk count string")]
    CountTooLong,
    /// A length without an end.
    #[error("ERR Protocol error: too big bulk count string")]
    LengthTooLong,
    /// The bytes after an argument are not CR LF.
    #[error("ERR Protocol error: expected CR LF after an argument")]
    ExpectedLineEnd,
    /// One command is larger than all a client may have us hold. Redis closes
    /// without a word; so do we.
    #[error("ERR Protocol error: too big request")]
    TooBig,
}

/// A byte as it may stand in an error line.
fn shown(byte: u8) -> char {
    if byte.is_ascii_control() { ' ' } else { char::from(byte) }
}

/// Finds one request after another. See the module's header.
#[derive(Clone, Debug)]
pub struct Requests {
    limits: RequestLimits,
    decoder: Decoder,
    /// The words of the command found last, if it was an inline one.
    inline: Option<InlineWords>,
    /// Bytes looked through for the end of an inline command.
    scanned: usize,
}

/// A command's name and its arguments.
pub type Args<'a> = SmallVec<[&'a [u8]; 16]>;

/// Where the words of a command lie: its name and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What the words of an inline command lie in, which are unquoted; those of
    /// others lie in the input.
    pub text: Option<&'a [u8]>,
    /// Where they lie.
    pub ranges: &'a [Range<usize>],
}

impl<'a> Words<'a> {
    /// The words themselves; the command lies at the start of `input`.
    pub fn of(self, input: &'a [u8]) -> Args<'a> {
        let bytes = self.text.unwrap_or(input);
        self.ranges.iter().map(|range| &bytes[range.clone()]).collect()
    }

    /// The word at this place.
    pub fn get(self, place: usize, input: &'a [u8]) -> Option<&'a [u8]> {
        let range = self.ranges.get(place)?;
        Some(&self.text.unwrap_or(input)[range.clone()])
    }
}

/// The words of an inline command, unquoted.
#[derive(Clone, Debug)]
struct InlineWords {
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Requests {
    /// Refuses what is over `limits`.
    pub fn new(limits: RequestLimits) -> Requests {
        let decoder = Decoder::new(limits.of_arrays());
        Requests { limits, decoder, inline: None, scanned: 0 }
    }

    /// Changes the limits, from the next request on.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        if self.limits != limits {
            self.limits = limits;
            self.decoder.set_limits(limits.of_arrays());
        }
    }

    /// Looks for one request at the start of `input`. After [`Found::Incomplete`]
    /// the next call must see the same bytes again, with more behind them.
    ///
    /// # Errors
    /// The bytes cannot become a request.
    pub fn next(&mut self, input: &[u8]) -> Result<Found, ProtocolError> {
        self.inline = None;
        match input {
            [] => return Ok(Found::Incomplete),
            [b'*', b'-' | b'0', ..] if self.decoder.is_fresh() => return skip_empty_array(input),
            [b'*', ..] => {}
            _ => return self.next_inline(input),
        }
        match self.decoder.decode(input) {
            Ok(Decoded::Command { len }) => Ok(Found::Command { len }),
            Ok(Decoded::Incomplete) if input.len() > self.limits.buffer_bytes_max => {
                Err(ProtocolError::TooBig)
            }
            Ok(Decoded::Incomplete) => Ok(Found::Incomplete),
            Err(malformed) => Err(self.explain(malformed, input)),
        }
    }

    /// The words of the command found last.
    pub fn words(&self) -> Words<'_> {
        match &self.inline {
            Some(inline) => Words { text: Some(&inline.text), ranges: &inline.ranges },
            None => Words { text: None, ranges: self.decoder.args() },
        }
    }

    /// Forgets what was seen: the next call looks at other bytes.
    pub fn rewind(&mut self) {
        self.decoder.reset();
        self.scanned = 0;
    }

    fn next_inline(&mut self, input: &[u8]) -> Result<Found, ProtocolError> {
        let Some(end) = memchr::memchr(b'\n', &input[self.scanned..]) else {
            self.scanned = input.len();
            if input.len() > self.limits.inline_bytes_max {
                return Err(ProtocolError::InlineTooBig);
            }
            return Ok(Found::Incomplete);
        };
        let end = self.scanned + end;
        self.scanned = 0;
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let inline = split_words(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        let len = end + 1;
        if inline.ranges.is_empty() {
            return Ok(Found::Nothing { len });
        }
        self.inline = Some(inline);
        Ok(Found::Command { len })
    }

    fn explain(&self, malformed: Malformed, input: &[u8]) -> ProtocolError {
        let is_stranger = self.limits.is_stranger;
        // A stranger hears of its own bounds where the number as such is fine.
        let is_at_most = |max: usize| {
            let rest = input.get(malformed.offset..).unwrap_or_default();
            let digits = rest.iter().take_while(|it| it.is_ascii_digit()).count();
            let digits = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
            digits.parse::<usize>().is_ok_and(|number| number <= max)
        };
        match malformed.what {
            Fault::InvalidCount if is_stranger && is_at_most(RequestLimits::REDIS.args_max) => {
                ProtocolError::StrangersCount
            }
            Fault::InvalidLength
                if is_stranger && is_at_most(RequestLimits::REDIS.bulk_bytes_max) =>
            {
                ProtocolError::StrangersLength
            }
            Fault::InvalidCount | Fault::ExpectedArray(_) => ProtocolError::InvalidCount,
            Fault::InvalidLength => ProtocolError::InvalidLength,
            Fault::ExpectedBulk(byte) => ProtocolError::ExpectedBulk(byte),
            Fault::LineTooLong if malformed.offset == 0 => ProtocolError::CountTooLong,
            Fault::LineTooLong => ProtocolError::LengthTooLong,
            Fault::ExpectedLineEnd => ProtocolError::ExpectedLineEnd,
            Fault::TooBig => ProtocolError::TooBig,
        }
    }
}

impl RequestLimits {
    fn of_arrays(self) -> Limits {
        Limits {
            args_max: self.args_max,
            bulk_bytes_max: self.bulk_bytes_max,
            command_bytes_max: self.buffer_bytes_max,
        }
    }
}

/// `*0` and `*-1` are requests of nothing; other texts that begin so are faults.
fn skip_empty_array(input: &[u8]) -> Result<Found, ProtocolError> {
    /// A type byte, twenty digits, and the line end.
    const LINE_BYTES_MAX: usize = 32;
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE_BYTES_MAX)]) else {
        return match input.len() < LINE_BYTES_MAX {
            true => Ok(Found::Incomplete),
            false => Err(ProtocolError::InvalidCount),
        };
    };
    let number = input[1..end].strip_suffix(b"\r").unwrap_or(&input[1..end]);
    let is_canonical = match number {
        b"0" => true,
        [b'-', b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if is_canonical {
        Ok(Found::Nothing { len: end + 1 })
    } else {
        Err(ProtocolError::InvalidCount)
    }
}

/// Splits a line into words. Within double quotes there are escapes (`\n`,
/// `\x41`), within single quotes only `\'`. `None` when a quote does not end
/// where a word does. A NUL ends the line.
fn split_words(line: &[u8]) -> Option<InlineWords> {
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let (mut text, mut ranges) = (Vec::with_capacity(line.len()), Vec::new());
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = text.len();
        rest = skip_blanks(take_word(rest, &mut text)?);
        ranges.push(start..text.len());
    }
    Some(InlineWords { text, ranges })
}

/// What `isspace` of C says.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn skip_blanks(rest: &[u8]) -> &[u8] {
    let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
    &rest[blanks..]
}

/// Moves one word, unquoted, to the end of `text`; returns what follows it.
fn take_word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return Some(rest),
            [byte, ..] if is_blank(*byte) => return Some(rest),
            [b'"', after @ ..] => take_double_quoted(after, text)?,
            [b'\'', after @ ..] => take_single_quoted(after, text)?,
            [byte, after @ ..] => {
                text.push(*byte);
                after
            }
        };
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return ends_word(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                text.push(digit(*high) << 4 | digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                text.push(*byte);
                after
            }
        };
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return ends_word(after),
            [b'\\', b'\'', after @ ..] => {
                text.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                text.push(*byte);
                after
            }
        };
    }
}

/// After a closing quote there is a blank, or nothing.
fn ends_word(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => None,
        _ => Some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in `input`, as words between `|`, and how it ended.
    fn read(limits: RequestLimits, input: &[u8]) -> String {
        let mut requests = Requests::new(limits);
        let (mut rest, mut found) = (input, Vec::new());
        loop {
            match requests.next(rest) {
                Ok(Found::Command { len }) => {
                    let words: Vec<String> = requests
                        .words()
                        .of(rest)
                        .iter()
                        .map(|it| it.escape_ascii().to_string())
                        .collect();
                    found.push(words.join("|"));
                    rest = &rest[len..];
                }
                Ok(Found::Nothing { len }) => rest = &rest[len..],
                Ok(Found::Incomplete) => return found.join(" ; "),
                Err(error) => {
                    found.push(error.to_string());
                    return found.join(" ; ");
                }
            }
        }
    }

    #[track_caller]
    fn check(input: &[u8], expected: &str) {
        assert_eq!(read(RequestLimits::REDIS, input), expected);
    }

    #[test]
    fn arrays_and_inline_commands_may_follow_one_another() {
        check(
            b"*1\r\n$4\r\nPING\r\nPING\r\nget a\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
            "PING ; PING ; get|a ; GET|a",
        );
        check(b"\r\n*0\r\n*-1\r\n*-5\r\n   \r\nping\r\n", "ping");
        check(b"PIN", "");
        check(b"*", "");
        check(b"*-", "");
    }

    #[test]
    fn inline_words_are_unquoted_as_redis_does() {
        check(b"set 'a b' \"c\\x41\\n\\q\"\r\n", "set|a b|cA\\nq");
        check(b"set 'it\\'s' \"\" ''\r\n", "set|it\\'s||");
        check(b"  set\tfoo\"bar\" x\r\n", "set|foobar|x");
        check(b"set \"a\\xZZ\"\r\n", "set|axZZ");
        check(b"get a\0 b\r\n", "get|a");
        check(b"\0\r\nping\r\n", "ping");
        for unbalanced in ["get \"a\r\n", "get 'a\r\n", "get \"a\"b\r\n", "get 'a'b\r\n"] {
            check(unbalanced.as_bytes(), "ERR Protocol error: unbalanced quotes in request");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_in_the_words_of_redis() {
        check(b"*x\r\n", "ERR Protocol error: invalid multibulk length");
        check(b"*0x\r\n", "ERR Protocol error: invalid multibulk length");
        check(b"*2147483648\r\n", "ERR Protocol error: invalid multibulk length");
        check(b"*1048577\r\n", "");
        check(b"*1\r\n:4\r\n", "ERR Protocol error: expected '$', got ':'");
        check(b"*1\r\n\r\n", "ERR Protocol error: expected '$', got ' '");
        for length in ["$-1", "$+3", "$03", "$1e3", "$536870913", "$"] {
            let input = format!("*1\r\n{length}\r\n");
            check(input.as_bytes(), "ERR Protocol error: invalid bulk length");
        }
        check(&[b'a'; 70_000], "ERR Protocol error: too big inline request");
        check(b"*1\r\n$4\r\nPINGxx", "ERR Protocol error: expected CR LF after an argument");
    }

    #[test]
    fn a_stranger_may_send_what_it_takes_to_authenticate() {
        let check = |input: &str, expected: &str| {
            assert_eq!(read(RequestLimits::STRANGER, input.as_bytes()), expected);
        };
        check("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n", "AUTH|x");
        check("*11\r\n", "ERR Protocol error: unauthenticated multibulk length");
        check("*1\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length");
        check("*x\r\n", "ERR Protocol error: invalid multibulk length");
        check("*1\r\n$x\r\n", "ERR Protocol error: invalid bulk length");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            read(RequestLimits::STRANGER, &bytes);
        }
    }
}
