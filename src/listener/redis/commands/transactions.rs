//! Transactions: commands that are queued, and then run with none of others
//! between them. They are one record of the log.
//!
//! As in Redis a command of a transaction that fails undoes nothing.

use crate::keyspace::Flags;
use crate::listener::redis::directory::{Entry, Handler};
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::session::Session;
use crate::store::Held;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("discard", discard),
    ("exec", exec),
    ("multi", multi),
    ("unwatch", unwatch),
    ("watch", watch),
];

/// What `MULTI` opened.
#[derive(Debug, Default)]
pub struct Transaction {
    queue: Vec<Queued>,
    /// A command could not be queued.
    is_spoiled: bool,
}

#[derive(Debug)]
struct Queued {
    entry: &'static Entry,
    /// The arguments, one after the other.
    bytes: Box<[u8]>,
    /// Where each ends.
    ends: Box<[usize]>,
}

impl Transaction {
    /// Adds a command.
    pub fn queue(&mut self, entry: &'static Entry, args: &[&[u8]]) {
        let mut end = 0;
        let ends = args.iter().map(|arg| {
            end += arg.len();
            end
        });
        self.queue.push(Queued { entry, ends: ends.collect(), bytes: args.concat().into() });
    }

    /// True if a queued command may change something.
    pub fn may_write(&self) -> bool {
        self.queue.iter().any(|queued| queued.entry.command.may_write())
    }

    /// How many commands are queued.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True if a command that is queued has these flags.
    pub fn has(&self, flags: Flags) -> bool {
        self.queue.iter().any(|queued| queued.entry.command.flags.contains(flags))
    }

    /// A command could not be queued: `EXEC` will not run the others.
    pub fn spoil(&mut self) {
        self.is_spoiled = true;
    }
}

impl Queued {
    fn args(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let arg = |end: &usize| {
            let arg = &self.bytes[start..*end];
            start = *end;
            arg
        };
        self.ends.iter().map(arg).collect()
    }
}

/// `MULTI`
fn multi(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    if turn.session.transaction.is_some() {
        return turn.reply.error("ERR MULTI calls can not be nested");
    }
    turn.session.transaction = Some(Transaction::default());
    turn.reply.status("OK");
}

/// `DISCARD`
fn discard(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    if turn.session.transaction.take().is_none() {
        return turn.reply.error("ERR DISCARD without MULTI");
    }
    forget_watched(turn.session, turn.held);
    turn.reply.status("OK");
}

/// `EXEC`
fn exec(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    let Some(transaction) = turn.session.transaction.take() else {
        return turn.reply.error("ERR EXEC without MULTI");
    };
    let (id, now) = (turn.session.client.id, turn.held.now());
    let is_intact = !turn.session.is_watching || turn.held.keyspace().is_intact(id, now);
    forget_watched(turn.session, turn.held);
    if transaction.is_spoiled {
        return turn.reply.error("EXECABORT Transaction discarded because of previous errors.");
    }
    if !is_intact {
        return turn.reply.null_array();
    }
    turn.reply.array(transaction.queue.len());
    turn.held.begin();
    for queued in &transaction.queue {
        turn.run(queued.entry, &queued.args());
    }
    turn.held.end();
}

/// `WATCH key …`: `EXEC` does nothing if one of them changes before it.
fn watch(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    if turn.session.transaction.is_some() {
        return turn.reply.error("ERR WATCH inside MULTI is not allowed");
    }
    let (id, now) = (turn.session.client.id, turn.held.now());
    for key in &args[1..] {
        turn.held.keyspace().watch(id, key, now);
    }
    turn.session.is_watching = true;
    turn.reply.status("OK");
}

/// `UNWATCH`
fn unwatch(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    forget_watched(turn.session, turn.held);
    turn.reply.status("OK");
}

/// Ends the watch over every key.
pub fn forget_watched(session: &mut Session, held: &mut Held<'_>) {
    if std::mem::take(&mut session.is_watching) {
        held.keyspace().unwatch(session.client.id);
    }
}
