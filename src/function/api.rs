//! The native half of what a library sees: `redis.call` and its kin.
//!
//! `sandbox.lua` checks arguments and words errors where Lua is the better
//! language; here is what needs the engine. Each function keeps the discipline of
//! `raw.rs`: what it owns stands in the context.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};
use std::fmt::Write as _;
use std::io::Write as _;

use mlua::ffi::{lua_Debug, lua_State};

use super::context::{Context, Origin, Refusal, Registration};
use super::raw::{Kind, Native, State};
use super::script::hex_sha1;
use super::{convert, faces, json, msgpack, packing, strings, watchdog};
use crate::keyspace;

/// The native functions by the names that `sandbox.lua` knows.
const NATIVES: [(&CStr, Native); 14] = [
    (c"knows_command", knows_command),
    (c"record_effects", record_effects),
    (c"call", call),
    (c"pcall", pcall),
    (c"check_stack", check_stack),
    (c"check_time", check_time),
    (c"log", log),
    (c"random", random),
    (c"randomseed", randomseed),
    (c"register", register),
    (c"setresp", setresp),
    (c"sha1hex", sha1hex),
    (c"uncompiled", uncompiled),
    (c"code", code),
];

/// Pushes a table of every native function.
pub(super) fn push_natives(state: State, context: *mut Context) {
    state.push_table(0, NATIVES.len());
    for (name, native) in NATIVES {
        state.push_native(native, context);
        state.set_field(name);
    }
    strings::push_library(state, context);
    state.set_field(c"string");
    faces::push_library(state, context);
    state.set_field(c"faces");
    json::push_library(state, context, true);
    state.set_field(c"cjson");
    msgpack::push_library(state, context);
    state.set_field(c"cmsgpack");
    packing::push_library(state, context);
    state.set_field(c"struct");
}

/// `redis.call`: what the command refuses is raised.
unsafe extern "C-unwind" fn call(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    if !run_command(state, context) {
        state.raise();
    }
    1
}

/// `redis.pcall`: what the command refuses is returned.
unsafe extern "C-unwind" fn pcall(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    run_command(state, context);
    1
}

/// Executes a command and pushes its reply, or an error table and false.
fn run_command(state: State, context: &mut Context) -> bool {
    match context.execute(state, state.top()) {
        Ok(()) => {
            let protocol = context.protocol;
            if let Some(reply) = context.reply() {
                convert::push(state, reply.view(), protocol);
            }
            return true;
        }
        Err(refusal) => describe(&refusal, context),
    }
    if context.budget.was_spent() {
        state.arm(watch, 1);
    }
    state.push_table(0, 2);
    state.push_bytes(&context.text);
    state.set_field(c"err");
    state.push_boolean(true);
    state.set_field(c"ignore_error_stats_update");
    false
}

/// Says in the context's text what was refused. Owns nothing when it returns.
fn describe(refusal: &Refusal, context: &mut Context) {
    let last_words = context.last_words();
    let text = &mut context.text;
    text.clear();
    let written = match refusal {
        Refusal::Over => write!(text, "ERR {last_words}"),
        Refusal::Script(line) => text.write_all(line.as_bytes()),
        Refusal::Command(error) => write!(text, "{error}"),
        Refusal::Panicked => text.write_all(b"ERR the command failed"),
    };
    debug_assert!(written.is_ok(), "a vector takes every byte");
}

/// Raises when callbacks stand too deep in the thread's own stack.
unsafe extern "C-unwind" fn check_stack(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    if context.stack_is_deep() {
        state.push_bytes(b"stack overflow");
        state.raise();
    }
    0
}

/// Looks at the clock behind a function that may have taken long.
unsafe extern "C-unwind" fn check_time(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    if context.is_over() {
        end(state, context);
    }
    0
}

/// Ends a run whose time is up. From here on the hook raises at every single
/// instruction, so that no `pcall` of the script can go on.
pub(super) fn end(state: State, context: &Context) -> ! {
    state.arm(watch, 1);
    state.push_bytes(context.last_words().as_bytes());
    state.raise();
}

/// Bytes of a script's text that are logged, as in Redis.
const LOG_LINE_BYTES_MAX: usize = 1024;

/// `log(level, text)`, arguments checked by the sandbox. Of too many lines in a second
/// only the number is logged, with the next.
unsafe extern "C-unwind" fn log(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let Some(suppressed) = context.log_lines.pass() else { return 0 };
    if suppressed > 0 {
        tracing::warn!(suppressed, "function log: too many lines");
    }
    let text = state.bytes(2);
    let message = text[..text.len().min(LOG_LINE_BYTES_MAX)].escape_ascii();
    match state.number(1) as i64 {
        0 => tracing::debug!(%message, "function log"),
        1 => tracing::debug!(%message, "function log"),
        2 => tracing::info!(%message, "function log"),
        _ => tracing::warn!(%message, "function log"),
    }
    0
}

/// A number from 0 up to 1.
unsafe extern "C-unwind" fn random(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    state.push_number(context.random.next());
    1
}

/// `randomseed(seed)`.
unsafe extern "C-unwind" fn randomseed(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    context.random.seed(state.number(1) as i64 as u32);
    0
}

