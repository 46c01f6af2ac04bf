//! `cjson`: values to JSON text and back, as the library in Redis does it.
//!
//! Tables with keys 1 to n are arrays, if they are not too sparse; others are
//! objects, the empty one too. Numbers have 14 digits. Null is a light userdata.
//! The parser takes what `strtod` takes: hexadecimal numbers and infinities.
//!
//! What a script sets (`encode_max_depth` and its like) holds until its call ends;
//! in Redis it would hold for whoever comes next.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::context::Context;
use super::number;
use super::raw::{Kind, Native, Plain, State};

/// The functions of the library, all of which share one [`Settings`].
const FUNCTIONS: [(&CStr, Native); 10] = [
    (c"encode", encode),
    (c"decode", decode),
    (c"new", new),
    (c"encode_sparse_array", encode_sparse_array),
    (c"encode_max_depth", encode_max_depth),
    (c"decode_max_depth", decode_max_depth),
    (c"encode_number_precision", encode_number_precision),
    (c"encode_keep_buffer", encode_keep_buffer),
    (c"encode_invalid_numbers", encode_invalid_numbers),
    (c"decode_invalid_numbers", decode_invalid_numbers),
];

/// Pushes a table of the library's functions, with settings of their own.
pub(super) fn push_library(state: State, context: *mut Context, is_shared: bool) {
    state.push_table(0, FUNCTIONS.len() + 3);
    state.push_plain(Settings { is_shared, ..Settings::DEFAULT });
    for (name, native) in FUNCTIONS {
        state.push_copy(-1);
        state.push_native_with(native, context);
        state.push_copy(-3);
        state.insert(-2);
        state.set_field(name);
        state.pop(1);
    }
    state.pop(1);
    state.push_null();
    state.set_field(c"null");
    state.push_bytes(b"cjson");
    state.set_field(c"_NAME");
    state.push_bytes(b"2.1.0");
    state.set_field(c"_VERSION");
}

/// What scripts can set.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// The library that everyone sees: its settings last for one run.
    is_shared: bool,
    run_number: u64,
    converts_sparse: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth_max: i64,
    decode_depth_max: i64,
    digits: i64,
    keeps_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: Invalid,
}

impl Plain for Settings {}

impl Settings {
    const DEFAULT: Settings = Settings {
        is_shared: false,
        run_number: 0,
        converts_sparse: false,
        sparse_ratio: 2,
        sparse_safe: 10,
        encode_depth_max: 1000,
        decode_depth_max: 1000,
        digits: 14,
        keeps_buffer: true,
        encode_invalid: Invalid::Refused,
        decode_invalid: Invalid::Accepted,
    };

    /// The settings of the running function, as they were when this run began or
    /// as it has set them.
    ///
    /// # Safety
    /// To be called once, in a function of [`FUNCTIONS`].
    unsafe fn of<'a>(state: State, context: &Context) -> &'a mut Settings {
        // SAFETY: those functions were pushed with settings.
        let settings = unsafe { state.plain_upvalue::<Settings>() };
        if settings.is_shared && settings.run_number != context.run_number {
            *settings =
                Settings { is_shared: true, run_number: context.run_number, ..Settings::DEFAULT };
        }
        settings
    }
}

/// What becomes of infinities and of what is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Accepted,
    /// Written as `null`.
    Null,
}

/// `encode(value)`
unsafe extern "C-unwind" fn encode(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context and settings; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    // SAFETY: as above.
    let settings = unsafe { Settings::of(state, context) };
    if state.top() != 1 {
        state.raise_argument(1, c"expected 1 argument");
    }
    context.text.clear();
    Encoder { state, context, settings }.value(0);
    // SAFETY: the encoder's borrow has ended.
    let (state, context) = unsafe { State::entered(lua) };
    state.push_bytes(&context.text);
    1
}

/// Writes the values on top of the stack, which it leaves there.
struct Encoder<'c> {
    state: State,
    context: &'c mut Context,
    settings: &'c Settings,
}

