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
use tokio::net::TcpStream;
use tokio::time;

use crate::base::chain::Chain;
use crate::base::clock::Stopwatch;
use crate::base::tasks::Tasks;

use super::config::Timeouts;
use super::errors::ForwardError;
use super::exchange::Connection;

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
    /// Where the rest of a request is sent that was answered early.
    pub tasks: Tasks,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Duration,
}

/// A connection lent to one exchange.
#[derive(Debug)]
pub struct Lease {
    /// What is lent.
    pub connection: Connection,
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
            if connection.is_quiet() {
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
        let connection = Connection::new(stream);
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
    /// the upstream has closed, or said something over.
    pub fn prune(&self) {
        let now = self.clock.elapsed();
        let allowed = self.timeouts.upstream_idle;
        self.idle
            .borrow_mut()
            .retain(|idle| idle.connection.is_quiet() && now.saturating_sub(idle.since) < allowed);
    }

    /// Closes what is idle now, and all else when it comes back.
    pub fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
    }
}

impl Lease {
    /// Gives the connection back: the exchange is over, to the last byte.
    pub fn give_back(self) {
        let Lease { connection, pool, .. } = self;
        let mut idle = pool.idle.borrow_mut();
        if pool.closed.get() || !connection.is_reusable() {
            return;
        }
        if idle.len() >= pool.idle_count_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: pool.clock.elapsed() });
    }
}
