//! Commands on sorted sets.
//!
//! Every range of scores becomes a range of ranks first: two searches, and what
//! counts, reads or removes is then the same for indexes and for scores.

use std::ops::Range;

use smallvec::SmallVec;

use super::Done;
use crate::keyspace::arg::{Arg, ScoreBound};
use crate::keyspace::command::short::{GROW_FAST, ONE_KEY, READ, READ_FAST, WRITE, WRITE_FAST};
use crate::keyspace::command::{Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::slots::{SlotId, SortedSetMut, Vacant};
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "sorted-set",
    commands: &[
        entry(
            "zadd",
            -4,
            GROW_FAST,
            ONE_KEY,
            zadd,
            docs(
                "1.2.0",
                "O(log N) a member",
                "Adds members to a sorted set, or changes their scores.",
            ),
        ),
        entry(
            "zcard",
            2,
            READ_FAST,
            ONE_KEY,
            zcard,
            docs("1.2.0", "O(1)", "Counts the members of a sorted set."),
        ),
        entry(
            "zcount",
            4,
            READ_FAST,
            ONE_KEY,
            zcount,
            docs("2.0.0", "O(log N)", "Counts the members within a range of scores."),
        ),
        entry(
            "zincrby",
            4,
            GROW_FAST,
            ONE_KEY,
            zincrby,
            docs("1.2.0", "O(log N)", "Adds to the score of a member."),
        ),
        entry(
            "zrange",
            -4,
            READ,
            ONE_KEY,
            zrange,
            docs(
                "1.2.0",
                "O(log N + M) for M members answered",
                "Answers with the members of a range.",
            ),
        ),
        entry(
            "zrangebyscore",
            -4,
            READ,
            ONE_KEY,
            zrangebyscore,
            docs(
                "1.0.5",
                "O(log N + M) for M members answered",
                "Answers with the members within a range of scores.",
            ),
        ),
        entry(
            "zrank",
            3,
            READ_FAST,
            ONE_KEY,
            zrank,
            docs("2.0.0", "O(log N)", "Tells how many members stand before one."),
        ),
        entry(
            "zrem",
            -3,
            WRITE_FAST,
            ONE_KEY,
            zrem,
            docs("1.2.0", "O(log N) a member", "Removes members of a sorted set."),
        ),
        entry(
            "zremrangebyrank",
            4,
            WRITE,
            ONE_KEY,
            zremrangebyrank,
            docs(
                "2.0.0",
                "O(log N + M) for M members removed",
                "Removes the members within a range of ranks.",
            ),
        ),
        entry(
            "zremrangebyscore",
            4,
            WRITE,
            ONE_KEY,
            zremrangebyscore,
            docs(
                "1.2.0",
                "O(log N + M) for M members removed",
                "Removes the members within a range of scores.",
            ),
        ),
        entry(
            "zrevrange",
            -4,
            READ,
            ONE_KEY,
            zrevrange,
            docs(
                "1.2.0",
                "O(log N + M) for M members answered",
                "Answers with the members of a range, highest first.",
            ),
        ),
        entry(
            "zrevrangebyscore",
            -4,
            READ,
            ONE_KEY,
            zrevrangebyscore,
            docs(
                "2.2.0",
                "O(log N + M) for M members answered",
                "Answers with the members within a range of scores, highest first.",
            ),
        ),
        entry(
            "zrevrank",
            3,
            READ_FAST,
            ONE_KEY,
            zrevrank,
            docs("2.0.0", "O(log N)", "Tells how many members stand behind one."),
        ),
        entry(
            "zscore",
            3,
            READ_FAST,
            ONE_KEY,
            zscore,
            docs("1.2.0", "O(1)", "Tells the score of a member."),
        ),
    ],
};

