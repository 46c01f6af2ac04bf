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
pub mod explain;
mod libraries;
mod loading;
pub mod replay;
mod signals;
pub mod trial;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::base::chain::Chain;
use crate::base::clock::Clock;
use crate::base::tasks::{Drained, Tasks, spawn_thread};
use crate::base::{huge_pages, log};
use crate::config::Config;
use crate::limiter::{self, Limiter, PolicyFile, keep_current, keep_grants};
use crate::listener::admin::{Condition, Readiness, State};
use crate::listener::{proxy, redis};
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
    function_names: Vec<String>,
    policies: PolicySet,
    policy_file: PolicyFile,
    redis_transport: redis::Transport,
}

impl Written {
    /// Reads the configuration, the Functions and the policies.
    fn read(path: &Path) -> Result<Written, Error> {
        let config = Config::load(path)?;
        let redis_transport = redis::Transport::new(config.redis.tls.as_ref())
            .map_err(|error| config.problem(&error.path(), &error))?;
        let libraries = libraries::collect(&config.functions)
            .map_err(|error| config.problem("functions", &error))?;
        // A store without a log tells which Functions there are, before a log
        // is locked and read for a policy file that is wrong.
        let metrics = store::Metrics::register(&Registry::new())?;
        let clock = Clock::system();
        let rehearsal = Embedded::open(&libraries, None, clock, metrics, &mut |_| {})?.store;
        let function_names = rehearsal.functions();
        rehearsal.close()?;
        let functions = Functions::new(function_names.clone());
        let mut policy_file = PolicyFile::new(config.policies.clone());
        let policies = policy_file.load(&functions)?;
        Ok(Written { config, libraries, function_names, policies, policy_file, redis_transport })
    }
}

/// Checks all that people wrote and returns what it says, in a few lines.
///
/// # Errors
/// Everything that is wrong with the first file that has something wrong, or the access
/// log cannot be opened.
pub fn check(path: &Path) -> Result<String, Error> {
    let written = Written::read(path)?;
    let Written { config, function_names, policies, .. } = written;
    proxy::try_config(&config.proxy).map_err(|error| Error::of_proxy(error, &config))?;
    Ok(banner::checked(&config, &function_names, &policies))
}

/// Serves until a signal ends it.
///
/// # Errors
/// The start failed, or the last sync of the log.
pub fn serve(path: &Path, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let written = Written::read(path)?;
    let control =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    control.block_on(run(written, say))
}

async fn run(written: Written, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    if let Err(error) = huge_pages::disable() {
        tracing::warn!(%error, "huge pages stay on; memory may exceed what is accounted for");
    }
    let mut signals = Signals::install()?;
    let registry = registry_of_process()?;
    let mut doors = Doors::bind(&written.config)?;
    let readiness = Readiness::default();
    let serving = readiness.condition("serving", State::Unmet("loading".to_owned()));
    let admin_tasks = Tasks::default();
    let policies_page = doors.open_admin(&written.config, &registry, &readiness, &admin_tasks)?;

    let (nudge, nudges) = mpsc::channel(1);
    let opened = tokio::select! {
        opened = load(&written, &registry, &serving) => opened?,
        // Nothing has been promised yet, so nothing is lost by leaving.
        () = signals.wait(&nudge) => return Ok(()),
    };
    let log = opened.store.log().cloned();
    if let Some(log) = &log {
        log.register_metrics(&registry)?;
    }
    readiness.probe("log", loading::log_probe(log));
    opened.recovery.iter().for_each(loading::report);
    opened.store.set_function_limits(written.config.function_limits);
    let (store, metrics) = (Store::Embedded(opened.store), limiter::Metrics::register(&registry)?);
    let limiter = Limiter::new(store, written.policies, written.config.failure_mode, metrics);
    let limiter = Arc::new(limiter.waiting_for_the_store(written.config.store_wait_max));
    // Before a request is decided, before the API shows it, and before anything is
    // evicted.
    limiter.take_over().await;
    let Store::Embedded(store) = limiter.store();
    store.set_memory_limits(written.config.memory);
    policies_page.show(&limiter);
    readiness.probe("policies", policies_probe(Arc::clone(&limiter)));

    let tasks = Tasks::default();
    let reloading = Arc::clone(&limiter);
    tasks.spawn("policy-reload", |shutdown| async move {
        keep_current(&reloading, written.policy_file, nudges, shutdown).await;
    });
    let keeping = Arc::clone(&limiter);
    tasks.spawn("overrides", |shutdown| async move { keep_grants(&keeping, shutdown).await });
    let reloads = libraries::Metrics::register(&registry)?;
    let folder =
        libraries::Folder::new(written.config.functions.clone(), &written.libraries, reloads);
    watch_functions(folder, &limiter, &readiness, &tasks);
    let paying = Arc::clone(&limiter);
    if let Some(mut payments) = limiter.take_payments() {
        tasks.spawn("dues", |shutdown| async move { payments.pay(&paying, shutdown).await });
    }
    let open = doors.open(&written.config, written.redis_transport, &limiter, &registry, &tasks)?;
    serving.set(State::Ok);
    say(&banner::serving(&written.config, &open, &limiter, opened.recovery.as_ref()));

    tokio::select! {
        () = signals.wait(&nudge) => {}
        () = open.end_asked.cancelled() => tracing::info!("a redis client asked for the end"),
    }
    serving.set(State::Unmet("draining".to_owned()));
    tracing::info!(grace = ?written.config.drain_timeout, "draining");
    let (drained, workers_drained) = tokio::join!(
        tasks.drain(written.config.drain_timeout),
        open.drain_workers(written.config.drain_timeout, || store.end_calls())
    );
    if drained != Drained::Clean || !workers_drained {
        tracing::warn!("not everything ended within the grace period");
    }
    let closed = close(&limiter);
    admin_tasks.drain(Duration::from_secs(1)).await;
    closed
}

