//! The access log: one JSON object a line, for each request.
//!
//! ```text
//! {"time":"1763848800.123456","client":"127.0.0.1","method":"GET","target":"/x",
//!  "host":"a","outcome":"forwarded","status":200,"duration_us":412}
//! ```
//!
//! Values are JSON strings, so that nothing a stranger sends can begin a line or
//! move a cursor. A disk that is slow costs lines, which are counted, and never a request
//! its time: see [`Lines`].

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::process;
use std::time::Duration;

use http::header;
use prometheus::IntCounter;
use serde::Serialize;

use crate::base::clock::Clock;
use crate::base::lines::{Lines, Trouble};

use super::config::AccessLog;
use super::metrics::Outcome;

/// What is logged of a request, copied while it is there.
#[derive(Debug, Serialize)]
pub struct Request {
    client: IpAddr,
    method: String,
    target: String,
    host: Option<String>,
}

impl Request {
    /// Copies what is logged. The target is as the downstream wrote it.
    pub fn of<B>(request: &http::Request<B>, client: IpAddr) -> Request {
        let field = request.headers().get(header::HOST);
        let field = field.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        Request {
            client,
            method: request.method().as_str().to_owned(),
            target: target.to_owned(),
            host: authority.or(field),
        }
    }
}

/// One line.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What was asked.
    pub seen: &'a Request,
    /// How it ended.
    pub outcome: Outcome,
    /// The status answered; `None` when the downstream left before.
    pub status: Option<u16>,
    /// From the request's head to the response's.
    pub elapsed: Duration,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    seen: &'a Request,
    outcome: &'static str,
    status: Option<u16>,
    duration_us: u64,
}

/// The open log. Dropping it writes what is queued, unless nobody reads it.
#[derive(Debug)]
pub struct Log {
    clock: Clock,
    lines: Lines,
}

impl Log {
    /// Opens the log that is configured, if one is. `lost` counts lines that
    /// found no room or were not written.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or there is no thread.
    pub fn open(config: &AccessLog, lost: IntCounter) -> io::Result<Option<Log>> {
        let sink: Box<dyn Write + Send> = match config {
            AccessLog::Off => return Ok(None),
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::File(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let lines = Lines::open("access-log", sink, lost, tell)?;
        Ok(Some(Log { clock: Clock::system(), lines }))
    }

    /// Queues one line. Never waits.
    pub fn write(&self, entry: &Entry<'_>) {
        let now = self.clock.now().micros();
        let line = Line {
            time: format!("{}.{:06}", now / 1_000_000, now % 1_000_000),
            seen: entry.seen,
            outcome: entry.outcome.label(),
            status: entry.status,
            duration_us: u64::try_from(entry.elapsed.as_micros()).unwrap_or(u64::MAX),
        };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        self.lines.write(text);
    }
}

fn tell(trouble: Trouble) {
    match trouble {
        Trouble::Failed(error) => tracing::error!(%error, "cannot write the access log"),
        Trouble::Lost(count) => tracing::warn!(count, "lines of the access log were lost"),
    }
}

/// Tries whether [`Log::open`] would open the log. Leaves everything as it was, and a pipe
/// untried: to open it would be to wait for who reads it.
///
/// # Errors
/// As there.
pub fn try_open(config: &AccessLog) -> io::Result<()> {
    let AccessLog::File(path) = config else { return Ok(()) };
    if fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
        return Ok(());
    }
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(drop),
    }
    // Another file beside it: whoever starts just now would lose this one.
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{}.try", process::id()));
    OpenOptions::new().write(true).create_new(true).open(&beside)?;
    fs::remove_file(beside)
}
