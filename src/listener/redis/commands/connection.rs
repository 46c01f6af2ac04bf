//! Commands on the connection itself: who the client is, what it speaks, and how
//! it begins anew or ends.

use sha2::{Digest as _, Sha256};

use super::{clients, parse_integer};
use crate::listener::redis::batch::Then;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::session::Replies;
use crate::resp::Protocol;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] =
    &[("acl|whoami", whoami), ("auth", auth), ("hello", hello), ("quit", quit), ("reset", reset)];

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// `AUTH [user] password`: there is one user, `default`.
fn auth(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let refusal = match *args {
        [_, _] if turn.settings.password.is_none() => Some(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ),
        [_, password] => log_in(turn, b"default", password).err(),
        [_, user, password] => log_in(turn, user, password).err(),
        _ => Some("ERR syntax error"),
    };
    match refusal {
        Some(refusal) => turn.reply.error(refusal),
        None => turn.reply.status("OK"),
    }
}

/// Lets the client in if it knows the password.
fn log_in(turn: &mut Turn<'_, '_>, user: &[u8], password: &[u8]) -> Result<(), &'static str> {
    let is_right = match &turn.settings.password {
        // Digests are compared, so that the time tells nothing of the password.
        Some(right) => Sha256::digest(right) == Sha256::digest(password),
        None => true,
    };
    if user != b"default" || !is_right {
        return Err(WRONG_PASSWORD);
    }
    turn.session.is_authenticated = true;
    Ok(())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
fn hello(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    if let Err(refusal) = greet(turn, &args[1..]) {
        return turn.reply.error(&refusal);
    }
    let proto = if turn.session.protocol == Protocol::Resp3 { 3 } else { 2 };
    let reply = &mut *turn.reply;
    reply.map(7);
    let texts = [("server", "redis"), ("version", super::REDIS_VERSION)];
    for (name, value) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(proto);
    reply.bulk(b"id");
    reply.count(turn.session.client.id as usize);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// Does what `HELLO` asks for, all or nothing.
fn greet(turn: &mut Turn<'_, '_>, args: &[&[u8]]) -> Result<(), String> {
    let (protocol, mut options) = match args {
        [] => (turn.session.protocol, args),
        [version, options @ ..] => (parse_version(version)?, options),
    };
    let (mut credentials, mut name) = (None, None);
    while let [option, rest @ ..] = options {
        options = match (&*option.to_ascii_lowercase(), rest) {
            (b"auth", [user, password, rest @ ..]) => {
                credentials = Some((*user, *password));
                rest
            }
            (b"setname", [text, rest @ ..]) => {
                name = Some(clients::name(text).ok_or(clients::BAD_NAME)?);
                rest
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        };
    }
    if let Some((user, password)) = credentials {
        log_in(turn, user, password)?;
    }
    if turn.is_stranger() {
        return Err(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                    the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                    client and select the RESP protocol version at the same time"
                .to_owned(),
        );
    }
    if let Some(name) = name {
        turn.session.client.shown().name = name;
    }
    turn.session.speak(protocol);
    Ok(())
}

fn parse_version(text: &[u8]) -> Result<Protocol, &'static str> {
    match parse_integer(text) {
        None => Err("ERR Protocol version is not an integer or out of range"),
        Some(2) => Ok(Protocol::Resp2),
        Some(3) => Ok(Protocol::Resp3),
        Some(_) => Err("NOPROTO unsupported protocol version"),
    }
}

/// `RESET`: the connection is as it was when it was new.
fn reset(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.session.leave(turn.held, turn.records);
    turn.session.client.shown().name = Box::default();
    turn.session.replies = Replies::On;
    turn.session.is_kept = false;
    turn.session.is_authenticated = turn.settings.password.is_none();
    turn.session.speak(Protocol::Resp2);
    turn.reply.status("RESET");
}

/// `QUIT`
fn quit(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.status("OK");
    turn.then = Then::Close;
}

/// `ACL WHOAMI`: there is one user.
fn whoami(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.bulk(b"default");
}
