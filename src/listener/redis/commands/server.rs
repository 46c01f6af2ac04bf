//! The server as a whole: its role, waiting for it, and its end.

use std::time::Duration;

use super::parse_integer;
use crate::listener::redis::batch::Then;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("bgrewriteaof", bgrewriteaof),
    ("bgsave", bgsave),
    ("debug|loadaof", debug_loadaof),
    ("debug|sleep", debug_sleep),
    ("lastsave", lastsave),
    ("role", role),
    ("save", save),
    ("shutdown", shutdown),
    ("wait", wait),
    ("waitaof", waitaof),
];

const NO_LOG: &str = "ERR there is no log, and nothing to save to";

/// `BGREWRITEAOF`
fn bgrewriteaof(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    let Some(log) = turn.server.store.log() else { return turn.reply.error(NO_LOG) };
    let status = log.status();
    if status.rewrite_running {
        return turn.reply.error("ERR Background append only file rewriting already in progress");
    }
    log.request_rewrite();
    turn.reply.status(if status.save_running {
        "Background append only file rewriting scheduled"
    } else {
        "Background append only file rewriting started"
    });
}

/// `BGSAVE [SCHEDULE]`
fn bgsave(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let scheduled = match args[1..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"schedule") => true,
        _ => return turn.reply.error("ERR syntax error"),
    };
    let Some(log) = turn.server.store.log() else { return turn.reply.error(NO_LOG) };
    let status = log.status();
    if status.save_running {
        return turn.reply.error("ERR Background save already in progress");
    }
    if status.rewrite_running && !scheduled {
        return turn.reply.error(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in \
             order to schedule a BGSAVE whenever possible.",
        );
    }
    log.request_save();
    turn.reply.status(if status.rewrite_running {
        "Background saving scheduled"
    } else {
        "Background saving started"
    });
}

/// `SAVE`: only this client waits for it.
fn save(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    match turn.server.store.log() {
        None => turn.reply.error(NO_LOG),
        Some(_) => turn.then = Then::AwaitSave,
    }
}

/// `LASTSAVE`
fn lastsave(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    let last = turn.server.store.log().map_or(0, |log| log.status().last_save.seconds());
    turn.reply.count(usize::try_from(last).unwrap_or(usize::MAX));
}

/// `DEBUG LOADAOF`: forgets all keys and loads them from the log. Everybody waits, as
/// in Redis. Within a transaction, what it has done so far is not in the log yet.
fn debug_loadaof(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    if turn.server.store.log().is_none() {
        return turn.reply.error("ERR there is no log, and nothing to load from");
    }
    if turn.held.in_transaction() {
        return turn.reply.error("ERR DEBUG LOADAOF is not allowed inside a transaction");
    }
    match turn.held.load_log() {
        Ok(()) => turn.reply.status("OK"),
        Err(error) => {
            tracing::error!(error = %error.chain(), "DEBUG LOADAOF: the log does not load");
            turn.reply.error("ERR Error trying to load the AOF files, check server logs.");
        }
    }
}

/// `DEBUG SLEEP seconds`: keeps everybody waiting, as Redis does: it is for tests
/// of what clients do then.
fn debug_sleep(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    const SECONDS_MAX: f64 = 3_600.0;
    // As `strtod` does, what is no number is zero.
    let text = String::from_utf8_lossy(args[2]);
    let seconds = text.parse::<f64>().ok().filter(|it| it.is_finite()).unwrap_or(0.0);
    std::thread::sleep(Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX)));
    turn.reply.status("OK");
}

/// `ROLE`: a master without replicas.
fn role(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.array(3);
    turn.reply.bulk(b"master");
    turn.reply.integer(0);
    turn.reply.array(0);
}

/// `WAIT numreplicas timeout`: there are no replicas to wait for, so it does not.
fn wait(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    match (parse_integer(args[1]), parse_timeout(args[2])) {
        (None, _) => turn.reply.error("ERR value is not an integer or out of range"),
        (_, Err(refusal)) => turn.reply.error(refusal),
        (Some(_), Ok(_)) => turn.reply.integer(0),
    }
}

/// `WAITAOF numlocal numreplicas timeout`: how many logs have the client's writes
/// on disk: ours, and those of replicas, of which there are none.
fn waitaof(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let timeout = match parse_timeout(args[3]) {
        Ok(timeout) => timeout,
        Err(refusal) => return turn.reply.error(refusal),
    };
    let local = match parse_integer(args[1]) {
        Some(local @ 0..=1) => local,
        _ => return turn.reply.error("ERR value is out of range, value must between 0 and 1"),
    };
    let Some(replicas) = parse_integer(args[2]).filter(|count| *count >= 0) else {
        return turn.reply.error("ERR value is out of range, must be positive");
    };
    if local == 1 && turn.server.store.log().is_none() {
        return turn
            .reply
            .error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    }
    // Replicas will not come: with any asked for, the timeout always passes.
    turn.then = Then::AwaitSync { timeout, needs_more: replicas > 0 };
}

/// Milliseconds; zero means for ever.
fn parse_timeout(text: &[u8]) -> Result<Option<Duration>, &'static str> {
    match parse_integer(text) {
        None => Err("ERR timeout is not an integer or out of range"),
        Some(..0) => Err("ERR timeout is negative"),
        Some(0) => Ok(None),
        Some(ms) => Ok(Some(Duration::from_millis(ms.unsigned_abs()))),
    }
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`: requests under way finish
/// and the log is synced, whatever is asked for.
fn shutdown(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let mut words = args[1..].iter().map(|it| it.to_ascii_lowercase());
    if args.len() == 2 && words.clone().any(|word| word == b"abort") {
        return turn.reply.error("ERR No shutdown in progress.");
    }
    if !words.all(|word| matches!(&*word, b"nosave" | b"save" | b"now" | b"force")) {
        return turn.reply.error("ERR syntax error");
    }
    turn.server.end.cancel();
    turn.then = Then::Close;
}
