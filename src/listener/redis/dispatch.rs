//! One request: found, checked, queued or run.
//!
//! The checks stand in Redis' order, because a request that fails two of them is
//! told of the first.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::keyspace::{Arg, Flags, Run};
use crate::resp::{Reply, until_zero};
use crate::store::Held;

use super::Server;
use super::batch::Then;
use super::commands::transactions::Transaction;
use super::directory::{Entry, NotFound};
use super::records::{Ran, Records};
use super::session::{Replies, Session};
use super::settings::Settings;

/// What a command is told that needs memory when there is none.
const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// One request's turn: what its handler may use.
#[derive(Debug)]
pub struct Turn<'a, 'h> {
    /// What all connections share.
    pub server: &'a Server,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The connection's own.
    pub session: &'a mut Session,
    /// The keyspace.
    pub held: &'a mut Held<'h>,
    /// What is noted of commands.
    pub records: &'a mut Records,
    /// What the request is answered; it may be several frames, or none.
    pub reply: &'a mut Reply,
    /// Where replies go.
    pub output: &'a mut Vec<u8>,
    /// What is to happen to the connection.
    pub then: Then,
}

/// A request that is not run, in Redis' words.
enum Refusal {
    /// Not a client of Redis at all: no answer, and no connection.
    Http,
    /// The line of the error, without its code `ERR`.
    Plain(String),
    /// The whole line.
    Coded(String),
}

impl Turn<'_, '_> {
    /// Answers one request. Says which command it was, if it was one.
    pub fn take(
        &mut self,
        entry: Result<&'static Entry, NotFound>,
        args: &[&[u8]],
    ) -> Option<&'static str> {
        self.reply.clear();
        self.then = Then::GoOn;
        match self.check(entry, args) {
            Ok(entry) => match self.pause(entry) {
                Some(pause) => {
                    self.then = Then::Pause(pause);
                    return None;
                }
                None => self.admit(entry, args),
            },
            Err(refusal) => self.refuse(entry.ok(), refusal),
        }
        // What others have left comes first: it happened before. An end is for the
        // connection to see.
        if self.session.client.listener.mailbox.is_flagged() {
            let _ = self.session.client.listener.mailbox.take(self.output);
        }
        if self.reply.is_overfull() {
            self.server.clients.fates.overflowed.count();
            tracing::warn!(
                client = self.session.client.id,
                command = entry.map_or("", |it| it.command.name),
                "dropped a redis client whose reply is longer than 4 GiB"
            );
            self.then = Then::Drop;
            return entry.ok().map(|entry| entry.full_name.as_str());
        }
        match self.session.replies {
            Replies::On => self.reply.encode(self.session.protocol, self.output),
            Replies::Off => {}
            Replies::SkipNext => self.session.replies = Replies::SkipThis,
            Replies::SkipThis => self.session.replies = Replies::On,
        }
        entry.ok().map(|entry| entry.full_name.as_str())
    }

    /// True if the client has yet to say who it is.
    pub fn is_stranger(&self) -> bool {
        self.settings.password.is_some() && !self.session.is_authenticated
    }

    /// Sees if the request may be run; says why not.
    fn check(
        &mut self,
        entry: Result<&'static Entry, NotFound>,
        args: &[&[u8]],
    ) -> Result<&'static Entry, Refusal> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(_) if is_http(args[0]) => return Err(Refusal::Http),
            Err(NotFound::Command) => return Err(Refusal::Plain(unknown_command(args))),
            Err(NotFound::Subcommand) => return Err(Refusal::Plain(unknown_subcommand(args))),
        };
        let name = &entry.full_name;
        let flags = entry.command.flags;
        if !entry.command.accepts(args.len()) {
            let line = match args {
                [container, part, ..] if container.eq_ignore_ascii_case(b"debug") => {
                    unfit_subcommand(part)
                }
                _ => format!("wrong number of arguments for '{name}' command"),
            };
            return Err(Refusal::Plain(line));
        }
        if self.is_stranger() && !flags.contains(Flags::NO_AUTH) {
            return Err(Refusal::Coded("NOAUTH Authentication required.".to_owned()));
        }
        if self.session.transaction.is_some() && flags.contains(Flags::NO_MULTI) {
            let line = "Command not allowed inside a transaction".to_owned();
            return Err(Refusal::Plain(line));
        }
        if !self.held.has_room() && self.needs_memory(entry) {
            return Err(Refusal::Coded(OUT_OF_MEMORY.to_owned()));
        }
        if let Some(line) = self.held.denies_writes()
            && self.is_denied(entry)
        {
            return Err(Refusal::Coded(line));
        }
        if self.session.listens_only() && !is_for_listeners(entry) {
            return Err(Refusal::Plain(format!(
                "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                 RESET are allowed in this context"
            )));
        }
        Ok(entry)
    }

    /// True if a request needs memory. Queueing needs some; what ends a transaction
    /// does not, unless it would run commands that do.
    fn needs_memory(&self, entry: &Entry) -> bool {
        match (&self.session.transaction, entry.command.name) {
            (Some(transaction), "exec") => transaction.has(Flags::DENYOOM),
            (Some(_), "discard" | "quit" | "reset") => false,
            (Some(_), _) => true,
            (None, _) => entry.command.flags.contains(Flags::DENYOOM),
        }
    }

    /// True for what is refused while nothing may be written. As in Redis that includes
    /// `PING`, so that whoever only asks if all is well is told.
    fn is_denied(&self, entry: &Entry) -> bool {
        match (&self.session.transaction, entry.command.name) {
            (Some(transaction), "exec") => transaction.has(Flags::WRITE),
            (_, "ping") => true,
            _ => entry.command.flags.contains(Flags::WRITE),
        }
    }

    /// How long the request has to wait, because clients are paused.
    fn pause(&mut self, entry: &Entry) -> Option<Duration> {
        let pause = self.records.pause?;
        let now = self.held.now();
        if now >= pause.until {
            self.records.pause = None;
            return None;
        }
        let transaction = self.session.transaction.as_ref();
        let writes = match entry.command.name {
            "exec" => transaction.is_some_and(Transaction::may_write),
            _ => transaction.is_none() && entry.command.may_write(),
        };
        (writes || !pause.writes_only).then(|| pause.until.since(now))
    }

    /// Answers a request that is not run. It spoils the transaction that it was
    /// meant for.
    fn refuse(&mut self, entry: Option<&'static Entry>, refusal: Refusal) {
        let is_exec = entry.is_some_and(|it| it.command.name == "exec");
        let line = match refusal {
            Refusal::Http => {
                self.then = Then::Close;
                return;
            }
            Refusal::Plain(line) | Refusal::Coded(line) if is_exec => {
                self.session.transaction = None;
                format!("EXECABORT Transaction discarded because of: {line}")
            }
            Refusal::Plain(line) => format!("ERR {line}"),
            Refusal::Coded(line) => line,
        };
        if let Some(transaction) = &mut self.session.transaction {
            transaction.spoil();
        }
        if let Some(entry) = entry {
            self.records.counts.of(entry).rejected += 1;
        }
        self.records.counts.error(line.as_bytes());
        self.reply.error(&line);
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
        let is_shown = !self.records.monitors.is_empty();
        let is_script = matches!(entry.command.run, Run::Engine)
            && entry.command.flags.contains(Flags::SKIP_MONITOR);
        if is_shown && is_script {
            // Before what it runs; all else is shown when it has run.
            self.records.show(self.held.now(), &self.session.client.peer, args);
            self.held.want_scripted();
        }
        let mark = self.reply.mark();
        let begun = self.held.now();
        match entry.handler {
            Some(handler) => handler(self, args),
            None if entry.command.name == "ping" && self.session.listens_only() => {
                self.reply.push(2);
                self.reply.bulk(b"pong");
                self.reply.bulk(args.get(1).copied().unwrap_or_default());
            }
            None => {
                let args: SmallVec<[Arg<'_>; 16]> = args.iter().map(|it| Arg::Bytes(it)).collect();
                self.held.run(entry.runs, &args, self.reply);
            }
        }
        let at = self.held.tick();
        let without_secrets = without_secrets(entry, args);
        let args = without_secrets.as_deref().unwrap_or(args);
        if is_shown && is_script {
            for command in self.held.take_scripted() {
                self.records.show(at, &"lua", &command);
            }
        } else if is_shown
            && !entry.command.flags.contains(Flags::ADMIN)
            && !entry.command.flags.contains(Flags::SKIP_MONITOR)
        {
            self.records.show(at, &self.session.client.peer, args);
        }
        let ran = Ran {
            entry,
            args,
            client: &self.session.client,
            at,
            took: at.since(begun),
            error: self.reply.error_at(mark),
        };
        self.records.ran(&ran, &self.settings);
    }
}

