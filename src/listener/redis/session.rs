//! What the door remembers of a connection.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::resp::Protocol;

use super::clients::{Client, State};
use super::commands::transactions::Transaction;

/// What the door remembers of a connection.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// The version of RESP that it speaks.
    pub protocol: Protocol,
    /// What `MULTI` opened.
    pub transaction: Option<Transaction>,
    /// Whether it is answered.
    pub replies: Replies,
    /// `CLIENT NO-EVICT`.
    pub is_kept: bool,
    /// `CLIENT NO-TOUCH`.
    pub leaves_untouched: bool,
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
    pub fn new(client: Arc<Client>) -> Session {
        Session {
            client,
            protocol: Protocol::Resp2,
            transaction: None,
            replies: Replies::On,
            is_kept: false,
            leaves_untouched: false,
        }
    }

    /// Lets others see how the session stands.
    pub fn show(&self, command: &'static str, now: Timestamp) {
        let state = State {
            active_at: now,
            command,
            resp: if self.protocol == Protocol::Resp3 { 3 } else { 2 },
            subscriptions: [0; 3],
            queued: self.transaction.as_ref().map(Transaction::len),
            input_bytes: 0,
            output_bytes: 0,
            is_monitor: false,
            is_dirty: false,
            is_kept: self.is_kept,
            leaves_untouched: self.leaves_untouched,
        };
        self.client.shown().state = state;
    }
}
