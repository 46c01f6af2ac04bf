//! The process' own log: lines on standard error, by a thread that may wait for its reader
//! so that nobody else does. Some log with the keyspace held.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;

use super::lines::{Lines, Trouble};

/// How long the last lines are waited for at the end.
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(1);

static LINES: OnceLock<Lines> = OnceLock::new();

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Begins to log to standard error, once a process: as text on a terminal and as JSON
/// elsewhere, unless `format` says so. `RUST_LOG` filters.
///
/// # Errors
/// The operating system refused a thread.
pub fn start(format: Option<Format>) -> io::Result<()> {
    let lost = IntCounter::new(
        "weir_log_lines_lost_total",
        "Lines of the process' own log that were lost: standard error was not read",
    );
    let lines = Lines::open("log", io::stderr(), lost.map_err(io::Error::other)?, tell)?;
    let lines = LINES.get_or_init(|| lines);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Line(lines));
    match format {
        Some(Format::Json) => log.json().flatten_event(true).init(),
        None if !is_terminal => log.json().flatten_event(true).init(),
        Some(Format::Text) | None => log.with_ansi(is_terminal).init(),
    }
    Ok(())
}

/// Waits for what was logged to be written, for a second at most: the process ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        // Who has not read them by then will not.
        let _ = lines.flush(LAST_LINES_PATIENCE);
    }
}

/// Lines that were lost, for a registry; none where there is no log.
pub fn lost_lines() -> Option<IntCounter> {
    LINES.get().map(|lines| lines.lost().clone())
}

fn tell(trouble: Trouble) {
    match trouble {
        // There is nobody to tell.
        Trouble::Failed(_) => {}
        Trouble::Lost(count) => {
            tracing::warn!(count, "log lines were lost: whoever reads standard error is slow");
        }
    }
}

/// One line: the formatter writes each with one call.
struct Line(&'static Lines);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
