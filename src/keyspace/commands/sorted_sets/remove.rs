//! Commands that take members out of sorted sets. A set goes with its last member.

use std::ops::Range;

use super::ranges::{LexRange, ranks_of_indexes, ranks_of_scores};
use crate::keyspace::arg::{Arg, ScoreBound};
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{locate, positive};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::SlotId;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;
use crate::resp::number::NumberText;

/// `ZREM key member …`
pub(super) fn zrem(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let mut removed = 0;
    if let Ok(id) = locate::<SortedSet>(space, &key, run)?.0
        && let Some(mut set) = space.slots.sorted_set(id)
    {
        removed = args[2..].iter().filter(|member| set.remove(&member.text())).count();
        let is_empty = set.is_empty();
        if removed > 0 {
            run.notify(EventClass::SORTED_SET, "zrem", &key);
            run.record(args);
        }
        if is_empty {
            free_empty(space, id, &key, run);
        }
    }
    run.reply.count(removed);
    Ok(())
}

/// `ZREMRANGEBYSCORE key min max`
pub(super) fn zremrangebyscore(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    let (min, max) = (ScoreBound::parse(args[2])?, ScoreBound::parse(args[3])?);
    remove_range(space, args, run, "zremrangebyscore", |set| ranks_of_scores(set, min, max))
}

/// `ZREMRANGEBYRANK key start stop`
pub(super) fn zremrangebyrank(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    let (start, stop) = (args[2].integer()?, args[3].integer()?);
    remove_range(space, args, run, "zremrangebyrank", |set| {
        ranks_of_indexes(set.len(), start, stop)
    })
}

/// `ZREMRANGEBYLEX key min max`
pub(super) fn zremrangebylex(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    let range = LexRange::parse(args[2], args[3])?;
    remove_range(space, args, run, "zremrangebylex", |set| range.ranks(set, false))
}

fn remove_range(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    event: &'static str,
    ranks: impl FnOnce(&SortedSet) -> Range<usize>,
) -> Done {
    let key = args[1].text();
    let mut removed = 0;
    if let Ok(id) = locate::<SortedSet>(space, &key, run)?.0
        && let Some(Value::SortedSet(set)) = space.slots.value(id)
    {
        let ranks = ranks(set);
        removed = ranks.len();
        if removed > 0 {
            run.notify(EventClass::SORTED_SET, event, &key);
            run.record(args);
            take_out(space, id, &key, ranks, run);
        }
    }
    run.reply.count(removed);
    Ok(())
}

/// Takes out the members of these ranks, and the key if they are all.
fn take_out(
    space: &mut Keyspace,
    id: SlotId,
    key: &[u8],
    ranks: Range<usize>,
    run: &mut Execution<'_>,
) {
    match space.slots.value(id) {
        Some(Value::SortedSet(set)) if set.len() == ranks.len() => {
            free_empty(space, id, key, run);
        }
        _ => {
            if let Some(mut set) = space.slots.sorted_set(id) {
                set.remove_range(ranks);
            }
        }
    }
}

fn free_empty(space: &mut Keyspace, id: SlotId, key: &[u8], run: &mut Execution<'_>) {
    space.slots.free(id);
    run.notify(EventClass::GENERIC, "del", key);
}

/// Which end of a set members are taken from.
#[derive(Clone, Copy, Debug)]
enum End {
    Lowest,
    Highest,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Lowest => "zpopmin",
            End::Highest => "zpopmax",
        }
    }

    /// The ranks of the first `count` members from this end.
    fn ranks(self, len: usize, count: usize) -> Range<usize> {
        let count = count.min(len);
        match self {
            End::Lowest => 0..count,
            End::Highest => len - count..len,
        }
    }
}

/// `ZPOPMIN key [count]`
pub(super) fn zpopmin(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    pop_from_one(space, args, run, End::Lowest)
}

/// `ZPOPMAX key [count]`
pub(super) fn zpopmax(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    pop_from_one(space, args, run, End::Highest)
}

fn pop_from_one(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>, end: End) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(count.count()?),
        _ => return Err(CommandError::Syntax),
    };
    let key = args[1].text();
    let at = locate::<SortedSet>(space, &key, run)?.0.ok();
    let Some((id, count_asked)) = at.zip(Some(count.unwrap_or(1))).filter(|(_, it)| *it > 0) else {
        run.reply.array(0);
        return Ok(());
    };
    let ranks = end.ranks(len_of(space, id), count_asked);
    match count {
        // One member stands flat in the reply, whatever the protocol.
        None => run.reply.array(2),
        Some(_) => run.reply.pairs(ranks.len()),
    }
    pop(space, id, &key, ranks, end, run, |member, score, run| {
        run.reply.bulk(member);
        run.reply.double(score);
    });
    run.record(args);
    Ok(())
}

/// `ZMPOP numkeys key … MIN | MAX [COUNT count]`: from the first set that is there.
/// Recorded as a pop from that one.
pub(super) fn zmpop(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key_count = positive(args[1], "numkeys")?;
    let rest = key_count.checked_add(2).and_then(|at| args.get(at..));
    let [end, options @ ..] = rest.unwrap_or_default() else { return Err(CommandError::Syntax) };
    let end = if end.is_word("min") {
        End::Lowest
    } else if end.is_word("max") {
        End::Highest
    } else {
        return Err(CommandError::Syntax);
    };
    let count = match options {
        [] => 1,
        // The count is looked at before what is too much behind it.
        [word, count, rest @ ..] if word.is_word("count") => {
            let count = positive(*count, "count")?;
            if rest.is_empty() { count } else { return Err(CommandError::Syntax) }
        }
        _ => return Err(CommandError::Syntax),
    };
    for key in &args[2..2 + key_count] {
        let name = key.text();
        let Ok(id) = locate::<SortedSet>(space, &name, run)?.0 else { continue };
        let ranks = end.ranks(len_of(space, id), count);
        let count = NumberText::integer(ranks.len() as i64);
        run.reply.array(2);
        run.reply.bulk(&name);
        run.reply.array(ranks.len());
        pop(space, id, &name, ranks, end, run, |member, score, run| {
            run.reply.array(2);
            run.reply.bulk(member);
            run.reply.double(score);
        });
        let command = end.event().to_ascii_uppercase();
        run.record(&[Arg::Bytes(command.as_bytes()), *key, Arg::Bytes(&count)]);
        return Ok(());
    }
    run.reply.null_array();
    Ok(())
}

fn len_of(space: &Keyspace, id: SlotId) -> usize {
    match space.slots.value(id) {
        Some(Value::SortedSet(set)) => set.len(),
        _ => 0,
    }
}

/// Shows the members of these ranks, from the end outward in, and takes them out.
fn pop(
    space: &mut Keyspace,
    id: SlotId,
    key: &[u8],
    ranks: Range<usize>,
    end: End,
    run: &mut Execution<'_>,
    mut show: impl FnMut(&[u8], f64, &mut Execution<'_>),
) {
    if let Some(Value::SortedSet(set)) = space.slots.value(id) {
        let entries = set.range(ranks.clone());
        match end {
            End::Lowest => entries.for_each(|(member, score)| show(&member, score, run)),
            End::Highest => entries.rev().for_each(|(member, score)| show(&member, score, run)),
        }
    }
    run.notify(EventClass::SORTED_SET, end.event(), key);
    take_out(space, id, key, ranks, run);
}
