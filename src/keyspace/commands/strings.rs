//! Commands on strings.

use super::{Done, TimeBase, TimeUnit, unix_millis};
use crate::keyspace::arg::{Arg, parse_integer};
use crate::keyspace::command::short::{GROW, GROW_FAST, ONE_KEY, READ_FAST};
use crate::keyspace::command::{Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;
use crate::resp::number::NumberText;

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "string",
    commands: &[
        entry(
            "decr",
            2,
            GROW_FAST,
            ONE_KEY,
            decr,
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
            decrby,
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
            "incr",
            2,
            GROW_FAST,
            ONE_KEY,
            incr,
            docs("1.0.0", "O(1)", "Adds one to an integer; a key that is not there counts as 0."),
        ),
        entry(
            "incrby",
            3,
            GROW_FAST,
            ONE_KEY,
            incrby,
            docs(
                "1.0.0",
                "O(1)",
                "Adds a number to an integer; a key that is not there counts as 0.",
            ),
        ),
        entry(
            "psetex",
            4,
            GROW,
            ONE_KEY,
            psetex,
            docs("2.6.0", "O(1)", "Sets a string that expires after some milliseconds."),
        ),
        entry(
            "set",
            -3,
            GROW,
            ONE_KEY,
            set,
            docs("1.0.0", "O(1)", "Sets a string, whatever was there before."),
        ),
        entry(
            "setex",
            4,
            GROW,
            ONE_KEY,
            setex,
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
    ],
};

/// `GET key`
fn get(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match space.value(&args[1].text(), run) {
        None => run.reply.null(),
        Some(Value::String(bytes)) => run.reply.bulk(bytes),
        Some(_) => return Err(CommandError::WrongType),
    }
    Ok(())
}

/// What `SET` was asked for beside key and value.
#[derive(Clone, Copy, Debug, Default)]
struct SetOptions<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    expire: Option<(Arg<'a>, TimeUnit, TimeBase)>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: &[Arg<'a>]) -> Result<SetOptions<'a>, CommandError> {
        let mut options = SetOptions::default();
        let mut args = args.iter();
        while let Some(word) = args.next() {
            if word.is_word("nx") {
                options.nx = true;
            } else if word.is_word("xx") {
                options.xx = true;
            } else if word.is_word("get") {
                options.get = true;
            } else if word.is_word("keepttl") {
                options.keep_ttl = true;
            } else {
                let (unit, base) = expire_option(*word).ok_or(CommandError::Syntax)?;
                let amount = args.next().ok_or(CommandError::Syntax)?;
                if options.expire.replace((*amount, unit, base)).is_some() {
                    return Err(CommandError::Syntax);
                }
            }
        }
        if options.nx && options.xx || options.keep_ttl && options.expire.is_some() {
            return Err(CommandError::Syntax);
        }
        Ok(options)
    }
}

fn expire_option(word: Arg<'_>) -> Option<(TimeUnit, TimeBase)> {
    if word.is_word("ex") {
        Some((TimeUnit::Seconds, TimeBase::Now))
    } else if word.is_word("px") {
        Some((TimeUnit::Millis, TimeBase::Now))
    } else if word.is_word("exat") {
        Some((TimeUnit::Seconds, TimeBase::Epoch))
    } else if word.is_word("pxat") {
        Some((TimeUnit::Millis, TimeBase::Epoch))
    } else {
        None
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
fn set(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = SetOptions::parse(&args[3..])?;
    let deadline = match options.expire {
        Some((amount, unit, base)) => Some(deadline("set", amount, unit, base, run)?),
        None => None,
    };
    let key = args[1].text();
    let at = space.find(&key, run);
    if options.get {
        match at.ok().and_then(|id| space.slots.value(id)) {
            None => run.reply.null(),
            Some(Value::String(bytes)) => run.reply.bulk(bytes),
            Some(_) => return Err(CommandError::WrongType),
        }
    }
    if options.nx && at.is_ok() || options.xx && at.is_err() {
        if !options.get {
            run.reply.null();
        }
        return Ok(());
    }
    let value = args[2].text();
    let id = space.put(at, &key, Value::String((*value).into()));
    if !options.keep_ttl && space.slots.deadline(id) != deadline {
        space.slots.set_deadline(id, deadline);
    }
    match deadline {
        Some(deadline) => record_set(run, &key, &value, deadline),
        None if options.get => {
            let kept: Vec<Arg<'_>> = args[..3]
                .iter()
                .chain(args[3..].iter().filter(|arg| !arg.is_word("get")))
                .copied()
                .collect();
            run.record(&kept);
        }
        None => run.record(args),
    }
    if !options.get {
        run.reply.status("OK");
    }
    Ok(())
}

/// `SETEX key seconds value`
fn setex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    set_expiring(space, args, run, "setex", TimeUnit::Seconds)
}

/// `PSETEX key milliseconds value`
fn psetex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    set_expiring(space, args, run, "psetex", TimeUnit::Millis)
}

