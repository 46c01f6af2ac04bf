//! How loading goes, for whoever waits: a bar on a terminal, a line now and then
//! in the log, and a condition on the admin door. And, once loaded, how the log
//! fares.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::base::clock::Stopwatch;
use crate::listener::admin::{Condition, State};
use crate::persist::{self, Log};

/// A load that takes less is not worth a word.
const QUIET: Duration = Duration::from_millis(500);

/// How often the log hears of a long load.
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// Tells how loading goes.
pub struct Progress {
    serving: Condition,
    bar: ProgressBar,
    since: Stopwatch,
    since_logged: Stopwatch,
}

impl Progress {
    /// Nothing is loaded yet.
    pub fn new(serving: Condition) -> Progress {
        let style = ProgressStyle::with_template(
            "  loading {bar:32} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        );
        // Draws on standard error, and nothing where that is no terminal.
        let bar = ProgressBar::no_length()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { serving, bar, since: Stopwatch::start(), since_logged: Stopwatch::start() }
    }

    /// Loading has come as far as `at`.
    pub fn show(&mut self, at: persist::Progress) {
        let percent = at.bytes_read.saturating_mul(100) / at.bytes_total.max(1);
        let total = HumanBytes(at.bytes_total);
        self.serving.set(State::Unmet(format!("loading, {percent} % of {total}")));
        if self.since.elapsed() < QUIET {
            return;
        }
        self.bar.set_length(at.bytes_total);
        self.bar.set_position(at.bytes_read);
        if self.since_logged.elapsed() >= LOG_PERIOD {
            self.since_logged = Stopwatch::start();
            tracing::info!(percent, bytes_total = at.bytes_total, keys = at.keys, "loading");
        }
    }

    /// Loading has ended.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What the condition `log` on the admin door says: a poisoned log is told, and
/// does not make the process unready, because decisions go on from memory.
pub fn log_probe(log: Option<Log>) -> impl Fn() -> State + Send + 'static {
    move || match log.as_ref().and_then(|log| log.status().failed) {
        None => State::Ok,
        Some(reason) => State::Degraded(format!("limits do not survive a restart: {reason}")),
    }
}

/// Says what recovery found that somebody must know.
pub fn report(recovery: &persist::Recovery) {
    if let Some(cut) = &recovery.cut_tail {
        tracing::warn!(
            file = %cut.path.display(),
            offset = cut.offset,
            bytes = cut.bytes,
            "the log had a torn tail, which was cut off; the rest is loaded"
        );
    }
    if recovery.failed_records > 0 {
        tracing::warn!(
            count = recovery.failed_records,
            "records of the log answered with an error and were skipped"
        );
    }
    tracing::info!(
        keys = recovery.keys,
        records = recovery.records,
        bytes = recovery.bytes,
        duration = ?recovery.duration,
        "state loaded"
    );
}
