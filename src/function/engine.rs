//! Libraries and their Functions: loading them, finding them, calling them.
//!
//! One Lua state serves all libraries, one call at a time. It is made with mlua;
//! loads and calls run on the raw handle (see `raw.rs`). The compiler of LuaJIT
//! is not opened: everything is interpreted, so a hook that the
//! watchdog sets fires at the very next instruction.

#![allow(unsafe_code, reason = "owns the Lua state and the context it points to")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};

use super::api;
use super::context::{Context, Loading, Registration};
use super::error::{CallError, Error, LoadError, Overrun};
use super::metadata::{self, Metadata};
use super::raw::{Anchor, Ended, State};
use super::watchdog::Watchdog;
use crate::keyspace::{Execution, Keyspace};

/// What Lua may use. Time is work of the thread that calls: a call is not ended
/// because the machine gave its core to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for one call. The watchdog looks twice in this time, and a call is
    /// ended after one to two of it.
    pub call_time_max: Duration,
    /// Time for the top level of a library.
    pub load_time_max: Duration,
    /// Memory of all libraries together, an idle engine's 200 KiB included.
    pub memory_bytes_max: u64,
}

impl Limits {
    /// 10 ms a call, Redis' 500 ms a load, 64 MiB.
    pub const DEFAULT: Limits = Limits {
        call_time_max: Duration::from_millis(10),
        load_time_max: Duration::from_millis(500),
        memory_bytes_max: 64 << 20,
    };
}

/// The watchdog looks no more often than this.
const WATCH_PERIOD_MIN: Duration = Duration::from_millis(1);

/// A loaded library.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its name; case matters.
    pub name: String,
    /// The whole text as loaded, first line included.
    pub code: Arc<str>,
    /// What it registered, in that order.
    pub functions: Vec<Function>,
}

/// A Function of a loaded library.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name; unique among all libraries, whatever the case.
    pub name: Box<str>,
    /// What it says of itself; empty if nothing.
    pub description: Box<str>,
    /// What it declared.
    pub flags: Flags,
    callback: Anchor,
}

/// The flags that a Function registered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Names as Redis lists them; the bits are those of `sandbox.lua`.
    const NAMES: [(&'static str, u32); 5] = [
        ("no-writes", 1),
        ("allow-oom", 2),
        ("allow-stale", 4),
        ("no-cluster", 8),
        ("allow-cross-slot-keys", 16),
    ];

    /// True when the Function may not call commands that write.
    pub fn no_writes(self) -> bool {
        self.0 & 1 != 0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(_, bit)| self.0 & bit != 0).map(|(name, _)| name)
    }
}

/// The Lua engine. See the module's header.
pub struct Engine {
    // Dropped before the context, which its functions point to.
    lua: Lua,
    context: ContextBox,
    state: State,
    driver: Anchor,
    loader: Anchor,
    load_driver: Anchor,
    on_error: Anchor,
    watchdog: Watchdog,
    limits: Limits,
    libraries: Vec<Library>,
    /// By name, and by library and name; as registered.
    index: HashMap<Box<str>, Target>,
}

/// Where a name leads: which library, which of its Functions.
#[derive(Clone, Copy, Debug)]
struct Target {
    library_index: usize,
    function_index: usize,
}

