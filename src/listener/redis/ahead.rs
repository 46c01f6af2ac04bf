//! Requests found ahead of their turn, as many as have come: what one of them needs
//! of the keyspace is then fetched beside what the others need.
//!
//! What changes how bytes are read (`AUTH`, `HELLO`, `CONFIG SET`) has run before the
//! next request is looked for: a command of the door ends the look ahead.

use std::ops::Range;

use super::directory::{self, Entry, NotFound};
use crate::keyspace::{Command, Run};
use crate::resp::request::{Args, Found, ProtocolError, Requests, Words};

/// Requests that are found at once.
const AHEAD_MAX: usize = 16;

/// Words, and bytes of inline ones, for which memory is kept.
const KEPT_MAX: usize = 1024;

/// A request whose turn has yet to come.
#[derive(Debug)]
pub struct Request {
    /// What it names.
    pub entry: Result<&'static Entry, NotFound>,
    /// Its words, among all.
    words: Range<usize>,
    is_inline: bool,
    /// Where it ends in the input that was looked at.
    pub end: usize,
}

/// What a look ahead has found. Kept from one look to the next for its memory.
#[derive(Debug)]
pub struct Ahead {
    /// Whole requests.
    pub requests: Vec<Request>,
    /// Where the words of all of them lie: in the input, those of inline ones in
    /// `inline`.
    words: Vec<Range<usize>>,
    inline: Vec<u8>,
    /// Where they end, and what is passed over behind them.
    pub end: usize,
    /// What follows.
    pub rest: Result<Rest, ProtocolError>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        let requests = Vec::with_capacity(AHEAD_MAX);
        let rest = Ok(Rest::Incomplete);
        Ahead { requests, words: Vec::new(), inline: Vec::new(), end: 0, rest }
    }
}

/// What follows the requests that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Perhaps more of them.
    Unseen,
    /// At most the beginning of one.
    Incomplete,
}

impl Request {
    /// True if the next one is read as this one was, whatever this one does.
    fn leaves_reading_alone(&self) -> bool {
        self.entry.is_ok_and(|entry| !matches!(entry.command.run, Run::Door))
    }
}

impl Ahead {
    /// Finds requests at the start of `input`; what was found before is forgotten.
    pub fn look(&mut self, finder: &mut Requests, input: &[u8]) {
        self.requests.clear();
        self.words.clear();
        self.words.shrink_to(KEPT_MAX);
        self.inline.clear();
        self.inline.shrink_to(KEPT_MAX);
        self.end = 0;
        self.rest = loop {
            let begin = self.end;
            match finder.next(&input[begin..]) {
                Ok(Found::Command { len }) => self.end += len,
                Ok(Found::Nothing { len }) => {
                    self.end += len;
                    continue;
                }
                Ok(Found::Incomplete) => break Ok(Rest::Incomplete),
                Err(error) => break Err(error),
            }
            let request = self.note(finder.words(), input, begin);
            let is_last = self.requests.len() + 1 == AHEAD_MAX || !request.leaves_reading_alone();
            self.requests.push(request);
            if is_last {
                break Ok(Rest::Unseen);
            }
        };
    }

    /// Notes a request that begins here in the input.
    fn note(&mut self, words: Words<'_>, input: &[u8], begin: usize) -> Request {
        let (bytes, offset) = match words.text {
            Some(text) => {
                self.inline.extend_from_slice(text);
                (text, self.inline.len() - text.len())
            }
            None => (&input[begin..], begin),
        };
        let word = |place: usize| words.ranges.get(place).map(|range| &bytes[range.clone()]);
        let entry = directory::find_by(word(0), word(1));
        let first = self.words.len();
        let moved = |it: &Range<usize>| it.start + offset..it.end + offset;
        self.words.extend(words.ranges.iter().map(moved));
        let is_inline = words.text.is_some();
        Request { entry, words: first..self.words.len(), is_inline, end: self.end }
    }

    /// What the words of a request lie in, and where.
    fn words(&self, request: &Request) -> Words<'_> {
        let text = request.is_inline.then_some(&*self.inline);
        Words { text, ranges: &self.words[request.words.clone()] }
    }

    /// The words of a request, which lie in the input that was looked at.
    pub fn args<'a>(&'a self, request: &Request, input: &'a [u8]) -> Args<'a> {
        self.words(request).of(input)
    }

    /// The keys that the requests name.
    pub fn keys<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.requests.iter().flat_map(move |request| {
            let command = request.entry.ok().map(|entry| entry.command);
            let sole = command.and_then(Command::sole_key_place);
            let args = match sole {
                Some(_) => Args::new(),
                None => self.args(request, input),
            };
            let words = self.words(request);
            let places = command.filter(|_| sole.is_none()).map(|it| it.key_places(&args));
            sole.into_iter()
                .chain(places.into_iter().flatten())
                .filter_map(move |at| words.get(at, input))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::RequestLimits;

    /// What a look finds: each request's words, the keys of all, what is left, and if
    /// more may be there.
    fn check(input: &str, requests: &[&str], keys: &str, left: &str, rest: Rest) {
        let (mut ahead, input) = (Ahead::default(), input.as_bytes());
        ahead.look(&mut Requests::new(RequestLimits::REDIS), input);
        let join = |words: &[&[u8]]| String::from_utf8(words.join(&b' ')).unwrap();
        let found: Vec<String> =
            ahead.requests.iter().map(|it| join(&ahead.args(it, input))).collect();
        assert_eq!(found, requests);
        assert_eq!(join(&ahead.keys(input).collect::<Vec<_>>()), keys);
        assert_eq!(input[ahead.end..].escape_ascii().to_string(), left);
        assert_eq!(ahead.rest, Ok(rest));
    }

    #[test]
    fn requests_are_found_until_the_input_ends_within_one() {
        check("", &[], "", "", Rest::Incomplete);
        check("GET a\r\n\r\nSET", &["GET a"], "a", "SET", Rest::Incomplete);
        check(
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\nMSET b 1 c 2\r\n*1\r\n$4\r\nPI",
            &["GET a", "MSET b 1 c 2"],
            "a b c",
            "*1\\r\\n$4\\r\\nPI",
            Rest::Incomplete,
        );
    }

    #[test]
    fn nothing_is_found_behind_what_changes_how_bytes_are_read() {
        for line in ["AUTH x", "HELLO 3", "CONFIG SET a b", "nosuch", "CLIENT nosuch"] {
            let input = format!("GET a\r\n{line}\r\nGET b\r\n");
            check(&input, &["GET a", line], "a", "GET b\\r\\n", Rest::Unseen);
        }
    }

    #[test]
    fn a_look_finds_a_bounded_number() {
        let input = "GET a\r\n".repeat(AHEAD_MAX + 1);
        let keys = ["a"; AHEAD_MAX].join(" ");
        check(&input, &["GET a"; AHEAD_MAX], &keys, "GET a\\r\\n", Rest::Unseen);
    }
}
