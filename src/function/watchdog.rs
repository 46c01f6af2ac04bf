//! The watchdog: taps a call on the shoulder when it has run for long.
//!
//! A hook that counts instructions would cost every call a tenth of its time. So
//! no hook is set; a thread looks now and then whether the same call is still
//! running, and if so sends a signal to the thread that runs it. The signal's
//! handler sets the hook, which fires at the next instruction, looks at the
//! clock, and either ends the call or takes itself away again.
//!
//! ```text
//! call      ──begin──────────────────────────────hook: is time up?──▶
//! watchdog  ───────look────────look: the same!──▲
//!                                    signal─────┘ handler sets the hook
//! ```
//!
//! When no call has run for a few looks, the watchdog sleeps; the next call wakes it.
//! When one has run for [`LONG`], who waits for that is told.
//!
//! Setting the hook from a handler *on the thread that runs Lua* is what LuaJIT's
//! own interpreter does at Ctrl-C. A signal that comes late finds no call on its
//! thread, or a younger one whose hook then takes itself away. One that comes while a
//! hook does so is not heard ([`unheard`]); the watchdog sends the next.
//!
//! The signal is `SIGURG`: the system ignores it unless somebody asks, and nobody
//! does for sockets like ours.

#![allow(unsafe_code, reason = "signals")]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, compiler_fence};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mlua::ffi::{self, lua_State};
use tokio::sync::Notify;

use super::api;
use crate::base::clock::Stopwatch;
use crate::base::tasks::spawn_thread;

/// A call that has run for so long runs for long.
pub(super) const LONG: Duration = Duration::from_millis(25);

thread_local! {
    /// The state that this thread runs a call of, for the handler.
    static RUNNING: Cell<*mut lua_State> = const { Cell::new(ptr::null_mut()) };
    /// This thread's number as the kernel knows it; 0 until it is asked.
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

/// Watches the calls of one engine. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Ends the call that runs, from any thread, without waiting for it. Clones reach
/// the same engine.
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<Shared>);

/// Why there was nothing to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKilled {
    /// Nothing runs.
    #[error("NOTBUSY No scripts in execution right now.")]
    Idle,
    /// A script runs, and a Function was to be ended.
    #[error(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    )]
    Script,
    /// A Function runs, and a script was to be ended.
    #[error(
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    )]
    Function,
}

impl Interrupter {
    /// Ends the running Function, and undoes what it wrote.
    ///
    /// # Errors
    /// None runs.
    pub fn kill_function(&self) -> Result<(), NotKilled> {
        self.kill(Kind::Function)
    }

    /// Ends the running script, and undoes what it wrote.
    ///
    /// # Errors
    /// None runs.
    pub fn kill_script(&self) -> Result<(), NotKilled> {
        self.kill(Kind::Script)
    }

    /// Looks and marks in one step: what is marked still runs, and is of this kind.
    fn kill(&self, wanted: Kind) -> Result<(), NotKilled> {
        let mut call = self.0.call.load(Ordering::Acquire);
        loop {
            match call & KIND {
                kind if kind == wanted as u64 => {}
                kind if kind == Kind::Script as u64 => return Err(NotKilled::Script),
                kind if kind == Kind::Function as u64 => return Err(NotKilled::Function),
                _ => return Err(NotKilled::Idle),
            }
            let killed = call | KILLED;
            match self.0.call.compare_exchange(call, killed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => call = other,
            }
        }
        signal(self.0.thread.load(Ordering::Relaxed));
        Ok(())
    }

    /// Ends the call that runs, and each that runs for long from now on: the process
    /// is ending.
    pub fn end_all(&self) {
        self.0.ends_all.store(true, Ordering::Release);
        signal(self.0.thread.load(Ordering::Relaxed));
    }

    /// The call that runs, by a number that no other has.
    pub fn running(&self) -> Option<u64> {
        let call = self.0.call.load(Ordering::Acquire) & !KILLED;
        (call & KIND != 0).then_some(call)
    }

    /// Sleeps until a call runs for long, or returns at once if one has since this was
    /// asked the last time. For one who asks.
    pub async fn runs_long(&self) {
        self.0.runs_long.notified().await;
    }