impl Encoder<'_> {
    fn value(&mut self, depth: i64) {
        let state = self.state;
        match state.kind(-1) {
            Kind::String => self.text(state.bytes(-1)),
            Kind::Number => self.number(state.number(-1)),
            Kind::Boolean if state.boolean(-1) => self.write(b"true"),
            Kind::Boolean => self.write(b"false"),
            Kind::Nil => self.write(b"null"),
            Kind::Table => self.table(depth + 1),
            Kind::Other if state.is_null(-1) => self.write(b"null"),
            Kind::Other => self.refuse("type not supported"),
        }
    }

    fn table(&mut self, depth: i64) {
        if depth > self.settings.encode_depth_max
            || self.context.stack_is_deep()
            || !self.state.reserve(3)
        {
            self.fail(format_args!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.array_len() {
            Some(len) if len > 0 => self.array(len, depth),
            _ => self.object(depth),
        }
    }

    /// The largest place of a table that has nothing but places.
    fn array_len(&mut self) -> Option<i64> {
        let state = self.state;
        let (mut max, mut count) = (0.0_f64, 0_i64);
        state.push_nil();
        while state.next(-2) {
            let key = state.number(-2);
            let is_place = state.kind(-2) == Kind::Number && key >= 1.0 && key.floor() == key;
            if !is_place {
                state.pop(2);
                return None;
            }
            max = max.max(key);
            count += 1;
            state.pop(1);
        }
        let settings = self.settings;
        let is_sparse = settings.sparse_ratio > 0
            && max > count.saturating_mul(settings.sparse_ratio) as f64
            && max > settings.sparse_safe as f64;
        if is_sparse && !settings.converts_sparse {
            self.refuse("excessively sparse array");
        }
        (!is_sparse).then_some(max as i64)
    }

    fn array(&mut self, len: i64, depth: i64) {
        self.write(b"[");
        for place in 1..=len {
            if place > 1 {
                self.write(b",");
            }
            self.state.get_item(-1, place as usize);
            self.value(depth);
            self.state.pop(1);
        }
        self.write(b"]");
    }

    fn object(&mut self, depth: i64) {
        let state = self.state;
        self.write(b"{");
        state.push_nil();
        let mut is_first = true;
        while state.next(-2) {
            if !is_first {
                self.write(b",");
            }
            is_first = false;
            match state.kind(-2) {
                Kind::String => self.text(state.bytes(-2)),
                Kind::Number => {
                    self.write(b"\"");
                    self.number(state.number(-2));
                    self.write(b"\"");
                }
                _ => {
                    state.pop(1);
                    self.refuse("table key must be a number or string");
                }
            }
            self.write(b":");
            self.value(depth);
            state.pop(1);
        }
        self.write(b"}");
    }

    fn text(&mut self, bytes: &[u8]) {
        self.write(b"\"");
        let mut plain = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                8 => b"\\b",
                9 => b"\\t",
                10 => b"\\n",
                12 => b"\\f",
                13 => b"\\r",
                0..32 | 127 => b"",
                _ => continue,
            };
            self.write(&bytes[plain..at]);
            plain = at + 1;
            match escape {
                [] => {
                    let hex = |it: u8| b"0123456789abcdef"[usize::from(it)];
                    self.write(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                }
                escape => self.write(escape),
            }
        }
        self.write(&bytes[plain..]);
        self.write(b"\"");
    }

    fn number(&mut self, value: f64) {
        if !value.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refused => self.refuse("must not be NaN or Inf"),
                Invalid::Null => return self.write(b"null"),
                Invalid::Accepted => {}
            }
        }
        let text = number::Printed::general(value, self.settings.digits as i32);
        self.write(&text);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.context.add_text(self.state, bytes);
    }

    fn refuse(&mut self, why: &str) -> ! {
        let kind = self.state.type_name(-1).to_str().unwrap_or("value");
        self.context.text.clear();
        let written = write!(self.context.text, "Cannot serialise {kind}: {why}");
        debug_assert!(written.is_ok(), "a vector takes every byte");
        self.state.raise_text(&self.context.text)
    }

    fn fail(&mut self, text: std::fmt::Arguments<'_>) -> ! {
        self.context.text.clear();
        let written = self.context.text.write_fmt(text);
        debug_assert!(written.is_ok(), "a vector takes every byte");
        self.state.raise_text(&self.context.text)
    }
}

