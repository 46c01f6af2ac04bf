//! The redis door: any Redis client may look inside, and use the keyspace.
//!
//! | file | what |
//! |---|---|
//! | `connection` | **begin here**: bytes in, bytes out, and how a connection ends |
//! | `batch` | the requests that have come, answered under one hold of the keyspace |
//! | `dispatch` | one request: found, checked, queued or run |
//! | `directory`, `absent` | which command a name means, and who runs it; what is left out |
//! | `session` | what the door remembers of a connection |
//! | `clients` | all connections, as others see them |
//! | `records` | counts, what took long, who is shown everything |
//! | `commands` | the commands that the door runs itself, by kind |
//! | `config`, `settings` | how it is set up, and what can be changed while it runs |
//! | `worker`, `stream` | what one thread holds; plain bytes or TLS |
//! | `kill` | how a call that runs for long is ended, though all threads are busy |
//! | `metrics` | what Prometheus is told |
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

mod absent;
mod ahead;
mod batch;
mod clients;
mod commands;
mod config;
mod connection;
mod directory;
mod dispatch;
mod kill;
mod metrics;
mod records;
mod session;
mod settings;
mod stream;
mod worker;

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::Registry;
use socket2::SockRef;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Timestamp;
use crate::base::mailbox::End;
use crate::store::Commands;

use clients::{Client, Clients, Kind, WayIn};
use kill::Doorway;
use records::Records;

pub use config::{Config, RawConfig};
pub use kill::listen as listen_for_kill;
pub use settings::Settings;
pub use stream::{TlsError, Transport};
pub use worker::serve;

/// What all connections of the door share.
#[derive(Debug)]
pub struct Server {
    store: Commands,
    settings: ArcSwap<Settings>,
    transport: Transport,
    clients: Clients,
    records: parking_lot::Mutex<Records>,
    /// Ways into the workers, for who is accepted while they are busy.
    doorways: Mutex<Vec<Doorway>>,
    /// Woken when clients are no longer paused.
    unpaused: Notify,
    /// Ends the process, when a client asks for it.
    end: CancellationToken,
    since: Timestamp,
    /// Forty letters that no other run has.
    run_id: String,
}

impl Server {
    /// A door to `store`; [`serve`] opens it. A client may cancel `end`, to end
    /// the process.
    ///
    /// # Errors
    /// The metrics are registered already.
    pub fn new(
        settings: Settings,
        transport: Transport,
        store: Commands,
        end: CancellationToken,
        registry: &Registry,
    ) -> Result<Arc<Server>, prometheus::Error> {
        let since = store.now();
        let server = Arc::new(Server {
            settings: ArcSwap::from_pointee(settings),
            transport,
            clients: Clients::default(),
            records: parking_lot::Mutex::default(),
            doorways: Mutex::default(),
            unpaused: Notify::new(),
            end,
            since,
            run_id: run_id(since),
            store,
        });
        metrics::register(&server, registry)?;
        Ok(server)
    }

    /// What is noted of commands. Lock it after the keyspace.
    fn records(&self) -> parking_lot::MutexGuard<'_, Records> {
        self.records.lock()
    }

    /// The same, without the keyspace; `None` if somebody has both for longer.
    fn records_soon(&self, patience: Duration) -> Option<parking_lot::MutexGuard<'_, Records>> {
        self.records.try_lock_for(patience)
    }

    /// The ways into the workers.
    fn doorways(&self) -> MutexGuard<'_, Vec<Doorway>> {
        self.doorways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others see a connection from `peer`, or says why it is not served, as the
    /// line it is sent.
    fn admit(&self, socket: &SockRef<'_>, peer: SocketAddr) -> Result<Arc<Client>, &'static str> {
        let settings = self.settings.load();
        if settings.password.is_none()
            && settings.is_protected
            && !peer.ip().to_canonical().is_loopback()
        {
            return Err(PROTECTED);
        }
        if self.clients.len() >= settings.client_count_max as usize {
            return Err("-ERR max number of clients reached\r\n");
        }
        // Has one, unless the connection is gone already.
        let local = socket.local_addr().ok().and_then(|it| it.as_socket()).unwrap_or(peer);
        let client = self.clients.add((peer, local), socket.as_raw_fd(), self.store.now());
        if matches!(self.transport, Transport::Plain) {
            client.open(WayIn::Plain);
        }
        Ok(client)
    }

    /// Ends every connection.
    fn end_all(&self) {
        for client in self.clients.all() {
            client.listener.mailbox.end(End::Killed);
        }
    }

    /// Ends connections that were silent for too long, and those that leave too
    /// much unread for too long.
    fn sweep(&self) {
        let settings = self.settings.load_full();
        let now = self.store.now();
        for client in self.clients.all() {
            // Who waits for an answer is not silent.
            let is_idle = client.is_idle();
            let mut shown = client.shown();
            let state = shown.state;
            let limit = match state.kind() {
                Kind::Subscriber => settings.subscriber_output,
                _ => settings.normal_output,
            };
            client.listener.mailbox.set_bytes_max(limit.ceiling());
            let is_over = limit.soft_bytes > 0 && state.output_bytes as u64 >= limit.soft_bytes;
            let since = is_over.then(|| shown.over_since.unwrap_or(now));
            shown.over_since = since;
            drop(shown);
            if since.is_some_and(|since| now.since(since) > limit.soft_time) {
                client.listener.mailbox.end(End::Overflowed);
            }
            let may_be_idle = is_idle && state.kind() == Kind::Normal && !state.is_monitor;
            let timeout = settings.idle_timeout;
            if !timeout.is_zero() && may_be_idle && now.since(state.active_at) > timeout {
                client.listener.mailbox.end(End::Idle);
            }
        }
    }
}

/// What a client from elsewhere is told in protected mode.
const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is \
    enabled and no password is set for the default user. In this mode connections are only \
    accepted from the loopback interface. To connect from elsewhere set redis.requirepass in \
    weir.yaml, or redis.protected_mode to false if strangers cannot reach this address.\r\n";

/// Forty hexadecimal digits from chance and the time.
fn run_id(since: Timestamp) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let mut id = String::new();
    while id.len() < 40 {
        id.push_str(&format!("{:016x}", RandomState::new().hash_one(since.micros())));
    }
    id.truncate(40);
    id
}
