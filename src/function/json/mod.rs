//! `cjson`: values to JSON text and back, as the library in Redis does it.
//!
//! Tables with keys 1 to n are arrays, if they are not too sparse; others are
//! objects, the empty one too. Numbers have 14 digits. Null is a light userdata.
//! The parser takes what `strtod` takes: hexadecimal numbers and infinities.
//!
//! What a script sets (`encode_max_depth` and its like) holds until its call ends;
//! in Redis it would hold for whoever comes next.

#![allow(unsafe_code, reason = "native functions of Lua")]

mod decode;
mod encode;

use std::ffi::{CStr, c_int};

use mlua::ffi::lua_State;

use crate::function::context::Context;
use crate::function::raw::{Kind, Native, Plain, State};

/// The functions of the library, all of which share one [`Settings`].
const FUNCTIONS: [(&CStr, Native); 10] = [
    (c"encode", encode::encode),
    (c"decode", decode::decode),
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