/// `register(name, callback, description, flag_bits)`: nil, or why not.
unsafe extern "C-unwind" fn register(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let name = state.bytes(1);
    let problem = match &context.loading {
        None => Some("redis.register_function can only be called on FUNCTION LOAD command"),
        Some(_) if !super::metadata::is_name(name) => Some(super::metadata::BAD_NAME),
        Some(loading) if loading.registrations.iter().any(|it| same_name(&it.name, name)) => {
            Some("Function already exists in the library")
        }
        Some(_) => None,
    };
    if let Some(problem) = problem {
        state.push_bytes(problem.as_bytes());
        return 1;
    }
    state.push_copy(2);
    let callback = state.anchor();
    if let Some(loading) = &mut context.loading {
        loading.registrations.push(Registration {
            name: text(name),
            description: text(state.bytes(3)),
            flag_bits: state.number(4) as u32,
            callback,
        });
    }
    state.push_nil();
    1
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn same_name(known: &str, name: &[u8]) -> bool {
    known.as_bytes().eq_ignore_ascii_case(name)
}

/// `setresp(2 or 3)`.
unsafe extern "C-unwind" fn setresp(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    context.protocol = match state.number(1) as i64 {
        3 => crate::resp::Protocol::Resp3,
        _ => crate::resp::Protocol::Resp2,
    };
    0
}

/// `sha1hex(text)`: forty hex digits.
unsafe extern "C-unwind" fn sha1hex(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.push_bytes(&hex_sha1(state.bytes(1)));
    1
}

/// `knows_command(name)`.
unsafe extern "C-unwind" fn knows_command(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, _) = unsafe { State::entered(lua) };
    state.push_boolean(keyspace::command(state.bytes(1)).is_some());
    1
}

/// `record_effects(true or false)`: whether the log hears of what follows.
unsafe extern "C-unwind" fn record_effects(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    context.records_effects = state.boolean(1);
    0
}

/// The text that loads.
unsafe extern "C-unwind" fn code(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    match &context.loading {
        Some(loading) => state.push_bytes(&loading.code),
        None => state.push_nil(),
    }
    1
}

/// `uncompiled(problem)`: ends a load because the text is no Lua.
unsafe extern "C-unwind" fn uncompiled(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    if let Some(loading) = &mut context.loading {
        loading.uncompiled = true;
    }
    state.raise()
}

/// Runs one call: builds keys and arguments, calls the Function, takes its reply.
pub(super) unsafe extern "C-unwind" fn drive_call(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; `context` is last used before the call.
    let (state, context) = unsafe { State::entered(lua) };
    let (keys, args) = context.inputs();
    match context.origin {
        Origin::Library => {
            state.push_anchored(context.callback);
            state.push_list(keys);
            state.push_list(args);
            state.call(2, 1);
        }
        Origin::Script => {
            state.push_anchored(context.script_globals);
            state.push_list(keys);
            state.set_field(c"KEYS");
            state.push_list(args);
            state.set_field(c"ARGV");
            state.pop(1);
            state.push_anchored(context.callback);
            state.call(0, 1);
        }
    }
    // SAFETY: Lua has returned, and the reference from before is not used again.
    let (state, context) = unsafe { State::entered(lua) };
    let before = context.answer.mark();
    if convert::read(state, &mut context.answer, context.protocol).is_err() {
        context.answer.truncate(before);
        context.answer.error("ERR reached lua stack limit");
    }
    0
}

/// Runs one load: the sandbox's loader of libraries or of scripts, which asks for
/// the code.
pub(super) unsafe extern "C-unwind" fn drive_load(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; `context` is last used before the call.
    let (state, context) = unsafe { State::entered(lua) };
    state.push_anchored(context.callback);
    state.call(0, 1);
    // SAFETY: Lua has returned, and the reference from before is not used again.
    let (state, context) = unsafe { State::entered(lua) };
    let script = state.anchor();
    if let Some(loading) = &mut context.loading {
        loading.script = script;
    }
    0
}

/// Sees every error that ends a run, where it was raised, and notes what Redis
/// would say. Calls nothing that allocates: Lua may be out of memory or of stack.
pub(super) unsafe extern "C-unwind" fn on_error(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; whoever raised does not use its own
    // reference again.
    let (state, context) = unsafe { State::entered(lua) };
    let failure = context.failure.insert(Vec::new());
    match state.kind(1) {
        Kind::Table if state.reserve(3) => {
            failure.extend_from_slice(error_field(state).unwrap_or(b"ERR unknown error"));
        }
        Kind::String => {
            failure.extend_from_slice(b"ERR ");
            failure.extend_from_slice(state.bytes(1));
        }
        Kind::Number => {
            let mut line = String::new();
            let written = write!(line, "ERR {}", state.number(1));
            debug_assert!(written.is_ok(), "a string takes every byte");
            failure.extend_from_slice(line.as_bytes());
        }
        Kind::Boolean if state.boolean(1) => failure.extend_from_slice(b"ERR true"),
        Kind::Boolean => failure.extend_from_slice(b"ERR false"),
        Kind::Nil => failure.extend_from_slice(b"ERR nil"),
        Kind::Table | Kind::Other => failure.extend_from_slice(b"ERR unknown error"),
    }
    context.failure_line = state.current_line(context.origin.chunk_name());
    1
}

/// The text under `err` of the error table at 1, if there is one. It stays in that table, so it
/// may be read until the handler returns. The key is found by walking, since
/// pushing it would allocate.
fn error_field<'a>(state: State) -> Option<&'a [u8]> {
    state.push_nil();
    while state.next(1) {
        if state.bytes(-2) == b"err" {
            let text = (state.kind(-1) == Kind::String).then(|| state.bytes(-1));
            state.pop(2);
            return text;
        }
        state.pop(1);
    }
    None
}

/// The hook, set by the watchdog: ends the call if its time is up, and otherwise
/// takes itself away until the watchdog comes again.
pub(super) unsafe extern "C-unwind" fn watch(lua: *mut lua_State, _: *mut lua_Debug) {
    // SAFETY: the context was published when the engine was made; the reference
    // is not used after this function has called back into Lua.
    let (state, context) = unsafe { State::hooked(lua) };
    if context.is_over() {
        end(state, context);
    }
    watchdog::unheard(|| state.disarm());
}
