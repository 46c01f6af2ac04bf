//! Commands on the connection itself.

use crate::listener::redis::batch::Then;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;
use crate::resp::Protocol;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[("hello", hello), ("quit", quit)];

/// `HELLO [version]`
fn hello(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    match args.get(1).copied() {
        None => {}
        Some(b"2") => turn.session.protocol = Protocol::Resp2,
        Some(b"3") => turn.session.protocol = Protocol::Resp3,
        Some(_) => return turn.reply.error("NOPROTO unsupported protocol version"),
    }
    let reply = &mut *turn.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(b"7.0.15");
    reply.bulk(b"proto");
    reply.integer(if turn.session.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.count(turn.session.client.id as usize);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// `QUIT`
fn quit(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.status("OK");
    turn.then = Then::Close;
}
