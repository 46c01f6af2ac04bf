//! One Lua state with its sandbox, and how a text is loaded and a call is run in it.
//!
//! Each library has a state of its own, and all scripts share one. So what a library
//! keeps, its memory and its garbage are its own affair: one that has filled its
//! memory fails alone, and two cannot reach each other at all.
//!
//! A state is made with mlua; loads and calls run on the raw handle (see `raw.rs`).
//! The compiler of LuaJIT is not opened: everything is interpreted, so a hook that
//! the watchdog sets fires at the very next instruction.
//!
//! Not here: which library is asked, and what becomes of what a call wrote.

#![allow(unsafe_code, reason = "owns the Lua state and the context it points to")]

use std::ptr::NonNull;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib};

use super::api;
use super::context::{Context, Loading, Origin};
use super::error::Callee;
use super::random::Random;
use super::raw::{Anchor, Ended, State};
use super::watchdog::{Interrupter, Kind, Watchdog};
use crate::keyspace::{Execution, Keyspace};
use crate::resp::until_zero;

/// How far memory grows, in percent of what a full cycle left, before the collector
/// begins the next one. Lua's own 200 marks what a library keeps twice as often.
const COLLECTOR_PAUSE: i32 = 400;

/// A Lua state. See the module's header.
pub(super) struct Vm {
    // Dropped before the context, which its functions point to.
    lua: Lua,
    context: ContextBox,
    state: State,
    anchors: Anchors,
    memory_bytes_max: u64,
}

/// What a state keeps in Lua.
#[derive(Clone, Copy, Debug)]
struct Anchors {
    library_loader: Anchor,
    script_loader: Anchor,
    call_driver: Anchor,
    load_driver: Anchor,
    on_error: Anchor,
}

/// What one call runs, and under which rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) origin: Origin,
    pub(super) kind: Kind,
    pub(super) callback: Anchor,
    pub(super) read_only: bool,
    /// There is no memory for its first command that needs some.
    pub(super) is_full: bool,
    pub(super) time_max: Duration,
}

/// What commands run in while a call does, and with what.
pub(super) struct Scene<'a, 'r> {
    pub(super) keys: &'a [&'a [u8]],
    pub(super) args: &'a [&'a [u8]],
    pub(super) keyspace: &'a mut Keyspace,
    pub(super) run: &'a mut Execution<'r>,
    pub(super) random: &'a mut Random,
}

/// Why a call did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An error was raised; [`Vm::error_line`] has its words.
    Raised,
    /// Somebody ended it; so has it.
    Killed,
    /// It used up its time.
    Time,
    /// It used up the memory of its state.
    Memory,
}

/// Why a text was not loaded.
#[derive(Debug)]
pub(super) enum LoadFault {
    /// The compiler's words.
    Compile(String),
    /// The words of the error that its top level raised, code first.
    Run(String),
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("used_bytes", &self.used_bytes()).finish_non_exhaustive()
    }
}

