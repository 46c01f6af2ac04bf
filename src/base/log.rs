//! The process' own log: lines on standard error, by a thread that may wait for its reader
//! so that nobody else does. Some log with the keyspace held.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;

use super::lines::{Lines, Trouble};

/// How long who panics or aborts waits until that is told.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

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
/// elsewhere, unless `format` says so. `RUST_LOG` filters. What a panic says goes the same
/// way, whatever `RUST_LOG` is.
///
/// # Errors
/// The operating system refused a thread.
pub fn start(format: Option<Format>) -> io::Result<()> {
    let lost = IntCounter::new(
        "weir_log_lines_lost_total",
        "Lines of the process' own log that were lost: not read, or not written",
    );
    let lines = Lines::open("log", io::stderr(), lost.map_err(io::Error::other)?, tell)?;
    let lines = LINES.get_or_init(|| lines);
    panic::set_hook(Box::new(panicked));
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

/// Waits for what was logged to be written, as [`Lines::finish`] does: the process ends,
/// or prints something that belongs behind it.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        // Who has not read them by then will not.
        let _ = lines.finish();
    }
}

/// The same, but for a second at most: others wait for the process to be gone.
pub fn flush_soon() {
    if let Some(lines) = LINES.get() {
        let _ = lines.flush(LAST_WORDS_PATIENCE);
    }
}

/// Prints text on standard error, its ends of lines included, behind what was logged.
pub fn print(text: String) {
    match LINES.get() {
        Some(lines) => lines.write(text.into_bytes()),
        // Nothing is left to tell when standard error is closed.
        None => drop::<io::Result<()>>(io::stderr().write_all(text.as_bytes())),
    }
}

/// Says what the standard library would say: itself, it would wait for the reader, maybe
/// with the keyspace held.
fn panicked(panic: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    print(match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{name}' {panic}\n{backtrace}\n"),
        _ => format!("thread '{name}' {panic}\n"),
    });
    // It may be the end.
    flush_soon();
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
            tracing::warn!(count, "log lines were lost: standard error is slow, or was full");
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

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::base::clock::Stopwatch;

    /// Set for the process that panics.
    const PANICS: &str = "WEIR_TEST_PANICS";

    /// This process again, to run one test that panics in there.
    fn panicking(test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("base::log::tests::{test}"), "--nocapture"])
            .env(PANICS, "1")
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// More than a pipe takes.
    fn log_and_panic() {
        start(Some(Format::Json)).unwrap();
        for number in 0..1000 {
            tracing::error!(number, "before");
        }
        panic!("at the end");
    }

    #[test]
    fn what_a_panic_says_comes_behind_what_was_logged() {
        if std::env::var_os(PANICS).is_some() {
            log_and_panic();
        }
        let child = panicking("what_a_panic_says_comes_behind_what_was_logged");
        let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.iter().filter(|it| it.contains(r#""message":"before""#)).count(), 1000);
        assert!(lines[1000].contains("panicked at src/base/log.rs:"), "{told}");
        assert_eq!(lines[1001..], ["at the end"]);
    }

    #[test]
    fn a_panic_waits_for_no_reader_who_stands_still() {
        if std::env::var_os(PANICS).is_some() {
            log_and_panic();
        }
        let mut child = panicking("a_panic_waits_for_no_reader_who_stands_still");
        let watch = Stopwatch::start();
        while child.try_wait().unwrap().is_none() {
            if watch.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("it waits for ever");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
