//! The reply of one command or Function, flat.
//!
//! Nodes stand in wire order, texts in one arena beside them. A reply is cleared
//! and filled again, so a warm one allocates nothing. Aggregates state how many
//! children follow them; the writer keeps that promise.
//!
//! ```text
//! *2 [ :1  $2 ab ]      nodes: Array(2) Integer(1) Bulk(0..2)      arena: ab
//! ```
//!
//! A reply knows nothing of the protocol until [`Reply::encode`]: what RESP2 does
//! not have (doubles, maps, sets, booleans) becomes there what Redis makes of it.

use std::ops::Deref;

use super::encode::{bulk, header, integer};
use super::number::NumberText;

/// Which version of the protocol a peer speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// One reply, as a list of nodes. See the module's header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    nodes: Vec<Node>,
    arena: Vec<u8>,
    is_overfull: bool,
}

/// Bytes that all texts of a reply may have; nodes name their places in 32 bits.
const ARENA_BYTES_MAX: usize = if cfg!(test) { 32 << 20 } else { u32::MAX as usize };

/// Bytes of texts, and nodes, for which a reply that is cleared keeps memory.
const KEPT_BYTES_MAX: usize = 1 << 20;
const KEPT_NODES_MAX: usize = 64 << 10;

/// A place in a reply, to go back to or to fill in later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    node_count: u32,
    arena_len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Status(Text),
    Error(Text),
    Integer(i64),
    Double(f64),
    Bulk(Text),
    Verbatim(Text),
    BigNumber(Text),
    Null,
    NullArray,
    Boolean(bool),
    Array(u32),
    Set(u32),
    Map(u32),
    Pairs(u32),
    Push(u32),
}

/// Where a text lies in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Text {
    start: u32,
    len: u32,
}

