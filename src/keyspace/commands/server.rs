//! Commands on no key in particular.

use super::Done;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{ANY_TIME, NO_KEY, READ_FAST, WRITE};
use crate::keyspace::command::{Flags, Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace};

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "server",
    commands: &[
        entry("dbsize", 1, READ_FAST, NO_KEY, dbsize, docs("1.0.0", "O(1)", "Counts the keys.")),
        entry(
            "flushall",
            -1,
            WRITE,
            NO_KEY,
            flush,
            docs("1.0.0", "O(1) at once, O(N) in the keys beside requests", "Removes every key."),
        ),
        entry(
            "flushdb",
            -1,
            WRITE,
            NO_KEY,
            flush,
            docs(
                "1.0.0",
                "O(1) at once, O(N) in the keys beside requests",
                "Removes every key of the database.",
            ),
        ),
        entry(
            "time",
            1,
            ANY_TIME.and(Flags::FAST),
            NO_KEY,
            time,
            docs("2.6.0", "O(1)", "Tells the time of the store."),
        ),
    ],
};

/// `TIME`: seconds, and microseconds of the second. It stands still in a call.
fn time(_: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let micros = run.now.micros() % 1_000_000;
    run.reply.array(2);
    run.reply.bulk_integer(run.now.seconds());
    run.reply.bulk_integer(micros);
    Ok(())
}

/// `DBSIZE`
fn dbsize(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.count(space.len());
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`, `FLUSHDB`: both return at once and free later.
/// Recorded even when there was nothing, as in Redis.
fn flush(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match args {
        [_] => {}
        [_, option] if option.is_word("async") || option.is_word("sync") => {}
        _ => return Err(CommandError::Syntax),
    }
    space.clear();
    run.record(args);
    run.reply.status("OK");
    Ok(())
}