/// A registry that knows the process and its log.
fn registry_of_process() -> Result<Registry, Error> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    if let Some(lost_lines) = log::lost_lines() {
        registry.register(Box::new(lost_lines))?;
    }
    Ok(registry)
}

/// Keeps the loaded libraries equal to the files of their folder.
fn watch_functions(
    folder: libraries::Folder,
    limiter: &Arc<Limiter>,
    readiness: &Readiness,
    tasks: &Tasks,
) {
    let faults = folder.faults();
    readiness.probe("functions", move || faults.state());
    let limiter = Arc::clone(limiter);
    tasks.spawn("function-reload", |shutdown| async move {
        let Store::Embedded(store) = limiter.store();
        libraries::keep_current(store, folder, shutdown).await;
    });
}

/// What the condition `policies` on the admin door says. A refused file leaves
/// the process ready: it goes on under the policies it has.
fn policies_probe(limiter: Arc<Limiter>) -> impl Fn() -> State + Send + 'static {
    move || match limiter.stale_for() {
        None => State::Ok,
        Some(age) => State::Degraded(format!(
            "stale for {} s: the file was refused, generation {} stays in force",
            age.as_secs(),
            limiter.live().generation()
        )),
    }
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
    let metrics = store::Metrics::register(registry)?;
    let show = &mut |at| progress.show(at);
    let opened = Embedded::open(libraries, Some(log), Clock::system(), metrics, show);
    progress.finish();
    Ok(opened?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: &str = "
policies:
  - { name: small, limits: [{ quota: 5, window: 10s }] }
  - { name: large, limits: [{ quota: 100000, window: 10s }] }
";

    #[test]
    fn a_check_tells_memory_and_advice_apart_and_gives_none_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("weir.yaml");
        std::fs::write(&config, "{}").unwrap();
        let said = |policies: &str| {
            std::fs::write(folder.path().join("policies.yaml"), policies).unwrap();
            check(&config).unwrap()
        };
        let text = said(POLICIES);
        let labels: Vec<&str> =
            text.lines().filter_map(|it| it.get(2..12)).map(str::trim).collect();
        assert_eq!(labels, ["policies", "", "", "memory", "", "advice", "functions"], "{text}");
        assert!(text.contains("  advice    large: an exact log of 100000 units"), "{text}");
        assert!(!said("policies: []").contains("advice"));
    }

    #[test]
    fn a_check_tries_the_access_log_and_leaves_no_file_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("weir.yaml");
        std::fs::write(folder.path().join("policies.yaml"), "policies: []").unwrap();
        std::fs::write(&config, "proxy: { access_log: logs/access.log }").unwrap();
        let told = Chain(&check(&config).unwrap_err()).to_string();
        let place = "weir.yaml:1:22: proxy.access_log: cannot open the access log ";
        assert!(told.contains(place), "{told}");
        assert!(told.contains("logs/access.log: No such file"), "{told}");

        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        check(&config).unwrap();
        assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 0);
        std::fs::write(logs.join("access.log"), "a line\n").unwrap();
        check(&config).unwrap();
        assert_eq!(std::fs::read_to_string(logs.join("access.log")).unwrap(), "a line\n");

        // Nobody reads it, so who opened it would wait for ever.
        let made = std::process::Command::new("mkfifo").arg(logs.join("pipe")).status();
        assert!(made.unwrap().success());
        std::fs::write(&config, "proxy: { access_log: logs/pipe }").unwrap();
        check(&config).unwrap();

        std::fs::write(&config, "proxy: { access_log: logs }").unwrap();
        let told = Chain(&check(&config).unwrap_err()).to_string();
        assert!(told.contains("Is a directory"), "{told}");
    }

    #[test]
    fn what_a_named_file_lacks_is_told_by_the_place_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("weir.yaml");
        std::fs::write(folder.path().join("policies.yaml"), "policies: []").unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();
        // What is written, the last value of it that is at fault, and what is told there.
        for (written, value, expected) in [
            (
                "redis: { tls: { cert: none.pem, key: empty.pem, client_ca: none.pem } }",
                "none.pem",
                "redis.tls.client_ca: cannot read FOLDER/none.pem: ",
            ),
            (
                "redis: { tls: { cert: empty.pem, key: empty.pem, client_ca: empty.pem } }",
                "empty.pem",
                "redis.tls.client_ca: cannot use the certificates that sign those of clients: ",
            ),
            (
                "redis: { tls: { cert: none.pem, key: empty.pem } }",
                "empty.pem",
                "redis.tls.key: cannot read FOLDER/empty.pem: ",
            ),
            (
                "functions: weir.yaml",
                "weir.yaml",
                "functions: cannot read FOLDER/weir.yaml: Not a directory",
            ),
            ("redis: { maxclients: 0 }", "0", "redis.maxclients: must be at least 1"),
            ("store: { embedded: { dir: '' } }", "''", "store.embedded.dir: must name a directory"),
        ] {
            std::fs::write(&config, format!("{written}\n")).unwrap();
            let told = Chain(&check(&config).unwrap_err()).to_string();
            let told = told.replace(&folder.path().display().to_string(), "FOLDER");
            let column = written.rfind(value).unwrap() + 1;
            let expected = format!("FOLDER/weir.yaml:1:{column}: {expected}");
            assert!(told.starts_with(&expected), "{expected}\n{told}");
            assert!(told.contains(&format!("\n  1 | {written}\n")), "{written}\n{told}");
        }
    }
}
