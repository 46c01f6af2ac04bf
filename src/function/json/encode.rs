//! From values to JSON text.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::c_int;
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::{Invalid, Settings};
use crate::function::context::Context;
use crate::function::number;
use crate::function::raw::{Kind, State};

/// `encode(value)`
pub(super) unsafe extern "C-unwind" fn encode(lua: *mut lua_State) -> c_int {
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

    /// The largest place of a table that has nothing but places. Places are C's `int`,
    /// as in Redis: one that is too large for it reads as the least, so that a table
    /// with nothing else is an object.
    fn array_len(&mut self) -> Option<i64> {
        let state = self.state;
        let (mut max, mut count) = (0_i32, 0_i64);
        state.push_nil();
        while state.next(-2) {
            let key = state.number(-2);
            let is_place = state.kind(-2) == Kind::Number && key >= 1.0 && key.floor() == key;
            if !is_place {
                state.pop(2);
                return None;
            }
            if key > f64::from(max) {
                max = if key <= f64::from(i32::MAX) { key as i32 } else { i32::MIN };
            }
            count += 1;
            state.pop(1);
        }
        let settings = self.settings;
        let is_sparse = settings.sparse_ratio > 0
            && i64::from(max) > count.saturating_mul(settings.sparse_ratio)
            && i64::from(max) > settings.sparse_safe;
        if is_sparse && !settings.converts_sparse {
            self.refuse("excessively sparse array");
        }
        (!is_sparse).then_some(i64::from(max))
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