// SAFETY: nothing of Lua leaves the engine, so whoever holds `&mut Engine` is the
// only user of the state, on whatever thread. Lua keeps nothing in the thread; the
// reference counts inside of `Lua` are never shared. Pointers to keyspace and run
// are set only while `call` has them borrowed.
unsafe impl Send for Engine {}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("libraries", &self.libraries).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without libraries.
    ///
    /// # Errors
    /// [`Error::Start`] when the memory limit is too small for Lua itself;
    /// [`Error::Watchdog`] when there is no thread to be had.
    pub fn new(limits: Limits) -> Result<Engine, Error> {
        let period = (limits.call_time_max / 2).max(WATCH_PERIOD_MIN);
        let watchdog = Watchdog::start(period).map_err(Error::Watchdog)?;
        Engine::start(limits, watchdog).map_err(|error| Error::Start(error.to_string()))
    }

    fn start(limits: Limits, watchdog: Watchdog) -> mlua::Result<Engine> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT;
        let lua = Lua::new_with(libs, LuaOptions::new().catch_rust_panics(false))?;
        lua.set_memory_limit(usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX))?;
        let context = ContextBox::new();
        let pointer = context.0.as_ptr();
        let mut state = None;
        // SAFETY: runs protected, owns nothing, and leaves one table.
        let natives: mlua::Table = unsafe {
            lua.exec_raw((), |lua| {
                let it = State::new(lua);
                it.publish(pointer);
                it.push_table(0, api::NATIVES.len());
                for (name, native) in api::NATIVES {
                    it.push_native(native, pointer);
                    it.set_field(name);
                }
                state = Some(it);
            })
        }?;
        let state = state.ok_or(mlua::Error::StackError)?;
        let sandbox = lua.load(include_str!("sandbox.lua")).set_name("=sandbox");
        let loader: mlua::Function = sandbox.set_mode(ChunkMode::Text).call(natives)?;
        let mut anchors = [Anchor::NONE; 4];
        // SAFETY: runs protected, owns nothing, and leaves nothing.
        unsafe {
            lua.exec_raw::<()>(loader, |_| {
                anchors[0] = state.anchor();
                for (anchor, native) in
                    anchors[1..].iter_mut().zip([api::drive_call, api::drive_load, api::on_error])
                {
                    state.push_native(native, pointer);
                    *anchor = state.anchor();
                }
            })
        }?;
        let [loader, driver, load_driver, on_error] = anchors;
        Ok(Engine {
            lua,
            context,
            state,
            driver,
            loader,
            load_driver,
            on_error,
            watchdog,
            limits,
            libraries: Vec::new(),
            index: HashMap::new(),
        })
    }

    /// Loads a library from its text and returns its name. With `replace` it may
    /// take the place of one of the same name; when it fails, that one stays.
    ///
    /// # Errors
    /// [`LoadError`], in Redis' words.
    pub fn load(&mut self, code: &str, replace: bool) -> Result<String, LoadError> {
        let Metadata { library: name, body } = metadata::parse(code)?;
        let place = self.libraries.iter().position(|it| it.name == name);
        if place.is_some() && !replace {
            return Err(LoadError::LibraryExists(name));
        }
        let functions = self.run_load(body)?;
        let others = self.libraries.iter().enumerate().filter(|(index, _)| Some(*index) != place);
        let mut taken = others.flat_map(|(_, it)| &it.functions);
        let clash = taken.find(|it| functions.iter().any(|new| same_name(&new.name, &it.name)));
        if let Some(clash) = clash {
            let name = clash.name.to_string();
            self.release(&functions);
            return Err(LoadError::FunctionExists(name));
        }
        let library = Library { name: name.clone(), code: Arc::from(code), functions };
        match place {
            Some(place) => {
                let old = std::mem::replace(&mut self.libraries[place], library);
                self.release(&old.functions);
            }
            None => self.libraries.push(library),
        }
        self.rebuild_index();
        Ok(name)
    }

    /// True when a Function of this name can be called.
    pub fn has(&self, function: &str) -> bool {
        self.find(function).is_some()
    }

    /// The full names of all Functions, such as `limiter.decide`, sorted.
    pub fn functions(&self) -> Vec<String> {
        let full_names = |library: &Library| {
            let prefix = library.name.clone();
            library.functions.iter().map(move |it| format!("{prefix}.{}", it.name)).collect()
        };
        let mut names: Vec<String> =
            self.libraries.iter().flat_map(|it| -> Vec<String> { full_names(it) }).collect();
        names.sort_unstable();
        names
    }

    /// The loaded libraries, in the order of their first loading.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.libraries.iter()
    }

    /// Calls `function` with its keys and arguments. Its reply is then in
    /// `run.reply`; commands that it called stand in `run.effects`.
    ///
    /// The name is the Function's, in any case as Redis has it, or the library's
    /// and the Function's: `limiter.decide`.
    ///
    /// # Errors
    /// [`CallError`]. What the call wrote before is not undone here.
    pub fn call(
        &mut self,
        function: &str,
        keys: &[&[u8]],
        args: &[&[u8]],
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
    ) -> Result<(), CallError> {
        let target = self.find(function).ok_or(CallError::NotFound)?;
        let function = &self.libraries[target.library_index].functions[target.function_index];
        let base = 0_u8;
        let context = self.context.borrow();
        context.callback = function.callback;
        context.read_only = function.flags.no_writes();
        context.start(self.limits.call_time_max, (&raw const base).addr());
        // SAFETY: the borrows last until `leave`, and are not used before it.
        unsafe { context.enter(keyspace, run, keys, args) };
        let guard = self.watchdog.guard(self.state.pointer());
        let ended = self.state.call_protected(self.driver, self.on_error);
        drop(guard);
        self.settle(ended);
        let context = self.context.borrow();
        context.leave();
        match ended {
            Ended::Returned if !context.budget.was_spent() => Ok(()),
            _ => Err(self.call_error(ended, target)),
        }
    }

    /// Runs the top level of a library. What it registered is the caller's.
    fn run_load(&mut self, body: &str) -> Result<Vec<Function>, LoadError> {
        let base = 0_u8;
        let context = self.context.borrow();
        context.callback = self.loader;
        context.loading =
            Some(Loading { code: body.into(), registrations: Vec::new(), uncompiled: false });
        context.start(self.limits.load_time_max, (&raw const base).addr());
        let guard = self.watchdog.guard(self.state.pointer());
        let ended = self.state.call_protected(self.load_driver, self.on_error);
        drop(guard);
        self.settle(ended);
        let context = self.context.borrow();
        let Some(loading) = context.loading.take() else { return Err(LoadError::Empty) };
        let functions: Vec<Function> = loading.registrations.into_iter().map(Into::into).collect();
        let text = String::from_utf8_lossy(&context.failure).into_owned();
        let error = match ended {
            _ if context.budget.was_spent() => {
                LoadError::Register("ERR FUNCTION LOAD timeout".to_owned())
            }
            Ended::OutOfMemory => LoadError::Register("ERR not enough memory".to_owned()),
            Ended::Raised if loading.uncompiled => {
                LoadError::Compile(text.strip_prefix("ERR ").unwrap_or(&text).to_owned())
            }
            Ended::Raised => LoadError::Register(text),
            Ended::Returned if functions.is_empty() => LoadError::Empty,
            Ended::Returned => return Ok(functions),
        };
        self.release(&functions);
        Err(error)
    }

    /// Makes Lua fit for the next run.
    fn settle(&mut self, ended: Ended) {
        if self.context.borrow().budget.was_spent() {
            self.state.disarm();
        }
        if ended == Ended::OutOfMemory
            && let Err(error) = self.lua.gc_collect()
        {
            tracing::error!(%error, "cannot collect the garbage of a Function");
        }
    }

    fn call_error(&mut self, ended: Ended, target: Target) -> CallError {
        let function =
            self.libraries[target.library_index].functions[target.function_index].name.as_ref();
        let context = self.context.borrow();
        let overrun = match ended {
            _ if context.budget.was_spent() => Some(Overrun::Time(self.limits.call_time_max)),
            Ended::OutOfMemory => Some(Overrun::Memory(self.limits.memory_bytes_max)),
            Ended::Returned | Ended::Raised => None,
        };
        if let Some(overrun) = overrun {
            return CallError::Budget { function: function.to_owned(), overrun };
        }
        let mut line = one_line(&context.failure);
        line.push_str(&match context.failure_line {
            Some(at) => format!(" script: {function}, on @user_function:{at}."),
            // `return redis.call(…)` is a tail call, which leaves no line behind.
            None => format!(" script: {function}."),
        });
        CallError::Raised { line }
    }

    fn find(&self, name: &str) -> Option<Target> {
        if let Some(target) = self.index.get(name) {
            return Some(*target);
        }
        self.index.iter().find(|(known, _)| same_name(known, name)).map(|(_, target)| *target)
    }

    fn rebuild_index(&mut self) {
        self.index.clear();
        for (library_index, library) in self.libraries.iter().enumerate() {
            for (function_index, function) in library.functions.iter().enumerate() {
                let target = Target { library_index, function_index };
                self.index.insert(function.name.clone(), target);
                let full_name = format!("{}.{}", library.name, function.name);
                self.index.insert(full_name.into(), target);
            }
        }
    }

    fn release(&self, functions: &[Function]) {
        for function in functions {
            self.state.release(function.callback);
        }
    }
}

impl From<Registration> for Function {
    fn from(it: Registration) -> Function {
        Function {
            name: it.name,
            description: it.description,
            flags: Flags(it.flag_bits),
            callback: it.callback,
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Longest error line that is passed on: a Function may raise megabytes.
const ERROR_BYTES_MAX: usize = 4096;

/// Bytes from Lua as one line of text.
fn one_line(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "ERR error in error handling".to_owned();
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ERROR_BYTES_MAX)]);
    text.replace(['\r', '\n'], " ")
}

/// The context at an address that does not move with the engine.
struct ContextBox(NonNull<Context>);

impl ContextBox {
    fn new() -> ContextBox {
        ContextBox(NonNull::from(Box::leak(Box::new(Context::new()))))
    }

    /// The context, while Lua does not run.
    fn borrow(&mut self) -> &mut Context {
        // SAFETY: the engine owns it. Native functions refer to it only while Lua
        // runs, and the engine does not hold this borrow then.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for ContextBox {
    fn drop(&mut self) {
        // SAFETY: came from a box, and the Lua state that points to it is closed:
        // the engine's fields are dropped in order.
        unsafe { drop(Box::from_raw(self.0.as_ptr())) }
    }
}
