//! Builds the process from its parts and runs it: the one place where rooms are
//! put together, bottom up, each handed what it needs.
//!
//! The order of a start: read every file that people write, bind every socket,
//! open the admin door (so that loading can be watched), load the state, and
//! only then open the other doors. A start that fails leaves nothing half open.
//! The order of an end: stop accepting, finish what runs, sync the log, close
//! the admin door last.

mod banner;
mod doors;
mod error;
mod libraries;
mod loading;
mod signals;

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::base::chain::Chain;
use crate::base::clock::Clock;
use crate::base::problems::Problems;
use crate::base::tasks::{Drained, Tasks, spawn_thread};
use crate::config::Config;
use crate::limiter::{self, Limiter, PolicyFile, keep_current};
use crate::listener::admin::{Condition, Readiness, State};
use crate::persist;
use crate::policy::{Functions, PolicySet};
use crate::store::{self, Embedded, Library, Opened, Store};

pub use error::Error;

use doors::Doors;
use signals::Signals;

/// Everything that people wrote, read and checked.
struct Written {
    config: Config,
    libraries: Vec<Library>,
    policies: PolicySet,
    policy_file: PolicyFile,
}

impl Written {
    /// Reads the configuration, the Functions and the policies.
    fn read(path: &Path) -> Result<Written, Error> {
        let config = Config::load(path)?;
        let libraries = libraries::collect(&config.functions)?;
        // A store without a log tells which Functions there are, before a log
        // is locked and read for a policy file that is wrong.
        let mut rehearsal = open_store(&libraries, None, &Registry::new())?;
        let functions = Functions::new(rehearsal.store.functions());
        rehearsal.store.close()?;
        let mut policy_file = PolicyFile::new(config.policies.clone());
        let policies = policy_file.load(&functions)?;
        Ok(Written { config, libraries, policies, policy_file })
    }
}

/// Checks all that people wrote and returns what it says, in a few lines.
///
/// # Errors
/// Everything that is wrong with the first file that has something wrong.
pub fn check(path: &Path) -> Result<String, Error> {
    let written = Written::read(path)?;
    Ok(banner::checked(&written))
}

/// Serves until a signal ends it.
///
/// # Errors
/// The start failed, or the last sync of the log.
pub fn serve(path: &Path, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let written = Written::read(path)?;
    let control = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    control.block_on(run(written, say))
}

async fn run(written: Written, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let mut signals = Signals::install()?;
    let registry = Registry::new();
    let doors = Doors::bind(&written.config)?;
    let readiness = Readiness::default();
    let serving = readiness.condition("serving", State::Unmet("loading".to_owned()));
    let admin_tasks = Tasks::default();
    let policies_page = doors.open_admin(&registry, &readiness, &admin_tasks)?;

    let opened = load(&written, &registry, &serving).await?;
    readiness.probe("log", loading::log_probe(opened.store.log().cloned()));
    let limiter = Arc::new(Limiter::new(
        Store::Embedded(opened.store),
        written.policies,
        written.config.failure_mode,
        limiter::Metrics::register(&registry)?,
    ));
    policies_page.show(&limiter);

    let tasks = Tasks::default();
    let (nudge, nudges) = mpsc::channel(1);
    let reloading = Arc::clone(&limiter);
    tasks.spawn("policy-reload", |shutdown| async move {
        keep_current(&reloading, written.policy_file, nudges, shutdown).await;
    });
    let started = doors.open(&written.config, &limiter, &registry, &tasks)?;
    serving.set(State::Ok);
    say(&banner::serving(&written.config, &started, &limiter, opened.recovery.as_ref()));

    signals.wait(&nudge).await;
    serving.set(State::Unmet("draining".to_owned()));
    tracing::info!(grace = ?written.config.drain_timeout, "draining");
    let drained = tasks.drain(written.config.drain_timeout).await;
    let workers_drained = started.join(written.config.drain_timeout).await;
    if drained != Drained::Clean || !workers_drained {
        tracing::warn!("not everything ended within the grace period");
    }
    let closed = close(&limiter);
    admin_tasks.drain(std::time::Duration::from_secs(1)).await;
    closed
}

/// Flushes and syncs the log, and says how it went.
fn close(limiter: &Limiter) -> Result<(), Error> {
    let Store::Embedded(embedded) = limiter.store();
    let closed = embedded.close();
    match &closed {
        Ok(()) => tracing::info!("the log is synced, goodbye"),
        Err(error) => tracing::error!(error = %Chain(error), "the last sync of the log failed"),
    }
    Ok(closed?)
}

/// Opens the store on a thread of its own, so that the admin door answers
/// meanwhile.
async fn load(
    written: &Written,
    registry: &Registry,
    serving: &Condition,
) -> Result<Opened, Error> {
    let (send, opened) = oneshot::channel();
    let libraries = written.libraries.clone();
    let log = written.config.log.clone();
    let registry = registry.clone();
    let progress = loading::Progress::new(serving.clone());
    let thread = spawn_thread("load", move || {
        let opened = open_logged(&libraries, log, &registry, progress);
        // Nobody waits any more when the process is ending.
        let _ = send.send(opened);
    })
    .map_err(Error::Runtime)?;
    let opened = opened.await.map_err(|_closed| Error::Loader)?;
    let _ = thread.join();
    opened
}

fn open_logged(
    libraries: &[Library],
    log: persist::Config,
    registry: &Registry,
    mut progress: loading::Progress,
) -> Result<Opened, Error> {
    let metrics = persist::Metrics::register(registry)?;
    let opened = Embedded::open(
        libraries,
        Some((log, metrics)),
        Clock::system(),
        store::Metrics::register(registry)?,
        &mut |at| progress.show(at),
    );
    progress.finish();
    opened.map_err(Error::from_open)
}

/// Opens a store without a log.
fn open_store(
    libraries: &[Library],
    log: Option<(persist::Config, persist::Metrics)>,
    registry: &Registry,
) -> Result<Opened, Error> {
    let metrics = store::Metrics::register(registry)?;
    Embedded::open(libraries, log, Clock::system(), metrics, &mut |_| {}).map_err(Error::from_open)
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Error {
        Error::Written(problems)
    }
}
