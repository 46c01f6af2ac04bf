//! Commands on parts of strings.

use std::ops::Range;

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{locate, read};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::string::{STRING_LEN_MAX, StringValue};
use crate::keyspace::value::Value;

/// `STRLEN key`
pub(super) fn strlen(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let len = read::<StringValue>(space, args[1], run)?.map_or(0, StringValue::len);
    run.reply.count(len);
    Ok(())
}

/// `GETRANGE key start end`, `SUBSTR key start end`: both ends included, negative
/// ones counted from the end.
pub(super) fn getrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (start, end) = (args[2].integer()?, args[3].integer()?);
    match read::<StringValue>(space, args[1], run)? {
        None => run.reply.bulk(b""),
        Some(string) => {
            let range = part(string.len(), start, end);
            run.reply.bulk_pieces(range.len(), string.pieces(range));
        }
    }
    Ok(())
}

/// The range from `start` to `end` of a string of `len` bytes.
fn part(len: usize, start: i64, end: i64) -> Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

/// `APPEND key value`
pub(super) fn append(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (key, text) = (args[1].text(), args[2].text());
    let (at, string) = locate::<StringValue>(space, &key, run)?;
    let was_len = string.map_or(0, StringValue::len);
    let len = checked_len(was_len, text.len())?;
    match at {
        Ok(id) => space.slots.overwrite(id, was_len, &text),
        Err(_) => {
            space.put(at, &key, Value::String(StringValue::from(&*text)), run);
        }
    }
    run.notify(EventClass::STRING, "append", &key);
    run.record(args);
    run.reply.count(len);
    Ok(())
}

/// `SETRANGE key offset value`: a gap before the offset is filled with zeros;
/// writing nothing creates nothing.
pub(super) fn setrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (key, text) = (args[1].text(), args[3].text());
    let offset = usize::try_from(args[2].integer()?).map_err(|_| CommandError::OffsetOutOfRange)?;
    let (at, string) = locate::<StringValue>(space, &key, run)?;
    let was_len = string.map_or(0, StringValue::len);
    if text.is_empty() {
        run.reply.count(was_len);
        return Ok(());
    }
    let len = checked_len(offset, text.len())?.max(was_len);
    let id = match at {
        Ok(id) => id,
        Err(_) => space.put(at, &key, Value::String(StringValue::from_text(b"")), run),
    };
    space.slots.overwrite(id, offset, &text);
    run.notify(EventClass::STRING, "setrange", &key);
    run.record(args);
    run.reply.count(len);
    Ok(())
}

/// The length of a string that is written up to `at` and `more` bytes on.
fn checked_len(at: usize, more: usize) -> Result<usize, CommandError> {
    let len = at.checked_add(more).filter(|len| *len <= STRING_LEN_MAX);
    len.ok_or(CommandError::StringTooLong)
}
