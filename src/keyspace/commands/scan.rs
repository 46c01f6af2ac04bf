//! What `SCAN` and its kin have in common: cursors and options.

use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::error::CommandError;
use crate::keyspace::glob;
use crate::resp::Reply;

/// How many elements a step shows unless told, roughly.
const COUNT_DEFAULT: usize = 10;

/// Which elements a step shows, and roughly how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanOptions<'a> {
    /// At least 1.
    pub(super) count: usize,
    pattern: Option<Text<'a>>,
    type_name: Option<Text<'a>>,
}

impl<'a> ScanOptions<'a> {
    /// Reads `MATCH`, `COUNT` and, for keys, `TYPE`.
    pub(super) fn parse(
        args: &[Arg<'a>],
        takes_type: bool,
    ) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions { count: COUNT_DEFAULT, pattern: None, type_name: None };
        let (pairs, rest) = args.as_chunks::<2>();
        for [word, value] in pairs {
            if word.is_word("count") {
                let count = usize::try_from(value.integer()?).unwrap_or(0);
                options.count = count;
                if count == 0 {
                    return Err(CommandError::Syntax);
                }
            } else if word.is_word("match") {
                options.pattern = Some(value.text()).filter(|pattern| **pattern != *b"*");
            } else if takes_type && word.is_word("type") {
                options.type_name = Some(value.text());
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if rest.is_empty() { Ok(options) } else { Err(CommandError::Syntax) }
    }

    /// True if the pattern, where there is one, matches this name.
    pub(super) fn shows(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(&pattern, name))
    }

    /// True if this kind of value is wanted.
    pub(super) fn shows_type(&self, name: &str) -> bool {
        self.type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Reads a cursor as C's `strtoul` does, but for blanks before it.
pub(super) fn cursor(arg: Arg<'_>) -> Result<u64, CommandError> {
    let text = arg.text();
    let (is_negative, digits) = match &*text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|it| it.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or(CommandError::InvalidCursor)?;
    Ok(if is_negative { value.wrapping_neg() } else { value })
}

/// Answers with the next cursor and what a step over a collection shows.
pub(super) fn reply(reply: &mut Reply, cursor: u64, shown: &[Text<'_>]) {
    reply.array(2);
    reply.bulk_integer(cursor);
    reply.array(shown.len());
    shown.iter().for_each(|text| reply.bulk(text));
}
