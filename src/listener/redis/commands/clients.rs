//! `CLIENT`: what is known of connections, and how they are ended.

use std::sync::Arc;

use super::parse_integer;
use crate::base::clock::Timestamp;
use crate::base::mailbox::End;
use crate::listener::redis::batch::Then;
use crate::listener::redis::clients::{Client, Kind};
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::records::Pause;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("client|getname", getname),
    ("client|id", id),
    ("client|info", info),
    ("client|kill", kill),
    ("client|list", list),
    ("client|no-evict", no_evict),
    ("client|pause", pause),
    ("client|reply", reply),
    ("client|setinfo", setinfo),
    ("client|setname", setname),
    ("client|unpause", unpause),
];

/// `CLIENT ID`
fn id(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.count(turn.session.client.id as usize);
}

/// `CLIENT GETNAME`
fn getname(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    let shown = turn.session.client.shown();
    match &*shown.name {
        "" => turn.reply.null(),
        name => turn.reply.bulk(name.as_bytes()),
    }
}

/// `CLIENT SETNAME name`
fn setname(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    match name(args[2]) {
        Some(name) => {
            turn.session.client.shown().name = name;
            turn.reply.status("OK");
        }
        None => turn.reply.error(BAD_NAME),
    }
}

/// What is said of a name that would break the lines of `CLIENT LIST`.
pub const BAD_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// A name of a connection: printable ASCII without blanks.
pub fn name(bytes: &[u8]) -> Option<Box<str>> {
    let is_fine = bytes.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(bytes).ok().filter(|_| is_fine).map(Into::into)
}

/// `CLIENT SETINFO LIB-NAME name | LIB-VER version`
fn setinfo(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let attribute = args[2].to_ascii_lowercase();
    let (Some(text), true) = (name(args[3]), matches!(&*attribute, b"lib-name" | b"lib-ver"))
    else {
        let attribute = String::from_utf8_lossy(args[2]);
        return turn.reply.error(&match &*args[2].to_ascii_lowercase() {
            b"lib-name" | b"lib-ver" => {
                format!("ERR {attribute} cannot contain spaces, newlines or special characters.")
            }
            _ => format!("ERR Unrecognized option '{attribute}'"),
        });
    };
    let mut shown = turn.session.client.shown();
    match &*attribute {
        b"lib-name" => shown.library_name = text,
        _ => shown.library_version = text,
    }
    turn.reply.status("OK");
}

/// `CLIENT INFO`
fn info(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.session.show(Some("client|info"), turn.held.now(), (0, turn.output.len()));
    let line = turn.session.client.describe(turn.held.now());
    turn.reply.verbatim(*b"txt", line.as_bytes());
}

/// `CLIENT LIST [TYPE kind] [ID id…]`
fn list(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let mut wanted_kind = None;
    let mut wanted_ids: Option<Vec<u64>> = None;
    match args[2..] {
        [] => {}
        [word, kind] if word.eq_ignore_ascii_case(b"type") => match parse_kind(kind) {
            Ok(kind) => wanted_kind = Some(kind),
            Err(error) => return turn.reply.error(&error),
        },
        [word, ref ids @ ..] if word.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids: Option<Vec<i64>> = ids.iter().map(|id| parse_integer(id)).collect();
            let Some(ids) = ids else { return turn.reply.error("ERR Invalid client ID") };
            wanted_ids = Some(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect());
        }
        _ => return turn.reply.error("ERR syntax error"),
    }
    turn.session.show(Some("client|list"), turn.held.now(), (0, turn.output.len()));
    let mut lines = String::new();
    for client in turn.server.clients.all() {
        let is_wanted = wanted_kind.is_none_or(|kind| client.shown().state.kind() == kind)
            && wanted_ids.as_ref().is_none_or(|ids| ids.contains(&client.id));
        if is_wanted {
            lines.push_str(&client.describe(turn.held.now()));
        }
    }
    turn.reply.verbatim(*b"txt", lines.as_bytes());
}

fn parse_kind(word: &[u8]) -> Result<Kind, String> {
    match &*word.to_ascii_lowercase() {
        b"normal" => Ok(Kind::Normal),
        b"pubsub" => Ok(Kind::Subscriber),
        b"replica" | b"slave" => Ok(Kind::Replica),
        b"master" => Ok(Kind::Master),
        _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word))),
    }
}

