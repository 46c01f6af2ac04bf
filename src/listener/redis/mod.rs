//! The redis door: any Redis client may look inside, and use the keyspace.
//!
//! | file | what |
//! |---|---|
//! | `connection` | **begin here**: bytes in, bytes out, and how a connection ends |
//! | `batch` | the requests that have come, answered under one hold of the keyspace |
//! | `dispatch` | one request: found, checked, queued or run |
//! | `directory` | which command a name means, and who runs it |
//! | `session` | what the door remembers of a connection |
//! | `clients` | all connections, as others see them |
//! | `commands` | the commands that the door runs itself, by kind |
//! | `worker` | what one thread holds |
//!
//! # Invariants
//!
//! 1. A reply leaves no earlier than its record is as durable as the log's
//!    policy promises. Replies of one batch are written together.
//! 2. Everything that a client sees of others (messages, watched keys, what
//!    `MONITOR` shows) is ordered by the hold of the keyspace.
//! 3. A connection stays on the thread that accepted it. A silent one holds no
//!    buffers.
//! 4. What a stranger may make us hold is bounded in `resp::request`, what a
//!    client leaves unread in the settings.

mod batch;
mod clients;
mod commands;
mod connection;
mod directory;
mod dispatch;
mod session;
mod worker;

use std::sync::Arc;

use crate::store::Commands;

use clients::Clients;

pub use worker::serve;

/// What all connections of the door share.
#[derive(Debug)]
pub struct Server {
    store: Commands,
    clients: Clients,
}

impl Server {
    /// A door to `store`; [`serve`] opens it.
    pub fn new(store: Commands) -> Arc<Server> {
        Arc::new(Server { store, clients: Clients::default() })
    }
}
