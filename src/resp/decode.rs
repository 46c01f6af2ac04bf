//! Finding commands in bytes: `*N` arrays of bulk strings, as requests and as
//! records of the log.
//!
//! The decoder copies nothing: it answers with the ranges of the arguments in
//! the input. It remembers where it stopped, so a command that arrives in many
//! pieces is looked at once. Each fault carries the offset of the byte that is
//! wrong, counted from the start of the command.
//!
//! A line may end in LF alone, as Redis allows in its log. The two bytes after a
//! bulk string must be CR LF: Redis skips them unread, and so misses damage.
//!
//! Not here: inline commands (`request`), and the `#` annotation lines of the log.

use std::ops::Range;

/// What a peer, or a file, may make us hold. One place for every bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one command, its name included.
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of one whole command.
    pub command_bytes_max: usize,
}

impl Limits {
    /// Bounds of what a keyspace records: those of strings. What was run once can be
    /// read again, however many arguments it had and whatever they come to.
    pub const RECORDS: Limits = Limits {
        args_max: i32::MAX as usize,
        bulk_bytes_max: 512 << 20,
        command_bytes_max: usize::MAX >> 1,
    };
}

/// Arguments for which memory is kept from one command to the next.
const KEPT_ARGS_MAX: usize = 1024;

/// A header line is a type byte, at most twenty digits and the line end.
const LINE_BYTES_MAX: usize = 32;

/// What was found at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One whole command; it took this many bytes.
    Command {
        /// Bytes from the start of the input to the end of the command.
        len: usize,
    },
    /// The input ends inside the command. Call again with more.
    Incomplete,
}

/// The input is not a command, and no further byte can make it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Malformed {
    /// Offset of the offending byte from the start of the command.
    pub offset: usize,
    /// What is wrong there.
    pub what: Fault,
}

/// What can be wrong with a command's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The first byte is not `*`.
    #[error("expected '*', got '{}'", .0.escape_ascii())]
    ExpectedArray(u8),
    /// An argument does not begin with `$`.
    #[error("expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// The count of arguments is no number, below one, or above the limit.
    #[error("invalid multibulk length")]
    InvalidCount,
    /// The length of an argument is no number, negative, or above the limit.
    #[error("invalid bulk length")]
    InvalidLength,
    /// A header line does not end where it must.
    #[error("too big count string")]
    LineTooLong,
    /// The bytes after an argument are not CR LF.
    #[error("expected CR LF after an argument")]
    ExpectedLineEnd,
    /// The arguments together are above the limit.
    #[error("command too big")]
    TooBig,
}

/// Decodes one command after another. See the module's header.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    args: Vec<Range<usize>>,
    /// Arguments still to come; `None` before the count was read.
    missing: Option<usize>,
    position: usize,
}

impl Decoder {
    /// A decoder that refuses what is over `limits`.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, args: Vec::new(), missing: None, position: 0 }
    }

    /// Looks for one command at the start of `input`. After
    /// [`Decoded::Incomplete`] the next call must see the same bytes again, with
    /// more behind them; after [`Decoded::Command`] it begins anew.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes cannot become a command. The decoder then
    /// begins anew, but the stream cannot be trusted further.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Malformed> {
        if self.missing == Some(0) {
            self.reset();
        }
        let decoded = self.resume(input);
        if decoded.is_err() {
            self.reset();
        }
        decoded
    }

    /// Where the arguments of the command found last lie in the input.
    pub fn args(&self) -> &[Range<usize>] {
        &self.args
    }

    /// True before the first byte of a command was seen.
    pub fn is_fresh(&self) -> bool {
        self.position == 0 || self.missing == Some(0)
    }

    /// Changes the limits, from the next argument on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Forgets a command of which only a part was seen.
    pub fn reset(&mut self) {
        self.args.clear();
        self.args.shrink_to(KEPT_ARGS_MAX);
        self.missing = None;
        self.position = 0;
    }

    fn resume(&mut self, input: &[u8]) -> Result<Decoded, Malformed> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match self.header(input, b'*')? {
                None => return Ok(Decoded::Incomplete),
                Some(count) if count == 0 || count > self.limits.args_max => {
                    return Err(Malformed { offset: 1, what: Fault::InvalidCount });
                }
                Some(count) => count,
            },
        };
        self.missing = Some(missing);
        while missing > 0 {
            let header_start = self.position;
            let Some(len) = self.header(input, b'$')? else {
                return Ok(Decoded::Incomplete);
            };
            if len > self.limits.bulk_bytes_max {
                return Err(Malformed { offset: header_start + 1, what: Fault::InvalidLength });
            }
            let (start, end) = (self.position, self.position + len);
            if end > self.limits.command_bytes_max {
                return Err(Malformed { offset: header_start, what: Fault::TooBig });
            }
            if input.len() < end + 2 {
                // The header is read again next time: it is at most 32 bytes.
                self.position = header_start;
                return Ok(Decoded::Incomplete);
            }
            if &input[end..end + 2] != b"\r\n" {
                return Err(Malformed { offset: end, what: Fault::ExpectedLineEnd });
            }
            self.args.push(start..end);
            self.position = end + 2;
            missing -= 1;
            self.missing = Some(missing);
        }
        Ok(Decoded::Command { len: self.position })
    }

    /// Reads `<kind><number>\r\n` at the position and moves behind it. `None`
    /// when the input ends before the line does.
    fn header(&mut self, input: &[u8], kind: u8) -> Result<Option<usize>, Malformed> {
        let rest = &input[self.position.min(input.len())..];
        let Some(&first) = rest.first() else { return Ok(None) };
        if first != kind {
            let what = match kind {
                b'*' => Fault::ExpectedArray(first),
                _ => Fault::ExpectedBulk(first),
            };
            return Err(Malformed { offset: self.position, what });
        }
        if let Some((number, len)) = plain_line(rest) {
            self.position += len;
            return Ok(Some(number));
        }
        let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
        let Some(line_end) = memchr::memchr(b'\n', window) else {
            if window.len() == LINE_BYTES_MAX {
                return Err(Malformed { offset: self.position, what: Fault::LineTooLong });
            }
            return Ok(None);
        };
        let digits = &window[1..line_end];
        let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
        let Some(number) = parse_length(digits) else {
            let what = match kind {
                b'*' => Fault::InvalidCount,
                _ => Fault::InvalidLength,
            };
            return Err(Malformed { offset: self.position + 1, what });
        };
        self.position += line_end + 1;
        Ok(Some(number))
    }
}