/// `decode(text)`
unsafe extern "C-unwind" fn decode(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context and settings; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    // SAFETY: as above.
    let settings = unsafe { Settings::of(state, context) };
    if state.top() != 1 {
        state.raise_argument(1, c"expected 1 argument");
    }
    let text = state.text_argument(1);
    if let [0, _, ..] | [_, 0, ..] = text {
        state.raise_text(b"JSON parser does not support UTF-16 or UTF-32");
    }
    let mut parser = Parser { state, context, settings, text, at: 0, depth: 0 };
    let first = parser.token();
    parser.value(first);
    let last = parser.token();
    if last.what != What::End {
        parser.unexpected("the end", last);
    }
    1
}

/// Reads JSON and pushes what it says.
struct Parser<'t, 'c> {
    state: State,
    context: &'c mut Context,
    settings: &'c Settings,
    text: &'t [u8],
    at: usize,
    depth: i64,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    what: What,
    /// Where it begins.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its text is in the context.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Wrong(&'static str),
}

impl What {
    /// As the library names it in its errors.
    fn name(self) -> &'static str {
        match self {
            What::ObjectBegin => "T_OBJ_BEGIN",
            What::ObjectEnd => "T_OBJ_END",
            What::ArrayBegin => "T_ARR_BEGIN",
            What::ArrayEnd => "T_ARR_END",
            What::String => "T_STRING",
            What::Number(_) => "T_NUMBER",
            What::Boolean(_) => "T_BOOLEAN",
            What::Null => "T_NULL",
            What::Colon => "T_COLON",
            What::Comma => "T_COMMA",
            What::End => "T_END",
            What::Wrong(why) => why,
        }
    }
}

impl Parser<'_, '_> {
    fn value(&mut self, token: Token) {
        match token.what {
            What::String => self.state.push_bytes(&self.context.text),
            What::Number(value) => self.state.push_number(value),
            What::Boolean(value) => self.state.push_boolean(value),
            What::Null => self.state.push_null(),
            What::ObjectBegin => self.object(),
            What::ArrayBegin => self.array(),
            _ => self.unexpected("value", token),
        }
    }

    fn object(&mut self) {
        self.descend();
        self.state.push_table(0, 0);
        let mut token = self.token();
        if token.what == What::ObjectEnd {
            return self.depth -= 1;
        }
        loop {
            if token.what != What::String {
                self.unexpected("object key string", token);
            }
            self.state.push_bytes(&self.context.text);
            token = self.token();
            if token.what != What::Colon {
                self.unexpected("colon", token);
            }
            token = self.token();
            self.value(token);
            self.state.set_pair();
            token = self.token();
            match token.what {
                What::ObjectEnd => return self.depth -= 1,
                What::Comma => token = self.token(),
                _ => self.unexpected("comma or object end", token),
            }
        }
    }

    fn array(&mut self) {
        self.descend();
        self.state.push_table(0, 0);
        let mut token = self.token();
        if token.what == What::ArrayEnd {
            return self.depth -= 1;
        }
        for place in 1.. {
            self.value(token);
            self.state.set_item(place);
            token = self.token();
            match token.what {
                What::ArrayEnd => break,
                What::Comma => token = self.token(),
                _ => self.unexpected("comma or array end", token),
            }
        }
        self.depth -= 1;
    }

    fn descend(&mut self) {
        self.depth += 1;
        let is_fine = self.depth <= self.settings.decode_depth_max
            && !self.context.stack_is_deep()
            && self.state.reserve(3);
        if !is_fine {
            let (depth, at) = (self.depth, self.at);
            self.fail(format_args!(
                "Found too many nested data structures ({depth}) at character {at}"
            ));
        }
    }

