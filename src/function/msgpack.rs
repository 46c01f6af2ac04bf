//! `cmsgpack`: values to MessagePack and back, as the library in Redis does it.
//!
//! Tables with keys 1 to n are arrays, the empty one too; others are maps. Numbers
//! that an integer holds are integers. Tables below the sixteenth level, and what
//! MessagePack does not know, are nil. Everything is read and written in bounds.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::context::Context;
use super::raw::{Kind, Native, State};

const FUNCTIONS: [(&CStr, Native); 4] = [
    (c"pack", pack),
    (c"unpack", unpack),
    (c"unpack_one", unpack_one),
    (c"unpack_limit", unpack_limit),
];

/// Deeper tables are written as nil.
const DEPTH_MAX: u32 = 16;

/// Pushes a table of the library's functions.
pub(super) fn push_library(state: State, context: *mut Context) {
    state.push_table(0, FUNCTIONS.len() + 4);
    for (name, native) in FUNCTIONS {
        state.push_native(native, context);
        state.set_field(name);
    }
    for (name, text) in [
        (c"_NAME", &b"cmsgpack"[..]),
        (c"_VERSION", b"lua-cmsgpack 0.4.0"),
        (c"_COPYRIGHT", b"Copyright (C) 2012, Salvatore Sanfilippo"),
        (c"_DESCRIPTION", b"MessagePack C implementation for Lua"),
    ] {
        state.push_bytes(text);
        state.set_field(name);
    }
}

/// `pack(value, …)`: all values, one behind the other.
unsafe extern "C-unwind" fn pack(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let count = state.top();
    if count == 0 {
        state.raise_argument(0, c"MessagePack pack needs input.");
    }
    if !state.reserve(1) {
        state.raise_argument(0, c"Too many arguments for MessagePack pack.");
    }
    context.text.clear();
    for index in 1..=count {
        state.push_copy(index);
        Packer { state, context: &mut *context }.value(0);
    }
    state.push_bytes(&context.text);
    1
}

/// Writes the value on top of the stack, and pops it.
struct Packer<'c> {
    state: State,
    context: &'c mut Context,
}

