//! The engine: one Lua state, and how a text is loaded and a call is run in it.
//!
//! One state serves all libraries and scripts, one call at a time. It is made with
//! mlua; loads and calls run on the raw handle (see `raw.rs`). The compiler of
//! LuaJIT is not opened: everything is interpreted, so a hook that the watchdog
//! sets fires at the very next instruction.
//!
//! What libraries hold and how they are named is in `library`, scripts are in
//! `script`, the commands that clients send in `commands`.

#![allow(unsafe_code, reason = "owns the Lua state and the context it points to")]

use std::ptr::NonNull;
use std::time::Duration;

use hashbrown::HashMap;
use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};

use super::api;
use super::context::{Context, Loading, Origin};
use super::error::{CallError, Callee, Error, Overrun};
use super::library::{Library, Target};
use super::raw::{Anchor, Ended, State};
use super::script::{Scripts, Sha};
use super::watchdog::{Interrupter, Watchdog};
use crate::keyspace::{Execution, Keyspace};

/// What Lua may use. Time is work of the thread that calls: a call is not ended
/// because the machine gave its core to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for one call of [`Engine::call`]. The watchdog looks twice in this
    /// time, and a call is ended after one to two of it.
    pub call_time_max: Duration,
    /// Time for one call of a client's command: `busy-reply-threshold`. `None`
    /// never ends one.
    pub command_time_max: Option<Duration>,
    /// Time for the top level of a library.
    pub load_time_max: Duration,
    /// Memory of all libraries together, an idle engine's 200 KiB included.
    pub memory_bytes_max: u64,
}

impl Limits {
    /// 5 ms a call, Redis' 5 s a command and 500 ms a load, 64 MiB.
    pub const DEFAULT: Limits = Limits {
        call_time_max: Duration::from_millis(5),
        command_time_max: Some(Duration::from_secs(5)),
        load_time_max: Duration::from_millis(500),
        memory_bytes_max: 64 << 20,
    };
}

/// The watchdog looks no more often than this.
const WATCH_PERIOD_MIN: Duration = Duration::from_millis(1);

/// The Lua engine. See the module's header.
pub struct Engine {
    // Dropped before the context, which its functions point to.
    lua: Lua,
    context: ContextBox,
    state: State,
    anchors: Anchors,
    watchdog: Watchdog,
    pub(super) limits: Limits,
    pub(super) libraries: Vec<Library>,
    /// By name, and by library and name; as registered.
    pub(super) index: HashMap<Box<str>, Target>,
    pub(super) scripts: Scripts,
}

/// What the engine itself keeps in Lua.
#[derive(Clone, Copy, Debug)]
struct Anchors {
    library_loader: Anchor,
    script_loader: Anchor,
    call_driver: Anchor,
    load_driver: Anchor,
    on_error: Anchor,
}

/// What a call runs, and under which rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) what: What,
    pub(super) callback: Anchor,
    pub(super) read_only: bool,
    /// There is no memory for its first command that needs some.
    pub(super) is_full: bool,
    pub(super) time_max: Duration,
}

/// A Function or a script, to be named when a call fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Function(Target),
    Script(Sha),
}

