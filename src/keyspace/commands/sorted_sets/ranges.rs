//! Commands on ranges of sorted sets: by index, by score, by member.
//!
//! Every range becomes a range of ranks first: two searches, and what counts,
//! shows, stores or removes is then the same for all of them.

use std::ops::Range;

use super::store;
use crate::keyspace::arg::{Arg, LexBound, ScoreBound, Text};
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::read;
use crate::keyspace::error::CommandError;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};

/// The ranks of the members whose scores lie between two bounds.
pub(super) fn ranks_of_scores(set: &SortedSet, min: ScoreBound, max: ScoreBound) -> Range<usize> {
    let start = set.rank_of_score(min.score, min.exclusive);
    let end = set.rank_of_score(max.score, !max.exclusive);
    start..end.max(start)
}

/// The ranks between two indexes, both included; negative counts from the end.
pub(super) fn ranks_of_indexes(len: usize, start: i64, stop: i64) -> Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

/// A range of members by their bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct LexRange<'a> {
    min: LexBound<'a>,
    max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    pub(super) fn parse(min: Arg<'a>, max: Arg<'a>) -> Result<LexRange<'a>, CommandError> {
        Ok(LexRange { min: LexBound::parse(min)?, max: LexBound::parse(max)? })
    }

    /// The ranks of the members within. Where scores differ the order is not that
    /// of the bytes. There is nothing then where the first member lies behind the range or
    /// the last before it, and a small set is searched from the end that is shown first:
    /// the range begins at the first member on this side of the far bound, and ends
    /// where one lies beyond it, as in Redis. In a big one Redis leaves it to chance.
    pub(super) fn ranks(&self, set: &SortedSet, from_highest: bool) -> Range<usize> {
        let is_above = |member: &[u8]| self.min.is_below(member);
        let is_below = |member: &[u8]| self.max.is_above(member);
        let first_is_behind = set.entry(0).is_none_or(|(member, _)| !is_below(&member));
        let last_is_before = set.iter().next_back().is_none_or(|(member, _)| !is_above(&member));
        if self.min.leaves_nothing_up_to(self.max) || first_is_behind || last_is_before {
            return 0..0;
        }
        if set.is_big() {
            let start = set.partition_point(|member| !is_above(member));
            let end = set.partition_point(is_below);
            return start..end.max(start);
        }
        let mut members = set.iter().map(|(member, _)| member);
        if from_highest {
            let end = members.rposition(|member| is_below(&member)).map_or(0, |last| last + 1);
            let shown = set.range(0..end).rev().take_while(|(member, _)| is_above(member));
            end - shown.count()..end
        } else {
            let start = members.position(|member| is_above(&member)).unwrap_or(set.len());
            let shown = set.range(start..set.len()).take_while(|(member, _)| is_below(member));
            start..start + shown.count()
        }
    }
}

/// `ZCOUNT key min max`
pub(super) fn zcount(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (min, max) = (ScoreBound::parse(args[2])?, ScoreBound::parse(args[3])?);
    let count = read::<SortedSet>(space, args[1], run)?
        .map_or(0, |set| ranks_of_scores(set, min, max).len());
    run.reply.count(count);
    Ok(())
}

/// `ZLEXCOUNT key min max`
pub(super) fn zlexcount(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let range = LexRange::parse(args[2], args[3])?;
    let count =
        read::<SortedSet>(space, args[1], run)?.map_or(0, |set| range.ranks(set, false).len());
    run.reply.count(count);
    Ok(())
}

/// What the two ends of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Index,
    Score,
    Member,
}

/// Which members a range command wants, and how.
#[derive(Clone, Copy, Debug, Default)]
struct RangeOptions {
    /// `None` until it is said: then indexes.
    by: Option<By>,
    /// `None` until it is said: then lowest first.
    reverse: Option<bool>,
    with_scores: bool,
    /// Members to pass over, and how many to show; negative shows all.
    limit: Option<(i64, i64)>,
}

impl RangeOptions {
    /// What the name of an older command says.
    fn named(by: By, reverse: bool) -> RangeOptions {
        RangeOptions { by: Some(by), reverse: Some(reverse), ..RangeOptions::default() }
    }

