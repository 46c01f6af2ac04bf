//! The functions of Lua that go around metatables, made to know *faces*: the
//! frozen tables of `sandbox.lua`, which show contents that nobody may change.
//!
//! Which contents belong to which face stands in a table with weak keys, the
//! second upvalue of each function here.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};

use mlua::ffi::lua_State;

use super::context::Context;
use super::raw::{Kind, Native, State};

const FUNCTIONS: [(&CStr, Native); 7] = [
    (c"getmetatable", getmetatable),
    (c"setmetatable", setmetatable),
    (c"rawget", rawget),
    (c"rawset", rawset),
    (c"next", next),
    (c"pairs", pairs),
    (c"insert", insert),
];

const READONLY: &[u8] = b"Attempt to modify a readonly table";

/// Pushes a table of the functions, and under `contents_of` the table in which
/// they look faces up.
pub(super) fn push_library(state: State, context: *mut Context) {
    state.push_table(0, FUNCTIONS.len() + 1);
    state.push_table(0, 0);
    state.push_table(0, 1);
    state.push_bytes(b"k");
    state.set_field(c"__mode");
    state.set_metatable(-2);
    for (name, native) in FUNCTIONS {
        state.push_copy(-1);
        state.push_native_with(native, context);
        state.push_copy(-3);
        state.insert(-2);
        state.set_field(name);
        state.pop(1);
    }
    state.set_field(c"contents_of");
}

/// Puts the contents in the place of the face at `index`; false if none is there.
fn look_behind(state: State, index: c_int) -> bool {
    state.push_upvalue();
    state.push_copy(index);
    state.get(-2);
    let is_face = state.kind(-1) == Kind::Table;
    if is_face {
        state.replace(index);
        state.pop(1);
    } else {
        state.pop(2);
    }
    is_face
}

/// Raises if a face is at `index`. Lua names no position in errors of tables that
/// may not be written.
fn refuse_face(state: State, index: c_int) {
    if look_behind(state, index) {
        state.push_bytes(READONLY);
        state.raise();
    }
}

/// `getmetatable(value)`: a face has none.
unsafe extern "C-unwind" fn getmetatable(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_any(1);
    let is_face = state.kind(1) == Kind::Table && look_behind(state, 1);
    if is_face || !state.metatable(1) {
        state.push_nil();
        return 1;
    }
    push_protection(state);
    1
}

/// Replaces the metatable on top by what it shows in its place, if it does.
fn push_protection(state: State) {
    state.push_bytes(b"__metatable");
    state.get(-2);
    match state.kind(-1) {
        Kind::Nil => state.pop(1),
        _ => state.replace(-2),
    }
}

/// `setmetatable(table, metatable)`
unsafe extern "C-unwind" fn setmetatable(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_table(1);
    if state.is_none(2) || !matches!(state.kind(2), Kind::Nil | Kind::Table) {
        state.raise_argument(2, c"nil or table expected");
    }
    refuse_face(state, 1);
    if state.metatable(1) {
        state.push_bytes(b"__metatable");
        state.get(-2);
        if state.kind(-1) != Kind::Nil {
            state.raise_text(b"cannot change a protected metatable");
        }
    }
    state.set_top(2);
    state.set_metatable(1);
    1
}

/// `rawget(table, key)`
unsafe extern "C-unwind" fn rawget(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_table(1);
    state.check_any(2);
    state.set_top(2);
    look_behind(state, 1);
    state.get(1);
    1
}

/// `rawset(table, key, value)`
unsafe extern "C-unwind" fn rawset(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_table(1);
    state.check_any(2);
    state.check_any(3);
    state.set_top(3);
    refuse_face(state, 1);
    match state.kind(2) {
        Kind::Nil => state.raise_text(b"table index is nil"),
        Kind::Number if state.number(2).is_nan() => state.raise_text(b"table index is NaN"),
        _ => {}
    }
    state.set_pair_of(1);
    1
}

/// `next(table, key)`
unsafe extern "C-unwind" fn next(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_table(1);
    state.set_top(2);
    look_behind(state, 1);
    if state.next(1) {
        return 2;
    }
    state.push_nil();
    1
}

/// `pairs(table)`: Lua's own `next` for what is no face, which its interpreter
/// runs faster than any call.
unsafe extern "C-unwind" fn pairs(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; `context` is only passed on.
    let (state, context) = unsafe { State::entered(lua) };
    state.check_table(1);
    state.set_top(1);
    match look_behind(state, 1) {
        true => {
            state.push_upvalue();
            state.push_native_with(next, context);
        }
        false => state.push_global(c"next"),
    }
    state.push_copy(1);
    state.push_nil();
    3
}

/// `table.insert(table, [place,] value)`
unsafe extern "C-unwind" fn insert(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.check_table(1);
    let mut end = state.raw_len(1) + 1;
    let count = state.top();
    if count != 2 && count != 3 {
        state.raise_text(b"wrong number of arguments to 'insert'");
    }
    let mut place = end;
    if count == 3 {
        let wanted = state.integer_argument(2);
        // Before the first place is as far as it goes.
        place = usize::try_from(wanted).unwrap_or(0);
        end = end.max(place);
    }
    refuse_face(state, 1);
    while end > place {
        state.get_item(1, end - 1);
        state.set_item_of(1, end);
        end -= 1;
    }
    state.set_top(count);
    state.set_item_of(1, place);
    0
}
