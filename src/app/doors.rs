//! The doors: bound first, all of them, and opened when there is something to
//! decide with.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::{self, LocalOptions};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Stopwatch;
use crate::base::tasks::{Drained, Tasks, spawn_thread};
use crate::config::Config;
use crate::limiter::Limiter;
use crate::listener::accept::{Acceptor, Bound, Cap, bind};
use crate::listener::admin::{self, Admin, Api, Readiness};
use crate::listener::envoy;
use crate::listener::proxy::{self, Proxy};
use crate::listener::redis;
use crate::store::Store;

use super::Error;

/// Threads of the redis door, at the least: while one runs a client's call, another
/// takes who comes to end it.
const REDIS_WORKER_COUNT_MIN: usize = 2;

/// Every door, bound and not served yet.
pub struct Doors {
    proxy: Bound,
    admin: Bound,
    envoy: Option<Bound>,
    redis: Option<Bound>,
}

/// The doors that are open: where they listen, and how they end.
pub struct Open {
    /// Where the proxy listens.
    pub proxy: SocketAddr,
    /// Where the admin door listens.
    pub admin: SocketAddr,
    /// Where the door for Envoy listens.
    pub envoy: Option<SocketAddr>,
    /// Where the door for Redis clients listens.
    pub redis: Option<SocketAddr>,
    /// Cancelled when a client asks the process to end.
    pub end_asked: CancellationToken,
    workers: Vec<JoinHandle<Drained>>,
    end_workers: CancellationToken,
}

/// The page of policies and the API, empty until there is a limiter.
#[derive(Clone)]
pub struct PoliciesPage {
    limiter: Arc<OnceLock<Arc<Limiter>>>,
    api: Arc<Api>,
}

impl PoliciesPage {
    /// From here on the policies of `limiter` are shown.
    pub fn show(&self, limiter: &Arc<Limiter>) {
        // Set once, by the one start of the process.
        let _ = self.limiter.set(Arc::clone(limiter));
        self.api.serve(limiter);
    }

    fn render(&self) -> String {
        let Some(limiter) = self.limiter.get() else { return "loading\n".to_owned() };
        let live = limiter.live();
        let policies = live.policies().policies();
        let lines = policies.iter().map(|policy| format!("{}\n", policy.describe()));
        format!("generation {}\n{}", live.generation(), lines.collect::<String>())
    }
}

impl Doors {
    /// Binds every address, or none.
    pub fn bind(config: &Config) -> Result<Doors, Error> {
        let proxy = bind("proxy", config.listen.proxy, config.worker_count as usize)?;
        let admin = bind("admin", config.listen.admin, 1)?;
        let envoy = match config.listen.envoy {
            Some(address) => Some(bind("envoy", address, 1)?),
            None => None,
        };
        let redis = match config.listen.redis {
            Some(address) => {
                let count = (config.worker_count as usize).max(REDIS_WORKER_COUNT_MIN);
                Some(bind("redis", address, count)?)
            }
            None => None,
        };
        Ok(Doors { proxy, admin, envoy, redis })
    }

    /// Opens the admin door, which also shows how loading goes.
    pub fn open_admin(
        &mut self,
        config: &Config,
        registry: &Registry,
        readiness: &Readiness,
        tasks: &Tasks,
    ) -> Result<PoliciesPage, Error> {
        let is_loopback = config.listen.admin.ip().is_loopback();
        let api = Api::new(config.admin_token.as_deref(), is_loopback, registry)?;
        let page = PoliciesPage { limiter: Arc::default(), api: Arc::new(api) };
        let rendered = page.clone();
        let api = Arc::clone(&page.api);
        let admin = Admin::new(registry.clone(), readiness.clone(), api).page(
            "/policies",
            "the policies in force, and their generation",
            "text/plain; charset=utf-8",
            move || rendered.render(),
        );
        let acceptor = acceptor(&mut self.admin, Cap::new(admin::CONNECTION_COUNT_MAX))?;
        let serving = tasks.clone();
        tasks.spawn("admin", |_shutdown| admin::serve(acceptor, Arc::new(admin), serving));
        Ok(page)
    }

