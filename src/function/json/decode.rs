//! From JSON text to values.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::c_int;
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::{Invalid, Settings};
use crate::function::context::Context;
use crate::function::number;
use crate::function::raw::State;

/// `decode(text)`
pub(super) unsafe extern "C-unwind" fn decode(lua: *mut lua_State) -> c_int {
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