    fn token(&mut self) -> Token {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let at = self.at;
        let mut one = |what| {
            self.at += 1;
            what
        };
        let what = match self.text.get(at) {
            None | Some(0) => What::End,
            Some(b'{') => one(What::ObjectBegin),
            Some(b'}') => one(What::ObjectEnd),
            Some(b'[') => one(What::ArrayBegin),
            Some(b']') => one(What::ArrayEnd),
            Some(b':') => one(What::Colon),
            Some(b',') => one(What::Comma),
            Some(b'"') => return self.string(at),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        };
        Token { what, at }
    }

    fn word(&mut self) -> What {
        let rest = &self.text[self.at..];
        for (word, what) in [
            (&b"true"[..], What::Boolean(true)),
            (b"false", What::Boolean(false)),
            (b"null", What::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return what;
            }
        }
        match is_odd_number(rest) && self.settings.decode_invalid == Invalid::Accepted {
            true => self.number(),
            false => What::Wrong("invalid token"),
        }
    }

    fn number(&mut self) -> What {
        let rest = &self.text[self.at..];
        if self.settings.decode_invalid != Invalid::Accepted && is_odd_number(rest) {
            return What::Wrong("invalid number");
        }
        let (value, len) = number::parse_prefix(rest);
        if len == 0 {
            return What::Wrong("invalid number");
        }
        self.at += len;
        What::Number(value)
    }

    /// Reads a string into the context's text.
    fn string(&mut self, begin: usize) -> Token {
        self.context.text.clear();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|it| matches!(it, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            self.context.add_text(self.state, &rest[..plain]);
            self.at += plain;
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Token { what: What::String, at: begin };
                }
                Some(b'\\') => {
                    if let Err(why) = self.escape() {
                        return Token { what: What::Wrong(why), at: self.at };
                    }
                }
                _ => {
                    return Token { what: What::Wrong("unexpected end of string"), at: self.at };
                }
            }
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let byte = match self.text.get(self.at + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            Some(b'u') => {
                let (code, len) =
                    code_point(&self.text[self.at..]).ok_or("invalid unicode escape code")?;
                let mut utf8 = [0; 4];
                self.context.add_text(self.state, code.encode_utf8(&mut utf8).as_bytes());
                self.at += len;
                return Ok(());
            }
            _ => return Err("invalid escape code"),
        };
        self.context.add_text(self.state, &[byte]);
        self.at += 2;
        Ok(())
    }

    fn unexpected(&mut self, expected: &str, token: Token) -> ! {
        let (found, at) = (token.what.name(), token.at + 1);
        self.fail(format_args!("Expected {expected} but found {found} at character {at}"))
    }

    fn fail(&mut self, text: std::fmt::Arguments<'_>) -> ! {
        self.context.text.clear();
        let written = self.context.text.write_fmt(text);
        debug_assert!(written.is_ok(), "a vector takes every byte");
        self.state.raise_text(&self.context.text)
    }
}