    /// Reads the options behind the range. What has been said is not said again.
    fn parse(mut self, args: &[Arg<'_>], stores: bool) -> Result<RangeOptions, CommandError> {
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            if !stores && word.is_word("withscores") {
                self.with_scores = true;
            } else if word.is_word("limit")
                && let [offset, count, ..] = rest.as_slice()
            {
                self.limit = Some((offset.integer()?, count.integer()?));
                rest.nth(1);
            } else if self.reverse.is_none() && word.is_word("rev") {
                self.reverse = Some(true);
            } else if self.by.is_none() && word.is_word("byscore") {
                self.by = Some(By::Score);
            } else if self.by.is_none() && word.is_word("bylex") {
                self.by = Some(By::Member);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        // A count of -1 passes for no limit at all.
        let is_limited = self.limit.is_some_and(|(_, count)| count != -1);
        if is_limited && self.by() == By::Index {
            return Err(CommandError::LimitByIndex);
        }
        if self.with_scores && self.by() == By::Member {
            return Err(CommandError::ScoresByLex);
        }
        Ok(self)
    }

    fn by(self) -> By {
        self.by.unwrap_or(By::Index)
    }

    fn is_reverse(self) -> bool {
        self.reverse.unwrap_or(false)
    }
}

/// `ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`
pub(super) fn zrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show_range(space, args, run, RangeOptions::default())
}

/// `ZREVRANGE key start stop [WITHSCORES]`
pub(super) fn zrevrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show_range(space, args, run, RangeOptions::named(By::Index, true))
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`
pub(super) fn zrangebyscore(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    show_range(space, args, run, RangeOptions::named(By::Score, false))
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`
pub(super) fn zrevrangebyscore(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    show_range(space, args, run, RangeOptions::named(By::Score, true))
}

/// `ZRANGEBYLEX key min max [LIMIT offset count]`
pub(super) fn zrangebylex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show_range(space, args, run, RangeOptions::named(By::Member, false))
}

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`
pub(super) fn zrevrangebylex(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    show_range(space, args, run, RangeOptions::named(By::Member, true))
}

fn show_range(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    options: RangeOptions,
) -> Done {
    let options = options.parse(&args[4..], false)?;
    let span = Span::parse(args[2], args[3], options)?;
    let Some(set) = read::<SortedSet>(space, args[1], run)? else {
        run.reply.array(0);
        return Ok(());
    };
    let ranks = span.ranks(set, options);
    if options.with_scores {
        run.reply.pairs(ranks.len());
    } else {
        run.reply.array(ranks.len());
    }
    let mut show = |(member, score): (Text<'_>, f64)| {
        run.reply.bulk(&member);
        if options.with_scores {
            run.reply.double(score);
        }
    };
    if options.is_reverse() {
        set.range(ranks).rev().for_each(&mut show);
    } else {
        set.range(ranks).for_each(&mut show);
    }
    Ok(())
}

/// `ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub(super) fn zrangestore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = RangeOptions::default().parse(&args[5..], true)?;
    let span = Span::parse(args[3], args[4], options)?;
    let stored = match read::<SortedSet>(space, args[2], run)? {
        Some(set) => copied_range(set, span.ranks(set, options), options),
        None => SortedSet::new(),
    };
    store(space, args, run, stored, "zrangestore");
    Ok(())
}

/// A set of the members of these ranks. They are added in the order in which they
/// would be shown, and only by index is their number known before: so a minus zero
/// keeps its sign or loses it where it does in Redis.
fn copied_range(set: &SortedSet, ranks: Range<usize>, options: RangeOptions) -> SortedSet {
    let known = if matches!(options.by(), By::Index) { ranks.len() } else { 0 };
    let mut copy = SortedSet::expecting(known, 0);
    let entries = set.range(ranks);
    let mut add = |(member, score): (Text<'_>, f64)| copy.add(&member, score);
    if options.is_reverse() {
        entries.rev().for_each(&mut add)
    } else {
        entries.for_each(&mut add)
    }
    copy
}

/// A range as it was asked for. An error in it does not depend on the key.
#[derive(Clone, Copy, Debug)]
enum Span<'a> {
    Indexes(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Members(LexRange<'a>),
}

impl<'a> Span<'a> {
    /// Reads the two ends. In reverse, the higher one comes first.
    fn parse(
        first: Arg<'a>,
        second: Arg<'a>,
        options: RangeOptions,
    ) -> Result<Span<'a>, CommandError> {
        let (min, max) = if options.is_reverse() { (second, first) } else { (first, second) };
        match options.by() {
            By::Index => Ok(Span::Indexes(first.integer()?, second.integer()?)),
            By::Score => Ok(Span::Scores(ScoreBound::parse(min)?, ScoreBound::parse(max)?)),
            By::Member => Ok(Span::Members(LexRange::parse(min, max)?)),
        }
    }

    /// The ranks within, after the limit, which counts from the end shown first.
    fn ranks(self, set: &SortedSet, options: RangeOptions) -> Range<usize> {
        let is_reverse = options.is_reverse();
        let ranks = match self {
            Span::Indexes(start, stop) => {
                let ranks = ranks_of_indexes(set.len(), start, stop);
                return if is_reverse {
                    set.len() - ranks.end..set.len() - ranks.start
                } else {
                    ranks
                };
            }
            Span::Scores(min, max) => ranks_of_scores(set, min, max),
            Span::Members(range) => range.ranks(set, is_reverse),
        };
        limited(ranks, options)
    }
}

/// What `LIMIT` leaves of a range, counted from the end that is shown first.
fn limited(ranks: Range<usize>, options: RangeOptions) -> Range<usize> {
    let Some((offset, count)) = options.limit else { return ranks };
    let Ok(offset) = usize::try_from(offset) else { return 0..0 };
    let offset = offset.min(ranks.len());
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranks.len() - offset);
    if options.is_reverse() {
        let end = ranks.end - offset;
        end - count..end
    } else {
        let start = ranks.start + offset;
        start..start + count
    }
}
