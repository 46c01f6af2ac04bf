//! Commands on keys of any kind: existence, names, deadlines.

use super::{Done, TimeBase, TimeUnit, unix_millis};
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{ALL_KEYS, ONE_KEY, READ_FAST, TWO_KEYS, WRITE, WRITE_FAST};
use crate::keyspace::command::{Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace, Mode};
use crate::resp::number::NumberText;

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "generic",
    commands: &[
        entry(
            "del",
            -2,
            WRITE,
            ALL_KEYS,
            del,
            docs(
                "1.0.0",
                "O(N) in the keys; freeing a value is O(M) in its elements",
                "Removes keys.",
            ),
        ),
        entry(
            "exists",
            -2,
            READ_FAST,
            ALL_KEYS,
            exists,
            docs("1.0.0", "O(N) in the keys", "Counts how many of the named keys exist."),
        ),
        entry(
            "expire",
            -3,
            WRITE_FAST,
            ONE_KEY,
            expire,
            docs("1.0.0", "O(1)", "Sets when a key expires, in seconds from now."),
        ),
        entry(
            "expireat",
            -3,
            WRITE_FAST,
            ONE_KEY,
            expireat,
            docs("1.2.0", "O(1)", "Sets when a key expires, in unix seconds."),
        ),
        entry(
            "expiretime",
            2,
            READ_FAST,
            ONE_KEY,
            expiretime,
            docs("7.0.0", "O(1)", "Tells when a key expires, in unix seconds."),
        ),
        entry(
            "persist",
            2,
            WRITE_FAST,
            ONE_KEY,
            persist,
            docs("2.2.0", "O(1)", "Lets a key live for ever."),
        ),
        entry(
            "pexpire",
            -3,
            WRITE_FAST,
            ONE_KEY,
            pexpire,
            docs("2.6.0", "O(1)", "Sets when a key expires, in milliseconds from now."),
        ),
        entry(
            "pexpireat",
            -3,
            WRITE_FAST,
            ONE_KEY,
            pexpireat,
            docs("2.6.0", "O(1)", "Sets when a key expires, in unix milliseconds."),
        ),
        entry(
            "pexpiretime",
            2,
            READ_FAST,
            ONE_KEY,
            pexpiretime,
            docs("7.0.0", "O(1)", "Tells when a key expires, in unix milliseconds."),
        ),
        entry(
            "pttl",
            2,
            READ_FAST,
            ONE_KEY,
            pttl,
            docs("2.6.0", "O(1)", "Tells how many milliseconds a key has to live."),
        ),
        entry(
            "rename",
            3,
            WRITE,
            TWO_KEYS,
            rename,
            docs("1.0.0", "O(1)", "Gives a key another name, whatever was there before."),
        ),
        entry(
            "renamenx",
            3,
            WRITE_FAST,
            TWO_KEYS,
            renamenx,
            docs("1.0.0", "O(1)", "Gives a key another name that must be free."),
        ),
        entry(
            "ttl",
            2,
            READ_FAST,
            ONE_KEY,
            ttl,
            docs("1.0.0", "O(1)", "Tells how many seconds a key has to live."),
        ),
        entry(
            "type",
            2,
            READ_FAST,
            ONE_KEY,
            type_of,
            docs("1.0.0", "O(1)", "Tells what kind of value a key holds."),
        ),
        entry(
            "unlink",
            -2,
            WRITE_FAST,
            ALL_KEYS,
            del,
            docs("4.0.0", "O(N) in the keys; values are freed beside requests", "Removes keys."),
        ),
    ],
};

/// `DEL key …`, `UNLINK key …`
fn del(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let mut removed = 0;
    for key in &args[1..] {
        if let Ok(id) = space.find(&key.text(), run) {
            space.slots.free(id);
            removed += 1;
        }
    }
    if removed > 0 {
        run.record(args);
    }
    run.reply.integer(removed);
    Ok(())
}

/// `EXISTS key …`: a key named twice counts twice.
fn exists(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = args[1..].iter().filter(|key| space.find(&key.text(), run).is_ok()).count();
    run.reply.count(count);
    Ok(())
}

/// `TYPE key`
fn type_of(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let name = space.value(&args[1].text(), run).map_or("none", |value| value.type_name());
    run.reply.status(name);
    Ok(())
}

/// `RENAME key newkey`: what was at the new name is gone; the deadline comes along.
fn rename(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to) = (args[1].text(), args[2].text());
    if space.find(&from, run).is_err() {
        return Err(CommandError::NoSuchKey);
    }
    if *from != *to {
        if let Ok(target) = space.find(&to, run) {
            space.slots.free(target);
        }
        move_key(space, &from, &to, run);
        run.record(args);
    }
    run.reply.status("OK");
    Ok(())
}

/// `RENAMENX key newkey`: only if the new name is free.
fn renamenx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to) = (args[1].text(), args[2].text());
    if space.find(&from, run).is_err() {
        return Err(CommandError::NoSuchKey);
    }
    let moves = space.find(&to, run).is_err();
    if moves {
        move_key(space, &from, &to, run);
        run.record(args);
    }
    run.reply.integer(i64::from(moves));
    Ok(())
}

