//! Values between Lua and replies, by Redis' rules.
//!
//! ```text
//! reply -> Lua   RESP2: integer -> number, bulk -> string, status -> {ok=},
//!                error -> {err=}, array -> list, null -> false; a double reads
//!                as its text, a boolean as 1 or 0, maps and sets as flat lists
//!                RESP3: null -> nil, double -> {double=}, map -> {map=},
//!                set -> {set={m=true}}, boolean, {big_number=},
//!                {verbatim_string={format=, string=}}
//! Lua -> reply   string -> bulk, number -> integer (cut toward zero), true -> 1,
//!                false and nil -> null, {err=}, {ok=}, {double=}, {map=}, {set=},
//!                {big_number=}, {verbatim_string=}, any other table -> array of
//!                [1] up to the first nil
//! ```
//!
//! Tables are read past their metatables. Nothing here owns anything while it
//! calls Lua: everything may raise.

use super::raw::{Kind, State};
use crate::resp::number::NumberText;
use crate::resp::{Items, Protocol, Reply, View, until_zero};

/// Deepest nesting of a Function's reply.
const DEPTH_MAX: u32 = 128;

/// Most values that a Function's reply may hold: a table that holds itself twice
/// would otherwise double with each level.
const VALUE_COUNT_MAX: u32 = 1 << 20;

/// The reply is deeper or larger than any that a client could want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Pushes what a command replied.
pub(super) fn push(state: State, view: View<'_>, protocol: Protocol) {
    let resp3 = protocol == Protocol::Resp3;
    match view {
        View::Integer(value) => state.push_number(value as f64),
        View::Bulk(bytes) => state.push_bytes(bytes),
        View::Status(text) => push_field(state, c"ok", text),
        View::Error(text) => push_field(state, c"err", text),
        View::Null | View::NullArray if resp3 => state.push_nil(),
        View::Null | View::NullArray => state.push_boolean(false),
        View::Boolean(value) if resp3 => state.push_boolean(value),
        View::Boolean(value) => state.push_number(f64::from(u8::from(value))),
        View::Double(value) if resp3 => {
            state.push_table(0, 1);
            state.push_number(value);
            state.set_field(c"double");
        }
        View::Double(value) => state.push_bytes(&NumberText::double(value)),
        View::BigNumber(digits) if resp3 => push_field(state, c"big_number", digits),
        View::BigNumber(digits) => state.push_bytes(digits),
        View::Verbatim(text) => push_verbatim(state, text, resp3),
        View::Map(items) if resp3 => {
            state.push_table(0, 1);
            push_entries(state, items, protocol, false);
            state.set_field(c"map");
        }
        View::Set(items) if resp3 => {
            state.push_table(0, 1);
            push_entries(state, items, protocol, true);
            state.set_field(c"set");
        }
        View::Pairs(items) if resp3 => push_pairs(state, items, protocol),
        View::Array(items) | View::Map(items) | View::Set(items) | View::Pairs(items) => {
            push_items(state, items, protocol);
        }
    }
}

fn push_field(state: State, name: &std::ffi::CStr, text: &[u8]) {
    state.push_table(0, 1);
    state.push_bytes(text);
    state.set_field(name);
}

fn push_items(state: State, items: Items<'_>, protocol: Protocol) {
    if !state.reserve(4) {
        return state.push_nil();
    }
    state.push_table(items.size_hint().0, 0);
    for (index, item) in items.enumerate() {
        push(state, item, protocol);
        state.set_item(index + 1);
    }
}

/// A list of lists of two, which is how RESP3 shows members with scores.
fn push_pairs(state: State, mut items: Items<'_>, protocol: Protocol) {
    state.push_table(items.size_hint().0 / 2, 0);
    let mut position = 1;
    while let (Some(first), Some(second)) = (items.next(), items.next()) {
        state.push_table(2, 0);
        push(state, first, protocol);
        state.set_item(1);
        push(state, second, protocol);
        state.set_item(2);
        state.set_item(position);
        position += 1;
    }
}

