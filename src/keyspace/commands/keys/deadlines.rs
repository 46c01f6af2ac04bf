//! Commands on deadlines: when a key expires. They record moments, never spans.

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::{Done, TimeBase, TimeUnit, unix_millis};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::SlotId;
use crate::keyspace::space::{Execution, Keyspace, Mode};
use crate::resp::number::NumberText;
use crate::resp::until_zero;

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(super) fn expire(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "expire", TimeUnit::Seconds, TimeBase::Now)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpire(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "pexpire", TimeUnit::Millis, TimeBase::Now)
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
pub(super) fn expireat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    expire_generic(space, args, run, "expireat", TimeUnit::Seconds, TimeBase::Epoch)
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpireat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
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
                let option = String::from_utf8_lossy(until_zero(&option.text())).into_owned();
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
    let holds = conditions.hold(space.slots.deadline(id), deadline);
    if holds {
        expire_at(space, id, &key, deadline, &args[3..], run);
    }
    run.reply.integer(i64::from(holds));
    Ok(())
}

/// Sets the deadline of a key; one that has passed removes the key at once. Recorded as
/// a moment, with the conditions as they were sent.
pub(in crate::keyspace::commands) fn expire_at(
    space: &mut Keyspace,
    id: SlotId,
    key: &[u8],
    deadline: i64,
    conditions: &[Arg<'_>],
    run: &mut Execution<'_>,
) {
    let now = i64::try_from(run.now.millis()).unwrap_or(i64::MAX);
    if run.mode == Mode::Live && deadline <= now {
        space.slots.free(id);
        run.notify(EventClass::GENERIC, "del", key);
        run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(key)]);
        return;
    }
    space.slots.set_deadline(id, Some(u64::try_from(deadline).unwrap_or(0)));
    run.notify(EventClass::GENERIC, "expire", key);
    let deadline = NumberText::integer(deadline);
    let fixed = [Arg::Bytes(b"PEXPIREAT"), Arg::Bytes(key), Arg::Bytes(&deadline)];
    match conditions {
        [] => run.record(&fixed),
        conditions => run.record(&[&fixed, conditions].concat()),
    }
}

/// `PERSIST key`
pub(super) fn persist(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let persisted = match space.find(&key, run) {
        Ok(id) if space.slots.deadline(id).is_some() => {
            space.slots.set_deadline(id, None);
            run.notify(EventClass::GENERIC, "persist", &key);
            run.record(args);
            true
        }
        _ => false,
    };
    run.reply.integer(i64::from(persisted));
    Ok(())
}

/// `TTL key`: seconds, rounded; -1 without a deadline, -2 without a key.
pub(super) fn ttl(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Seconds, TimeBase::Now)
}

/// `PTTL key`
pub(super) fn pttl(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Millis, TimeBase::Now)
}

/// `EXPIRETIME key`: unix seconds, rounded.
pub(super) fn expiretime(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Seconds, TimeBase::Epoch)
}

/// `PEXPIRETIME key`
pub(super) fn pexpiretime(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    reply_deadline(space, args, run, TimeUnit::Millis, TimeBase::Epoch)
}

fn reply_deadline(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    unit: TimeUnit,
    base: TimeBase,
) -> Done {
    let Some(id) = space.glance(&args[1].text(), run) else {
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