/// Gives a key that is there a name that is free.
fn move_key(space: &mut Keyspace, from: &[u8], to: &[u8], run: &mut Execution<'_>) {
    if let (Ok(id), Err(vacant)) = (space.find(from, run), space.find(to, run)) {
        space.slots.rename(id, vacant, to);
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
fn expire(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "expire", TimeUnit::Seconds, TimeBase::Now)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
fn pexpire(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "pexpire", TimeUnit::Millis, TimeBase::Now)
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
fn expireat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "expireat", TimeUnit::Seconds, TimeBase::Epoch)
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
fn pexpireat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "pexpireat", TimeUnit::Millis, TimeBase::Epoch)
}

/// When `EXPIRE` is to do something.
#[derive(Clone, Copy, Debug, Default)]
struct ExpireConditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireConditions {
    fn parse(options: &[Arg<'_>]) -> Result<ExpireConditions, CommandError> {
        let mut conditions = ExpireConditions::default();
        for option in options {
            if option.is_word("nx") {
                conditions.nx = true;
            } else if option.is_word("xx") {
                conditions.xx = true;
            } else if option.is_word("gt") {
                conditions.gt = true;
            } else if option.is_word("lt") {
                conditions.lt = true;
            } else {
                let option = String::from_utf8_lossy(&option.text()).into_owned();
                return Err(CommandError::UnsupportedOption(option));
            }
        }
        let ExpireConditions { nx, xx, gt, lt } = conditions;
        if nx && (xx || gt || lt) {
            return Err(CommandError::ExpireNxWithOthers);
        }
        if gt && lt {
            return Err(CommandError::ExpireGtWithLt);
        }
        Ok(conditions)
    }

    /// A key without a deadline counts as one that expires last.
    fn hold(self, current: Option<u64>, next: i64) -> bool {
        let current = current.map(|deadline| i64::try_from(deadline).unwrap_or(i64::MAX));
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| next <= current)
            || self.lt && current.is_some_and(|current| next >= current))
    }
}

fn expire_generic(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    name: &'static str,
    unit: TimeUnit,
    base: TimeBase,
) -> Done {
    let key = args[1].text();
    let conditions = ExpireConditions::parse(&args[3..])?;
    let amount = args[2].integer()?;
    let deadline = unix_millis(amount, unit, base, run).ok_or(CommandError::InvalidExpire(name))?;
    let Ok(id) = space.find(&key, run) else {
        run.reply.integer(0);
        return Ok(());
    };
    if !conditions.hold(space.slots.deadline(id), deadline) {
        run.reply.integer(0);
        return Ok(());
    }
    let now = i64::try_from(run.now.millis()).unwrap_or(i64::MAX);
    if run.mode == Mode::Live && deadline <= now {
        space.slots.free(id);
        run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(&key)]);
    } else {
        space.slots.set_deadline(id, Some(u64::try_from(deadline).unwrap_or(0)));
        record_deadline(run, &key, deadline, &args[3..]);
    }
    run.reply.integer(1);
    Ok(())
}

/// `PEXPIREAT key deadline [option …]`: conditions as sent.
fn record_deadline(run: &mut Execution<'_>, key: &[u8], deadline: i64, options: &[Arg<'_>]) {
    let deadline = NumberText::integer(deadline);
    let fixed = [Arg::Bytes(b"PEXPIREAT"), Arg::Bytes(key), Arg::Bytes(&deadline)];
    if options.is_empty() {
        run.record(&fixed);
    } else {
        run.record(&[&fixed, options].concat());
    }
}

/// `PERSIST key`
fn persist(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let persisted = match space.find(&args[1].text(), run) {
        Ok(id) if space.slots.deadline(id).is_some() => {
            space.slots.set_deadline(id, None);
            run.record(args);
            true
        }
        _ => false,
    };
    run.reply.integer(i64::from(persisted));
    Ok(())
}

/// `TTL key`: seconds, rounded; -1 without a deadline, -2 without a key.
fn ttl(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Seconds, TimeBase::Now)
}

/// `PTTL key`
fn pttl(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Millis, TimeBase::Now)
}

/// `EXPIRETIME key`: unix seconds, rounded.
fn expiretime(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Seconds, TimeBase::Epoch)
}

/// `PEXPIRETIME key`
fn pexpiretime(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Millis, TimeBase::Epoch)
}

fn reply_deadline(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    unit: TimeUnit,
    base: TimeBase,
) -> Done {
    let Ok(id) = space.find(&args[1].text(), run) else {
        run.reply.integer(-2);
        return Ok(());
    };
    let Some(deadline) = space.slots.deadline(id) else {
        run.reply.integer(-1);
        return Ok(());
    };
    let millis = match base {
        TimeBase::Now => deadline.saturating_sub(run.now.millis()),
        TimeBase::Epoch => deadline,
    };
    let amount = match unit {
        TimeUnit::Millis => millis,
        TimeUnit::Seconds => (millis + 500) / 1_000,
    };
    run.reply.integer(i64::try_from(amount).unwrap_or(i64::MAX));
    Ok(())
}