/// `CLIENT KILL addr`, `CLIENT KILL option value …`
fn kill(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    if let [_, _, address] = args {
        let address = String::from_utf8_lossy(address);
        let clients = turn.server.clients.all();
        return match clients.iter().find(|it| it.peer.to_string() == address) {
            Some(client) => {
                end(turn, client);
                turn.reply.status("OK");
            }
            None => turn.reply.error("ERR No such client"),
        };
    }
    let wanted = match Wanted::parse(&args[2..]) {
        Ok(wanted) => wanted,
        Err(error) => return turn.reply.error(&error),
    };
    let mut count = 0;
    for client in turn.server.clients.all() {
        let is_self = client.id == turn.session.client.id;
        if wanted.fits(&client) && !(is_self && wanted.skips_self) {
            end(turn, &client);
            count += 1;
        }
    }
    turn.reply.count(count);
}

/// Ends a connection; one that ends itself still gets its reply.
fn end(turn: &mut Turn<'_, '_>, client: &Arc<Client>) {
    if client.id == turn.session.client.id {
        turn.then = Then::Close;
    } else {
        client.listener.mailbox.end(End::Killed);
    }
}

/// Which connections `CLIENT KILL` means.
#[derive(Debug)]
struct Wanted {
    id: Option<u64>,
    peer: Option<String>,
    local: Option<String>,
    kind: Option<Kind>,
    skips_self: bool,
}

impl Wanted {
    fn parse(mut options: &[&[u8]]) -> Result<Wanted, String> {
        let syntax = || "ERR syntax error".to_owned();
        let mut wanted = Wanted { id: None, peer: None, local: None, kind: None, skips_self: true };
        while let [option, rest @ ..] = options {
            let [value, rest @ ..] = rest else { return Err(syntax()) };
            let text = || String::from_utf8_lossy(value).into_owned();
            match &*option.to_ascii_lowercase() {
                b"id" => {
                    let id = parse_integer(value).and_then(|id| u64::try_from(id).ok());
                    let id = id.filter(|id| *id > 0);
                    wanted.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
                }
                b"type" => wanted.kind = Some(parse_kind(value)?),
                b"addr" => wanted.peer = Some(text()),
                b"laddr" => wanted.local = Some(text()),
                b"user" if *value == b"default" => {}
                b"user" => return Err(format!("ERR No such user '{}'", text())),
                b"skipme" => {
                    wanted.skips_self = match &*value.to_ascii_lowercase() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(syntax()),
                    };
                }
                _ => return Err(syntax()),
            }
            options = rest;
        }
        Ok(wanted)
    }

    fn fits(&self, client: &Client) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| client.shown().state.kind() == kind)
            && self.peer.as_ref().is_none_or(|peer| client.peer.to_string() == *peer)
            && self.local.as_ref().is_none_or(|local| client.local.to_string() == *local)
    }
}

/// `CLIENT NO-EVICT ON | OFF`: clients are never evicted here, so it is only shown.
fn no_evict(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    turn.session.is_kept = match &*args[2].to_ascii_lowercase() {
        b"on" => true,
        b"off" => false,
        _ => return turn.reply.error("ERR syntax error"),
    };
    turn.reply.status("OK");
}

/// `CLIENT REPLY ON | OFF | SKIP`: only `ON` is answered.
fn reply(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    use crate::listener::redis::session::Replies;
    let replies = match &*args[2].to_ascii_lowercase() {
        b"on" => Replies::On,
        b"off" => Replies::Off,
        // Where there are none, none can be skipped.
        b"skip" if turn.session.replies == Replies::Off => Replies::Off,
        b"skip" => Replies::SkipNext,
        _ => return turn.reply.error("ERR syntax error"),
    };
    turn.session.replies = replies;
    if replies == Replies::On {
        turn.reply.status("OK");
    }
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`: commands wait, of all clients.
fn pause(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let writes_only = match args[3..] {
        [] => false,
        [mode] if mode.eq_ignore_ascii_case(b"all") => false,
        [mode] if mode.eq_ignore_ascii_case(b"write") => true,
        [_] => return turn.reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
        _ => return turn.reply.error("ERR syntax error"),
    };
    let timeout = match parse_integer(args[2]) {
        None => return turn.reply.error("ERR timeout is not an integer or out of range"),
        Some(..0) => return turn.reply.error("ERR timeout is negative"),
        Some(timeout) => timeout.unsigned_abs(),
    };
    let until = Timestamp::from_millis(turn.held.now().millis().saturating_add(timeout));
    turn.records.pause = Some(Pause { until, writes_only });
    turn.reply.status("OK");
}

/// `CLIENT UNPAUSE`
fn unpause(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.records.pause = None;
    turn.server.unpaused.notify_waiters();
    turn.reply.status("OK");
}
