//! The embedded store: one keyspace with one owner at a time, its Functions,
//! and the log.
//!
//! This is the one place where *decided* and *remembered* are ordered, and the
//! one to review for durability. The order is: lock the engine, run the
//! Functions, append their effects to the log's buffer, unlock, and then, under
//! `always` only, wait for the sync that covers the record. So the log's order
//! is the order of decisions, and no lock is held while a disk works.
//!
//! Request threads run calls themselves, inside the lock: a hop to an engine
//! thread and back would cost ten times what the call does. What may take long
//! happens on the store's own thread ([`housekeeping`]), in turns.
//!
//! Invariant: a panic inside the lock may have left the keyspace half changed.
//! The process then aborts, and recovers from the log at its next start. How one waits
//! for the lock, also while a call runs for long, is in [`lock`].

mod commands;
mod housekeeping;
mod lock;
mod memory;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::clock::{Clock, Timestamp};
use crate::function::{self, CallError, Engine, Interrupter, LoadError};
use crate::keyspace::{Arg, Effects, Execution, Keyspace, Mode};
use crate::persist::{self, Log, Lsn, OnLogError, Progress, Recovery};
use crate::resp::Reply;

use super::{Asked, Call, Error, Metrics};
use housekeeping::Housekeeping;
use lock::{Lock, Locked};

pub use commands::{Commands, Held};

/// A library to load: a file of `functions/`, or one that is built in.
#[derive(Clone, Debug)]
pub struct Library {
    /// Where its text comes from, for messages.
    pub origin: String,
    /// Its text, shebang line included.
    pub code: String,
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A library did not load.
    #[error("{origin}{}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Library {
        /// Where its text comes from, as [`Library::origin`] has it.
        origin: String,
        /// The line of the text that is at fault, when Lua named one.
        line: Option<u32>,
        /// What is wrong with it.
        #[source]
        source: function::LoadError,
    },
    /// The Lua engine could not be built.
    #[error("cannot start the Lua engine")]
    Engine(#[from] function::Error),
    /// The log could not be opened or replayed.
    #[error("cannot open the log")]
    Log(#[from] persist::Error),
    /// The operating system refused a thread.
    #[error("cannot start the store's thread")]
    Thread(#[source] std::io::Error),
}

/// A store that is open, and what opening it found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Embedded,
    /// What the log held; `None` for a store without a log.
    pub recovery: Option<Recovery>,
}

/// One keyspace, its Functions, and the log.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    housekeeping: Mutex<Option<Housekeeping>>,
}

/// What request threads and the store's own thread share.
#[derive(Debug)]
struct Shared {
    engine: Lock<Owned>,
    /// Full names of the Functions that policies can call. Beside the lock, like what
    /// follows: who asks must not wait for a call.
    function_names: ArcSwap<Vec<String>>,
    /// Ends a call that runs.
    interrupter: Interrupter,
    log: Option<Log>,
    clock: Clock,
    metrics: Metrics,
}

/// What the one owner owns.
#[derive(Debug)]
struct Owned {
    keyspace: Keyspace,
    functions: Engine,
    /// Effects of the call under way; kept for its capacity.
    effects: Effects,
}

impl Embedded {
    /// Opens a store: loads `libraries`, replays the log that `config` names
    /// (none: nothing outlives the process), starts the store's thread.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        libraries: &[Library],
        config: Option<persist::Config>,
        clock: Clock,
        metrics: Metrics,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, OpenError> {
        let mut functions = Engine::new(function::Limits::DEFAULT)?;
        functions.measure(metrics.functions().clone());
        for library in libraries {
            load(&mut functions, library)?;
        }
        let mut keyspace = Keyspace::new();
        keyspace.set_present(clock.now());
        let mut effects = Effects::default();
        let (log, recovery) = match config {
            Some(config) => {
                let (log, recovery) = Log::open(config, &mut keyspace, clock.now(), progress)?;
                restore_libraries(&mut functions, &recovery.libraries);
                let is_new = |it: &&Library| !recovery.libraries.contains(&it.code);
                for library in libraries.iter().filter(is_new) {
                    remember_library(&library.code, &mut effects, clock.now(), &log);
                }
                (Some(log), Some(recovery))
            }
            None => (None, None),
        };
        let interrupter = functions.interrupter();
        let function_names = ArcSwap::from_pointee(functions.functions());
        let owned = Owned { keyspace, functions, effects };
        let engine = Lock::new(owned);
        let shared = Arc::new(Shared { engine, function_names, interrupter, log, clock, metrics });
        let housekeeping = Housekeeping::start(Arc::clone(&shared)).map_err(OpenError::Thread)?;
        let store = Embedded { shared, housekeeping: Mutex::new(Some(housekeeping)) };
        Ok(Opened { store, recovery })
    }

