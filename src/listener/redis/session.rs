//! What the door remembers of a connection.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::persist::Lsn;
use crate::resp::Protocol;
use crate::store::Held;

use super::clients::{Client, State};
use super::commands::subscriptions::{self, Subscriptions};
use super::commands::transactions::{self, Transaction};
use super::records::Records;

/// What the door remembers of a connection.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// The version of RESP that it speaks.
    pub protocol: Protocol,
    /// It has said who it is, or need not.
    pub is_authenticated: bool,
    /// What it listens to.
    pub subscriptions: Subscriptions,
    /// It is shown every command.
    pub is_monitor: bool,
    /// It watches keys.
    pub is_watching: bool,
    /// Its last record in the log.
    pub last_record: Option<Lsn>,
    /// What `MULTI` opened.
    pub transaction: Option<Transaction>,
    /// Whether it is answered.
    pub replies: Replies,
    /// `CLIENT NO-EVICT`.
    pub is_kept: bool,
}

/// Whether a connection is answered: `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// It is.
    On,
    /// It is not.
    Off,
    /// It is, but for the command that comes next.
    SkipNext,
    /// It is, but for this command.
    SkipThis,
}

impl Session {
    /// A session that has just begun.
    pub fn new(client: Arc<Client>, is_authenticated: bool) -> Session {
        Session {
            client,
            protocol: Protocol::Resp2,
            is_authenticated,
            subscriptions: Subscriptions::default(),
            is_monitor: false,
            is_watching: false,
            last_record: None,
            transaction: None,
            replies: Replies::On,
            is_kept: false,
        }
    }

    /// True for a client of RESP2 that listens: to anything but messages it would take
    /// the answer for one.
    pub fn listens_only(&self) -> bool {
        self.protocol == Protocol::Resp2 && !self.subscriptions.is_empty()
    }

    /// Changes the version of RESP.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.listener.set_protocol(protocol);
    }

    /// Leaves everything that others know of it: transaction, watched keys,
    /// subscriptions, and what it is shown.
    pub fn leave(&mut self, held: &mut Held<'_>, records: &mut Records) {
        self.transaction = None;
        transactions::forget_watched(self, held);
        subscriptions::forget_all(self, held);
        if std::mem::take(&mut self.is_monitor) {
            records.monitors.retain(|it| it.id != self.client.id);
        }
    }

    /// Lets others see how the session stands.
    pub fn show(
        &self,
        command: Option<&'static str>,
        now: Timestamp,
        (input_bytes, output_bytes): (usize, usize),
    ) {
        let mut shown = self.client.shown();
        shown.state = State {
            active_at: now,
            command: command.unwrap_or(shown.state.command),
            resp: if self.protocol == Protocol::Resp3 { 3 } else { 2 },
            subscriptions: self.subscriptions.counts(),
            queued: self.transaction.as_ref().map(Transaction::len),
            input_bytes,
            output_bytes,
            is_monitor: self.is_monitor,
            is_kept: self.is_kept,
            is_authenticated: self.is_authenticated,
        };
    }
}