/// True for what `strtod` reads and JSON does not have.
fn is_odd_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let begins = |word: &[u8]| {
        digits.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    match digits {
        _ if text.starts_with(b"+") => true,
        [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
        _ => begins(b"inf") || begins(b"nan"),
    }
}

/// The character of a `\u` escape, or of two that form a pair, and how many bytes
/// say so.
fn code_point(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    if let Some(code) = char::from_u32(first) {
        return Some((code, 6));
    }
    let second = unit(6).filter(|it| (0xDC00..0xE000).contains(it))?;
    let high = first.checked_sub(0xD800).filter(|it| *it < 0x400)?;
    char::from_u32(0x1_0000 + (high << 10) + (second - 0xDC00)).map(|code| (code, 12))
}

/// `new()`: the library with settings of its own.
unsafe extern "C-unwind" fn new(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    push_library(state, std::ptr::from_mut(context), false);
    1
}

/// `encode_sparse_array(convert, ratio, safe)`
unsafe extern "C-unwind" fn encode_sparse_array(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context and settings; entered once.
    let (state, settings) = unsafe { settings(lua, 3) };
    switch(state, 1, &mut settings.converts_sparse);
    amount(state, 2, &mut settings.sparse_ratio, 0, i64::from(i32::MAX));
    amount(state, 3, &mut settings.sparse_safe, 0, i64::from(i32::MAX));
    3
}

/// `encode_max_depth(depth)`
unsafe extern "C-unwind" fn encode_max_depth(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    amount(state, 1, &mut settings.encode_depth_max, 1, i64::from(i32::MAX));
    1
}

/// `decode_max_depth(depth)`
unsafe extern "C-unwind" fn decode_max_depth(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    amount(state, 1, &mut settings.decode_depth_max, 1, i64::from(i32::MAX));
    1
}

/// `encode_number_precision(digits)`
unsafe extern "C-unwind" fn encode_number_precision(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    amount(state, 1, &mut settings.digits, 1, 14);
    1
}

/// `encode_keep_buffer(on or off)`: the buffer is always kept.
unsafe extern "C-unwind" fn encode_keep_buffer(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    switch(state, 1, &mut settings.keeps_buffer);
    1
}

/// `encode_invalid_numbers("off", "on" or "null")`
unsafe extern "C-unwind" fn encode_invalid_numbers(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    invalid(state, &mut settings.encode_invalid, true);
    1
}

/// `decode_invalid_numbers("off" or "on")`
unsafe extern "C-unwind" fn decode_invalid_numbers(lua: *mut lua_State) -> c_int {
    // SAFETY: as above.
    let (state, settings) = unsafe { settings(lua, 1) };
    invalid(state, &mut settings.decode_invalid, false);
    1
}

/// What each of the setters begins with: at most `count` arguments, of which
/// those that are missing are nil.
///
/// # Safety
/// To be called once at the start of a function of [`FUNCTIONS`].
unsafe fn settings<'a>(lua: *mut lua_State, count: c_int) -> (State, &'a mut Settings) {
    // SAFETY: promised by the caller.
    let (state, context) = unsafe { State::entered(lua) };
    if state.top() > count {
        state.raise_argument(count + 1, c"found too many arguments");
    }
    state.set_top(count);
    // SAFETY: promised by the caller.
    (state, unsafe { Settings::of(state, context) })
}

/// Reads `on`, `off` or a boolean into `setting`, if there is one, and pushes it.
fn switch(state: State, index: c_int, setting: &mut bool) {
    match state.kind(index) {
        Kind::Nil => {}
        Kind::Boolean => *setting = state.boolean(index),
        _ => match state.text_argument(index) {
            b"on" => *setting = true,
            b"off" => *setting = false,
            _ => state.raise_argument(index, c"invalid option"),
        },
    }
    state.push_boolean(*setting);
}

/// Reads an integer into `setting`, if there is one, and pushes it.
fn amount(state: State, index: c_int, setting: &mut i64, min: i64, max: i64) {
    if state.kind(index) != Kind::Nil {
        let value = state.integer_argument(index);
        if !(min..=max).contains(&value) {
            let problem = match (min, max) {
                (0, _) => c"expected integer between 0 and 2147483647",
                (_, 14) => c"expected integer between 1 and 14",
                _ => c"expected integer between 1 and 2147483647",
            };
            state.raise_argument(index, problem);
        }
        *setting = value;
    }
    state.push_number(*setting as f64);
}

fn invalid(state: State, setting: &mut Invalid, may_be_null: bool) {
    match state.kind(1) {
        Kind::Nil => {}
        Kind::Boolean if state.boolean(1) => *setting = Invalid::Accepted,
        Kind::Boolean => *setting = Invalid::Refused,
        _ => match state.text_argument(1) {
            b"on" => *setting = Invalid::Accepted,
            b"off" => *setting = Invalid::Refused,
            b"null" if may_be_null => *setting = Invalid::Null,
            _ => state.raise_argument(1, c"invalid option"),
        },
    }
    match setting {
        Invalid::Refused => state.push_boolean(false),
        Invalid::Accepted => state.push_boolean(true),
        Invalid::Null => state.push_bytes(b"null"),
    }
}
