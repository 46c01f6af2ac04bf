//! Members at random.

use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{Picks, change, locate, read_by_chance, remove};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::set::Set;
use crate::keyspace::space::{Execution, Keyspace};

/// `SRANDMEMBER key [count]`
pub(super) fn srandmember(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let picks = match &args[2..] {
        [] => None,
        [count] => Some(Picks::parse(*count)?),
        _ => return Err(CommandError::Syntax),
    };
    let (set, random) = read_by_chance::<Set>(space, args[1], run)?;
    match (set, picks) {
        (None, None) => run.reply.null(),
        (None, Some(_)) => run.reply.array(0),
        (Some(set), None) => run.reply.bulk(&set.pick(random)),
        (Some(set), Some(Picks::Different(count))) if count >= set.len() => {
            run.reply.array(set.len());
            set.iter().for_each(|member| run.reply.bulk(&member));
        }
        (Some(set), Some(Picks::Different(count))) => {
            run.reply.array(count);
            set.sample(count, random).iter().for_each(|member| run.reply.bulk(member));
        }
        (Some(set), Some(Picks::Repeated(count))) => {
            run.reply.array(count);
            (0..count).for_each(|_| run.reply.bulk(&set.pick(random)));
        }
    }
    Ok(())
}

/// `SPOP key [count]`: recorded as what it took.
pub(super) fn spop(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(count.count()?),
        _ => return Err(CommandError::Syntax),
    };
    let key = args[1].text();
    let (Ok(id), Some(set)) = locate::<Set>(space, &key, run)? else {
        match count {
            Some(_) => run.reply.set(0),
            None => run.reply.null(),
        }
        return Ok(());
    };
    if count == Some(0) {
        run.reply.set(0);
        return Ok(());
    }
    if count.is_some_and(|count| count >= set.len()) {
        run.reply.set(set.len());
        set.iter().for_each(|member| run.reply.bulk(&member));
        run.notify(EventClass::SET, "spop", &key);
        remove(space, id, &key, run);
        run.record(&[Arg::Bytes(b"DEL"), args[1]]);
        return Ok(());
    }
    let (set, random) = read_by_chance::<Set>(space, args[1], run)?;
    let taken = match (set, count) {
        (Some(set), Some(count)) => set.sample(count, random),
        (Some(set), None) => vec![set.pick(random)],
        (None, _) => Vec::new(),
    };
    let taken: Vec<Box<[u8]>> = taken.iter().map(|member: &Text<'_>| (**member).into()).collect();
    if count.is_some() {
        run.reply.set(taken.len());
    }
    let mut set = change::<Set>(space, id)?;
    for member in &taken {
        run.reply.bulk(member);
        set.remove(member);
    }
    let is_empty = set.is_empty();
    run.notify(EventClass::SET, "spop", &key);
    if is_empty {
        remove(space, id, &key, run);
    }
    let effect = [Arg::Bytes(b"SREM"), args[1]].into_iter();
    let effect: Vec<_> = effect.chain(taken.iter().map(|member| Arg::Bytes(member))).collect();
    run.record(&effect);
    Ok(())
}