    /// True when the call that runs now was to be ended.
    pub(super) fn was_called(&self) -> bool {
        self.0.ends_all.load(Ordering::Acquire) || self.0.call.load(Ordering::Acquire) & KILLED != 0
    }
}

/// What runs, and so who may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A policy's call or a load. No client ends it: it has a few milliseconds, and what
    /// a policy's call would have decided, the failure mode would.
    Own = 1,
    /// A client's script.
    Script = 2,
    /// A client's call of a Function.
    Function = 3,
}

/// Where [`Shared::call`] has its [`Kind`]; 0 while nothing runs.
const KIND: u64 = 0b011;
/// Somebody wants it ended.
const KILLED: u64 = 0b100;
/// From the number of a call to the next one's.
const NEXT: u64 = 0b1000;

#[derive(Debug, Default)]
struct Shared {
    /// The call that runs, or the last one: its number, whether it is to be ended, and its
    /// kind while it runs.
    ///
    /// In one word, so that whoever is told that a call is ended is told of the one that
    /// they meant, and that call learns of it at its end at the latest.
    call: AtomicU64,
    ends_all: AtomicBool,
    /// The kernel's number of the thread that runs it.
    thread: AtomicI32,
    is_over: AtomicBool,
    /// How often the watchdog looks.
    period_us: AtomicU64,
    /// The watchdog does not look until it is woken.
    sleeps: AtomicBool,
    runs_long: Notify,
}

impl Watchdog {
    /// Starts watching; it looks every `period`.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub(super) fn start(period: Duration) -> io::Result<Watchdog> {
        install_handler();
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        shared.period_us.store(micros(period), Ordering::Relaxed);
        let thread = spawn_thread("watchdog", move || watch(&watched))?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// Looks every `period` from now on.
    pub(super) fn look_every(&self, period: Duration) {
        self.shared.period_us.store(micros(period), Ordering::Relaxed);
        self.wake();
    }

    #[cold]
    fn wake(&self) {
        self.shared.sleeps.store(false, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// The way for others to end a call.
    pub(super) fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.shared))
    }

    /// A call of `state` begins on this thread; it ends when the guard goes.
    pub(super) fn guard(&self, state: *mut lua_State, kind: Kind) -> Guard<'_> {
        let mut thread = THREAD.get();
        if thread == 0 {
            // SAFETY: asks for a number.
            thread = unsafe { libc::gettid() };
            THREAD.set(thread);
        }
        RUNNING.set(state);
        self.shared.thread.store(thread, Ordering::Relaxed);
        // While nothing runs, nobody else changes it.
        let last = self.shared.call.load(Ordering::Relaxed);
        // This and what `watch` does before it sleeps are in one order: either the call
        // is seen there, or the sleep here.
        self.shared.call.swap(last.wrapping_add(NEXT) | kind as u64, Ordering::SeqCst);
        if self.shared.sleeps.load(Ordering::SeqCst) {
            self.wake();
        }
        Guard(&self.shared)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It neither panics nor waits.
            let _ = thread.join();
        }
    }
}

/// A call under watch.
pub(super) struct Guard<'a>(&'a Shared);

