//! The one file that touches Lua's C API on the hot path.
//!
//! A call of a Function through mlua's safe API costs three times what it costs
//! here, so state and libraries are made with mlua and calls run on this thin
//! handle. Everything unsafe about Lua is named here once:
//!
//! # The discipline
//!
//! 1. Whatever allocates in Lua may raise, and raising unwinds the Rust frames
//!    between the raise and the protected call. **No value with a destructor is
//!    alive in such a frame**: native functions keep what they own in the
//!    [`Context`], and hold borrows and `Copy` values only. Methods that can raise
//!    say so.
//! 2. Native functions run inside a protected call, with the context as their
//!    first upvalue. Nobody else holds a reference to the context meanwhile: the
//!    engine passes a raw pointer and does not touch it until Lua has returned,
//!    and a native function does not use its own reference after it has called
//!    back into Lua.
//! 3. Pushes are balanced, and stay within the twenty slots that Lua grants a
//!    native function unless [`State::reserve`] asked for more.
//! 4. Bytes of a Lua string are borrowed for as long as the string stands on the
//!    stack, no longer.
//! 5. A Rust panic does not cross Lua: [`Context`] catches it where a command is
//!    executed, and the engine resumes it after the protected call.

#![allow(unsafe_code, reason = "the C API of Lua; see the discipline above")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::slice;

use mlua::ffi::{self, lua_State};

use super::context::Context;
use crate::keyspace::Arg;

/// A function that Lua can call.
pub(super) type Native = unsafe extern "C-unwind" fn(*mut lua_State) -> c_int;

/// A value kept in Lua's registry, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor(c_int);

impl Anchor {
    /// Keeps nothing; pushing it pushes nil.
    pub(super) const NONE: Anchor = Anchor(ffi::LUA_NOREF);
}

/// What stands at an index of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nil,
    Boolean,
    Number,
    String,
    Table,
    /// Function, thread or userdata: nothing that Redis knows.
    Other,
}

/// How a protected call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Returned,
    Raised,
    OutOfMemory,
}

/// A Lua state, in a place where calling it is allowed. Copying it is free.
///
/// Whoever makes one promises the discipline of the module's header; that is
/// why making one is unsafe and using it is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct State(*mut lua_State);

/// The address of this marks the context in Lua's registry, for the hook.
static CONTEXT_KEY: u8 = 0;

impl State {
    /// A handle on `state`.
    ///
    /// # Safety
    /// `state` is alive for as long as the handle is used, and the user keeps
    /// the discipline of the module's header.
    pub(super) unsafe fn new(state: *mut lua_State) -> State {
        State(state)
    }

