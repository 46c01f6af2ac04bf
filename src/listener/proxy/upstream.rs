//! Connections to an upstream: made, kept, lent and given back.
//!
//! Each worker has its own pool for each upstream, so that lending one is a pop
//! and takes no lock. A connection is lent to one exchange at a time
//! ([`Lease`]) and comes back when the response's last byte has come. A lease
//! that is dropped instead closes its connection: what is left on it is unknown.
//!
//! The last connection given back is the first to be lent, so that those a quiet
//! time does not need grow old and are closed by [`Pool::prune`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http::uri::Authority;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time;

use crate::base::chain::Chain;
use crate::base::clock::Stopwatch;
use crate::base::tasks::Tasks;

use super::body::RequestBody;
use super::config::Timeouts;
use super::errors::ForwardError;
use super::observed::{ObservedStream, Observer};

/// Header fields of a response, at most.
const RESPONSE_FIELD_COUNT_MAX: usize = 100;

/// Bytes of a response's head, at most, and of what is read ahead of its body.
const RESPONSE_BUFFER_SIZE_MAX: usize = 64 << 10;

/// Connections of one worker to one upstream.
#[derive(Debug)]
pub struct Pool {
    /// `host:port` as written, for the `Host` of a request that has none.
    pub authority: Authority,
    name: String,
    host: String,
    port: u16,
    timeouts: Timeouts,
    idle_count_max: usize,
    idle: RefCell<VecDeque<Idle>>,
    /// Nothing is kept any more: the worker drains.
    closed: Cell<bool>,
    /// The last attempt to connect failed, and was logged.
    unreachable: Cell<bool>,
    clock: Stopwatch,
    tasks: Tasks,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Duration,
}

/// A connection's two ends as we hold them.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<RequestBody>,
    /// Whether a byte has come since the last request.
    heard: Heard,
}

/// A connection lent to one exchange.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
    /// It has served another exchange before, so that the upstream may have
    /// closed it in the meantime without being at fault.
    pub reused: bool,
}

impl Pool {
    /// An empty pool for the upstream `name` at `host:port`.
    pub fn new(
        name: &str,
        (authority, host, port): (Authority, String, u16),
        timeouts: Timeouts,
        idle_count_max: u32,
        tasks: &Tasks,
    ) -> Rc<Pool> {
        Rc::new(Pool {
            authority,
            name: name.to_owned(),
            host,
            port,
            timeouts,
            idle_count_max: idle_count_max as usize,
            idle: RefCell::default(),
            closed: Cell::new(false),
            unreachable: Cell::new(false),
            clock: Stopwatch::start(),
            tasks: tasks.clone(),
        })
    }

    /// Lends a connection that is kept and, as far as we know, still open.
    pub fn lend(self: &Rc<Self>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop_back() {
            if connection.sender.is_ready() {
                return Some(Lease { connection, pool: Rc::clone(self), reused: true });
            }
        }
        None
    }

    /// Makes a new connection and lends it.
    ///
    /// # Errors
    /// [`ForwardError::Connect`] or [`ForwardError::ConnectTimeout`].
    pub async fn connect(self: &Rc<Self>) -> Result<Lease, ForwardError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = time::timeout(self.timeouts.connect, connecting)
            .await
            .map_err(|_elapsed| ForwardError::ConnectTimeout)
            .and_then(|connected| connected.map_err(ForwardError::Connect));
        self.tell(stream.as_ref().err());
        let stream = stream?;
        // Only fails on a connection that is already gone.
        let _ = stream.set_nodelay(true);
        let heard = Heard::default();
        let stream = TokioIo::new(ObservedStream::new(stream, heard.clone()));
        let (sender, driver) = http1::Builder::new()
            .max_headers(RESPONSE_FIELD_COUNT_MAX)
            .max_buf_size(RESPONSE_BUFFER_SIZE_MAX)
            .handshake(stream)
            .await
            .map_err(ForwardError::Closed)?;
        self.tasks.spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection to an upstream ended");
            }
        });
        let connection = Connection { sender, heard };
        Ok(Lease { connection, pool: Rc::clone(self), reused: false })
    }

    /// Logs when the upstream goes and when it comes back, not every attempt.
    fn tell(&self, error: Option<&ForwardError>) {
        let upstream = &self.name;
        match (error, self.unreachable.replace(error.is_some())) {
            (Some(error), false) => {
                tracing::warn!(upstream, error = %Chain(error), "upstream cannot be reached");
            }
            (None, true) => tracing::info!(upstream, "upstream can be reached again"),
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Closes connections that were not used for `upstream_idle`, and those that
    /// the upstream has closed.
    pub fn prune(&self) {
        let now = self.clock.elapsed();
        let allowed = self.timeouts.upstream_idle;
        self.idle.borrow_mut().retain(|idle| {
            !idle.connection.sender.is_closed() && now.saturating_sub(idle.since) < allowed
        });
    }

    /// Closes what is idle now, and all else when it comes back.
    pub fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
    }
}

impl Lease {
    /// The end to send a request with. Forgets what was heard before.
    pub fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        self.connection.heard.0.set(false);
        &mut self.connection.sender
    }

    /// True when the upstream sent anything at all since the request.
    pub fn heard(&self) -> bool {
        self.connection.heard.0.get()
    }

    /// Gives the connection back: the exchange is over, to the last byte.
    pub fn give_back(self) {
        let Lease { connection, pool, .. } = self;
        let mut idle = pool.idle.borrow_mut();
        if pool.closed.get() || connection.sender.is_closed() {
            return;
        }
        if idle.len() >= pool.idle_count_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: pool.clock.elapsed() });
    }
}

/// Set once a byte has come.
#[derive(Clone, Debug, Default)]
struct Heard(Rc<Cell<bool>>);

/// Of the upstream's socket.
impl Observer for Heard {
    fn bytes_came(&self) {
        self.0.set(true);
    }

    /// Whether an upstream reads is seen by its response, or the lack of it.
    fn wrote(&self, _is_blocked: bool) {}
}
