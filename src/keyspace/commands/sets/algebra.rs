//! What several sets have in common, have together, or have apart.

use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{positive, read_all, store};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::set::Set;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

/// `SINTER key …`, `SMEMBERS key`
pub(super) fn sinter(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let sets = read_all(space, &args[1..], run)?;
    reply_members(run, common(&sets));
    Ok(())
}

/// `SUNION key …`
pub(super) fn sunion(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let union = union(&read_all(space, &args[1..], run)?);
    reply_members(run, union.iter());
    Ok(())
}

/// `SDIFF key …`
pub(super) fn sdiff(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let sets = read_all(space, &args[1..], run)?;
    reply_members(run, difference(&sets));
    Ok(())
}

/// `SINTERSTORE destination key …`
pub(super) fn sinterstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let result = collect(common(&read_all(space, &args[2..], run)?));
    store_set(space, args, result, "sinterstore", run)
}

/// `SUNIONSTORE destination key …`
pub(super) fn sunionstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let result = union(&read_all(space, &args[2..], run)?);
    store_set(space, args, result, "sunionstore", run)
}

/// `SDIFFSTORE destination key …`
pub(super) fn sdiffstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let result = collect(difference(&read_all(space, &args[2..], run)?));
    store_set(space, args, result, "sdiffstore", run)
}

/// `SINTERCARD numkeys key … [LIMIT limit]`
pub(super) fn sintercard(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = positive(args[1], "numkeys")?;
    if count > args.len() - 2 {
        return Err(CommandError::TooManyKeys);
    }
    let (keys, options) = args[2..].split_at(count);
    let mut limit = usize::MAX;
    let (pairs, rest) = options.as_chunks::<2>();
    for [word, value] in pairs {
        if !word.is_word("limit") {
            return Err(CommandError::Syntax);
        }
        limit = value.count().map_err(|_| CommandError::Negative("LIMIT"))?;
    }
    if !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let count = common(&read_all(space, keys, run)?).take(limit).count();
    run.reply.count(count);
    Ok(())
}

/// The members that all of the sets have.
fn common<'a>(sets: &[Option<&'a Set>]) -> impl Iterator<Item = Text<'a>> {
    let mut sets: Vec<&Set> = sets.iter().copied().collect::<Option<_>>().unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    let smallest = sets.first().copied();
    smallest
        .into_iter()
        .flat_map(Set::iter)
        .filter(move |member| sets[1..].iter().all(|set| set.contains(member)))
}

/// The members of the first set that none of the others has.
fn difference<'a>(sets: &[Option<&'a Set>]) -> impl Iterator<Item = Text<'a>> {
    let first = sets.first().copied().flatten();
    let others: Vec<&Set> = sets.iter().skip(1).copied().flatten().collect();
    first
        .into_iter()
        .flat_map(Set::iter)
        .filter(move |member| !others.iter().any(|set| set.contains(member)))
}

/// The members of all sets.
fn union(sets: &[Option<&Set>]) -> Set {
    collect(sets.iter().copied().flatten().flat_map(Set::iter))
}

fn collect<'a>(members: impl Iterator<Item = Text<'a>>) -> Set {
    let mut set = Set::new();
    members.for_each(|member| {
        set.add(&member);
    });
    set
}

fn reply_members<'a>(run: &mut Execution<'_>, members: impl Iterator<Item = Text<'a>>) {
    let members: Vec<Text<'a>> = members.collect();
    run.reply.set(members.len());
    members.iter().for_each(|member| run.reply.bulk(member));
}

fn store_set(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    result: Set,
    event: &'static str,
    run: &mut Execution<'_>,
) -> Done {
    let count = result.len();
    let value = (count > 0).then(|| Value::Set(result));
    store(space, args, value, (EventClass::SET, event), run);
    run.reply.count(count);
    Ok(())
}