/// What others may see of a command that holds a password; `None` for one that holds
/// none.
fn without_secrets<'a>(entry: &Entry, args: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let is_word =
        |at: usize, word: &[u8]| args.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let is_secret = |at: usize| match entry.full_name.as_str() {
        "auth" => at > 0,
        "hello" => at > 2 && (is_word(at - 1, b"auth") || is_word(at - 2, b"auth")),
        "config|set" => at % 2 == 1 && at > 2 && is_word(at - 1, b"requirepass"),
        _ => false,
    };
    if !matches!(entry.full_name.as_str(), "auth" | "hello" | "config|set") {
        return None;
    }
    let shown = |(at, arg): (usize, &&'a [u8])| if is_secret(at) { b"(redacted)" } else { *arg };
    Some(args.iter().enumerate().map(shown).collect())
}

/// True for what is not queued within a transaction.
fn runs_at_once(entry: &Entry) -> bool {
    matches!(entry.command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// True for what a client of RESP2 may send while it listens to channels.
fn is_for_listeners(entry: &Entry) -> bool {
    matches!(
        entry.command.name,
        "ping"
            | "quit"
            | "reset"
            | "subscribe"
            | "psubscribe"
            | "ssubscribe"
            | "unsubscribe"
            | "punsubscribe"
            | "sunsubscribe"
    )
}

/// A browser, or somebody who makes one talk to us.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// As much of a client's word as an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

fn shown(word: &[u8]) -> String {
    let word = until_zero(word);
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES_MAX)]).into_owned()
}

/// The one answer of `DEBUG`: its subcommands are in no table of Redis, which is
/// why it cannot tell one that it does not know from one with too few arguments.
fn unfit_subcommand(name: &[u8]) -> String {
    format!(
        "unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
        shown(name)
    )
}

fn unknown_subcommand(args: &[&[u8]]) -> String {
    let container = String::from_utf8_lossy(args[0]).to_ascii_uppercase();
    if container == "DEBUG" {
        return unfit_subcommand(args[1]);
    }
    format!("unknown subcommand '{}'. Try {container} HELP.", shown(args[1]))
}

fn unknown_command(args: &[&[u8]]) -> String {
    if let Some(reason) = super::absent::reason(args[0]) {
        return reason;
    }
    let mut begin = String::new();
    for arg in &args[1..] {
        if begin.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - begin.len();
        let arg = until_zero(arg);
        let _ = write!(begin, "'{}' ", String::from_utf8_lossy(&arg[..arg.len().min(room)]));
    }
    format!("unknown command '{}', with args beginning with: {begin}", shown(args[0]))
}