/// One node of a reply, to be read.
#[derive(Clone, Debug)]
pub enum View<'a> {
    /// `+OK`.
    Status(&'a [u8]),
    /// `-ERR …`, without the dash.
    Error(&'a [u8]),
    /// `:1`.
    Integer(i64),
    /// `,1.5`; a bulk string in RESP2.
    Double(f64),
    /// `$2 ab`.
    Bulk(&'a [u8]),
    /// `=`: three letters of format, a colon, the text. RESP2 sees the text.
    Verbatim(&'a [u8]),
    /// `(`; a bulk string in RESP2.
    BigNumber(&'a [u8]),
    /// No value: `_`, or `$-1` in RESP2.
    Null,
    /// No array: `_`, or `*-1` in RESP2.
    NullArray,
    /// `#t`; `:1` in RESP2.
    Boolean(bool),
    /// An array, or a push.
    Array(Items<'a>),
    /// A set; an array in RESP2.
    Set(Items<'a>),
    /// Keys and values in turn; a flat array in RESP2.
    Map(Items<'a>),
    /// Members and scores in turn: an array of arrays of two in RESP3, a flat
    /// array in RESP2.
    Pairs(Items<'a>),
}

impl Reply {
    /// An empty reply.
    pub fn new() -> Reply {
        Reply::default()
    }

    /// Forgets everything but the memory, and that too if it is much.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.nodes.shrink_to(KEPT_NODES_MAX);
        self.arena.clear();
        self.arena.shrink_to(KEPT_BYTES_MAX);
        self.is_overfull = false;
    }

    /// True if more was written than a reply can hold: texts are missing, and it must
    /// not be sent.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Writes a status line. Line ends in it become blanks.
    pub fn status(&mut self, text: &str) {
        let text = self.line(text.as_bytes());
        self.nodes.push(Node::Status(text));
    }

    /// Writes an error line: a code, a blank, a text. Line ends become blanks.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// Writes an error line that need not be UTF-8, as Lua may raise.
    pub fn error_bytes(&mut self, text: &[u8]) {
        let text = self.line(text);
        self.nodes.push(Node::Error(text));
    }

    /// Writes a status line that need not be UTF-8, as Lua may return.
    pub fn status_bytes(&mut self, text: &[u8]) {
        let text = self.line(text);
        self.nodes.push(Node::Status(text));
    }

    /// Writes an integer.
    pub fn integer(&mut self, value: i64) {
        self.nodes.push(Node::Integer(value));
    }

    /// Writes a count. No collection in memory has more than `i64::MAX` entries.
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Writes a double.
    pub fn double(&mut self, value: f64) {
        self.nodes.push(Node::Double(value));
    }

    /// Writes a bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        let text = self.text(bytes);
        self.nodes.push(Node::Bulk(text));
    }

    /// Writes a bulk string of `len` bytes that stands elsewhere in pieces.
    pub fn bulk_pieces<T: Deref<Target = [u8]>>(
        &mut self,
        len: usize,
        pieces: impl Iterator<Item = T>,
    ) {
        let mut text = self.text(b"");
        if text.start as usize + len <= ARENA_BYTES_MAX {
            self.arena.reserve(len);
        }
        pieces.for_each(|piece| text.len += self.text(&piece).len);
        debug_assert!(text.len as usize == len || self.is_overfull, "the pieces are all of it");
        self.nodes.push(Node::Bulk(text));
    }

    /// Writes a bulk string with the text of an integer.
    pub fn bulk_integer(&mut self, value: u64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes a verbatim string: `format` is three letters, `txt` or `mkd`.
    pub fn verbatim(&mut self, format: [u8; 3], bytes: &[u8]) {
        let mut text = self.text(&format);
        self.arena.push(b':');
        text.len += 1 + self.text(bytes).len;
        self.nodes.push(Node::Verbatim(text));
    }

    /// Writes a number too big for an integer, as decimal text.
    pub fn big_number(&mut self, digits: &[u8]) {
        let text = self.line(digits);
        self.nodes.push(Node::BigNumber(text));
    }

    /// Writes the absence of a value.
    pub fn null(&mut self) {
        self.nodes.push(Node::Null);
    }

    /// Writes the absence of an array.
    pub fn null_array(&mut self) {
        self.nodes.push(Node::NullArray);
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, value: bool) {
        self.nodes.push(Node::Boolean(value));
    }

    /// Begins an array; the next `len` writes are its children.
    pub fn array(&mut self, len: usize) {
        self.nodes.push(Node::Array(len as u32));
    }

    /// Begins a set; the next `len` writes are its children.
    pub fn set(&mut self, len: usize) {
        self.nodes.push(Node::Set(len as u32));
    }

    /// Begins a map; the next `2 * pairs` writes are keys and values in turn.
    pub fn map(&mut self, pairs: usize) {
        self.nodes.push(Node::Map(pairs as u32));
    }

    /// Begins a push, which answers no request; the next `len` writes are its
    /// children.
    pub fn push(&mut self, len: usize) {
        self.nodes.push(Node::Push(len as u32));
    }

    /// Begins a list of pairs; the next `2 * pairs` writes are its parts, none
    /// of them an aggregate.
    pub fn pairs(&mut self, pairs: usize) {
        self.nodes.push(Node::Pairs(pairs as u32));
    }

    /// Begins an array whose length is not yet known: write the children, then
    /// call [`Reply::close_array`] with what this returned.
    pub fn open_array(&mut self) -> Mark {
        let mark = self.mark();
        self.array(0);
        mark
    }

    /// States the length of an array begun with [`Reply::open_array`].
    pub fn close_array(&mut self, mark: Mark, len: usize) {
        if let Some(node) = self.nodes.get_mut(mark.node_count as usize) {
            debug_assert_eq!(*node, Node::Array(0), "closes what was opened");
            *node = Node::Array(len as u32);
        }
    }

    /// Begins a set whose length is not yet known; [`Reply::close_set`] ends it.
    pub fn open_set(&mut self) -> Mark {
        let mark = self.mark();
        self.set(0);
        mark
    }

    /// States the length of a set begun with [`Reply::open_set`].
    pub fn close_set(&mut self, mark: Mark, len: usize) {
        if let Some(node) = self.nodes.get_mut(mark.node_count as usize) {
            debug_assert_eq!(*node, Node::Set(0), "closes what was opened");
            *node = Node::Set(len as u32);
        }
    }

    /// Begins a map whose length is not yet known; [`Reply::close_map`] ends it.
    pub fn open_map(&mut self) -> Mark {
        let mark = self.mark();
        self.map(0);
        mark
    }

    /// States how many pairs a map has that was begun with [`Reply::open_map`].
    pub fn close_map(&mut self, mark: Mark, pairs: usize) {
        if let Some(node) = self.nodes.get_mut(mark.node_count as usize) {
            debug_assert_eq!(*node, Node::Map(0), "closes what was opened");
            *node = Node::Map(pairs as u32);
        }
    }

    /// The present end, to come back to with [`Reply::truncate`].
    pub fn mark(&self) -> Mark {
        Mark { node_count: self.nodes.len() as u32, arena_len: self.arena.len() as u32 }
    }

    /// Forgets what was written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.nodes.truncate(mark.node_count as usize);
        self.arena.truncate(mark.arena_len as usize);
    }

    /// The reply, to be read. An empty one reads as [`View::Null`].
    pub fn view(&self) -> View<'_> {
        self.view_at(0)
    }

    /// The line of the error that was written at `mark`, if it was one.
    pub fn error_at(&self, mark: Mark) -> Option<&[u8]> {
        match self.nodes.get(mark.node_count as usize) {
            Some(Node::Error(text)) => Some(self.bytes(*text)),
            _ => None,
        }
    }

    /// Appends the reply's bytes to `out`.
    pub fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        // Parts of a list of pairs that are still to come.
        let mut pair_parts: u64 = 0;
        for node in &self.nodes {
            if pair_parts > 0 {
                if pair_parts.is_multiple_of(2) {
                    out.extend_from_slice(b"*2\r\n");
                }
                pair_parts -= 1;
            }
            match (protocol, *node) {
                (Protocol::Resp3, Node::Pairs(pairs)) => {
                    header(b'*', pairs as usize, out);
                    pair_parts = 2 * u64::from(pairs);
                }
                (Protocol::Resp2, node) => self.encode_resp2(node, out),
                (Protocol::Resp3, node) => self.encode_resp3(node, out),
            }
        }
    }

    fn encode_resp2(&self, node: Node, out: &mut Vec<u8>) {
        match node {
            Node::Double(value) => bulk(&NumberText::double(value), out),
            Node::BigNumber(text) => bulk(self.bytes(text), out),
            Node::Verbatim(text) => bulk(self.bytes(text).get(4..).unwrap_or_default(), out),
            Node::Null => out.extend_from_slice(b"$-1\r\n"),
            Node::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Node::Boolean(value) => {
                out.extend_from_slice(if value { b":1\r\n" } else { b":0\r\n" })
            }
            Node::Set(len) | Node::Push(len) => header(b'*', len as usize, out),
            Node::Map(pairs) | Node::Pairs(pairs) => header(b'*', 2 * pairs as usize, out),
            Node::Status(_)
            | Node::Error(_)
            | Node::Integer(_)
            | Node::Bulk(_)
            | Node::Array(_) => {
                self.encode_resp3(node, out);
            }
        }
    }

    /// Nodes that both versions have look alike in both.
    fn encode_resp3(&self, node: Node, out: &mut Vec<u8>) {
        match node {
            Node::Status(text) => line(b'+', self.bytes(text), out),
            Node::Error(text) => line(b'-', self.bytes(text), out),
            Node::Integer(value) => integer(value, out),
            Node::Double(value) => line(b',', &NumberText::double(value), out),
            Node::BigNumber(text) => line(b'(', self.bytes(text), out),
            Node::Bulk(text) => bulk(self.bytes(text), out),
            Node::Verbatim(text) => {
                header(b'=', text.len as usize, out);
                out.extend_from_slice(self.bytes(text));
                out.extend_from_slice(b"\r\n");
            }
            Node::Null | Node::NullArray => out.extend_from_slice(b"_\r\n"),
            Node::Boolean(value) => {
                out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" })
            }
            Node::Array(len) | Node::Pairs(len) => header(b'*', len as usize, out),
            Node::Set(len) => header(b'~', len as usize, out),
            Node::Map(pairs) => header(b'%', pairs as usize, out),
            Node::Push(len) => header(b'>', len as usize, out),
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Text {
        let start = self.arena.len();
        if start + bytes.len() > ARENA_BYTES_MAX {
            self.is_overfull = true;
            return Text { start: 0, len: 0 };
        }
        self.arena.extend_from_slice(bytes);
        Text { start: start as u32, len: bytes.len() as u32 }
    }

    /// A text that must stay on one line of the wire.
    fn line(&mut self, bytes: &[u8]) -> Text {
        let text = self.text(bytes);
        for byte in &mut self.arena[text.start as usize..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        text
    }

    fn bytes(&self, text: Text) -> &[u8] {
        &self.arena[text.start as usize..][..text.len as usize]
    }

    fn view_at(&self, at: usize) -> View<'_> {
        let Some(&node) = self.nodes.get(at) else { return View::Null };
        let items = |len: u32| Items { reply: self, at: at + 1, remaining: len as usize };
        match node {
            Node::Status(text) => View::Status(self.bytes(text)),
            Node::Error(text) => View::Error(self.bytes(text)),
            Node::Integer(value) => View::Integer(value),
            Node::Double(value) => View::Double(value),
            Node::Bulk(text) => View::Bulk(self.bytes(text)),
            Node::Verbatim(text) => View::Verbatim(self.bytes(text)),
            Node::BigNumber(text) => View::BigNumber(self.bytes(text)),
            Node::Null => View::Null,
            Node::NullArray => View::NullArray,
            Node::Boolean(value) => View::Boolean(value),
            Node::Array(len) | Node::Push(len) => View::Array(items(len)),
            Node::Set(len) => View::Set(items(len)),
            Node::Map(pairs) => View::Map(items(2 * pairs)),
            Node::Pairs(pairs) => View::Pairs(items(2 * pairs)),
        }
    }

    /// Where the next node stands that is not below the one at `at`.
    fn after(&self, mut at: usize) -> usize {
        let mut pending: u64 = 1;
        while pending > 0 && at < self.nodes.len() {
            pending = pending - 1 + u64::from(children(self.nodes[at]));
            at += 1;
        }
        at
    }
}

/// The children of an aggregate, in order.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    reply: &'a Reply,
    at: usize,
    remaining: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let view = self.reply.view_at(self.at);
        self.at = self.reply.after(self.at);
        Some(view)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Items<'_> {}

fn children(node: Node) -> u32 {
    match node {
        Node::Array(len) | Node::Set(len) | Node::Push(len) => len,
        Node::Map(pairs) | Node::Pairs(pairs) => 2 * pairs,
        _ => 0,
    }
}

fn line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Reply), resp2: &str, resp3: &str) {
        let mut reply = Reply::new();
        write(&mut reply);
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            reply.encode(protocol, &mut out);
            let out = String::from_utf8(out).unwrap().replace("\r\n", " ");
            assert_eq!(out.trim_end(), expected, "{protocol:?}");
        }
    }

    #[test]
    fn nodes_encode_as_each_protocol_has_them() {
        check(|it| it.status("OK"), "+OK", "+OK");
        check(|it| it.error("ERR a\r\nb"), "-ERR a  b", "-ERR a  b");
        check(|it| it.integer(i64::MIN), ":-9223372036854775808", ":-9223372036854775808");
        check(|it| it.double(3.5), "$3 3.5", ",3.5");
        check(|it| it.double(f64::NEG_INFINITY), "$4 -inf", ",-inf");
        check(|it| it.bulk(b""), "$0", "$0");
        check(|it| it.verbatim(*b"txt", b"hi"), "$2 hi", "=6 txt:hi");
        check(|it| it.big_number(b"123"), "$3 123", "(123");
        check(Reply::null, "$-1", "_");
        check(Reply::null_array, "*-1", "_");
        check(|it| it.boolean(true), ":1", "#t");
        check(|it| it.set(0), "*0", "~0");
        check(|it| it.push(0), "*0", ">0");
    }

    #[test]
    fn aggregates_encode_as_each_protocol_has_them() {
        let pairs = |it: &mut Reply| {
            it.array(2);
            it.pairs(2);
            it.bulk(b"a");
            it.double(1.0);
            it.bulk(b"b");
            it.double(2.0);
            it.map(1);
            it.bulk(b"k");
            it.null();
        };
        check(
            pairs,
            "*2 *4 $1 a $1 1 $1 b $1 2 *2 $1 k $-1",
            "*2 *2 *2 $1 a ,1 *2 $1 b ,2 %1 $1 k _",
        );
    }

    #[test]
    fn a_view_walks_nested_arrays() {
        let mut reply = Reply::new();
        let open = reply.open_array();
        reply.array(2);
        reply.integer(1);
        reply.bulk(b"x");
        reply.status("OK");
        reply.close_array(open, 2);

        let View::Array(mut outer) = reply.view() else { unreachable!("{reply:?}") };
        assert_eq!(outer.len(), 2);
        let Some(View::Array(inner)) = outer.next() else { unreachable!("{reply:?}") };
        assert_eq!(inner.len(), 2);
        assert!(matches!(outer.next(), Some(View::Status(b"OK"))));
        assert!(outer.next().is_none());
    }

    #[test]
    fn truncating_forgets_what_came_after_the_mark() {
        let mut reply = Reply::new();
        reply.integer(1);
        let (before, mark) = (reply.clone(), reply.mark());
        reply.bulk(b"gone");
        reply.truncate(mark);
        assert_eq!(reply, before);
    }

    #[test]
    fn a_reply_that_is_too_long_says_so_until_it_is_cleared() {
        let mut reply = Reply::new();
        let text = vec![b'x'; ARENA_BYTES_MAX - 1];
        reply.bulk(&text);
        reply.bulk(b"y");
        assert!(!reply.is_overfull());
        reply.verbatim(*b"txt", b"z");
        assert!(reply.is_overfull());
        let View::Bulk(first) = reply.view() else { unreachable!("a text was written") };
        assert_eq!(first.len(), text.len(), "what came before is whole");
        reply.clear();
        assert!(!reply.is_overfull() && reply.arena.capacity() <= KEPT_BYTES_MAX);
    }
}
