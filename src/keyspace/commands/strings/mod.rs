//! Commands on strings.
//!
//! | file | what |
//! |---|---|
//! | this one | whole strings |
//! | `expiring` | strings with a deadline: `SET` and its kin, `GETEX` |
//! | `numbers` | counters |
//! | `parts` | lengths, ranges, appending |

mod expiring;
mod numbers;
mod parts;
#[cfg(test)]
mod tests;

use super::Done;
use super::collections::read;
use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::command::short::{
    ALL_KEYS, GROW, GROW_FAST, ONE_KEY, READ, READ_FAST, WRITE_FAST,
};
use crate::keyspace::command::{KeyPositions, Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::{SlotId, Vacant};
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::string::StringValue;
use crate::keyspace::value::Value;

/// Keys and values in turn.
const PAIRS: KeyPositions = KeyPositions { first: 1, last: -1, step: 2, counted: 0 };

/// The commands of this folder.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "string",
    commands: &[
        entry(
            "append",
            3,
            GROW_FAST,
            ONE_KEY,
            parts::append,
            docs(
                "2.0.0",
                "O(1)",
                "Adds bytes at the end of a string; a key that is not there counts as empty.",
            ),
        ),
        entry(
            "decr",
            2,
            GROW_FAST,
            ONE_KEY,
            numbers::decr,
            docs(
                "1.0.0",
                "O(1)",
                "Takes one from an integer; a key that is not there counts as 0.",
            ),
        ),
        entry(
            "decrby",
            3,
            GROW_FAST,
            ONE_KEY,
            numbers::decrby,
            docs(
                "1.0.0",
                "O(1)",
                "Takes a number from an integer; a key that is not there counts as 0.",
            ),
        ),
        entry(
            "get",
            2,
            READ_FAST,
            ONE_KEY,
            get,
            docs("1.0.0", "O(1)", "Answers with the string of a key."),
        ),
        entry(
            "getdel",
            2,
            WRITE_FAST,
            ONE_KEY,
            getdel,
            docs("6.2.0", "O(1)", "Answers with the string of a key and deletes the key."),
        ),
        entry(
            "getex",
            -2,
            WRITE_FAST,
            ONE_KEY,
            expiring::getex,
            docs(
                "6.2.0",
                "O(1)",
                "Answers with the string of a key and sets or removes its deadline.",
            ),
        ),
        entry(
            "getrange",
            4,
            READ,
            ONE_KEY,
            parts::getrange,
            docs("2.4.0", "O(N) in the length of the answer", "Answers with a part of a string."),
        ),
        entry(
            "getset",
            3,
            GROW_FAST,
            ONE_KEY,
            getset,
            docs("1.0.0", "O(1)", "Sets a string and answers with what was there before."),
        ),
        entry(
            "incr",
            2,
            GROW_FAST,
            ONE_KEY,
            numbers::incr,
            docs("1.0.0", "O(1)", "Adds one to an integer; a key that is not there counts as 0."),
        ),
        entry(
            "incrby",
            3,
            GROW_FAST,
            ONE_KEY,
            numbers::incrby,
            docs(
                "1.0.0",
                "O(1)",
                "Adds a number to an integer; a key that is not there counts as 0.",
            ),
        ),
        entry(
            "incrbyfloat",
            3,
            GROW_FAST,
            ONE_KEY,
            numbers::incrbyfloat,
            docs(
                "2.6.0",
                "O(1)",
                "Adds a number with a fraction; a key that is not there counts as 0.",
            ),
        ),
        entry(
            "mget",
            -2,
            READ_FAST,
            ALL_KEYS,
            mget,
            docs(
                "1.0.0",
                "O(N) in the number of keys",
                "Answers with the strings of several keys.",
            ),
        ),
        entry(
            "mset",
            -3,
            GROW,
            PAIRS,
            mset,
            docs(
                "1.0.1",
                "O(N) in the number of keys",
                "Sets the strings of several keys at once.",
            ),
        ),
        entry(
            "msetnx",
            -3,
            GROW,
            PAIRS,
            msetnx,
            docs(
                "1.0.1",
                "O(N) in the number of keys",
                "Sets the strings of several keys if all of them are free.",
            ),
        ),
        entry(
            "psetex",
            4,
            GROW,
            ONE_KEY,
            expiring::psetex,
            docs("2.6.0", "O(1)", "Sets a string that expires after some milliseconds."),
        ),
        entry(
            "set",
            -3,
            GROW,
            ONE_KEY,
            expiring::set,
            docs("1.0.0", "O(1)", "Sets a string, whatever was there before."),
        ),
        entry(
            "setex",
            4,
            GROW,
            ONE_KEY,
            expiring::setex,
            docs("2.0.0", "O(1)", "Sets a string that expires after some seconds."),
        ),
        entry(
            "setnx",
            3,
            GROW_FAST,
            ONE_KEY,
            setnx,
            docs("1.0.0", "O(1)", "Sets a string if the key is free."),
        ),
        entry(
            "setrange",
            4,
            GROW,
            ONE_KEY,
            parts::setrange,
            docs(
                "2.2.0",
                "O(1) but for the bytes written",
                "Writes bytes over a part of a string.",
            ),
        ),
        entry(
            "strlen",
            2,
            READ_FAST,
            ONE_KEY,
            parts::strlen,
            docs("2.2.0", "O(1)", "Answers with the length of a string."),
        ),
        entry(
            "substr",
            4,
            READ,
            ONE_KEY,
            parts::getrange,
            docs(
                "1.0.0",
                "O(N) in the length of the answer",
                "Answers with a part of a string; the old name of GETRANGE.",
            ),
        ),
    ],
};