/// Why a text was not loaded.
#[derive(Debug)]
pub(super) enum LoadFault {
    /// The compiler's words.
    Compile(String),
    /// The words of the error that its top level raised, code first.
    Run(String),
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
        let mut context = ContextBox::new(watchdog.interrupter());
        let pointer = context.0.as_ptr();
        let mut state = None;
        // SAFETY: runs protected, owns nothing, and leaves one table.
        let natives: mlua::Table = unsafe {
            lua.exec_raw((), |lua| {
                let it = State::new(lua);
                it.publish(pointer);
                api::push_natives(it, pointer);
                state = Some(it);
            })
        }?;
        let state = state.ok_or(mlua::Error::StackError)?;
        let sandbox = lua.load(include_str!("sandbox.lua")).set_name("=sandbox");
        let built: (mlua::Function, mlua::Function, mlua::Table) =
            sandbox.set_mode(ChunkMode::Text).call(natives)?;
        let mut anchors = [Anchor::NONE; 6];
        // SAFETY: runs protected, owns nothing, and leaves nothing.
        unsafe {
            lua.exec_raw::<()>(built, |_| {
                for anchor in anchors[..3].iter_mut().rev() {
                    *anchor = state.anchor();
                }
                for (anchor, native) in
                    anchors[3..].iter_mut().zip([api::drive_call, api::drive_load, api::on_error])
                {
                    state.push_native(native, pointer);
                    *anchor = state.anchor();
                }
            })
        }?;
        let [library_loader, script_loader, globals, call_driver, load_driver, on_error] = anchors;
        context.borrow().script_globals = globals;
        Ok(Engine {
            lua,
            context,
            state,
            anchors: Anchors { library_loader, script_loader, call_driver, load_driver, on_error },
            watchdog,
            limits,
            libraries: Vec::new(),
            index: HashMap::new(),
            scripts: Scripts::default(),
        })
    }

    /// The way to end a call while it runs.
    pub fn interrupter(&self) -> Interrupter {
        self.watchdog.interrupter()
    }

    /// Calls `function` with its keys and arguments, within the time of a policy's
    /// call. Its reply is then in `run.reply`, behind what was there; commands that
    /// it called stand in `run.effects`.
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
        let function = self.function(target);
        let job = Job {
            what: What::Function(target),
            callback: function.callback,
            read_only: function.flags.no_writes(),
            is_full: false,
            time_max: self.limits.call_time_max,
        };
        self.perform(&job, keys, args, keyspace, run)
    }

    /// Runs a Function or a script to its end.
    pub(super) fn perform(
        &mut self,
        job: &Job,
        keys: &[&[u8]],
        args: &[&[u8]],
        keyspace: &mut Keyspace,
        run: &mut Execution<'_>,
    ) -> Result<(), CallError> {
        let base = 0_u8;
        let context = self.context.borrow();
        context.callback = job.callback;
        context.read_only = job.read_only;
        context.is_full = job.is_full;
        context.origin = match job.what {
            What::Function(_) => Origin::Library,
            What::Script(_) => Origin::Script,
        };
        context.start(job.time_max, (&raw const base).addr());
        // SAFETY: the borrows last until `leave`, and are not used before it.
        unsafe { context.enter(keyspace, run, keys, args) };
        let is_script = matches!(job.what, What::Script(_));
        let guard = self.watchdog.guard(self.state.pointer(), is_script);
        let ended = self.state.call_protected(self.anchors.call_driver, self.anchors.on_error);
        drop(guard);
        self.settle(ended);
        let context = self.context.borrow();
        context.leave(run);
        match ended {
            Ended::Returned if !context.budget.was_spent() => Ok(()),
            _ => Err(self.call_error(ended, job)),
        }
    }

    /// Runs the top level of a library, or compiles a script, and hands over what
    /// came of it.
    pub(super) fn load_text(&mut self, origin: Origin, code: &[u8]) -> Result<Loading, LoadFault> {
        let base = 0_u8;
        let context = self.context.borrow();
        context.origin = origin;
        context.callback = match origin {
            Origin::Library => self.anchors.library_loader,
            Origin::Script => self.anchors.script_loader,
        };
        context.loading = Some(Loading::new(code));
        context.start(self.limits.load_time_max, (&raw const base).addr());
        let guard = self.watchdog.guard(self.state.pointer(), origin == Origin::Script);
        let ended = self.state.call_protected(self.anchors.load_driver, self.anchors.on_error);
        drop(guard);
        self.settle(ended);
        let context = self.context.borrow();
        let loading = context.loading.take().unwrap_or_else(|| Loading::new(b""));
        let text = String::from_utf8_lossy(&context.failure).into_owned();
        let fault = match ended {
            _ if context.budget.was_spent() => {
                LoadFault::Run("ERR FUNCTION LOAD timeout".to_owned())
            }
            Ended::OutOfMemory => LoadFault::Run("ERR not enough memory".to_owned()),
            Ended::Raised if loading.uncompiled => {
                LoadFault::Compile(text.strip_prefix("ERR ").unwrap_or(&text).to_owned())
            }
            Ended::Raised => LoadFault::Run(text),
            Ended::Returned => return Ok(loading),
        };
        for registration in &loading.registrations {
            self.state.release(registration.callback);
        }
        Err(fault)
    }

    /// Forgets something kept in Lua.
    pub(super) fn release(&self, anchor: Anchor) {
        self.state.release(anchor);
    }

    /// Makes Lua fit for the next run. A run that failed may have filled the
    /// memory, whatever it was that failed at last.
    fn settle(&mut self, ended: Ended) {
        if self.context.borrow().budget.was_spent() {
            self.state.disarm();
        }
        let is_half_full = || self.lua.used_memory() as u64 > self.limits.memory_bytes_max / 2;
        if (ended == Ended::OutOfMemory || ended == Ended::Raised && is_half_full())
            && let Err(error) = self.lua.gc_collect()
        {
            tracing::error!(%error, "cannot collect the garbage of a Function");
        }
    }

    fn call_error(&mut self, ended: Ended, job: &Job) -> CallError {
        let callee = match job.what {
            What::Function(target) => Callee::Function(self.function(target).name.clone()),
            What::Script(sha) => Callee::Script(sha),
        };
        let context = self.context.borrow();
        let overrun = match ended {
            _ if context.was_killed => None,
            _ if context.budget.was_spent() => Some(Overrun::Time(job.time_max)),
            Ended::OutOfMemory => Some(Overrun::Memory(self.limits.memory_bytes_max)),
            Ended::Returned | Ended::Raised => None,
        };
        if let Some(overrun) = overrun {
            return CallError::Budget { callee, overrun };
        }
        let mut line = one_line(&context.failure);
        line.extend_from_slice(format!(" script: {callee}").as_bytes());
        if let Some(at) = context.failure_line {
            let chunk = context.origin.chunk_name().to_string_lossy();
            line.extend_from_slice(format!(", on {chunk}:{at}").as_bytes());
        }
        line.push(b'.');
        match context.was_killed {
            true => CallError::Killed { line },
            false => CallError::Raised { line },
        }
    }
}

/// Longest error line that is passed on: a Function may raise megabytes.
const ERROR_BYTES_MAX: usize = 4096;

/// What Lua raised, on one line. Where the stack was too full even for the handler
/// that notes the text, nothing was noted.
fn one_line(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return b"ERR stack overflow".to_vec();
    }
    let mut line = bytes[..bytes.len().min(ERROR_BYTES_MAX)].to_vec();
    line.iter_mut().filter(|it| matches!(it, b'\r' | b'\n')).for_each(|it| *it = b' ');
    line
}

/// The context at an address that does not move with the engine.
struct ContextBox(NonNull<Context>);

impl ContextBox {
    fn new(interrupter: Interrupter) -> ContextBox {
        ContextBox(NonNull::from(Box::leak(Box::new(Context::new(interrupter)))))
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