    /// Opens the other doors; clients of the redis door come by `transport`.
    pub fn open(
        mut self,
        config: &Config,
        transport: redis::Transport,
        limiter: &Arc<Limiter>,
        registry: &Registry,
        tasks: &Tasks,
    ) -> Result<Open, Error> {
        let proxy = Proxy::new(config.proxy.clone(), Arc::clone(limiter), registry)
            .map_err(|error| Error::of_proxy(error, config))?;
        let envoy_metrics = envoy::Metrics::register(registry)?;
        let envoy_address = self.envoy.as_ref().map(|bound| bound.address);
        if let Some(bound) = &mut self.envoy {
            let acceptor = acceptor(bound, Cap::new(envoy::CONNECTION_COUNT_MAX))?;
            let (limiter, serving) = (Arc::clone(limiter), tasks.clone());
            let trust = config.proxy.trust.clone();
            tasks.spawn("envoy", |_shutdown| {
                envoy::serve(acceptor, limiter, trust, envoy_metrics, serving)
            });
        }
        let crew = Crew { end: CancellationToken::new(), drain_timeout: config.drain_timeout };
        let mut workers = crew.start(self.proxy.sockets, "proxy", move |socket, tasks| {
            let proxy = Arc::clone(&proxy);
            async move { proxy::serve(socket, proxy, &tasks).await }
        })?;
        let end_asked = CancellationToken::new();
        let redis_address = self.redis.as_ref().map(|bound| bound.address);
        if let Some(bound) = self.redis {
            let Store::Embedded(store) = limiter.store();
            let (mut settings, end) = (config.redis.settings.clone(), end_asked.clone());
            settings.long_hold = config.store_wait_max;
            let server = redis::Server::new(settings, transport, store.commands(), end, registry)?;
            workers.push(listen_for_kill(&server, &crew.end)?);
            workers.extend(crew.start(bound.sockets, "redis", move |socket, tasks| {
                let server = Arc::clone(&server);
                async move { redis::serve(socket, server, &tasks).await }
            })?);
        }
        Ok(Open {
            proxy: self.proxy.address,
            admin: self.admin.address,
            envoy: envoy_address,
            redis: redis_address,
            end_asked,
            workers,
            end_workers: crew.end,
        })
    }
}

/// Starts the thread that hears when a call is to be ended.
fn listen_for_kill(
    server: &Arc<redis::Server>,
    end: &CancellationToken,
) -> Result<JoinHandle<Drained>, Error> {
    let (server, end) = (Arc::clone(server), end.clone());
    let runtime = runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(Error::Runtime)?;
    let listening = spawn_thread("redis-kill", move || {
        runtime.block_on(redis::listen_for_kill(&server, &end));
        Drained::Clean
    });
    listening.map_err(Error::Runtime)
}

/// Hands the one socket of a door to the runtime of this thread.
fn acceptor(bound: &mut Bound, cap: Cap) -> Result<Acceptor, Error> {
    let socket = bound
        .sockets
        .pop()
        .ok_or_else(|| Error::Runtime(std::io::Error::other("the door has been opened already")))?;
    Acceptor::new(bound.listener, socket, cap).map_err(Error::Runtime)
}

/// Threads that each serve one socket of a door.
struct Crew {
    end: CancellationToken,
    drain_timeout: Duration,
}

impl Crew {
    /// Starts a thread for each of `sockets`, which serves it until told to end
    /// and then lets what is under way finish.
    fn start<Served>(
        &self,
        sockets: Vec<std::net::TcpListener>,
        door: &'static str,
        serve: impl Fn(std::net::TcpListener, Tasks) -> Served + Clone + Send + 'static,
    ) -> Result<Vec<JoinHandle<Drained>>, Error>
    where
        Served: Future<Output = std::io::Result<()>> + 'static,
    {
        let start = |(index, socket)| {
            let (serve, end, drain_timeout) = (serve.clone(), self.end.clone(), self.drain_timeout);
            spawn_thread(&format!("{door}-{index}"), move || {
                let tasks = Tasks::default();
                let serving = serve(socket, tasks.clone());
                run_worker(door, tasks, serving, end, drain_timeout)
            })
        };
        sockets.into_iter().enumerate().map(start).collect::<Result<_, _>>().map_err(Error::Runtime)
    }
}

/// Drives `serving` and its tasks on this thread until `end`.
fn run_worker(
    door: &'static str,
    tasks: Tasks,
    serving: impl Future<Output = std::io::Result<()>> + 'static,
    end: CancellationToken,
    drain_timeout: Duration,
) -> Drained {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, door, "cannot start a worker");
            return Drained::Clean;
        }
    };
    runtime.block_on(async {
        tasks.spawn_local(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, door, "cannot serve");
            }
        });
        end.cancelled().await;
        tasks.drain(drain_timeout).await
    })
}

impl Open {
    /// Tells the workers to end and waits for them, but no longer than `grace`, and a
    /// little after the calls that still run then have been ended by `end_calls`. True
    /// when all ended with nothing left running.
    pub async fn drain_workers(self, grace: Duration, end_calls: impl Fn()) -> bool {
        self.end_workers.cancel();
        let ended = || self.workers.iter().all(JoinHandle::is_finished);
        let since = Stopwatch::start();
        let ended_within = async |time: Duration| {
            while !ended() && since.elapsed() <= time {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        ended_within(grace).await;
        end_calls();
        ended_within(grace + Duration::from_secs(1)).await;
        let is_clean = |worker: JoinHandle<_>| matches!(worker.join(), Ok(Drained::Clean));
        ended() && self.workers.into_iter().all(is_clean)
    }
}