/// The table inside of `{map=}`, or of `{set=}`, whose values are all true.
fn push_entries(state: State, mut items: Items<'_>, protocol: Protocol, is_set: bool) {
    if !state.reserve(6) {
        return state.push_nil();
    }
    state.push_table(0, items.size_hint().0);
    while let Some(key) = items.next() {
        push(state, key, protocol);
        match items_value(&mut items, is_set) {
            Some(value) => push(state, value, protocol),
            None => state.push_boolean(true),
        }
        state.set_pair();
    }
}

fn items_value<'a>(items: &mut Items<'a>, is_set: bool) -> Option<View<'a>> {
    if is_set { None } else { items.next() }
}

/// `text` is `txt:…`.
fn push_verbatim(state: State, text: &[u8], resp3: bool) {
    let (format, text) = text.split_at_checked(4).unwrap_or((b"txt:", text));
    if !resp3 {
        return state.push_bytes(text);
    }
    state.push_table(0, 1);
    state.push_table(0, 2);
    state.push_bytes(&format[..3]);
    state.set_field(c"format");
    state.push_bytes(text);
    state.set_field(c"string");
    state.set_field(c"verbatim_string");
}

/// Appends the value on top of the stack to `reply`, and pops it.
pub(super) fn read(state: State, reply: &mut Reply, protocol: Protocol) -> Result<(), TooLarge> {
    let mut reader = Reader { state, reply, resp3: protocol == Protocol::Resp3, value_count: 0 };
    reader.value(0)
}

/// Walks a Lua value. Each method takes the value on top and pops it.
struct Reader<'r> {
    state: State,
    reply: &'r mut Reply,
    resp3: bool,
    value_count: u32,
}