impl Vm {
    /// A state that may use `memory_bytes_max`, the 200 KiB of an idle one included.
    ///
    /// # Errors
    /// Lua did not start, or not within its memory.
    pub(super) fn new(memory_bytes_max: u64, interrupter: Interrupter) -> mlua::Result<Vm> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT;
        let lua = Lua::new_with(libs, LuaOptions::new().catch_rust_panics(false))?;
        lua.set_memory_limit(limit(memory_bytes_max))?;
        let mut context = ContextBox::new(interrupter);
        let pointer = context.0.as_ptr();
        let mut state = None;
        // SAFETY: runs protected, owns nothing, and leaves one table.
        let natives: mlua::Table = unsafe {
            lua.exec_raw((), |lua| {
                let it = State::new(lua);
                it.publish(pointer);
                it.pace_collector(COLLECTOR_PAUSE);
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
        let anchors = Anchors { library_loader, script_loader, call_driver, load_driver, on_error };
        Ok(Vm { lua, context, state, anchors, memory_bytes_max })
    }

    /// Bytes in use, garbage included.
    pub(super) fn used_bytes(&self) -> u64 {
        self.lua.used_memory() as u64
    }

    /// True when so much is in use that whatever can go had better go.
    pub(super) fn is_half_full(&self) -> bool {
        self.used_bytes() > self.memory_bytes_max / 2
    }

    /// Puts another ceiling over its memory.
    pub(super) fn set_memory_max(&mut self, bytes: u64) {
        if self.lua.set_memory_limit(limit(bytes)).is_ok() {
            self.memory_bytes_max = bytes;
        }
    }

    /// Runs a Function or a script to its end. The reply is then in the run's own,
    /// behind what was there.
    pub(super) fn call(
        &mut self,
        job: &Job,
        scene: Scene<'_, '_>,
        watchdog: &Watchdog,
    ) -> Result<(), Fault> {
        let Scene { keys, args, keyspace, run, random } = scene;
        let base = 0_u8;
        let context = self.context.borrow();
        context.callback = job.callback;
        context.read_only = job.read_only;
        context.is_full = job.is_full;
        context.origin = job.origin;
        context.start(job.time_max, (&raw const base).addr());
        std::mem::swap(&mut context.random, random);
        // SAFETY: the borrows last until `leave`, and are not used before it.
        unsafe { context.enter(keyspace, run, keys, args) };
        let guard = watchdog.guard(self.state.pointer(), job.kind);
        let ended = self.state.call_protected(self.anchors.call_driver, self.anchors.on_error);
        if guard.end() {
            // Perhaps only behind its last instruction.
            self.context.borrow().kill();
        }
        self.settle(ended);
        let context = self.context.borrow();
        std::mem::swap(&mut context.random, random);
        context.leave(run);
        match ended {
            Ended::Returned if !context.budget.was_spent() => Ok(()),
            _ => Err(self.fault(ended)),
        }
    }

    /// Runs the top level of a library, or compiles a script, and hands over what
    /// came of it.
    pub(super) fn load_text(
        &mut self,
        origin: Origin,
        code: &[u8],
        time_max: Duration,
        watchdog: &Watchdog,
    ) -> Result<Loading, LoadFault> {
        let base = 0_u8;
        let context = self.context.borrow();
        context.origin = origin;
        context.callback = match origin {
            Origin::Library => self.anchors.library_loader,
            Origin::Script => self.anchors.script_loader,
        };
        context.loading = Some(Loading::new(code));
        context.start(time_max, (&raw const base).addr());
        // A script is compiled, nothing of it runs yet: to end that would end no call, and
        // the call that follows would go on. Whoever wants it ended waits for that.
        let guard =
            (origin == Origin::Library).then(|| watchdog.guard(self.state.pointer(), Kind::Own));
        let ended = self.state.call_protected(self.anchors.load_driver, self.anchors.on_error);
        drop(guard);
        self.settle(ended);
        let context = self.context.borrow();
        let loading = context.loading.take().unwrap_or_else(|| Loading::new(b""));
        let text = context.failure.as_deref().unwrap_or_default();
        let text = String::from_utf8_lossy(text).into_owned();
        match ended {
            _ if context.budget.was_spent() => {
                Err(LoadFault::Run("ERR FUNCTION LOAD timeout".to_owned()))
            }
            Ended::OutOfMemory => Err(LoadFault::Run("ERR not enough memory".to_owned())),
            Ended::Raised if loading.uncompiled => {
                Err(LoadFault::Compile(text.strip_prefix("ERR ").unwrap_or(&text).to_owned()))
            }
            Ended::Raised => Err(LoadFault::Run(text)),
            Ended::Returned => Ok(loading),
        }
    }

    /// Forgets something kept in Lua.
    pub(super) fn release(&self, anchor: Anchor) {
        self.state.release(anchor);
    }

    /// Frees what nobody can reach any more.
    pub(super) fn collect_garbage(&self) {
        if let Err(error) = self.lua.gc_collect() {
            tracing::error!(%error, "cannot collect the garbage of a Function");
        }
    }

    /// Makes Lua fit for the next run. A run that failed may have filled the
    /// memory, whatever it was that failed at last.
    fn settle(&mut self, ended: Ended) {
        if self.context.borrow().budget.was_spent() {
            self.state.disarm();
        }
        if ended == Ended::OutOfMemory || ended == Ended::Raised && self.is_half_full() {
            self.collect_garbage();
        }
    }

    fn fault(&mut self, ended: Ended) -> Fault {
        let context = self.context.borrow();
        match ended {
            _ if context.was_killed => Fault::Killed,
            _ if context.budget.was_spent() => Fault::Time,
            Ended::OutOfMemory => Fault::Memory,
            Ended::Returned | Ended::Raised => Fault::Raised,
        }
    }

    /// What the last call raised, as a client sees it.
    pub(super) fn error_line(&mut self, callee: &Callee) -> Vec<u8> {
        let context = self.context.borrow();
        // Where the stack was too full even for the handler that notes the text,
        // nothing was noted.
        let text = context.failure.as_deref().unwrap_or(b"ERR stack overflow");
        let text = until_zero(text);
        let mut line = text[..text.len().min(ERROR_BYTES_MAX)].to_vec();
        line.extend_from_slice(format!(" script: {callee}").as_bytes());
        if let Some(at) = context.failure_line {
            let chunk = context.origin.chunk_name().to_string_lossy();
            line.extend_from_slice(format!(", on {chunk}:{at}").as_bytes());
        }
        line.push(b'.');
        line.iter_mut().filter(|it| matches!(it, b'\r' | b'\n')).for_each(|it| *it = b' ');
        line
    }
}

fn limit(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Longest error line that is passed on: a Function may raise megabytes.
const ERROR_BYTES_MAX: usize = 4096;

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
