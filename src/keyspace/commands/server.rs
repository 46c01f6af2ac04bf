//! Commands on no key in particular.

use super::Done;
use crate::keyspace::arg::Arg;
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace};

/// `PING [message]`
pub(in crate::keyspace) fn ping(
    _: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    match args {
        [_] => run.reply.status("PONG"),
        [_, message] => run.reply.bulk(&message.text()),
        _ => return Err(CommandError::Arity("ping")),
    }
    Ok(())
}

/// `ECHO message`
pub(in crate::keyspace) fn echo(
    _: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    run.reply.bulk(&args[1].text());
    Ok(())
}

/// `TIME`: seconds, and microseconds of the second. It stands still in a call.
pub(in crate::keyspace) fn time(_: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let micros = run.now.micros() % 1_000_000;
    run.reply.array(2);
    run.reply.bulk_integer(run.now.seconds());
    run.reply.bulk_integer(micros);
    Ok(())
}

/// `DBSIZE`
pub(in crate::keyspace) fn dbsize(
    space: &mut Keyspace,
    _: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    run.reply.count(space.len());
    Ok(())
}

/// `SELECT index`: there is one database, number 0.
pub(in crate::keyspace) fn select(
    _: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    if args[1].integer()? != 0 {
        return Err(CommandError::DatabaseOutOfRange);
    }
    run.reply.status("OK");
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`, `FLUSHDB`: both return at once and free later.
/// Recorded even when there was nothing, as in Redis.
pub(in crate::keyspace) fn flush(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    match args {
        [_] => {}
        [_, option] if option.is_word("async") || option.is_word("sync") => {}
        _ => return Err(CommandError::Syntax),
    }
    space.slots.clear();
    run.record(args);
    run.reply.status("OK");
    Ok(())
}
