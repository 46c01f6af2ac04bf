//! Commands of clients: the way of a RESP door into the store.
//!
//! A door takes hold of the keyspace, runs a few commands, and lets go; each
//! command is one record of the log, a transaction is one as a whole. What
//! was recorded is then waited for outside the hold, once for all of them.
//!
//! Not here: what a client is, and which commands it may send.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::lock::Locked;
use super::{Error, Owned, Shared};
use crate::base::clock::Timestamp;
use crate::function::Limits;
use crate::keyspace::{
    Announced, Arg, Asker, Command, CommandError, Execution, Keyspace, Mode, Run,
};
use crate::persist::{self, Log, Lsn};
use crate::resp::Reply;

/// Runs commands. A cheap handle: clones lead to the same store.
#[derive(Clone, Debug)]
pub struct Commands {
    shared: Arc<Shared>,
}

impl Commands {
    pub(super) fn new(shared: Arc<Shared>) -> Commands {
        Commands { shared }
    }

    /// Waits for the keyspace and holds it.
    pub async fn hold(&self) -> Held<'_> {
        Held::new(self.shared.engine.lock_as_task().await, &self.shared)
    }

    /// Holds the keyspace, unless it has to be waited for longer than a thread may.
    pub fn hold_soon(&self) -> Option<Held<'_>> {
        self.shared.engine.lock_soon().map(|owned| Held::new(owned, &self.shared))
    }

    /// Waits until the keyspace, which could not be held soon, may be there.
    pub async fn released(&self) {
        self.shared.engine.released().await;
    }

    /// Ends a call that runs, without waiting for the keyspace that it holds.
    pub fn interrupter(&self) -> &crate::function::Interrupter {
        &self.shared.interrupter
    }

    /// Waits until a record is as durable as the log's policy promises.
    ///
    /// # Errors
    /// It is not known to be, and the configuration wants nothing acknowledged then.
    pub async fn durable(&self, record: Lsn) -> Result<(), Error> {
        self.shared.remembered(record).await
    }

    /// Waits until a record is on disk, whatever the log's policy; says if it is.
    /// Without a record there is nothing to wait for.
    pub async fn synced(&self, record: Option<Lsn>) -> bool {
        match (&self.shared.log, record) {
            (Some(log), Some(record)) => log.synced(record).await.is_ok(),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Has a snapshot written to `dump.rdb` and waits for it; says if it was.
    pub async fn save(&self) -> bool {
        match &self.shared.log {
            Some(log) => log.save().await,
            None => false,
        }
    }

    /// The log, when there is one.
    pub fn log(&self) -> Option<&Log> {
        self.shared.log.as_ref()
    }

    /// The present moment on the store's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

/// The keyspace, held: others wait. Keep it short.
#[derive(Debug)]
pub struct Held<'a> {
    owned: Locked<'a, Owned>,
    shared: &'a Shared,
    now: Timestamp,
    /// Why commands that write are refused under this hold.
    denied: Option<Cow<'static, str>>,
    last: Option<Lsn>,
    in_transaction: bool,
}

impl<'a> Held<'a> {
    fn new(owned: Locked<'a, Owned>, shared: &'a Shared) -> Held<'a> {
        // Read inside the lock, so that time rises with the order of commands.
        let now = shared.clock.now();
        let denied = shared.denies_clients();
        Held { owned, shared, now, denied, last: None, in_transaction: false }
    }

    /// The moment at which commands run.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Looks at the clock; returns the new moment.
    pub fn tick(&mut self) -> Timestamp {
        self.now = self.shared.clock.now();
        self.now
    }

    /// Says which keys the next commands name, before the first of them runs. See
    /// [`Keyspace::foresee`].
    pub fn foresee<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.owned.keyspace.foresee(keys);
    }

    /// Runs one command of the keyspace or of the engine, whose `reply` is then
    /// filled: on failure, with its error.
    pub fn run(&mut self, command: &'static Command, args: &[Arg<'_>], reply: &mut Reply) {
        let owned = &mut *self.owned;
        if !self.in_transaction {
            owned.effects.clear();
        }
        let mut run = Execution {
            now: self.now,
            mode: Mode::Live,
            denied: self.denied.as_deref(),
            effects: &mut owned.effects,
            reply,
        };
        match command.run {
            Run::Engine => {
                owned.functions.run_command(command, args, &mut owned.keyspace, &mut run);
            }
            Run::Keyspace(_) | Run::Door => {
                if let Err(error) = owned.keyspace.execute(command, args, &mut run) {
                    reply.error(&error.to_string());
                }
            }
        }
        if !self.in_transaction {
            self.record();
        }
    }

    /// Why whatever writes is refused now, if it is: an error line.
    pub fn denies_writes(&self) -> Option<String> {
        let reason = self.denied.as_deref()?;
        Some(CommandError::WritesDenied(reason.into()).to_string())
    }

    /// Makes room for a command that comes next; false if it must be refused
    /// should it need memory.
    pub fn has_room(&mut self) -> bool {
        debug_assert!(!self.in_transaction, "room is made before a transaction, not within");
        self.owned.make_room(Asker::Client, self.now, self.shared)
    }

    /// From here on what scripts run is noted, until [`Held::take_scripted`].
    pub fn want_scripted(&mut self) {
        self.owned.effects.want_scripted();
    }

    /// The commands that scripts have run, each with its arguments.
    pub fn take_scripted(&mut self) -> Vec<Vec<Box<[u8]>>> {
        self.owned.effects.take_scripted()
    }

    /// From here on commands are parts of one record.
    pub fn begin(&mut self) {
        self.in_transaction = true;
        self.owned.effects.clear();
    }

    /// True between [`Held::begin`] and [`Held::end`].
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Ends what [`Held::begin`] began.
    pub fn end(&mut self) {
        self.in_transaction = false;
        self.record();
    }

    /// Replaces all keys by what the log holds. What Functions there are, the log
    /// knows as well, so that they stay.
    ///
    /// # Errors
    /// The log cannot be loaded; nothing has changed. Without a log there is nothing
    /// to do.
    pub fn load_log(&mut self) -> Result<(), persist::Error> {
        debug_assert!(!self.in_transaction, "what is not recorded yet would be lost");
        match &self.shared.log {
            Some(log) => log.load_again(&mut self.owned.keyspace, self.now),
            None => Ok(()),
        }
    }

    /// From here on these keyspace events are told, whoever causes them.
    pub fn announce(&mut self, announced: Announced) {
        let owned = &mut *self.owned;
        owned.keyspace.announce(announced, &mut owned.effects);
    }

    /// How long a script or a Function that a client calls may run; `None` for ever.
    pub fn set_command_time_max(&mut self, time: Option<Duration>) {
        let functions = &mut self.owned.functions;
        functions.set_limits(Limits { command_time_max: time, ..functions.limits() });
    }

    /// The keys, to look at.
    pub fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.owned.keyspace
    }

    /// Lets go. The last record must be durable before any reply is sent.
    #[must_use = "replies wait for the record"]
    pub fn release(self) -> Option<Lsn> {
        self.last
    }

    fn record(&mut self) {
        if let Some(recorded) = self.owned.record(self.shared.log.as_ref()) {
            self.last = Some(recorded);
        }
    }
}
