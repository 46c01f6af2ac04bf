//! The access log: one JSON object a line, for each request.
//!
//! ```text
//! {"time":"1763848800.123456","client":"127.0.0.1","method":"GET","target":"/x",
//!  "host":"a","outcome":"forwarded","status":200,"duration_us":412}
//! ```
//!
//! Values are JSON strings, so that nothing a stranger sends can begin a line or
//! move a cursor. Lines are handed to a thread of the log's own: a disk that is
//! slow costs lines, which are counted, and never a request its time.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::process;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http::header;
use prometheus::IntCounter;
use serde::Serialize;

use crate::base::clock::Clock;
use crate::base::tasks;

use super::config::AccessLog;
use super::metrics::Outcome;

/// Lines that wait for the thread, at most.
const QUEUE_LEN_MAX: usize = 16 << 10;

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

/// The open log.
#[derive(Debug)]
pub struct Log {
    clock: Clock,
    lines: Option<SyncSender<Vec<u8>>>,
    lost: IntCounter,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log that is configured, if one is. `lost` counts lines that
    /// could not be queued.
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
        let (lines, queue) = sync_channel(QUEUE_LEN_MAX);
        let thread = tasks::spawn_thread("access-log", move || drain(&queue, sink))?;
        Ok(Some(Log { clock: Clock::system(), lines: Some(lines), lost, thread: Some(thread) }))
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
        if let Some(lines) = &self.lines
            && lines.try_send(text).is_err()
        {
            self.lost.inc();
        }
    }
}

impl Drop for Log {
    /// Writes what is queued.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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

/// Writes lines until nobody can send more; flushes whenever none is waiting.
fn drain(queue: &Receiver<Vec<u8>>, sink: Box<dyn Write + Send>) {
    let mut sink = BufWriter::new(sink);
    let mut failing = false;
    while let Ok(first) = queue.recv() {
        let mut next = Ok(first);
        let mut written = Ok(());
        while let Ok(line) = next {
            written = written.and_then(|()| sink.write_all(&line));
            next = queue.try_recv();
        }
        let written = written.and_then(|()| sink.flush());
        if let Err(error) = &written
            && !failing
        {
            tracing::error!(%error, "cannot write the access log");
        }
        failing = written.is_err();
        if next == Err(TryRecvError::Disconnected) {
            return;
        }
    }
}
