//! A batch: the requests that have come, answered under one hold of the keyspace.
//!
//! The hold is bounded in commands and in time, so that one client's pipeline
//! does not keep the others waiting. A single command takes as long as it takes: one
//! over millions of members takes seconds, and cannot be ended. Decisions do not wait for
//! it, the failure mode makes them; and it is counted and told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::persist::Lsn;
use crate::resp::request::{ProtocolError, RequestLimits, Requests};

use super::ahead::{Ahead, Rest};
use super::clients::Client;
use super::dispatch::Turn;
use super::kill;
use super::session::Session;
use super::settings::Settings;
use super::worker::Worker;

/// Commands answered under one hold.
const HOLD_COMMANDS_MAX: usize = 64;

/// Time after which no further command begins under the same hold.
const HOLD_TIME_TARGET: Duration = Duration::from_micros(500);

/// Fewer requests are answered sooner than what they need is foreseen.
const FORESEEN_MIN: usize = 4;

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
    /// It is closed now: it does not read, or is gone, or cannot be answered.
    Drop,
    /// It waits until its last record is on disk, and is told if it is.
    AwaitSync {
        /// How long at most; `None` for ever.
        timeout: Option<Duration>,
        /// It also waits for what will not come.
        needs_more: bool,
    },
    /// It waits while somebody else has the keyspace, for longer than a thread can wait.
    AwaitKeyspace,
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
    let ahead = &mut *worker.ahead.borrow_mut();
    batch.input_bytes = answer_kills(worker, session, requests, ahead, input, output);
    let held = if ahead.requests.is_empty() { None } else { server.store.hold_soon() };
    if held.is_none() && !ahead.requests.is_empty() {
        // What was found is looked for again.
        requests.rewind();
        return without_keyspace(worker, session, ahead, input, output, batch);
    }
    if ahead.rest == Ok(Rest::Incomplete) && batch.input_bytes + ahead.end == input.len() {
        session.client.has_read_whole();
    }
    let rest = if let Some(mut held) = held {
        let long_hold = settings.long_hold;
        worker.is_holding.store(true, Ordering::Relaxed);
        let begun = held.now();
        let mut records = server.records();
        let output_before = output.len();
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
        let (last_command, rest) = take_turns(&mut turn, ahead, requests, input, &mut batch);
        batch.then = turn.then;
        records.counts.input_bytes += batch.input_bytes as u64;
        records.counts.output_bytes += (output.len() - output_before) as u64;
        let held_for = held.now().since(begun);
        records.counts.long_holds += u64::from(held_for > long_hold);
        let waiting = (input.len() - batch.input_bytes, output.len());
        session.show(last_command, held.now(), waiting);
        batch.recorded = held.release();
        worker.is_holding.store(false, Ordering::Relaxed);
        drop(records);
        // When nobody waits for the keyspace.
        if held_for > long_hold {
            tell_long_hold(&session.client, last_command, held_for);
        }
        rest
    } else {
        batch.input_bytes += ahead.end;
        ahead.rest
    };
    if let Err(error) = rest {
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

/// Has the first of the requests that were found wait for the keyspace, unless it would
/// end a call.
fn without_keyspace(
    worker: &Worker,
    session: &Session,
    ahead: &Ahead,
    input: &[u8],
    output: &mut Vec<u8>,
    batch: Batch,
) -> Batch {
    let unread = &input[batch.input_bytes..];
    if let Some(first) = ahead.requests.first()
        && kill::answer_idle(worker, session, &ahead.args(first, unread), output)
    {
        let input_bytes = batch.input_bytes + first.end;
        return Batch { input_bytes, is_cut_short: true, ..batch };
    }
    Batch { then: Then::AwaitKeyspace, ..batch }
}

/// Answers requests at the start of `input` that end a call, and looks ahead from there;
/// says how many bytes they took.
fn answer_kills(
    worker: &Worker,
    session: &Session,
    requests: &mut Requests,
    ahead: &mut Ahead,
    input: &[u8],
    output: &mut Vec<u8>,
) -> usize {
    let mut answered_bytes = 0;
    loop {
        let unread = &input[answered_bytes..];
        ahead.look(requests, unread);
        match ahead.requests.first() {
            Some(first) if kill::answer(worker, session, &ahead.args(first, unread), output) => {
                answered_bytes += first.end;
                requests.rewind();
            }
            _ => return answered_bytes,
        }
    }
}

/// Tells how long a client held the keyspace, with which command at the end.
fn tell_long_hold(client: &Client, last_command: Option<&str>, held_for: Duration) {
    tracing::warn!(
        client = client.id,
        peer = %client.peer,
        command = last_command,
        ?held_for,
        "a redis client held the keyspace for longer than decisions wait"
    );
}

/// Answers what was found ahead, and what follows, as long as the hold may last. Says
/// which command was the last, and what stands behind it.
fn take_turns(
    turn: &mut Turn<'_, '_>,
    ahead: &mut Ahead,
    requests: &mut Requests,
    input: &[u8],
    batch: &mut Batch,
) -> (Option<&'static str>, Result<Rest, ProtocolError>) {
    let begun = turn.held.now();
    let (mut last_command, mut count) = (None, 0);
    loop {
        let unread = &input[batch.input_bytes..];
        if ahead.requests.len() >= FORESEEN_MIN {
            turn.held.foresee(ahead.keys(unread));
        }
        let mut answered_bytes = 0;
        for request in &ahead.requests {
            last_command = turn.take(request.entry, &ahead.args(request, unread)).or(last_command);
            if !matches!(turn.then, Then::Pause(_)) {
                answered_bytes = request.end;
                count += 1;
                batch.is_cut_short =
                    count == HOLD_COMMANDS_MAX || turn.held.now().since(begun) > HOLD_TIME_TARGET;
            }
            if turn.then != Then::GoOn || batch.is_cut_short {
                // What was found behind it is looked for again.
                batch.input_bytes += answered_bytes;
                requests.rewind();
                return (last_command, Ok(Rest::Unseen));
            }
        }
        batch.input_bytes += ahead.end;
        if ahead.rest != Ok(Rest::Unseen) {
            return (last_command, ahead.rest);
        }
        requests.set_limits(limits(&turn.settings, turn.session));
        ahead.look(requests, &input[batch.input_bytes..]);
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