fn set_expiring(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    name: &'static str,
    unit: TimeUnit,
) -> Done {
    let deadline = deadline(name, args[2], unit, TimeBase::Now, run)?;
    let (key, value) = (args[1].text(), args[3].text());
    let at = space.find(&key, run);
    let id = space.put(at, &key, Value::String((*value).into()));
    space.slots.set_deadline(id, Some(deadline));
    record_set(run, &key, &value, deadline);
    run.reply.status("OK");
    Ok(())
}

/// `SETNX key value`
fn setnx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let at = space.find(&key, run);
    if at.is_err() {
        space.put(at, &key, Value::String((*args[2].text()).into()));
        run.record(args);
    }
    run.reply.integer(i64::from(at.is_err()));
    Ok(())
}

/// Unix milliseconds of an expiry that must lie after 1970.
fn deadline(
    name: &'static str,
    amount: Arg<'_>,
    unit: TimeUnit,
    base: TimeBase,
    run: &Execution<'_>,
) -> Result<u64, CommandError> {
    let amount = amount.integer()?;
    (amount > 0)
        .then(|| unix_millis(amount, unit, base, run))
        .flatten()
        .and_then(|millis| u64::try_from(millis).ok())
        .ok_or(CommandError::InvalidExpire(name))
}

/// `SET key value PXAT deadline`: what every setting with an expiry becomes.
fn record_set(run: &mut Execution<'_>, key: &[u8], value: &[u8], deadline: u64) {
    let deadline = NumberText::integer(i64::try_from(deadline).unwrap_or(i64::MAX));
    run.record(&[
        Arg::Bytes(b"SET"),
        Arg::Bytes(key),
        Arg::Bytes(value),
        Arg::Bytes(b"PXAT"),
        Arg::Bytes(&deadline),
    ]);
}

/// `INCR key`
fn incr(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, 1)
}

/// `DECR key`
fn decr(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, -1)
}

/// `INCRBY key amount`
fn incrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    increment(space, args, run, args[2].integer()?)
}

/// `DECRBY key amount`
fn decrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let amount = args[2].integer()?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    increment(space, args, run, amount)
}

/// Adds to the integer that a key holds as text; no key holds 0. The deadline
/// stays.
fn increment(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>, by: i64) -> Done {
    let key = args[1].text();
    let at = space.find(&key, run);
    let current = match at.ok().and_then(|id| space.slots.value(id)) {
        None => 0,
        Some(Value::String(bytes)) => parse_integer(bytes).ok_or(CommandError::NotInteger)?,
        Some(_) => return Err(CommandError::WrongType),
    };
    let sum = current.checked_add(by).ok_or(CommandError::IncrementOverflow)?;
    space.put(at, &key, Value::String((*NumberText::integer(sum)).into()));
    run.record(args);
    run.reply.integer(sum);
    Ok(())
}