impl Guard<'_> {
    /// The call has ended. True if somebody was told that it would be.
    pub(super) fn end(self) -> bool {
        let was_killed = self.leave();
        std::mem::forget(self);
        was_killed
    }

    fn leave(&self) -> bool {
        let idle = self.0.call.load(Ordering::Relaxed) & !(KIND | KILLED);
        let call = self.0.call.swap(idle, Ordering::AcqRel);
        RUNNING.set(ptr::null_mut());
        call & KILLED != 0
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

fn micros(period: Duration) -> u64 {
    u64::try_from(period.as_micros()).unwrap_or(u64::MAX)
}

/// Looks without a call after which the watchdog sleeps.
const IDLE_LOOKS_MAX: u32 = 4;

fn watch(shared: &Shared) {
    let (mut seen, mut idle_looks) = (0, 0);
    let (mut since, mut is_told) = (Stopwatch::start(), false);
    while !shared.is_over.load(Ordering::Relaxed) {
        thread::park_timeout(Duration::from_micros(shared.period_us.load(Ordering::Relaxed)));
        let call = shared.call.load(Ordering::Acquire) & !KILLED;
        let runs = call & KIND != 0;
        if call != seen {
            (since, is_told) = (Stopwatch::start(), false);
        } else if runs {
            signal(shared.thread.load(Ordering::Relaxed));
            if !is_told && since.elapsed() >= LONG {
                is_told = true;
                shared.runs_long.notify_one();
            }
        }
        idle_looks = if runs || call != seen { 0 } else { idle_looks + 1 };
        seen = call;
        if idle_looks == IDLE_LOOKS_MAX {
            idle_looks = 0;
            shared.sleeps.store(true, Ordering::SeqCst);
            while shared.sleeps.load(Ordering::SeqCst)
                && shared.call.load(Ordering::SeqCst) == seen
                && !shared.is_over.load(Ordering::Relaxed)
            {
                thread::park();
            }
            shared.sleeps.store(false, Ordering::Relaxed);
        }
    }
}

/// Does something to the hook that a signal must not come between. A hook set while LuaJIT
/// takes one away would leave its dispatch table without hooks and its note of the
/// table's mode with them; then no hook that is set later has an effect, and nothing
/// could end the call any more.
pub(super) fn unheard(change: impl FnOnce()) {
    let state = RUNNING.replace(ptr::null_mut());
    // The handler runs on this thread: order is all that it needs.
    compiler_fence(Ordering::SeqCst);
    change();
    compiler_fence(Ordering::SeqCst);
    RUNNING.set(state);
}

/// Signals a thread of this process. One that has ended is not found, and no
/// harm is done; nor if its number was given to a younger one, whose handler
/// finds no call.
fn signal(thread: i32) {
    // SAFETY: two numbers and a signal that has a handler.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) };
}

/// Installs the handler, once a process.
fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: a zeroed action is a valid one, and the handler does only what
        // a handler may.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut());
        }
    });
}

/// Sets the hook of the call that this thread runs, if it runs one.
extern "C" fn handle(_signal: libc::c_int) {
    let state = RUNNING.get();
    if !state.is_null() {
        // SAFETY: the thread runs Lua, or a native function of it, and is stopped
        // here; setting a hook writes a few words of Lua's global state.
        unsafe { ffi::lua_sethook(state, Some(api::watch), ffi::LUA_MASKCOUNT, 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_while_the_hook_is_changed_sets_none() {
        let lua = mlua::Lua::new();
        let watchdog = Watchdog::start(Duration::from_secs(3600)).unwrap();
        // SAFETY: asks for a number.
        let signalled = || signal(unsafe { libc::gettid() });
        let hooks = |state| unsafe { ffi::lua_gethookmask(state) };
        // SAFETY: runs protected, owns nothing, and leaves nothing.
        unsafe {
            lua.exec_raw::<()>((), |state| {
                let _guard = watchdog.guard(state, Kind::Script);
                unheard(signalled);
                assert_eq!(hooks(state), 0);
                signalled();
                assert_eq!(hooks(state), ffi::LUA_MASKCOUNT);
                ffi::lua_sethook(state, None, 0, 0);
            })
        }
        .unwrap();
    }

    #[test]
    fn a_call_that_somebody_was_told_is_ended_learns_of_it_and_no_other_does() {
        let watchdog = Watchdog::start(Duration::from_secs(3600)).unwrap();
        let interrupter = watchdog.interrupter();
        let begin = |kind| watchdog.guard(ptr::null_mut(), kind);
        let call = begin(Kind::Script);
        let number = interrupter.running();
        assert_eq!(interrupter.kill_function(), Err(NotKilled::Script));
        assert!(!interrupter.was_called());
        assert_eq!(interrupter.kill_script(), Ok(()));
        assert!(interrupter.was_called());
        assert_eq!(interrupter.running(), number);
        assert!(call.end());
        assert_eq!((interrupter.running(), interrupter.was_called()), (None, false));
        let call = begin(Kind::Function);
        assert_ne!(interrupter.running(), number);
        assert_eq!(interrupter.kill_script(), Err(NotKilled::Function));
        assert!(!call.end());
        let call = begin(Kind::Own);
        assert!(interrupter.running().is_some());
        assert_eq!(interrupter.kill_script(), Err(NotKilled::Idle));
        assert_eq!(interrupter.kill_function(), Err(NotKilled::Idle));
        assert!(!call.end());
    }
}