    /// What a native function finds when Lua enters it.
    ///
    /// # Safety
    /// To be called once at the start of a native function that was pushed with
    /// [`State::push_native`], or again after it has called back into Lua, when
    /// the earlier reference is no longer used.
    pub(super) unsafe fn entered<'a>(state: *mut lua_State) -> (State, &'a mut Context) {
        // SAFETY: upvalue 1 was set by `push_native` to a context that outlives
        // the state, and by the discipline nobody else refers to it now.
        unsafe {
            let context = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1));
            (State(state), &mut *context.cast::<Context>())
        }
    }

    /// What the hook finds: it has no upvalues, so the registry knows the context.
    ///
    /// # Safety
    /// To be called once at the start of a hook, after [`State::publish`].
    pub(super) unsafe fn hooked<'a>(state: *mut lua_State) -> (State, &'a mut Context) {
        // SAFETY: `publish` put the context there. Neither call allocates.
        unsafe {
            ffi::lua_pushlightuserdata(state, (&raw const CONTEXT_KEY).cast_mut().cast());
            ffi::lua_rawget_(state, ffi::LUA_REGISTRYINDEX);
            let context = ffi::lua_touserdata(state, -1);
            ffi::lua_settop(state, -2);
            (State(state), &mut *context.cast::<Context>())
        }
    }

    /// Makes the context known to hooks. May raise.
    pub(super) fn publish(self, context: *mut Context) {
        // SAFETY: two pushes, popped by rawset.
        unsafe {
            ffi::lua_pushlightuserdata(self.0, (&raw const CONTEXT_KEY).cast_mut().cast());
            ffi::lua_pushlightuserdata(self.0, context.cast());
            ffi::lua_rawset(self.0, ffi::LUA_REGISTRYINDEX);
        }
    }

    /// Says when the collector begins its next cycle, in percent of what the last one
    /// left.
    pub(super) fn pace_collector(self, pause: c_int) {
        // SAFETY: sets a number.
        unsafe { ffi::lua_gc(self.0, ffi::LUA_GCSETPAUSE, pause) };
    }

    /// Pushes a native function that will find `context`. May raise.
    pub(super) fn push_native(self, function: Native, context: *mut Context) {
        // SAFETY: one upvalue is pushed and taken.
        unsafe {
            ffi::lua_pushlightuserdata(self.0, context.cast::<c_void>());
            ffi::lua_pushcclosure(self.0, function, 1);
        }
    }

    /// Calls `hook` after every `instruction_count` instructions.
    pub(super) fn arm(self, hook: ffi::lua_Hook, instruction_count: c_int) {
        // SAFETY: setting a hook is allowed at any time on the running thread.
        unsafe {
            ffi::lua_sethook(self.0, Some(hook), ffi::LUA_MASKCOUNT, instruction_count);
        }
    }

    /// Takes the hook away.
    pub(super) fn disarm(self) {
        // SAFETY: as for setting one.
        unsafe { ffi::lua_sethook(self.0, None, 0, 0) };
    }

    /// The pointer, for the watchdog.
    pub(super) fn pointer(self) -> *mut lua_State {
        self.0
    }

    /// The number of values on the stack of this function.
    pub(super) fn top(self) -> c_int {
        // SAFETY: reads only.
        unsafe { ffi::lua_gettop(self.0) }
    }

    /// Cuts the stack to `top` values.
    pub(super) fn set_top(self, top: c_int) {
        // SAFETY: by the discipline `top` is at most the present top.
        unsafe { ffi::lua_settop(self.0, top) }
    }

    /// Drops the topmost values.
    pub(super) fn pop(self, count: c_int) {
        // SAFETY: by the discipline there are that many.
        unsafe { ffi::lua_settop(self.0, -count - 1) }
    }

    /// Makes room for `count` more values. False when the stack is at its limit.
    /// May raise.
    pub(super) fn reserve(self, count: c_int) -> bool {
        // SAFETY: grows the stack or says no.
        unsafe { ffi::lua_checkstack(self.0, count) != 0 }
    }

    /// What stands at `index`.
    pub(super) fn kind(self, index: c_int) -> Kind {
        // SAFETY: reads only; an index past the top reads as none.
        match unsafe { ffi::lua_type(self.0, index) } {
            ffi::LUA_TNIL | ffi::LUA_TNONE => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            _ => Kind::Other,
        }
    }

    /// The bytes of the string at `index`, borrowed while it stands there. Empty
    /// if no string does: a number is not converted, so this never allocates.
    pub(super) fn bytes<'a>(self, index: c_int) -> &'a [u8] {
        if self.kind(index) != Kind::String {
            return &[];
        }
        let mut len = 0;
        // SAFETY: a string is there, so its pointer is returned as it is; it
        // stays valid while the string is on the stack (discipline, 4).
        unsafe {
            let start = ffi::lua_tolstring(self.0, index, &raw mut len);
            slice::from_raw_parts(start.cast::<u8>(), len)
        }
    }

    /// What a command is given: the bytes or the number at `index`, if either
    /// stands there. Looks once, because this is done for every argument.
    pub(super) fn argument<'a>(self, index: c_int) -> Option<Arg<'a>> {
        let mut len = 0;
        // SAFETY: as for `bytes` and `number`; only a string is asked for its bytes.
        unsafe {
            match ffi::lua_type(self.0, index) {
                ffi::LUA_TSTRING => {
                    let start = ffi::lua_tolstring(self.0, index, &raw mut len);
                    Some(Arg::Bytes(slice::from_raw_parts(start.cast::<u8>(), len)))
                }
                ffi::LUA_TNUMBER => Some(Arg::Number(ffi::lua_tonumber(self.0, index))),
                _ => None,
            }
        }
    }

    /// The number at `index`, or 0 if none is there.
    pub(super) fn number(self, index: c_int) -> f64 {
        // SAFETY: reads only.
        unsafe { ffi::lua_tonumber(self.0, index) }
    }

    /// True unless false or nil stands at `index`.
    pub(super) fn boolean(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe { ffi::lua_toboolean(self.0, index) != 0 }
    }

    /// Pushes nil.
    pub(super) fn push_nil(self) {
        // SAFETY: one slot.
        unsafe { ffi::lua_pushnil(self.0) }
    }

    /// Pushes a boolean.
    pub(super) fn push_boolean(self, value: bool) {
        // SAFETY: one slot.
        unsafe { ffi::lua_pushboolean(self.0, c_int::from(value)) }
    }

    /// Pushes a number.
    pub(super) fn push_number(self, value: f64) {
        // SAFETY: one slot.
        unsafe { ffi::lua_pushnumber(self.0, value) }
    }

    /// Pushes a string. May raise.
    pub(super) fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: Lua copies the bytes; the pointer of an empty slice is not read.
        unsafe { ffi::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Pushes a copy of the value at `index`.
    pub(super) fn push_copy(self, index: c_int) {
        // SAFETY: one slot.
        unsafe { ffi::lua_pushvalue(self.0, index) }
    }

    /// Pushes an empty table with room for list and named entries. May raise.
    pub(super) fn push_table(self, list_len: usize, named_len: usize) {
        // SAFETY: one slot; sizes are hints, bounded by what Lua can address.
        unsafe { ffi::lua_createtable(self.0, hint(list_len), hint(named_len)) }
    }

    /// Pushes an array of strings. May raise.
    pub(super) fn push_list(self, items: &[&[u8]]) {
        self.push_table(items.len(), 0);
        for (index, item) in items.iter().enumerate() {
            self.push_bytes(item);
            self.set_item(index + 1);
        }
    }

    /// Pops a value into place `position`, from 1, of the table below it. May raise.
    pub(super) fn set_item(self, position: usize) {
        // SAFETY: by the discipline a table is there.
        unsafe { ffi::lua_rawseti_(self.0, -2, hint(position)) }
    }

    /// Pops a value into the field `name` of the table below it, which has no
    /// metatable. May raise.
    pub(super) fn set_field(self, name: &CStr) {
        // SAFETY: by the discipline a table is there.
        unsafe { ffi::lua_setfield(self.0, -2, name.as_ptr()) }
    }

    /// Pops a value and the key below it into the table below both. May raise.
    pub(super) fn set_pair(self) {
        // SAFETY: by the discipline a table is there, and the key is not nil.
        unsafe { ffi::lua_rawset(self.0, -3) }
    }

    /// Pops a value and the key below it into the table at `table`. May raise.
    pub(super) fn set_pair_of(self, table: c_int) {
        // SAFETY: by the discipline a table is there, and the key is not nil.
        unsafe { ffi::lua_rawset(self.0, table) }
    }

    /// Pops a value into place `position` of the table at `table`. May raise.
    pub(super) fn set_item_of(self, table: c_int, position: usize) {
        // SAFETY: by the discipline a table is there.
        unsafe { ffi::lua_rawseti_(self.0, table, hint(position)) }
    }

    /// Pushes what the state's own globals, which no script sees, hold under `name`.
    pub(super) fn push_global(self, name: &CStr) {
        // SAFETY: one slot; those globals have no metatable.
        unsafe { ffi::lua_getfield_(self.0, ffi::LUA_GLOBALSINDEX, name.as_ptr()) };
    }

    /// Replaces the key on top by what the table at `table` holds under it,
    /// metatables aside.
    pub(super) fn get(self, table: c_int) {
        // SAFETY: by the discipline a table is there.
        unsafe { ffi::lua_rawget_(self.0, table) }
    }

    /// Pushes place `position` of the table at `table`.
    pub(super) fn get_item(self, table: c_int, position: usize) {
        // SAFETY: by the discipline a table is there.
        unsafe { ffi::lua_rawgeti_(self.0, table, hint(position)) }
    }

    /// Pops a key and pushes the next pair of the table at `table`; false, and
    /// nothing pushed, at its end. May raise.
    pub(super) fn next(self, table: c_int) -> bool {
        // SAFETY: by the discipline a table is there, and the key came from it.
        unsafe { ffi::lua_next(self.0, table) != 0 }
    }

    /// Takes the topmost value into the registry. May raise.
    pub(super) fn anchor(self) -> Anchor {
        // SAFETY: pops one value.
        Anchor(unsafe { ffi::luaL_ref(self.0, ffi::LUA_REGISTRYINDEX) })
    }

    /// Forgets an anchored value. Never raises: the place in the registry exists.
    pub(super) fn release(self, anchor: Anchor) {
        // SAFETY: the registry is a table; a negative reference is ignored.
        unsafe { ffi::luaL_unref(self.0, ffi::LUA_REGISTRYINDEX, anchor.0) }
    }

    /// Pushes an anchored value.
    pub(super) fn push_anchored(self, anchor: Anchor) {
        // SAFETY: one slot; an unknown reference reads as nil.
        unsafe { ffi::lua_rawgeti_(self.0, ffi::LUA_REGISTRYINDEX, anchor.0) }
    }

    /// Calls the function below its arguments. May raise, and runs anything.
    pub(super) fn call(self, arg_count: c_int, result_count: c_int) {
        // SAFETY: by the discipline function and arguments are there, and the
        // caller owns nothing that an unwinding would have to drop.
        unsafe { ffi::lua_call(self.0, arg_count, result_count) }
    }

    /// Calls the function `driver` without arguments; `on_error` sees what it
    /// raises. Leaves the stack as it was. Never raises.
    pub(super) fn call_protected(self, driver: Anchor, on_error: Anchor) -> Ended {
        let top = self.top();
        self.push_anchored(on_error);
        self.push_anchored(driver);
        // SAFETY: function and handler are there; what is raised ends here.
        let status = unsafe { ffi::lua_pcall(self.0, 0, 0, top + 1) };
        self.set_top(top);
        match status {
            ffi::LUA_OK => Ended::Returned,
            ffi::LUA_ERRMEM => Ended::OutOfMemory,
            _ => Ended::Raised,
        }
    }

    /// Raises the topmost value as an error.
    pub(super) fn raise(self) -> ! {
        // SAFETY: a value is there, and the caller owns nothing with a destructor.
        unsafe { ffi::lua_error(self.0) }
    }

    /// Raises `text` with the position of the Lua function that called this native
    /// one before it, if it was one.
    pub(super) fn raise_text(self, text: &[u8]) -> ! {
        self.raise_text_at(1, text)
    }

    /// Like [`State::raise_text`], with the position `level` calls up.
    pub(super) fn raise_text_at(self, level: c_int, text: &[u8]) -> ! {
        // SAFETY: `where` pushes one string, and both are joined into one.
        unsafe { ffi::luaL_where(self.0, level) };
        self.push_bytes(text);
        // SAFETY: as above.
        unsafe { ffi::lua_concat(self.0, 2) };
        self.raise()
    }

    /// Raises what Lua says of a bad argument.
    pub(super) fn raise_argument(self, index: c_int, problem: &CStr) -> ! {
        // SAFETY: the text is copied; the function does not return.
        unsafe { ffi::luaL_argerror(self.0, index, problem.as_ptr()) };
        self.raise()
    }

    /// The string argument at `index`; a number becomes one. Raises for others.
    pub(super) fn text_argument<'a>(self, index: c_int) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: returns only with a string at `index`, which stays valid while
        // it stands there (discipline, 4).
        unsafe {
            let start = ffi::luaL_checklstring(self.0, index, &raw mut len);
            slice::from_raw_parts(start.cast::<u8>(), len)
        }
    }

    /// The number argument at `index`, or what a string says. Raises for others.
    pub(super) fn number_argument(self, index: c_int) -> f64 {
        // SAFETY: reads, or raises.
        unsafe { ffi::luaL_checknumber(self.0, index) }
    }

    /// Like [`State::number_argument`], cut to an integer.
    pub(super) fn integer_argument(self, index: c_int) -> i64 {
        // SAFETY: reads, or raises.
        unsafe { ffi::luaL_checkinteger(self.0, index) as i64 }
    }

    /// Like [`State::integer_argument`]; `default` for nil and for none.
    pub(super) fn integer_argument_or(self, index: c_int, default: i64) -> i64 {
        match self.kind(index) {
            Kind::Nil => default,
            _ => self.integer_argument(index),
        }
    }

    /// Raises unless a table stands at `index`.
    pub(super) fn check_table(self, index: c_int) {
        // SAFETY: reads, or raises.
        unsafe { ffi::luaL_checktype(self.0, index, ffi::LUA_TTABLE) };
    }

    /// Raises when nothing, not even nil, stands at `index`.
    pub(super) fn check_any(self, index: c_int) {
        // SAFETY: reads, or raises.
        unsafe { ffi::luaL_checkany(self.0, index) };
    }

    /// True when nothing, not even nil, stands at `index`.
    pub(super) fn is_none(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe { ffi::lua_type(self.0, index) == ffi::LUA_TNONE }
    }

    /// True when `index` holds the light userdata that stands for JSON's null.
    pub(super) fn is_null(self, index: c_int) -> bool {
        // SAFETY: reads only.
        unsafe {
            ffi::lua_type(self.0, index) == ffi::LUA_TLIGHTUSERDATA
                && ffi::lua_touserdata(self.0, index).is_null()
        }
    }

    /// Pushes the light userdata that stands for JSON's null.
    pub(super) fn push_null(self) {
        // SAFETY: one slot.
        unsafe { ffi::lua_pushlightuserdata(self.0, std::ptr::null_mut()) }
    }

    /// What Lua calls the type of the value at `index`.
    pub(super) fn type_name(self, index: c_int) -> &'static CStr {
        // SAFETY: the names are static texts.
        unsafe { CStr::from_ptr(ffi::lua_typename(self.0, ffi::lua_type(self.0, index))) }
    }

    /// The length of the string or table at `index`, metatables aside.
    pub(super) fn raw_len(self, index: c_int) -> usize {
        // SAFETY: reads only.
        unsafe { ffi::lua_objlen(self.0, index) }
    }

    /// Moves the topmost value to `index`, and what stood there and above up.
    pub(super) fn insert(self, index: c_int) {
        // SAFETY: by the discipline `index` is on the stack.
        unsafe { ffi::lua_insert(self.0, index) }
    }

    /// Pops the topmost value into the place of the one at `index`.
    pub(super) fn replace(self, index: c_int) {
        // SAFETY: by the discipline `index` is on the stack.
        unsafe { ffi::lua_replace(self.0, index) }
    }

    /// Pushes the metatable of the value at `index`; false, and nothing pushed, if
    /// it has none.
    pub(super) fn metatable(self, index: c_int) -> bool {
        // SAFETY: one slot.
        unsafe { ffi::lua_getmetatable(self.0, index) != 0 }
    }

    /// Pops a table or nil and makes it the metatable of the table at `index`.
    pub(super) fn set_metatable(self, index: c_int) {
        // SAFETY: by the discipline a table is there, and a table or nil on top.
        unsafe { ffi::lua_setmetatable(self.0, index) };
    }

    /// Pushes a native function that finds `context` and, as its second upvalue,
    /// the value on top, which is popped. May raise.
    pub(super) fn push_native_with(self, function: Native, context: *mut Context) {
        // SAFETY: two upvalues are on the stack and taken.
        unsafe {
            ffi::lua_pushlightuserdata(self.0, context.cast::<c_void>());
            ffi::lua_insert(self.0, -2);
            ffi::lua_pushcclosure(self.0, function, 2);
        }
    }

    /// Pushes the second upvalue of the running native function.
    pub(super) fn push_upvalue(self) {
        // SAFETY: one slot; the function was pushed with it.
        unsafe { ffi::lua_pushvalue(self.0, ffi::lua_upvalueindex(2)) }
    }

    /// Pushes a userdata that holds `value`. May raise.
    pub(super) fn push_plain<T: Plain>(self, value: T) {
        // SAFETY: the memory is fresh, of that size, aligned to 16 bytes, and
        // plain values need no destructor.
        unsafe {
            let place = ffi::lua_newuserdata(self.0, size_of::<T>());
            place.cast::<T>().write(value);
        }
    }

    /// The second upvalue of the running native function, which was pushed with
    /// [`State::push_plain`] as a `T`.
    ///
    /// # Safety
    /// The upvalue is such a userdata, and no other reference to it is alive.
    pub(super) unsafe fn plain_upvalue<'a, T: Plain>(self) -> &'a mut T {
        // SAFETY: promised by the caller.
        unsafe { &mut *ffi::lua_touserdata(self.0, ffi::lua_upvalueindex(2)).cast::<T>() }
    }

    /// The line that runs in the innermost function of the chunk `source`.
    pub(super) fn current_line(self, source: &CStr) -> Option<u32> {
        let mut level = 0;
        loop {
            let mut activation = MaybeUninit::<ffi::lua_Debug>::zeroed();
            // SAFETY: getstack fills in which activation is meant, getinfo the
            // fields that belong to `S` and `l`; the all-zero record is valid
            // (null pointers and numbers), and `source` is a C string while the
            // function is on the stack.
            let (found, line) = unsafe {
                if ffi::lua_getstack(self.0, level, activation.as_mut_ptr()) == 0 {
                    return None;
                }
                let what = c"Sl";
                if ffi::lua_getinfo(self.0, what.as_ptr(), activation.as_mut_ptr()) == 0 {
                    return None;
                }
                let activation = activation.assume_init_ref();
                (CStr::from_ptr(activation.source) == source, activation.currentline)
            };
            if found {
                return u32::try_from(line).ok();
            }
            level += 1;
        }
    }
}

/// Values that Lua may keep in a userdata: no destructor, no more than 16 bytes
/// of alignment.
pub(super) trait Plain: Copy + 'static {}

/// Sizes and positions as Lua counts them.
fn hint(count: usize) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}
