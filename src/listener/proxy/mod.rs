//! The proxy door: HTTP in, the same HTTP out, if the limiter lets it.
//!
//! | file | what |
//! |---|---|
//! | `request` | **begin here**: the way of a request, from its head to its answer |
//! | `connection`, `watch` | what a connection speaks, how long it may take, how it ends |
//! | `observed` | a socket whose traffic is noted |
//! | `preamble` | PROXY protocol |
//! | `worker` | what one thread holds: sockets, pools, scratch space |
//! | `head`, `facts` | what is refused; what policies get to see |
//! | `forward`, `upstream`, `body` | the way up and down again |
//! | `refuse`, `echo`, `errors` | answers of our own |
//! | `config`, `routes` | how it is set up |
//! | `record`, `metrics`, `access` | what is told about it |
//!
//! # Invariants
//!
//! 1. What policies matched, what was routed and what is forwarded is the same
//!    normalised request. What can be read in two ways is refused.
//! 2. An upstream sees at most one request for each that was admitted, or two if
//!    the first fell into a connection that had died.
//! 3. A refused request's body is never read as a request, and never asked for.
//! 4. A connection stays on the thread that accepted it; the request path takes
//!    no lock of ours.
//!
//! # Not here yet
//!
//! TLS, HTTP/2 upstreams, trailers, upgrades, several endpoints and their health.

mod access;
mod body;
mod config;
mod connection;
mod echo;
mod errors;
mod facts;
mod forward;
mod head;
mod metrics;
mod observed;
mod preamble;
mod record;
mod refuse;
mod request;
mod routes;
mod upstream;
mod watch;
mod worker;

use std::io;
use std::sync::Arc;

use ipnet::IpNet;
use prometheus::Registry;

use crate::limiter::Limiter;
use crate::policy::client_address::Trust;

use super::accept::Cap;

pub use config::{
    AccessLog, Config, Endpoint, RawConfig, RawProxy, RawRoute, RawTimeouts, RawUpstream, Timeouts,
    UpstreamConfig,
};
pub use metrics::Metrics;
pub use routes::Routes;
pub use worker::serve;

/// What the workers of the proxy share.
#[derive(Debug)]
pub struct Proxy {
    limiter: Arc<Limiter>,
    upstreams: Vec<UpstreamConfig>,
    routes: Routes,
    timeouts: Timeouts,
    trust: Trust,
    proxy_protocol: Vec<IpNet>,
    upstream_idle_count_max: u32,
    cap: Cap,
    metrics: Metrics,
    access: Option<access::Log>,
}

/// The proxy could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The access log cannot be opened.
    #[error("cannot open the access log {log}")]
    AccessLog {
        /// Where it is to be.
        log: AccessLog,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A metric of the same name exists.
    #[error("cannot register the metrics of the proxy")]
    Metrics(#[from] prometheus::Error),
}

/// Tries whether a proxy could be set up.
///
/// # Errors
/// The access log cannot be opened.
pub fn try_config(config: &Config) -> Result<(), Error> {
    access::try_open(&config.access_log)
        .map_err(|source| Error::AccessLog { log: config.access_log.clone(), source })
}

impl Proxy {
    /// Sets the proxy up; [`serve`] then runs it on each worker.
    ///
    /// # Errors
    /// The access log cannot be opened, or metrics are registered twice.
    pub fn new(
        config: Config,
        limiter: Arc<Limiter>,
        registry: &Registry,
    ) -> Result<Arc<Proxy>, Error> {
        let metrics = Metrics::register(registry)?;
        let access = access::Log::open(&config.access_log, metrics.access_lines_lost.clone())
            .map_err(|source| Error::AccessLog { log: config.access_log, source })?;
        Ok(Arc::new(Proxy {
            limiter,
            upstreams: config.upstreams,
            routes: config.routes,
            timeouts: config.timeouts,
            trust: config.trust,
            proxy_protocol: config.proxy_protocol,
            upstream_idle_count_max: config.upstream_idle_count_max,
            cap: Cap::new(config.connection_count_max),
            metrics,
            access,
        }))
    }
}
