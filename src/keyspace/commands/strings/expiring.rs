//! Commands that set a string and its deadline, or a deadline alone: `SET`,
//! `SETEX`, `PSETEX`, `GETEX`.
//!
//! They record moments, never spans: a replay happens later.

use super::reply_string;
use crate::keyspace::arg::Arg;
use crate::keyspace::commands::collections::read;
use crate::keyspace::commands::keys::expire_at;
use crate::keyspace::commands::{Done, TimeBase, TimeUnit, unix_millis};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::{SlotId, Vacant};
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::string::StringValue;
use crate::keyspace::value::Value;
use crate::resp::number::NumberText;

/// What is to become of a deadline.
#[derive(Clone, Copy, Debug, Default)]
enum Expiry<'a> {
    /// Nothing was said of it.
    #[default]
    Unsaid,
    /// `KEEPTTL`, which only `SET` knows.
    Keep,
    /// `PERSIST`, which only `GETEX` knows.
    Remove,
    /// `EX`, `PX`, `EXAT` or `PXAT`.
    At { amount: Arg<'a>, unit: TimeUnit, base: TimeBase },
}

/// Reads one option about the deadline and what follows it. There may be one kind
/// of it; said again, the last counts.
fn parse_expiry<'a>(
    word: Arg<'a>,
    rest: &mut std::slice::Iter<'_, Arg<'a>>,
    before: Expiry<'a>,
) -> Result<Expiry<'a>, CommandError> {
    let times = [
        ("ex", TimeUnit::Seconds, TimeBase::Now),
        ("px", TimeUnit::Millis, TimeBase::Now),
        ("exat", TimeUnit::Seconds, TimeBase::Epoch),
        ("pxat", TimeUnit::Millis, TimeBase::Epoch),
    ];
    let found = times.into_iter().find(|(name, _, _)| word.is_word(name));
    let (_, unit, base) = found.ok_or(CommandError::Syntax)?;
    match before {
        Expiry::Unsaid => {}
        Expiry::At { unit: said, base: from, .. } if (said, from) == (unit, base) => {}
        Expiry::Keep | Expiry::Remove | Expiry::At { .. } => return Err(CommandError::Syntax),
    }
    let amount = *rest.next().ok_or(CommandError::Syntax)?;
    Ok(Expiry::At { amount, unit, base })
}

/// What `SET` was asked for beside key and value.
#[derive(Clone, Copy, Debug, Default)]
struct SetOptions<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    expiry: Expiry<'a>,
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
            } else if word.is_word("keepttl") && !matches!(options.expiry, Expiry::At { .. }) {
                options.expiry = Expiry::Keep;
            } else {
                options.expiry = parse_expiry(*word, &mut args, options.expiry)?;
            }
        }
        if options.nx && options.xx {
            return Err(CommandError::Syntax);
        }
        Ok(options)
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub(super) fn set(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = SetOptions::parse(&args[3..])?;
    let deadline = match options.expiry {
        Expiry::At { amount, unit, base } => Some(deadline("set", amount, unit, base, run)?),
        Expiry::Unsaid | Expiry::Keep | Expiry::Remove => None,
    };
    let key = args[1].text();
    if options.get {
        let string = read::<StringValue>(space, args[1], run)?;
        reply_string(string, run);
    }
    let at = space.find(&key, run);
    if options.nx && at.is_ok() || options.xx && at.is_err() {
        if !options.get {
            run.reply.null();
        }
        return Ok(());
    }
    match deadline {
        Some(deadline) => set_until(space, at, args[1], args[2], deadline, run),
        None => {
            let value = Value::String(StringValue::from(&*args[2].text()));
            let id = space.put(at, &key, value, run);
            if !matches!(options.expiry, Expiry::Keep) && space.slots.deadline(id).is_some() {
                space.slots.set_deadline(id, None);
            }
            run.notify(EventClass::STRING, "set", &key);
            record_without_get(args, options.get, run);
        }
    }
    if !options.get {
        run.reply.status("OK");
    }
    Ok(())
}

/// Records a `SET` as it was sent; a replay does not ask for the old value.
fn record_without_get(args: &[Arg<'_>], has_get: bool, run: &mut Execution<'_>) {
    if has_get {
        let options = args[3..].iter().filter(|arg| !arg.is_word("get"));
        run.record(&args[..3].iter().chain(options).copied().collect::<Vec<_>>());
    } else {
        run.record(args);
    }
}

/// `SETEX key seconds value`
pub(super) fn setex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    set_for(space, args, run, "setex", TimeUnit::Seconds)
}

/// `PSETEX key milliseconds value`
pub(super) fn psetex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    set_for(space, args, run, "psetex", TimeUnit::Millis)
}

fn set_for(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    name: &'static str,
    unit: TimeUnit,
) -> Done {
    let deadline = deadline(name, args[2], unit, TimeBase::Now, run)?;
    let at = space.find(&args[1].text(), run);
    set_until(space, at, args[1], args[3], deadline, run);
    run.reply.status("OK");
    Ok(())
}

/// Sets a string with a deadline, recorded as `SET key value PXAT deadline`.
fn set_until(
    space: &mut Keyspace,
    at: Result<SlotId, Vacant>,
    key: Arg<'_>,
    value: Arg<'_>,
    deadline: i64,
    run: &mut Execution<'_>,
) {
    let name = key.text();
    let id = space.put(at, &name, Value::String(StringValue::from(&*value.text())), run);
    space.slots.set_deadline(id, Some(deadline.unsigned_abs()));
    run.notify(EventClass::STRING, "set", &name);
    run.notify(EventClass::GENERIC, "expire", &name);
    let deadline = NumberText::integer(deadline);
    run.record(&[Arg::Bytes(b"SET"), key, value, Arg::Bytes(b"PXAT"), Arg::Bytes(&deadline)]);
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub(super) fn getex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let mut expiry = Expiry::Unsaid;
    let mut options = args[2..].iter();
    while let Some(word) = options.next() {
        if word.is_word("persist") && !matches!(expiry, Expiry::At { .. }) {
            expiry = Expiry::Remove;
        } else {
            expiry = parse_expiry(*word, &mut options, expiry)?;
        }
    }
    let string = read::<StringValue>(space, args[1], run)?;
    let is_there = string.is_some();
    reply_string(string, run);
    let key = args[1].text();
    match (is_there.then(|| space.peek(&key, run)), expiry) {
        (Some(Ok(id)), Expiry::Remove) if space.slots.deadline(id).is_some() => {
            space.slots.set_deadline(id, None);
            run.notify(EventClass::GENERIC, "persist", &key);
            run.record(&[Arg::Bytes(b"PERSIST"), args[1]]);
        }
        (Some(Ok(id)), Expiry::At { amount, unit, base }) => {
            let deadline = deadline("getex", amount, unit, base, run)?;
            expire_at(space, id, &key, deadline, &[], run);
        }
        _ => {}
    }
    Ok(())
}

/// Unix milliseconds of an expiry that must lie after 1970.
fn deadline(
    name: &'static str,
    amount: Arg<'_>,
    unit: TimeUnit,
    base: TimeBase,
    run: &Execution<'_>,
) -> Result<i64, CommandError> {
    let amount = amount.integer()?;
    let millis = (amount > 0).then(|| unix_millis(amount, unit, base, run)).flatten();
    millis.ok_or(CommandError::InvalidExpire(name))
}
