//! A batch: the requests that have come, answered under one hold of the keyspace.
//!
//! The hold is bounded in commands and in time, so that one client's pipeline
//! does not keep the others waiting.

use std::time::Duration;

use smallvec::SmallVec;

use crate::function::NotKilled;
use crate::persist::Lsn;
use crate::resp::Reply;
use crate::resp::request::{Found, Requests};

use super::dispatch::Turn;
use super::session::Session;
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
}

/// Answers requests at the start of `input`; replies go to the end of `output`.
pub fn answer(
    worker: &Worker,
    session: &mut Session,
    requests: &mut Requests,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Batch {
    let mut batch = Batch { input_bytes: 0, recorded: None, is_cut_short: false, then: Then::GoOn };
    let mut reply = worker.reply.borrow_mut();
    let mut held = None;
    let mut begun = None;
    let mut last_command = "";
    for count in 0.. {
        let rest = &input[batch.input_bytes..];
        let len = match requests.next(rest) {
            Ok(Found::Command { len }) => len,
            Ok(Found::Nothing { len }) => {
                batch.input_bytes += len;
                continue;
            }
            Ok(Found::Incomplete) => break,
            Err(error) => {
                batch.input_bytes = input.len();
                batch.then = Then::Close;
                reply.clear();
                reply.error(&error.to_string());
                reply.encode(session.protocol, output);
                break;
            }
        };
        let args: SmallVec<[&[u8]; 8]> = requests.args(rest).collect();
        if held.is_none() && kills(worker, session, &args, &mut reply, output) {
            batch.input_bytes += len;
            continue;
        }
        let held = held.get_or_insert_with(|| worker.server.store.hold());
        let begun = *begun.get_or_insert(held.now());
        let mut turn = Turn {
            server: &worker.server,
            session,
            held,
            reply: &mut reply,
            output,
            then: Then::GoOn,
        };
        let command = turn.take(&args);
        batch.then = turn.then;
        last_command = command.unwrap_or(last_command);
        batch.input_bytes += len;
        if batch.then != Then::GoOn {
            break;
        }
        if count + 1 == HOLD_COMMANDS_MAX || held.tick().since(begun) > HOLD_TIME_TARGET {
            batch.is_cut_short = true;
            break;
        }
    }
    if let Some(held) = held {
        session.show(last_command, held.now());
        batch.recorded = held.release();
    }
    batch
}

/// Answers `SCRIPT KILL` and `FUNCTION KILL` while a call runs, which holds the
/// keyspace meanwhile. False for any other request, and when nothing runs: then it
/// is a command like others.
fn kills(
    worker: &Worker,
    session: &Session,
    args: &[&[u8]],
    reply: &mut Reply,
    output: &mut Vec<u8>,
) -> bool {
    let [container, word] = args else { return false };
    let interrupter = worker.server.store.interrupter();
    let killed = match () {
        () if !word.eq_ignore_ascii_case(b"kill") => return false,
        () if session.transaction.is_some() => return false,
        () if container.eq_ignore_ascii_case(b"script") => interrupter.kill_script(),
        () if container.eq_ignore_ascii_case(b"function") => interrupter.kill_function(),
        () => return false,
    };
    reply.clear();
    match killed {
        Ok(()) => reply.status("OK"),
        Err(NotKilled::Idle) => return false,
        Err(error) => reply.error(&error.to_string()),
    }
    reply.encode(session.protocol, output);
    true
}
