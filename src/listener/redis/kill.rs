//! `SCRIPT KILL` and `FUNCTION KILL`, heard while a call runs.
//!
//! A call holds the keyspace, and the thread that runs it reads no connection meanwhile.
//! So two listen:
//!
//! - another worker, when it reads the request ([`answer`]);
//! - a thread of the door ([`listen`]), which sleeps until a call has run for long. It
//!   accepts who waits to be accepted, for a worker that is free if there is one, looks
//!   at what has come for each client without taking it, ends the call, and notes on the
//!   client what came of the request. The worker answers with that when it comes to read
//!   it.
//!
//! # Invariants
//!
//! 1. A request is heard once. Who listens and who answers hold the client's notes
//!    while they do, and a note is there before its request has been answered.
//! 2. A client is listened to only where a request begins: the rest of one that has
//!    been read in part may hold anything. Nor while requests that were read wait for the
//!    keyspace: what comes behind them is then read with them, and is no first request.
//! 3. Nothing here waits for the keyspace, or for anybody who does.
//!
//! # Not here
//!
//! What else a client sends: it is answered when the call has ended, and a `KILL` behind
//! it is not heard before. Within TLS, a client that was still shaking hands with the
//! thread of the call.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::function::{Interrupter, NotKilled};
use crate::resp::request::{Found, RequestLimits, Requests};

use super::Server;
use super::clients::{Client, Kind, State};
use super::session::Session;
use super::worker::Worker;

/// How often it is looked what has come while a call runs for long.
const LOOK_PERIOD: Duration = Duration::from_millis(25);

/// Connections accepted from one socket in one look.
const ACCEPT_COUNT_MAX: usize = 256;

/// What came of requests that were heard and are still to be read.
pub type Heard = VecDeque<Result<(), NotKilled>>;

/// A connection that was accepted for a worker that was busy.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket, in non-blocking mode.
    pub stream: std::net::TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// It as others see it, or what it is told instead.
    pub admitted: Result<Arc<Client>, &'static str>,
}

/// A listening socket of a worker, and the way to hand it who was accepted there
/// while it was busy.
#[derive(Debug)]
pub struct Doorway {
    socket: std::net::TcpListener,
    arrivals: UnboundedSender<Arrival>,
    /// The worker has the keyspace: it may be the one that runs the call.
    pub is_holding: Arc<AtomicBool>,
}

impl Doorway {
    /// A way into the worker that serves `socket`, and its other end.
    pub fn new(socket: std::net::TcpListener) -> (Doorway, UnboundedReceiver<Arrival>) {
        let (arrivals, arrived) = unbounded_channel();
        (Doorway { socket, arrivals, is_holding: Arc::default() }, arrived)
    }
}

/// What is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Script,
    Function,
}

impl Target {
    /// What a request wants ended, if that is what it wants.
    fn of(args: &[&[u8]]) -> Option<Target> {
        let [container, word] = args else { return None };
        if !word.eq_ignore_ascii_case(b"kill") {
            return None;
        }
        match () {
            () if container.eq_ignore_ascii_case(b"script") => Some(Target::Script),
            () if container.eq_ignore_ascii_case(b"function") => Some(Target::Function),
            () => None,
        }
    }

    fn end(self, interrupter: &Interrupter) -> Result<(), NotKilled> {
        match self {
            Target::Script => interrupter.kill_script(),
            Target::Function => interrupter.kill_function(),
        }
    }
}

/// Answers a request that ends a call, if it was heard already or if one runs. False
/// for any other request, and when nothing runs: then it is a command like others.
pub fn answer(worker: &Worker, session: &Session, args: &[&[u8]], output: &mut Vec<u8>) -> bool {
    let Some(target) = Target::of(args) else { return false };
    let noted = session.client.heard().pop_front();
    if noted.is_none() && !may_end(worker, session) {
        return false;
    }
    match noted.unwrap_or_else(|| target.end(worker.server.store.interrupter())) {
        Err(NotKilled::Idle) => false,
        killed => {
            tell(worker, session, killed, output);
            true
        }
    }
}

/// Answers a request that would end a call if one ran, when the keyspace is not to be had
/// soon. It has been read, so nobody listens for it any more: if it waited, and its thread
/// ran a call meanwhile, that could not be ended. False for any other request.
pub fn answer_idle(
    worker: &Worker,
    session: &Session,
    args: &[&[u8]],
    output: &mut Vec<u8>,
) -> bool {
    let is_idle = Target::of(args).is_some() && may_end(worker, session);
    if is_idle {
        tell(worker, session, Err(NotKilled::Idle), output);
    }
    is_idle
}

fn may_end(worker: &Worker, session: &Session) -> bool {
    let is_stranger = worker.server.settings.load().password.is_some() && !session.is_authenticated;
    !is_stranger && session.transaction.is_none() && !session.listens_only()
}

fn tell(worker: &Worker, session: &Session, killed: Result<(), NotKilled>, output: &mut Vec<u8>) {
    let mut reply = worker.reply.borrow_mut();
    reply.clear();
    match killed {
        Ok(()) => reply.status("OK"),
        Err(error) => reply.error(&error.to_string()),
    }
    reply.encode(session.protocol, output);
}

