//! A batch: the requests that have come, answered under one hold of the keyspace.
//!
//! The hold is bounded in commands and in time, so that one client's pipeline
//! does not keep the others waiting.

use std::time::Duration;

use smallvec::SmallVec;

use crate::function::NotKilled;
use crate::persist::Lsn;
use crate::resp::request::{Found, ProtocolError, RequestLimits, Requests};

use super::dispatch::Turn;
use super::session::Session;
use super::settings::Settings;
use super::worker::Worker;

/// Commands answered under one hold.
const HOLD_COMMANDS_MAX: usize = 64;

/// Time after which no further command begins under the same hold.
const HOLD_TIME_TARGET: Duration = Duration::from_micros(500);

/// What came of a batch.
#[derive(Debug)]
pub struct Batch {
    /// Bytes of the input that were answered.
    pub input_bytes: usize,
    /// The last record, which is to be durable before replies leave.
    pub recorded: Option<Lsn>,
    /// True if there may be more requests in the input.
    pub is_cut_short: bool,
    /// What is to happen to the connection.
    pub then: Then,
}

/// What is to happen to a connection after its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More requests.
    GoOn,
    /// It is closed when the replies are written.
    Close,
    /// It is closed now, because it does not read.
    Drop,
    /// It waits until its last record is on disk, and is told if it is.
    AwaitSync {
        /// How long at most; `None` for ever.
        timeout: Option<Duration>,
        /// It also waits for what will not come.
        needs_more: bool,
    },
    /// It waits until a snapshot has been made, and is told if that succeeded.
    AwaitSave,
    /// It waits for this long, or until the pause is over, and sends the same
    /// request again.
    Pause(Duration),
}

/// Answers requests at the start of `input`; replies go to the end of `output`.
pub fn answer(
    worker: &Worker,
    session: &mut Session,
    requests: &mut Requests,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Batch {
    let server = &*worker.server;
    let settings = server.settings.load_full();
    let mut batch = Batch { input_bytes: 0, recorded: None, is_cut_short: false, then: Then::GoOn };
    requests.set_limits(limits(&settings, session));
    let at = &mut batch.input_bytes;
    let mut sought = seek_past_kills(worker, session, requests, input, at, output);
    if let Ok(Some(_)) = sought {
        let mut held = server.store.hold();
        let mut records = server.records();
        let (begun, output_before) = (held.now(), output.len());
        let mut turn = Turn {
            server,
            settings,
            session,
            held: &mut held,
            records: &mut records,
            reply: &mut worker.reply.borrow_mut(),
            output,
            then: Then::GoOn,
        };
        let mut last_command = None;
        let mut count = 0;
        while let Ok(Some(len)) = sought {
            let args: SmallVec<[&[u8]; 8]> = requests.args(&input[batch.input_bytes..]).collect();
            last_command = turn.take(&args).or(last_command);
            if matches!(turn.then, Then::Pause(_)) {
                break;
            }
            batch.input_bytes += len;
            count += 1;
            batch.is_cut_short =
                count == HOLD_COMMANDS_MAX || turn.held.now().since(begun) > HOLD_TIME_TARGET;
            if turn.then != Then::GoOn || batch.is_cut_short {
                break;
            }
            drop(args);
            requests.set_limits(limits(&turn.settings, turn.session));
            sought = seek(requests, input, &mut batch.input_bytes);
        }
        batch.then = turn.then;
        records.counts.input_bytes += batch.input_bytes as u64;
        records.counts.output_bytes += (output.len() - output_before) as u64;
        let waiting = (input.len() - batch.input_bytes, output.len());
        session.show(last_command, held.now(), waiting);
        batch.recorded = held.release();
    }
    if let Err(error) = sought {
        let mut reply = worker.reply.borrow_mut();
        reply.clear();
        reply.error(&error.to_string());
        reply.encode(session.protocol, output);
        batch.input_bytes = input.len();
        batch.then = Then::Close;
    }
    session.last_record = batch.recorded.or(session.last_record);
    batch
}

/// Answers `SCRIPT KILL` and `FUNCTION KILL` while a call runs, which holds the
/// keyspace meanwhile. False for any other request, and when nothing runs: then it
/// is a command like others.
fn ends_call(worker: &Worker, session: &Session, args: &[&[u8]], output: &mut Vec<u8>) -> bool {
    let [container, word] = args else { return false };
    let is_stranger = worker.server.settings.load().password.is_some() && !session.is_authenticated;
    if !word.eq_ignore_ascii_case(b"kill") || is_stranger || session.transaction.is_some() {
        return false;
    }
    let interrupter = worker.server.store.interrupter();
    let killed = match () {
        () if container.eq_ignore_ascii_case(b"script") => interrupter.kill_script(),
        () if container.eq_ignore_ascii_case(b"function") => interrupter.kill_function(),
        () => return false,
    };
    let mut reply = worker.reply.borrow_mut();
    reply.clear();
    match killed {
        Ok(()) => reply.status("OK"),
        Err(NotKilled::Idle) => return false,
        Err(error) => reply.error(&error.to_string()),
    }
    reply.encode(session.protocol, output);
    true
}

/// Looks for the next command behind `at` that needs the keyspace.
fn seek_past_kills(
    worker: &Worker,
    session: &Session,
    requests: &mut Requests,
    input: &[u8],
    at: &mut usize,
    output: &mut Vec<u8>,
) -> Result<Option<usize>, ProtocolError> {
    loop {
        let sought = seek(requests, input, at);
        let Ok(Some(len)) = sought else { return sought };
        let args: SmallVec<[&[u8]; 8]> = requests.args(&input[*at..]).collect();
        if !ends_call(worker, session, &args, output) {
            return sought;
        }
        *at += len;
    }
}

/// Looks for the next command behind `at`, which moves over empty requests. Says
/// how long the command is.
fn seek(
    requests: &mut Requests,
    input: &[u8],
    at: &mut usize,
) -> Result<Option<usize>, ProtocolError> {
    loop {
        match requests.next(&input[*at..])? {
            Found::Command { len } => return Ok(Some(len)),
            Found::Nothing { len } => *at += len,
            Found::Incomplete => return Ok(None),
        }
    }
}

/// What the client may make us hold.
fn limits(settings: &Settings, session: &Session) -> RequestLimits {
    if settings.password.is_some() && !session.is_authenticated {
        return RequestLimits::STRANGER;
    }
    let bytes = |setting: u64| usize::try_from(setting).unwrap_or(usize::MAX);
    RequestLimits {
        bulk_bytes_max: bytes(settings.bulk_bytes_max),
        buffer_bytes_max: bytes(settings.query_bytes_max),
        ..RequestLimits::REDIS
    }
}
