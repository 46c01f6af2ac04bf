//! Commands on strings that are numbers. A key that is not there counts as 0, and
//! the deadline of one that is there stays.

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::locate;
use crate::keyspace::error::CommandError;
use crate::keyspace::long_double::LongDouble;
use crate::keyspace::notices::EventClass;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::string::StringValue;
use crate::keyspace::value::Value;

/// `INCR key`
pub(super) fn incr(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, 1)
}

/// `DECR key`
pub(super) fn decr(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, -1)
}

/// `INCRBY key amount`
pub(super) fn incrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, args[2].integer()?)
}

/// `DECRBY key amount`
pub(super) fn decrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let amount = args[2].integer()?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    increment(space, args, run, amount)
}

fn increment(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>, by: i64) -> Done {
    let key = args[1].text();
    let (at, string) = locate::<StringValue>(space, &key, run)?;
    let current = match string {
        None => 0,
        Some(string) => string.integer().ok_or(CommandError::NotInteger)?,
    };
    let sum = current.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
    space.put(at, &key, Value::String(StringValue::from(sum)), run);
    run.notify(EventClass::STRING, "incrby", &key);
    run.record(args);
    run.reply.integer(sum);
    Ok(())
}

/// `INCRBYFLOAT key amount`: recorded as what came of it, so that a replay does
/// not depend on how a machine adds.
pub(super) fn incrbyfloat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let (at, string) = locate::<StringValue>(space, &key, run)?;
    let current = match string {
        None => Some(LongDouble::from(0)),
        // No number is so long that it does not stand in one piece.
        Some(string) => string.whole().and_then(|text| LongDouble::parse(&text)),
    };
    let current = current.ok_or(CommandError::NotFloat)?;
    let amount = LongDouble::parse(&args[2].text()).ok_or(CommandError::NotFloat)?;
    let sum = current.checked_add(amount).ok_or(CommandError::IncrementNotFinite)?.text();
    space.put(at, &key, Value::String(StringValue::from_text(sum.as_bytes())), run);
    run.notify(EventClass::STRING, "incrbyfloat", &key);
    let sum = sum.as_bytes();
    run.record(&[Arg::Bytes(b"SET"), args[1], Arg::Bytes(sum), Arg::Bytes(b"KEEPTTL")]);
    run.reply.bulk(sum);
    Ok(())
}