impl Reader<'_> {
    fn value(&mut self, depth: u32) -> Result<(), TooLarge> {
        self.value_count += 1;
        if self.value_count > VALUE_COUNT_MAX {
            return Err(TooLarge);
        }
        let state = self.state;
        match state.kind(-1) {
            Kind::Number => self.reply.integer(whole(state.number(-1))),
            Kind::String => self.reply.bulk(state.bytes(-1)),
            Kind::Table => return self.table(depth),
            Kind::Boolean if self.resp3 => self.reply.boolean(state.boolean(-1)),
            Kind::Boolean if state.boolean(-1) => self.reply.integer(1),
            Kind::Boolean | Kind::Nil | Kind::Other => self.reply.null(),
        }
        state.pop(1);
        Ok(())
    }

    fn table(&mut self, depth: u32) -> Result<(), TooLarge> {
        if depth >= DEPTH_MAX || !self.state.reserve(8) {
            return Err(TooLarge);
        }
        if !self.plain_list(depth)? && !self.named(depth)? {
            self.list(depth)?;
        }
        self.state.pop(1);
        Ok(())
    }

    /// Appends a table that holds nothing but places 1 to n, met in order, which
    /// is how most replies look: one walk instead of seven look-ups by name.
    /// False, and nothing appended, when the walk meets anything else.
    ///
    /// Tables inside are appended behind the walk, when it is known that this one
    /// is plain: else each level might be walked twice as often as the one above.
    fn plain_list(&mut self, depth: u32) -> Result<bool, TooLarge> {
        let (state, table) = (self.state, self.state.top());
        let (before, array) = (self.reply.mark(), self.reply.open_array());
        let (mut len, mut first_table) = (0_usize, None);
        state.push_nil();
        while state.next(table) {
            if state.kind(-2) != Kind::Number || state.number(-2) != (len + 1) as f64 {
                state.pop(2);
                self.reply.truncate(before);
                return Ok(false);
            }
            len += 1;
            if first_table.is_none() && state.kind(-1) != Kind::Table {
                self.value(depth + 1)?;
            } else {
                first_table = first_table.or(Some(len));
                state.pop(1);
            }
        }
        for position in first_table.unwrap_or(len + 1)..=len {
            state.get_item(table, position);
            self.value(depth + 1)?;
        }
        self.reply.close_array(array, len);
        Ok(true)
    }

    /// Appends a table that names its type; false if it names none.
    fn named(&mut self, depth: u32) -> Result<bool, TooLarge> {
        if self.field(b"err", Kind::String) {
            self.reply.error_bytes(one_line(self.state.bytes(-1)));
        } else if self.field(b"ok", Kind::String) {
            self.reply.status_bytes(until_zero(self.state.bytes(-1)));
        } else if self.field(b"double", Kind::Number) {
            self.reply.double(self.state.number(-1));
        } else if self.field(b"map", Kind::Table) {
            self.entries(depth, false)?;
        } else if self.field(b"set", Kind::Table) {
            self.entries(depth, true)?;
        } else if self.field(b"big_number", Kind::String) {
            self.reply.big_number(self.state.bytes(-1));
        } else if self.field(b"verbatim_string", Kind::Table) {
            if !self.verbatim() {
                self.state.pop(1);
                return Ok(false);
            }
        } else {
            return Ok(false);
        }
        self.state.pop(1);
        Ok(true)
    }

    /// Pushes the field `name` of the table on top, if it is of that kind.
    fn field(&self, name: &[u8], kind: Kind) -> bool {
        self.state.push_bytes(name);
        self.state.get(-2);
        let found = self.state.kind(-1) == kind;
        if !found {
            self.state.pop(1);
        }
        found
    }

    /// Appends places 1 up to the first nil.
    fn list(&mut self, depth: u32) -> Result<(), TooLarge> {
        let (array, mut len) = (self.reply.open_array(), 0);
        loop {
            self.state.get_item(-1, len + 1);
            if self.state.kind(-1) == Kind::Nil {
                break;
            }
            self.value(depth + 1)?;
            len += 1;
        }
        self.state.pop(1);
        self.reply.close_array(array, len);
        Ok(())
    }

    /// Appends the table on top as a map, or its keys as a set. Leaves it there.
    fn entries(&mut self, depth: u32, is_set: bool) -> Result<(), TooLarge> {
        let (state, table) = (self.state, self.state.top());
        let mut entry_count = 0;
        state.push_nil();
        while state.next(table) {
            state.pop(1);
            entry_count += 1;
        }
        match is_set {
            true => self.reply.set(entry_count),
            false => self.reply.map(entry_count),
        }
        state.push_nil();
        while state.next(table) {
            state.push_copy(-2);
            self.value(depth + 1)?;
            match is_set {
                true => state.pop(1),
                false => self.value(depth + 1)?,
            }
        }
        Ok(())
    }

    /// Appends `{format=, string=}` on top; false if it is not that. Leaves it.
    fn verbatim(&mut self) -> bool {
        if !self.field(b"format", Kind::String) {
            return false;
        }
        let format = self.state.bytes(-1);
        let format = format.first_chunk::<3>().copied().unwrap_or(*b"txt");
        self.state.pop(1);
        if !self.field(b"string", Kind::String) {
            return false;
        }
        self.reply.verbatim(format, self.state.bytes(-1));
        self.state.pop(1);
        true
    }
}

/// An error's text as Redis takes it from a script: up to the first zero byte, without
/// line ends behind it. Others become blanks where the line is written.
fn one_line(text: &[u8]) -> &[u8] {
    let is_end = |it: &u8| matches!(it, b'\r' | b'\n');
    let text = until_zero(text);
    let end = text.iter().rposition(|it| !is_end(it)).map_or(0, |at| at + 1);
    &text[..end]
}

/// A number as Redis answers it: cut toward zero, and the least integer for what
/// no integer can hold.
fn whole(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match (-LIMIT..LIMIT).contains(&value) {
        true => value as i64,
        false => i64::MIN,
    }
}
