//! One request: found, checked, queued or run.

use std::fmt::Write as _;

use smallvec::SmallVec;

use crate::keyspace::{Arg, Flags};
use crate::resp::Reply;
use crate::store::Held;

use super::Server;
use super::batch::Then;
use super::directory::{self, Entry, NotFound};
use super::session::{Replies, Session};

/// What a command is told that needs memory when there is none.
const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// One request's turn: what its handler may use.
#[derive(Debug)]
pub struct Turn<'a, 'h> {
    /// What all connections share.
    pub server: &'a Server,
    /// The connection's own.
    pub session: &'a mut Session,
    /// The keyspace.
    pub held: &'a mut Held<'h>,
    /// What the request is answered; it may be several frames, or none.
    pub reply: &'a mut Reply,
    /// Where replies go.
    pub output: &'a mut Vec<u8>,
    /// What is to happen to the connection.
    pub then: Then,
}

impl Turn<'_, '_> {
    /// Answers one request. Says which command it was, if it was one.
    pub fn take(&mut self, args: &[&[u8]]) -> Option<&'static str> {
        self.reply.clear();
        let command = match self.check(args) {
            Ok(Some(entry)) => {
                self.admit(entry, args);
                Some(entry.full_name.as_str())
            }
            Ok(None) => {
                // Not a client of Redis at all.
                self.then = Then::Close;
                None
            }
            Err(refusal) => {
                self.refuse(&refusal);
                None
            }
        };
        match self.session.replies {
            Replies::On => self.reply.encode(self.session.protocol, self.output),
            Replies::Off => {}
            Replies::SkipNext => self.session.replies = Replies::SkipThis,
            Replies::SkipThis => self.session.replies = Replies::On,
        }
        command
    }

    /// Finds the command and sees if it may be run; says why not.
    fn check(&mut self, args: &[&[u8]]) -> Result<Option<&'static Entry>, String> {
        let entry = match directory::find(args) {
            Ok(entry) => entry,
            Err(_) if is_http(args[0]) => return Ok(None),
            Err(NotFound::Command) => return Err(unknown_command(args)),
            Err(NotFound::Subcommand) => {
                return Err(format!(
                    "ERR unknown subcommand '{}'. Try {} HELP.",
                    shown(args[1]),
                    String::from_utf8_lossy(args[0]).to_ascii_uppercase()
                ));
            }
        };
        if !entry.command.accepts(args.len()) {
            return Err(format!("ERR wrong number of arguments for '{}' command", entry.full_name));
        }
        if !self.held.has_room() {
            self.refuse_memory(entry)?;
        }
        Ok(Some(entry))
    }

    /// Refuses what needs memory while there is none. Queueing needs some; what
    /// ends a transaction does not, unless it would run commands that do.
    fn refuse_memory(&mut self, entry: &Entry) -> Result<(), String> {
        let needs_memory = match (&self.session.transaction, entry.command.name) {
            (Some(transaction), "exec") => transaction.needs_memory(),
            (Some(_), "discard" | "quit" | "reset") => false,
            (Some(_), _) => true,
            (None, _) => entry.command.flags.contains(Flags::DENYOOM),
        };
        match needs_memory {
            false => Ok(()),
            true if entry.command.name == "exec" => {
                self.session.transaction = None;
                Err(format!("EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}"))
            }
            true => Err(OUT_OF_MEMORY.to_owned()),
        }
    }

    /// A request that is refused spoils the transaction that it was meant for.
    fn refuse(&mut self, refusal: &str) {
        if let Some(transaction) = &mut self.session.transaction {
            transaction.spoil();
        }
        self.reply.error(refusal);
    }

    /// Queues the request, or runs it.
    fn admit(&mut self, entry: &'static Entry, args: &[&[u8]]) {
        match &mut self.session.transaction {
            Some(transaction) if !runs_at_once(entry) => {
                transaction.queue(entry, args);
                self.reply.status("QUEUED");
            }
            _ => self.run(entry, args),
        }
    }

    /// Runs a command; its reply is then at the end of `reply`.
    pub fn run(&mut self, entry: &'static Entry, args: &[&[u8]]) {
        match entry.handler {
            Some(handler) => handler(self, args),
            None => {
                let args: SmallVec<[Arg<'_>; 8]> = args.iter().map(|it| Arg::Bytes(it)).collect();
                self.held.run(entry.runs, &args, self.reply);
            }
        }
    }
}

/// True for what is not queued within a transaction.
fn runs_at_once(entry: &Entry) -> bool {
    matches!(entry.command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// A browser, or somebody who makes one talk to us.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// As much of a client's word as an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES_MAX)]).into_owned()
}

fn unknown_command(args: &[&[u8]]) -> String {
    let mut begin = String::new();
    for arg in &args[1..] {
        if begin.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - begin.len();
        let _ = write!(begin, "'{}' ", String::from_utf8_lossy(&arg[..arg.len().min(room)]));
    }
    format!("ERR unknown command '{}', with args beginning with: {begin}", shown(args[0]))
}