/// The number of a line as nearly all are, and the bytes of that line: a type byte, up
/// to three digits, CR LF. `None` for any other, which is then looked at closely.
fn plain_line(rest: &[u8]) -> Option<(usize, usize)> {
    let value = |digit: u8| usize::from(digit - b'0');
    match *rest {
        [_, a @ b'0'..=b'9', b'\r', b'\n', ..] => Some((value(a), 4)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Some((10 * value(a) + value(b), 5))
        }
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Some((100 * value(a) + 10 * value(b) + value(c), 6))
        }
        _ => None,
    }
}

fn parse_length(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 18 || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    digits.iter().try_fold(0usize, |number, &digit| {
        digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    const LIMITS: Limits = Limits { args_max: 4, bulk_bytes_max: 16, command_bytes_max: 64 };

    #[track_caller]
    fn check(input: &[u8], expected: Result<Option<&[&[u8]]>, Malformed>) {
        let mut decoder = Decoder::new(LIMITS);
        let decoded = decoder.decode(input);
        match (decoded, expected) {
            (Ok(Decoded::Incomplete), Ok(None)) => {}
            (Ok(Decoded::Command { .. }), Ok(Some(args))) => {
                let found: Vec<&[u8]> =
                    decoder.args().iter().map(|range| &input[range.clone()]).collect();
                assert_eq!(found, args);
            }
            (decoded, expected) => assert_eq!(decoded.err(), expected.err(), "{decoded:?}"),
        }
    }

    fn malformed(
        offset: usize,
        what: Fault,
    ) -> Result<Option<&'static [&'static [u8]]>, Malformed> {
        Err(Malformed { offset, what })
    }

    #[test]
    fn commands_and_faults_are_told_apart() {
        check(b"", Ok(None));
        check(b"*1\r\n$4\r\nPING\r\n", Ok(Some(&[b"PING"])));
        check(b"*1\r\n$4\r\nPING\r\n*1\r\n", Ok(Some(&[b"PING"])));
        check(b"*2\n$3\nGET\r\n$0\n\r\n", Ok(Some(&[b"GET", b""])));
        check(b"*1\r\n$4\r\nPING\r", Ok(None));
        check(b"*0\r\n", malformed(1, Fault::InvalidCount));
        check(b"*-1\r\n", malformed(1, Fault::InvalidCount));
        check(b"*5\r\n", malformed(1, Fault::InvalidCount));
        check(b"*x\r\n", malformed(1, Fault::InvalidCount));
        check(b"PING\r\n", malformed(0, Fault::ExpectedArray(b'P')));
        check(b"\0\0\0", malformed(0, Fault::ExpectedArray(0)));
        check(b"*1\r\n:4\r\n", malformed(4, Fault::ExpectedBulk(b':')));
        check(b"*1\r\n$-1\r\n", malformed(5, Fault::InvalidLength));
        check(b"*1\r\n$17\r\n", malformed(5, Fault::InvalidLength));
        check(b"*1\r\n$4\r\nPINGxx", malformed(12, Fault::ExpectedLineEnd));
        check(&[b'*'; 40], malformed(0, Fault::LineTooLong));
        check(&[b"*".as_slice(), &[b'1'; 40]].concat(), malformed(0, Fault::LineTooLong));
    }

    proptest::proptest! {
        #[test]
        fn a_command_is_found_however_it_is_cut(
            args in proptest::collection::vec(proptest::collection::vec(0u8.., 0..40), 1..8),
            step in 1usize..20,
        ) {
            let mut bytes = Vec::new();
            encode::command(&args, &mut bytes);
            let mut decoder = Decoder::new(Limits::RECORDS);
            let mut seen = 0;
            let len = loop {
                match decoder.decode(&bytes[..seen]).unwrap() {
                    Decoded::Command { len } => break len,
                    Decoded::Incomplete => seen = (seen + step).min(bytes.len()),
                }
            };
            proptest::prop_assert_eq!(len, bytes.len());
            let found: Vec<&[u8]> = decoder.args().iter().map(|it| &bytes[it.clone()]).collect();
            proptest::prop_assert_eq!(found, args);
        }

        #[test]
        fn a_line_is_read_alike_quickly_and_closely(line in "[$][0-9-]{0,12}\r?\n?") {
            let digits = line[1..].trim_end_matches(['\r', '\n']);
            if let Some((number, len)) = plain_line(line.as_bytes()) {
                proptest::prop_assert_eq!(len, line.len());
                proptest::prop_assert_eq!(Some(number), parse_length(digits.as_bytes()));
            } else {
                let is_short = (1..=3).contains(&digits.len()) && line.ends_with("\r\n");
                proptest::prop_assert!(!is_short || parse_length(digits.as_bytes()).is_none());
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let mut decoder = Decoder::new(LIMITS);
            let _ = decoder.decode(&bytes);
        }
    }
}