fn reply_string(string: Option<&StringValue>, run: &mut Execution<'_>) {
    match string {
        Some(string) => match string.whole() {
            Some(text) => run.reply.bulk(&text),
            None => run.reply.bulk_pieces(string.len(), string.pieces(0..string.len())),
        },
        None => run.reply.null(),
    }
}

/// Sets a key to a string without a deadline, whatever was there.
fn set_plain(
    space: &mut Keyspace,
    at: Result<SlotId, Vacant>,
    key: &[u8],
    text: Text<'_>,
    run: &mut Execution<'_>,
) {
    let id = space.put(at, key, Value::String(StringValue::from(&*text)), run);
    if space.slots.deadline(id).is_some() {
        space.slots.set_deadline(id, None);
    }
    run.notify(EventClass::STRING, "set", key);
}

/// `GET key`
fn get(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let string = read::<StringValue>(space, args[1], run)?;
    reply_string(string, run);
    Ok(())
}

/// `GETDEL key`
fn getdel(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let string = read::<StringValue>(space, args[1], run)?;
    let is_there = string.is_some();
    reply_string(string, run);
    if is_there && let Ok(id) = space.find(&key, run) {
        space.slots.free(id);
        run.notify(EventClass::GENERIC, "del", &key);
        run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(&key)]);
    }
    Ok(())
}

/// `GETSET key value`
fn getset(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let string = read::<StringValue>(space, args[1], run)?;
    reply_string(string, run);
    let at = space.find(&key, run);
    set_plain(space, at, &key, args[2].text(), run);
    run.record(&[Arg::Bytes(b"SET"), args[1], args[2]]);
    Ok(())
}

/// `SETNX key value`
fn setnx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let at = space.find(&key, run);
    if at.is_err() {
        set_plain(space, at, &key, args[2].text(), run);
        run.record(args);
    }
    run.reply.integer(i64::from(at.is_err()));
    Ok(())
}

/// `MGET key …`: what is no string reads as if it were not there.
fn mget(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.array(args.len() - 1);
    for key in &args[1..] {
        let string = match space.value(&key.text(), run) {
            Some(Value::String(string)) => Some(string),
            _ => None,
        };
        reply_string(string, run);
    }
    Ok(())
}

/// `MSET key value …`: the last of several values of one key stands.
fn mset(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("mset"));
    }
    set_pairs(space, args, run);
    run.reply.status("OK");
    Ok(())
}

/// `MSETNX key value …`: all, or when one of the keys is there none.
fn msetnx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("msetnx"));
    }
    let all_free = args[1..].iter().step_by(2).all(|key| space.find(&key.text(), run).is_err());
    if all_free {
        set_pairs(space, args, run);
    }
    run.reply.integer(i64::from(all_free));
    Ok(())
}

fn set_pairs(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) {
    for pair in args[1..].chunks_exact(2) {
        let key = pair[0].text();
        let at = space.find(&key, run);
        set_plain(space, at, &key, pair[1].text(), run);
    }
    run.record(args);
}