/// Listens until `end`; wants a thread of its own.
pub async fn listen(server: &Server, end: &CancellationToken) {
    let interrupter = server.store.interrupter();
    while end.run_until_cancelled(interrupter.runs_long()).await.is_some() {
        let call = interrupter.running();
        while call.is_some() && interrupter.running() == call && !end.is_cancelled() {
            accept(server);
            overhear(server);
            time::sleep(LOOK_PERIOD).await;
        }
    }
    // The sockets close when the workers close theirs.
    server.doorways().clear();
}

/// Accepts who waits at the sockets of workers, and leads them to one that does not run
/// the call, if there is one. What cannot be accepted is left where it waits.
fn accept(server: &Server) {
    let doorways = server.doorways();
    let free = doorways.iter().find(|it| !it.is_holding.load(Ordering::Relaxed));
    for doorway in &*doorways {
        for _ in 0..ACCEPT_COUNT_MAX {
            let Ok((stream, peer)) = doorway.socket.accept() else { break };
            // Only fail on a connection that is already gone.
            let _ = stream.set_nodelay(true);
            let _ = stream.set_nonblocking(true);
            let admitted = server.admit(&SockRef::from(&stream), peer);
            let arrival = Arrival { stream, peer, admitted };
            if let Err(SendError(Arrival { admitted: Ok(client), .. })) =
                free.unwrap_or(doorway).arrivals.send(arrival)
            {
                // The worker has ended.
                server.clients.remove(client.id);
            }
        }
    }
}

/// Looks at what has come for the clients that may end a call.
fn overhear(server: &Server) {
    let needs_password = server.settings.load().password.is_some();
    let may_end = |state: &State| {
        let listens_only = state.resp == 2 && state.kind() == Kind::Subscriber;
        (state.is_authenticated || !needs_password) && !listens_only && state.queued.is_none()
    };
    let interrupter = server.store.interrupter();
    server.clients.overhear(may_end, |come, heard| {
        hear(come, heard, |target| target.end(interrupter));
    });
}

/// Hears the requests at the start of `come` that end a call; the first of them may
/// have been heard already.
fn hear(come: &[u8], heard: &mut Heard, mut end: impl FnMut(Target) -> Result<(), NotKilled>) {
    let mut requests = Requests::new(RequestLimits::STRANGER);
    let (mut at, mut index) = (0, 0);
    loop {
        match requests.next(&come[at..]) {
            Ok(Found::Command { len }) => {
                let words = requests.words();
                let Some(target) = Target::of(&words.of(&come[at..])) else { return };
                if index == heard.len() {
                    match end(target) {
                        // It ended by itself: the worker will say so.
                        Err(NotKilled::Idle) => return,
                        ended => heard.push_back(ended),
                    }
                }
                index += 1;
                at += len;
            }
            Ok(Found::Nothing { len }) => at += len,
            Ok(Found::Incomplete) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears what has come, having heard `before` requests of it, while a script runs;
    /// says what was to be ended and what is noted then.
    fn check(come: &str, before: usize, wanted: &[Target], noted: &[Result<(), NotKilled>]) {
        let mut heard = Heard::from(vec![Ok(()); before]);
        let mut ended = Vec::new();
        hear(come.as_bytes(), &mut heard, |target| {
            ended.push(target);
            if target == Target::Script { Ok(()) } else { Err(NotKilled::Script) }
        });
        assert_eq!(ended, wanted, "{come:?}");
        assert_eq!(heard, noted, "{come:?}");
    }

    const ARRAY: &str = "*2\r\n$6\r\nSCRIPT\r\n$4\r\nKILL\r\n";
    const WRONG: Result<(), NotKilled> = Err(NotKilled::Script);

    #[test]
    fn a_request_that_ends_a_call_is_heard_in_each_form() {
        for come in [ARRAY, "script kill\r\n", "\r\nScript  \"KILL\"\n", "SCRIPT KILL\r\n*2\r\n$6"]
        {
            check(come, 0, &[Target::Script], &[Ok(())]);
        }
    }

    #[test]
    fn a_request_is_heard_once_and_one_behind_it_too() {
        check(ARRAY, 1, &[], &[Ok(())]);
        let both = format!("FUNCTION KILL\r\n{ARRAY}");
        check(&both, 0, &[Target::Function, Target::Script], &[WRONG, Ok(())]);
        check(&both, 1, &[Target::Script], &[Ok(()), Ok(())]);
    }

    #[test]
    fn nothing_is_heard_in_part_or_behind_something_else() {
        let other = format!("GET a\r\n{ARRAY}");
        for come in [
            "",
            "SCRIPT KIL",
            &ARRAY[..20],
            &other,
            "SCRIPT KILL x\r\n",
            "*x\r\n",
            "SCRIPT HELP\r\n",
        ] {
            check(come, 0, &[], &[]);
        }
    }

    #[test]
    fn a_call_that_ended_by_itself_leaves_the_answer_to_the_worker() {
        let mut heard = Heard::new();
        hear(ARRAY.as_bytes(), &mut heard, |_| Err(NotKilled::Idle));
        assert!(heard.is_empty());
    }
}
