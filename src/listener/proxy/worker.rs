//! A worker: what one thread holds to serve its connections.
//!
//! Workers share nothing that is written to but counters: each has its own
//! listening socket, its own pools and its own scratch space, and a connection
//! stays with the worker that accepted it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time;

use crate::base::tasks::Tasks;
use crate::limiter::Scratch;
use crate::listener::accept::Acceptor;

use super::Proxy;
use super::config::{Endpoint, UpstreamConfig};
use super::connection;
use super::upstream::Pool;

/// How often idle connections to upstreams are looked through.
const PRUNE_PERIOD: Duration = Duration::from_secs(1);

/// Where a route leads.
#[derive(Debug)]
pub enum Target {
    /// To `builtin:echo`.
    Echo,
    /// To a server.
    Http(Rc<Pool>),
}

/// What one thread holds.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub proxy: Arc<Proxy>,
    /// Where connections are spawned.
    pub tasks: Tasks,
    /// One for each upstream, in the order of the configuration.
    targets: Vec<Target>,
    /// Space of requests that are not being decided now.
    scratch: RefCell<Vec<Scratch>>,
}

impl Worker {
    fn new(proxy: Arc<Proxy>, tasks: &Tasks) -> Worker {
        let idle_count_max = proxy.upstream_idle_count_max;
        let target = |upstream: &UpstreamConfig| match upstream.endpoint.clone() {
            Endpoint::Echo => Target::Echo,
            Endpoint::Http { authority, host, port } => {
                let address = (authority, host, port);
                Target::Http(Pool::new(
                    &upstream.name,
                    address,
                    proxy.timeouts,
                    idle_count_max,
                    tasks,
                ))
            }
        };
        let targets = proxy.upstreams.iter().map(target).collect();
        Worker { proxy, tasks: tasks.clone(), targets, scratch: RefCell::default() }
    }

    /// Where the normalised `path` leads.
    pub fn route(&self, path: &str) -> Option<&Target> {
        self.proxy.routes.find(path).and_then(|index| self.targets.get(index))
    }

    /// Space for one decision, warm if any is left.
    pub fn lend_scratch(&self) -> Scratch {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the space back for the next one.
    pub fn give_back_scratch(&self, scratch: Scratch) {
        self.scratch.borrow_mut().push(scratch);
    }

    fn pools(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.targets.iter().filter_map(|target| match target {
            Target::Http(pool) => Some(pool),
            Target::Echo => None,
        })
    }
}

/// Serves one listening socket on this thread until shutdown. Runs on a
/// `LocalRuntime`; connections are local tasks of `tasks` and outlive this call, to
/// finish what they began.
///
/// # Errors
/// The socket could not be registered with the runtime of this thread.
pub async fn serve(
    socket: std::net::TcpListener,
    proxy: Arc<Proxy>,
    tasks: &Tasks,
) -> io::Result<()> {
    let mut acceptor = Acceptor::new("proxy", socket, proxy.cap.clone())?;
    let worker = Rc::new(Worker::new(proxy, tasks));
    let shutdown = tasks.shutdown();
    let mut prune = time::interval(PRUNE_PERIOD);
    loop {
        tokio::select! {
            accepted = acceptor.next() => {
                tasks.spawn_local(connection::serve(Rc::clone(&worker), accepted));
            }
            _ = prune.tick() => worker.pools().for_each(|pool| pool.prune()),
            () = shutdown.cancelled() => break,
        }
    }
    // The kernel has completed these; closing the socket would reset them.
    while let Some(accepted) = acceptor.next_queued().await {
        tasks.spawn_local(connection::serve(Rc::clone(&worker), accepted));
    }
    worker.pools().for_each(|pool| pool.close());
    Ok(())
}