/// The sorted set of a key, to be read; `None` without the key.
fn read<'a>(
    space: &'a mut Keyspace,
    key: Arg<'_>,
    run: &mut Execution<'_>,
) -> Result<Option<&'a SortedSet>, CommandError> {
    match space.value(&key.text(), run) {
        None => Ok(None),
        Some(Value::SortedSet(set)) => Ok(Some(set)),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// The slot of a key that holds a sorted set, or nothing.
fn locate(
    space: &mut Keyspace,
    key: &[u8],
    run: &mut Execution<'_>,
) -> Result<Result<SlotId, Vacant>, CommandError> {
    let at = space.find(key, run);
    match at.ok().and_then(|id| space.slots.value(id)) {
        None | Some(Value::SortedSet(_)) => Ok(at),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// `ZCARD key`
fn zcard(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = read(space, args[1], run)?.map_or(0, SortedSet::len);
    run.reply.count(count);
    Ok(())
}

/// `ZSCORE key member`
fn zscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match read(space, args[1], run)?.and_then(|set| set.score(&args[2].text())) {
        Some(score) => run.reply.double(score),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZRANK key member`
fn zrank(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match read(space, args[1], run)?.and_then(|set| set.rank(&args[2].text())) {
        Some(rank) => run.reply.count(rank),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZREVRANK key member`
fn zrevrank(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let set = read(space, args[1], run)?;
    match set.and_then(|set| Some(set.len() - 1 - set.rank(&args[2].text())?)) {
        Some(rank) => run.reply.count(rank),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZCOUNT key min max`
fn zcount(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (min, max) = (ScoreBound::parse(args[2])?, ScoreBound::parse(args[3])?);
    let count = read(space, args[1], run)?.map_or(0, |set| ranks_of_scores(set, min, max).len());
    run.reply.count(count);
    Ok(())
}

/// The ranks of the members whose scores lie between two bounds.
fn ranks_of_scores(set: &SortedSet, min: ScoreBound, max: ScoreBound) -> Range<usize> {
    let start = set.rank_of_score(min.score, min.exclusive);
    let end = set.rank_of_score(max.score, !max.exclusive);
    start..end.max(start)
}

/// The ranks between two indexes, both included; negative counts from the end.
fn ranks_of_indexes(len: usize, start: i64, stop: i64) -> Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

/// Conditions of `ZADD`.
#[derive(Clone, Copy, Debug, Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    changed: bool,
    increment: bool,
}

/// What became of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// A condition did not hold.
    Refused,
    Unchanged(f64),
    Rescored {
        from: f64,
        to: f64,
    },
    Added(f64),
}

impl AddOptions {
    /// Reads the options; how many there were.
    fn parse(args: &[Arg<'_>]) -> Result<(AddOptions, usize), CommandError> {
        let mut options = AddOptions::default();
        let mut count = 0;
        for word in args {
            if matches!(word, Arg::Number(_)) {
                break;
            } else if word.is_word("nx") {
                options.nx = true;
            } else if word.is_word("xx") {
                options.xx = true;
            } else if word.is_word("gt") {
                options.gt = true;
            } else if word.is_word("lt") {
                options.lt = true;
            } else if word.is_word("ch") {
                options.changed = true;
            } else if word.is_word("incr") {
                options.increment = true;
            } else {
                break;
            }
            count += 1;
        }
        Ok((options, count))
    }

    fn check(self, element_count: usize) -> Result<(), CommandError> {
        if self.nx && self.xx {
            return Err(CommandError::XxWithNx);
        }
        if self.gt && self.lt || self.nx && (self.gt || self.lt) {
            return Err(CommandError::GtLtNxTogether);
        }
        if self.increment && element_count > 1 {
            return Err(CommandError::IncrementOfMany);
        }
        Ok(())
    }

    /// What is to become of a member that has the score `current`.
    fn decide(self, current: Option<f64>, score: f64) -> Result<Change, CommandError> {
        let Some(current) = current else {
            return Ok(if self.xx { Change::Refused } else { Change::Added(score) });
        };
        if self.nx {
            return Ok(Change::Refused);
        }
        let to = if self.increment { current + score } else { score };
        if to.is_nan() {
            return Err(CommandError::ScoreNotNumber);
        }
        if self.gt && to <= current || self.lt && to >= current {
            return Ok(Change::Refused);
        }
        if to == current {
            return Ok(Change::Unchanged(current));
        }
        Ok(Change::Rescored { from: current, to })
    }
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member …`
fn zadd(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (options, option_count) = AddOptions::parse(&args[2..])?;
    let elements = &args[2 + option_count..];
    if elements.is_empty() || !elements.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    options.check(elements.len() / 2)?;
    add(space, args, elements, options, run)
}

/// `ZINCRBY key increment member`
fn zincrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = AddOptions { increment: true, ..AddOptions::default() };
    add(space, args, &args[2..], options, run)
}

/// Adds `elements`, scores and members in turn, to the sorted set of `args[1]`.
fn add(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    elements: &[Arg<'_>],
    options: AddOptions,
    run: &mut Execution<'_>,
) -> Done {
    // All scores are read before anything changes.
    let mut scores: SmallVec<[f64; 4]> = SmallVec::new();
    for score in elements.iter().step_by(2) {
        scores.push(score.double()?);
    }
    let key = args[1].text();
    let id = match locate(space, &key, run)? {
        Ok(id) => id,
        Err(_) if options.xx => {
            if options.increment {
                run.reply.null();
            } else {
                run.reply.integer(0);
            }
            return Ok(());
        }
        Err(vacant) => space.create(vacant, &key, Value::SortedSet(SortedSet::new()), run),
    };
    let (mut added, mut rescored, mut last) = (0, 0, Change::Refused);
    if let Some(mut set) = space.slots.sorted_set(id) {
        for (element, score) in elements.chunks_exact(2).zip(scores) {
            last = apply(&mut set, &element[1].text(), score, options)?;
            match last {
                Change::Added(_) => added += 1,
                Change::Rescored { .. } => rescored += 1,
                Change::Refused | Change::Unchanged(_) => {}
            }
        }
    }
    if added + rescored > 0 {
        run.record(args);
    }
    match last {
        _ if !options.increment && options.changed => run.reply.integer(added + rescored),
        _ if !options.increment => run.reply.integer(added),
        Change::Refused => run.reply.null(),
        Change::Added(score) | Change::Unchanged(score) | Change::Rescored { to: score, .. } => {
            run.reply.double(score);
        }
    }
    Ok(())
}

fn apply(
    set: &mut SortedSetMut<'_>,
    member: &[u8],
    score: f64,
    options: AddOptions,
) -> Result<Change, CommandError> {
    let change = options.decide(set.score(member), score)?;
    match change {
        Change::Added(score) => set.add(member, score),
        Change::Rescored { from, to } => set.rescore(member, from, to),
        Change::Refused | Change::Unchanged(_) => {}
    }
    Ok(change)
}

/// `ZREM key member …`
fn zrem(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let mut removed = 0;
    if let Ok(id) = locate(space, &args[1].text(), run)?
        && let Some(mut set) = space.slots.sorted_set(id)
    {
        removed = args[2..].iter().filter(|member| set.remove(&member.text())).count();
        if set.is_empty() {
            space.slots.free(id);
        }
    }
    if removed > 0 {
        run.record(args);
    }
    run.reply.count(removed);
    Ok(())
}

/// `ZREMRANGEBYSCORE key min max`
fn zremrangebyscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (min, max) = (ScoreBound::parse(args[2])?, ScoreBound::parse(args[3])?);
    remove_range(space, args, run, |set| ranks_of_scores(set, min, max))
}

/// `ZREMRANGEBYRANK key start stop`
fn zremrangebyrank(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (start, stop) = (args[2].integer()?, args[3].integer()?);
    remove_range(space, args, run, |set| ranks_of_indexes(set.len(), start, stop))
}

fn remove_range(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    ranks: impl FnOnce(&SortedSet) -> Range<usize>,
) -> Done {
    let at = locate(space, &args[1].text(), run)?;
    let mut removed = 0;
    if let Ok(id) = at
        && let Some(Value::SortedSet(set)) = space.slots.value(id)
    {
        let (ranks, len) = (ranks(set), set.len());
        removed = ranks.len();
        if removed == len {
            space.slots.free(id);
        } else if removed > 0
            && let Some(mut set) = space.slots.sorted_set(id)
        {
            set.remove_range(ranks);
        }
    }
    if removed > 0 {
        run.record(args);
    }
    run.reply.count(removed);
    Ok(())
}

/// Which members a range command wants, and how.
#[derive(Clone, Copy, Debug)]
struct RangeOptions {
    by_score: bool,
    reverse: bool,
    with_scores: bool,
    /// Members to pass over, and how many to show; negative shows all.
    limit: Option<(i64, i64)>,
}

impl RangeOptions {
    const BY_INDEX: RangeOptions =
        RangeOptions { by_score: false, reverse: false, with_scores: false, limit: None };

    /// Reads the options behind the range. The older commands know fewer words.
    fn parse(mut self, args: &[Arg<'_>], is_zrange: bool) -> Result<RangeOptions, CommandError> {
        let mut at = 0;
        while let Some(word) = args.get(at) {
            if word.is_word("withscores") {
                self.with_scores = true;
            } else if word.is_word("limit") && args.len() > at + 2 {
                self.limit = Some((args[at + 1].integer()?, args[at + 2].integer()?));
                at += 2;
            } else if is_zrange && word.is_word("byscore") {
                self.by_score = true;
            } else if is_zrange && word.is_word("rev") {
                self.reverse = true;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        if self.limit.is_some() && !self.by_score {
            return Err(CommandError::LimitByIndex);
        }
        Ok(self)
    }
}

/// `ZRANGE key start stop [BYSCORE] [REV] [LIMIT offset count] [WITHSCORES]`
fn zrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    range(space, args, run, RangeOptions::BY_INDEX.parse(&args[4..], true)?)
}

/// `ZREVRANGE key start stop [WITHSCORES]`
fn zrevrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = RangeOptions { reverse: true, ..RangeOptions::BY_INDEX };
    range(space, args, run, options.parse(&args[4..], false)?)
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`
fn zrangebyscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = RangeOptions { by_score: true, ..RangeOptions::BY_INDEX };
    range(space, args, run, options.parse(&args[4..], false)?)
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`
fn zrevrangebyscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = RangeOptions { by_score: true, reverse: true, ..RangeOptions::BY_INDEX };
    range(space, args, run, options.parse(&args[4..], false)?)
}

fn range(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    options: RangeOptions,
) -> Done {
    // The ends are read even if there is no key: an error must not depend on it.
    if options.by_score {
        let (first, second) = (ScoreBound::parse(args[2])?, ScoreBound::parse(args[3])?);
        let (min, max) = if options.reverse { (second, first) } else { (first, second) };
        reply_range(space, args[1], run, options, |set| ranks_of_scores(set, min, max))
    } else {
        let (start, stop) = (args[2].integer()?, args[3].integer()?);
        reply_range(space, args[1], run, options, |set| {
            let ranks = ranks_of_indexes(set.len(), start, stop);
            if options.reverse { set.len() - ranks.end..set.len() - ranks.start } else { ranks }
        })
    }
}

fn reply_range(
    space: &mut Keyspace,
    key: Arg<'_>,
    run: &mut Execution<'_>,
    options: RangeOptions,
    ranks: impl FnOnce(&SortedSet) -> Range<usize>,
) -> Done {
    let Some(set) = read(space, key, run)? else {
        run.reply.array(0);
        return Ok(());
    };
    let ranks = limited(ranks(set), options);
    if options.with_scores {
        run.reply.pairs(ranks.len());
    } else {
        run.reply.array(ranks.len());
    }
    let mut show = |(member, score): (&[u8], f64)| {
        run.reply.bulk(member);
        if options.with_scores {
            run.reply.double(score);
        }
    };
    if options.reverse {
        set.range(ranks).rev().for_each(&mut show);
    } else {
        set.range(ranks).for_each(&mut show);
    }
    Ok(())
}

/// What `LIMIT` leaves of a range, counted from the end that is shown first.
fn limited(ranks: Range<usize>, options: RangeOptions) -> Range<usize> {
    let Some((offset, count)) = options.limit else { return ranks };
    let Ok(offset) = usize::try_from(offset) else { return 0..0 };
    let offset = offset.min(ranks.len());
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranks.len() - offset);
    if options.reverse {
        let end = ranks.end - offset;
        end - count..end
    } else {
        let start = ranks.start + offset;
        start..start + count
    }
}