    /// See [`Store::call_within`](super::Store::call_within).
    pub(super) async fn call(
        &self,
        wait_left: &mut Duration,
        calls: &[Call<'_>],
        replies: &mut [Reply],
        accept: impl Fn(&Reply) -> bool + Send,
    ) -> Result<Asked, Error> {
        let locked = self.shared.engine.lock_within(wait_left).await.ok_or(Error::Busy)?;
        let (asked, recorded) = self.shared.run(locked, calls, replies, accept)?;
        if let Some(lsn) = recorded {
            self.shared.remembered(lsn).await?;
        }
        Ok(asked)
    }

    /// The present moment on the store's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Full names of the Functions that a policy can call.
    pub fn functions(&self) -> Vec<String> {
        self.shared.function_names.load().to_vec()
    }

    /// Loads the library of a file in the place of one of the same name, and returns
    /// its name. One that does not load leaves what is loaded in force.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn load_library(&self, code: &str) -> Result<String, function::LoadError> {
        let mut owned = self.shared.engine.lock_as_task().await;
        let is_known = owned.functions.libraries().any(|it| &*it.code == code);
        let loaded = owned.functions.load_file(code, true);
        self.shared.function_names.store(Arc::new(owned.functions.functions()));
        if let (Ok(_), Some(log), false) = (&loaded, &self.shared.log, is_known) {
            remember_library(code, &mut owned.effects, self.shared.clock.now(), log);
        }
        loaded
    }

    /// Puts other limits of Functions in force.
    pub fn set_function_limits(&self, limits: function::Limits) {
        self.shared.lock().functions.set_limits(limits);
    }

    /// The way in for a door whose clients send commands.
    pub fn commands(&self) -> Commands {
        Commands::new(Arc::clone(&self.shared))
    }

    /// The log, when there is one.
    pub fn log(&self) -> Option<&Log> {
        self.shared.log.as_ref()
    }

    /// Ends the call that runs, and each that runs for long from now on, and undoes what
    /// they wrote. Without it [`Embedded::close`] may have to wait for one for ever.
    pub fn end_calls(&self) {
        self.shared.interrupter.end_all();
    }

    /// Ends the store's thread, then flushes and syncs the log.
    ///
    /// # Errors
    /// The last sync failed.
    pub fn close(&self) -> Result<(), persist::Error> {
        let housekeeping = match self.housekeeping.lock() {
            Ok(mut held) => held.take(),
            Err(_poisoned) => None,
        };
        if let Some(housekeeping) = housekeeping {
            housekeeping.end();
        }
        self.shared.log.as_ref().map_or(Ok(()), Log::close)
    }
}

impl Shared {
    /// Waits until a record is as durable as the log's policy promises.
    ///
    /// # Errors
    /// [`Error::LogFailed`]: it is not known to be, and the configuration wants
    /// nothing acknowledged then.
    async fn remembered(&self, record: Lsn) -> Result<(), Error> {
        let Some(log) = &self.log else { return Ok(()) };
        match log.durable(record).await {
            Err(error) if log.settings().on_log_error == OnLogError::Refuse => {
                Err(Error::LogFailed { reason: error.to_string() })
            }
            // A log that cannot make the record durable says so itself, in its
            // status and its metrics. The decision stands: a limiter that stops
            // deciding when a disk fails would turn one outage into two.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Why the log fails, if nothing is to be written then.
    fn log_failure(&self) -> Option<Arc<str>> {
        self.log.as_ref().and_then(Log::refuses_writes)
    }

    /// Why clients may not write now, if so. A snapshot that failed is no reason for a
    /// policy's call: what that writes is in the log.
    fn denies_clients(&self) -> Option<Cow<'static, str>> {
        let lacks_save = self.log.as_ref().is_some_and(Log::lacks_save);
        match lacks_save {
            true => Some(Cow::Borrowed(NOT_SAVED)),
            false => self.log_failure().map(|failure| not_logged(&failure).into()),
        }
    }

    fn lock(&self) -> Locked<'_, Owned> {
        self.engine.lock()
    }