impl Packer<'_> {
    fn value(&mut self, depth: u32) {
        let state = self.state;
        match state.kind(-1) {
            Kind::String => self.text(state.bytes(-1)),
            Kind::Boolean => self.write(&[if state.boolean(-1) { 0xC3 } else { 0xC2 }]),
            Kind::Number => self.number(state.number(-1)),
            Kind::Table if depth < DEPTH_MAX => self.table(depth),
            Kind::Table | Kind::Nil | Kind::Other => self.write(&[0xC0]),
        }
        state.pop(1);
    }

    fn text(&mut self, bytes: &[u8]) {
        match bytes.len() {
            len @ 0..32 => self.write(&[0xA0 | len as u8]),
            len @ 32..=0xFF => self.write(&[0xD9, len as u8]),
            len @ 0x100..=0xFFFF => self.write_with(0xDA, &(len as u16).to_be_bytes()),
            len => self.write_with(0xDB, &(len as u32).to_be_bytes()),
        }
        self.write(bytes);
    }

    fn number(&mut self, value: f64) {
        // Equal both ways: an integer that a double holds exactly.
        let whole = value as i64;
        if value.is_finite() && whole as f64 == value && whole != i64::MAX {
            return self.integer(whole);
        }
        let short = value as f32;
        match f64::from(short) == value {
            true => self.write_with(0xCA, &short.to_be_bytes()),
            false => self.write_with(0xCB, &value.to_be_bytes()),
        }
    }

    fn integer(&mut self, value: i64) {
        match value {
            0..=127 => self.write(&[value as u8]),
            128..=0xFF => self.write(&[0xCC, value as u8]),
            0x100..=0xFFFF => self.write_with(0xCD, &(value as u16).to_be_bytes()),
            0x1_0000..=0xFFFF_FFFF => self.write_with(0xCE, &(value as u32).to_be_bytes()),
            0x1_0000_0000.. => self.write_with(0xCF, &value.to_be_bytes()),
            -32..0 => self.write(&[value as u8]),
            -128..-32 => self.write(&[0xD0, value as u8]),
            -0x8000..-128 => self.write_with(0xD1, &(value as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.write_with(0xD2, &(value as i32).to_be_bytes()),
            _ => self.write_with(0xD3, &value.to_be_bytes()),
        }
    }

    fn table(&mut self, depth: u32) {
        let state = self.state;
        if !state.reserve(4) {
            state.raise_text(b"stack overflow (in function mp_encode_lua_table)");
        }
        match self.is_array() {
            true => {
                let len = state.raw_len(-1);
                match len {
                    0..16 => self.write(&[0x90 | len as u8]),
                    16..=0xFFFF => self.write_with(0xDC, &(len as u16).to_be_bytes()),
                    _ => self.write_with(0xDD, &(len as u32).to_be_bytes()),
                }
                for place in 1..=len {
                    state.get_item(-1, place);
                    self.value(depth + 1);
                }
            }
            false => self.map(depth),
        }
    }

    /// True if the keys are 1 to n, in any order.
    fn is_array(&self) -> bool {
        let state = self.state;
        let (mut max, mut count) = (0.0_f64, 0_u64);
        state.push_nil();
        while state.next(-2) {
            state.pop(1);
            let key = state.number(-1);
            if state.kind(-1) != Kind::Number || key <= 0.0 || key != f64::from(key as i32) {
                state.pop(1);
                return false;
            }
            max = max.max(key);
            count += 1;
        }
        max == count as f64
    }

    fn map(&mut self, depth: u32) {
        let state = self.state;
        let mut len = 0_usize;
        state.push_nil();
        while state.next(-2) {
            state.pop(1);
            len += 1;
        }
        match len {
            0..16 => self.write(&[0x80 | len as u8]),
            16..=0xFFFF => self.write_with(0xDE, &(len as u16).to_be_bytes()),
            _ => self.write_with(0xDF, &(len as u32).to_be_bytes()),
        }
        state.push_nil();
        while state.next(-2) {
            state.push_copy(-2);
            self.value(depth + 1);
            self.value(depth + 1);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.context.add_text(self.state, bytes);
    }

    fn write_with(&mut self, kind: u8, bytes: &[u8]) {
        self.write(&[kind]);
        self.write(bytes);
    }
}

/// `unpack(text)`: every value in it.
unsafe extern "C-unwind" fn unpack(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    unpack_some(state, context, 0, 0)
}

/// `unpack_one(text, offset)`: where the next value begins, and one value.
unsafe extern "C-unwind" fn unpack_one(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let offset = state.integer_argument_or(2, 0);
    state.set_top(1);
    unpack_some(state, context, 1, offset)
}

/// `unpack_limit(text, count, offset)`: where the next value begins, and values.
unsafe extern "C-unwind" fn unpack_limit(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let limit = state.integer_argument(2);
    let offset = state.integer_argument_or(3, 0);
    state.set_top(1);
    unpack_some(state, context, limit, offset)
}

/// Pushes at most `limit` values from `offset` on; neither given means all.
fn unpack_some(state: State, context: &mut Context, limit: i64, offset: i64) -> c_int {
    let text = state.text_argument(1);
    let takes_all = limit == 0 && offset == 0;
    let Some(start) = usize::try_from(offset).ok().filter(|_| limit >= 0) else {
        let len = text.len();
        fail(
            state,
            context,
            format_args!("Invalid request to unpack with offset of {offset} and limit of {len}."),
        );
    };
    let Some(bytes) = text.get(start..) else {
        let len = text.len();
        fail(
            state,
            context,
            format_args!("Start offset {offset} greater than input length {len}."),
        );
    };
    let mut unpacker = Unpacker { state, bytes, context: &*context };
    let mut count = 0;
    while !unpacker.bytes.is_empty() && (takes_all || i64::from(count) < limit) {
        if !state.reserve(3) {
            state.raise_text(b"too many results to unpack");
        }
        match unpacker.value() {
            Ok(()) => count += 1,
            Err(Fault::Short) => state.raise_text(b"Missing bytes in input."),
            Err(Fault::Format) => state.raise_text(b"Bad data format in input."),
        }
    }
    if takes_all {
        return count;
    }
    match unpacker.bytes.len() {
        0 => state.push_number(-1.0),
        left => state.push_number((text.len() - left) as f64),
    }
    state.insert(2);
    count + 1
}

fn fail(state: State, context: &mut Context, text: std::fmt::Arguments<'_>) -> ! {
    context.text.clear();
    let written = context.text.write_fmt(text);
    debug_assert!(written.is_ok(), "a vector takes every byte");
    state.raise_text(&context.text)
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The text ends inside of a value.
    Short,
    /// No value begins so.
    Format,
}

/// Reads values and pushes them.
struct Unpacker<'t, 'c> {
    state: State,
    bytes: &'t [u8],
    context: &'c Context,
}

impl<'t> Unpacker<'t, '_> {
    fn value(&mut self) -> Result<(), Fault> {
        let state = self.state;
        let [kind] = self.take()?;
        match kind {
            0x00..=0x7F => state.push_number(f64::from(kind)),
            0xE0..=0xFF => state.push_number(f64::from(kind as i8)),
            0xA0..=0xBF => state.push_bytes(self.slice(usize::from(kind & 31))?),
            0x90..=0x9F => return self.array(usize::from(kind & 15)),
            0x80..=0x8F => return self.map(usize::from(kind & 15)),
            0xC0 => state.push_nil(),
            0xC2 => state.push_boolean(false),
            0xC3 => state.push_boolean(true),
            0xCA => state.push_number(f64::from(f32::from_be_bytes(self.take()?))),
            0xCB => state.push_number(f64::from_be_bytes(self.take()?)),
            0xCC => state.push_number(f64::from(u8::from_be_bytes(self.take()?))),
            0xCD => state.push_number(f64::from(u16::from_be_bytes(self.take()?))),
            0xCE => state.push_number(f64::from(u32::from_be_bytes(self.take()?))),
            // An integer of Lua 5.1 has a sign.
            0xCF => state.push_number(u64::from_be_bytes(self.take()?).cast_signed() as f64),
            0xD0 => state.push_number(f64::from(i8::from_be_bytes(self.take()?))),
            0xD1 => state.push_number(f64::from(i16::from_be_bytes(self.take()?))),
            0xD2 => state.push_number(f64::from(i32::from_be_bytes(self.take()?))),
            0xD3 => state.push_number(i64::from_be_bytes(self.take()?) as f64),
            0xD9 => {
                let len = usize::from(u8::from_be_bytes(self.take()?));
                state.push_bytes(self.slice(len)?);
            }
            0xDA => {
                let len = usize::from(u16::from_be_bytes(self.take()?));
                state.push_bytes(self.slice(len)?);
            }
            0xDB => {
                let len = u32::from_be_bytes(self.take()?) as usize;
                state.push_bytes(self.slice(len)?);
            }
            0xDC => {
                let len = usize::from(u16::from_be_bytes(self.take()?));
                return self.array(len);
            }
            0xDD => {
                let len = u32::from_be_bytes(self.take()?) as usize;
                return self.array(len);
            }
            0xDE => {
                let len = usize::from(u16::from_be_bytes(self.take()?));
                return self.map(len);
            }
            0xDF => {
                let len = u32::from_be_bytes(self.take()?) as usize;
                return self.map(len);
            }
            0xC1 | 0xC4..=0xC9 | 0xD4..=0xD8 => return Err(Fault::Format),
        }
        Ok(())
    }

    fn array(&mut self, len: usize) -> Result<(), Fault> {
        self.check_depth(b"stack overflow (in function mp_decode_to_lua_array)");
        self.state.push_table(0, 0);
        for place in 1..=len {
            self.value()?;
            self.state.set_item(place);
        }
        Ok(())
    }

    fn map(&mut self, len: usize) -> Result<(), Fault> {
        self.check_depth(b"stack overflow (in function mp_decode_to_lua_hash)");
        let state = self.state;
        state.push_table(0, 0);
        for _ in 0..len {
            self.value()?;
            self.value()?;
            if state.kind(-2) == Kind::Nil {
                // Where a native function sets it, Lua names no line.
                state.push_bytes(b"table index is nil");
                state.raise();
            } else if state.kind(-2) == Kind::Number && state.number(-2).is_nan() {
                state.push_bytes(b"table index is NaN");
                state.raise();
            }
            state.set_pair();
        }
        Ok(())
    }

    fn check_depth(&self, problem: &[u8]) {
        if self.context.stack_is_deep() || !self.state.reserve(3) {
            self.state.raise_text(problem);
        }
    }

    fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], Fault> {
        let (taken, rest) = self.bytes.split_first_chunk::<LEN>().ok_or(Fault::Short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn slice(&mut self, len: usize) -> Result<&'t [u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Fault::Short)?;
        self.bytes = rest;
        Ok(taken)
    }
}