    fn run(
        &self,
        mut locked: Locked<'_, Owned>,
        calls: &[Call<'_>],
        replies: &mut [Reply],
        accept: impl Fn(&Reply) -> bool,
    ) -> Result<(Asked, Option<Lsn>), Error> {
        let failure = self.log_failure();
        let denied = failure.as_deref().map(not_logged);
        let owned = &mut *locked;
        // Read inside the lock, so that time rises with the order of decisions.
        let now = self.clock.now();
        if !owned.make_room_for_calls(calls, now, self) {
            self.metrics.call_refused();
            return Err(Error::OutOfMemory);
        }
        owned.effects.clear();
        owned.keyspace.begin_guarded();
        let mut asked = Asked { answered: 0, kept: true };
        for (call, reply) in calls.iter().zip(replies) {
            reply.clear();
            let mut run = Execution {
                now,
                mode: Mode::Live,
                denied: denied.as_deref(),
                effects: &mut owned.effects,
                reply,
            };
            let ran = owned.functions.call(
                call.function,
                call.keys,
                call.args,
                &mut owned.keyspace,
                &mut run,
            );
            if let Err(source) = ran {
                owned.keyspace.rollback();
                return Err(self.failed(call, source, failure));
            }
            asked.answered += 1;
            if !accept(reply) {
                asked.kept = calls.len() == 1;
                break;
            }
        }
        if !asked.kept {
            owned.keyspace.rollback();
            return Ok((asked, None));
        }
        owned.keyspace.commit();
        Ok((asked, owned.record(self.log.as_ref())))
    }

    /// Why a group of calls has failed with one of them.
    fn failed(&self, call: &Call<'_>, source: CallError, failure: Option<Arc<str>>) -> Error {
        match (source, failure) {
            (CallError::Denied(_), Some(reason)) => Error::LogFailed { reason: reason.to_string() },
            (source, _) => {
                self.metrics.call_failed();
                Error::Call { function: call.function.to_owned(), source }
            }
        }
    }
}

impl Owned {
    /// The code of each loaded library, in loading order.
    fn library_codes(&self) -> Vec<Arc<str>> {
        self.functions.libraries().map(|library| Arc::clone(&library.code)).collect()
    }

    /// Hands the effects of what just ran to the log, and tells listeners.
    fn record(&mut self, log: Option<&Log>) -> Option<Lsn> {
        self.keyspace.tell(&self.effects);
        match log {
            Some(log) if !self.effects.is_empty() => Some(log.append(&self.effects)),
            _ => None,
        }
    }
}

/// What is told to who would write while the log fails, in Redis' words.
fn not_logged(failure: &str) -> String {
    format!("Errors writing to the AOF file: {failure}")
}

/// The same after a snapshot has failed.
const NOT_SAVED: &str = "Redis is configured to save RDB snapshots, but it's currently unable to \
    persist to disk. Commands that may modify the data set are disabled, because this instance is \
    configured to report errors during writes if RDB snapshotting fails \
    (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
    error.";

fn load(functions: &mut Engine, library: &Library) -> Result<(), OpenError> {
    match functions.load_file(&library.code, false) {
        Ok(_name) => Ok(()),
        Err(source) => {
            Err(OpenError::Library { origin: library.origin.clone(), line: source.line(), source })
        }
    }
}

/// Puts the library of a file into the log, as if a client had loaded it, so that a
/// redis-server that starts from there has it too.
fn remember_library(code: &str, effects: &mut Effects, now: Timestamp, log: &Log) {
    let words: [&[u8]; 4] = [b"FUNCTION", b"LOAD", b"REPLACE", code.as_bytes()];
    effects.clear();
    Execution::live(now, effects, &mut Reply::default()).record(&words.map(Arg::Bytes));
    log.append(effects);
}

/// Loads what the log holds: what clients loaded before the restart, and the libraries
/// of files that are gone. The files that are there are loaded already and go first:
/// they may have been edited since. One that no longer loads is told of, and costs
/// nobody the rest.
fn restore_libraries(functions: &mut Engine, codes: &[String]) {
    for code in codes {
        match functions.load(code, false) {
            Ok(_) | Err(LoadError::LibraryExists(_)) => {}
            Err(error) => {
                let first_line = code.lines().next().unwrap_or_default();
                tracing::error!(library = first_line, %error, "a library of the log does not load");
            }
        }
    }
}
