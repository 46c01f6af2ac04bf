//! Commands that read single members, by name or at random, or all of them step by
//! step.

use std::mem;

use hashbrown::HashSet;

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::collections::read;
use crate::keyspace::commands::scan::{self, ScanOptions};
use crate::keyspace::commands::{Done, REPEATS_MAX};
use crate::keyspace::error::CommandError;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};
use crate::resp::number::NumberText;

/// The largest whole score that a small set of Redis holds as an integer.
const WHOLE_SCORE_MAX: f64 = (1u64 << 62) as f64;

/// `ZCARD key`
pub(super) fn zcard(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = read::<SortedSet>(space, args[1], run)?.map_or(0, SortedSet::len);
    run.reply.count(count);
    Ok(())
}

/// `ZSCORE key member`
pub(super) fn zscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match read::<SortedSet>(space, args[1], run)?.and_then(|set| set.score(&args[2].text())) {
        Some(score) => run.reply.double(score),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZRANK key member`
pub(super) fn zrank(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match read::<SortedSet>(space, args[1], run)?.and_then(|set| set.rank(&args[2].text())) {
        Some(rank) => run.reply.count(rank),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZREVRANK key member`
pub(super) fn zrevrank(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let set = read::<SortedSet>(space, args[1], run)?;
    match set.and_then(|set| Some(set.len() - 1 - set.rank(&args[2].text())?)) {
        Some(rank) => run.reply.count(rank),
        None => run.reply.null(),
    }
    Ok(())
}

/// `ZMSCORE key member …`
pub(super) fn zmscore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let set = read::<SortedSet>(space, args[1], run)?;
    run.reply.array(args.len() - 2);
    for member in &args[2..] {
        match set.and_then(|set| set.score(&member.text())) {
            Some(score) => run.reply.double(score),
            None => run.reply.null(),
        }
    }
    Ok(())
}

/// `ZRANDMEMBER key [count [WITHSCORES]]`: a negative count may show a member
/// more than once.
pub(super) fn zrandmember(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let Some(count) = args.get(2) else { return random_member(space, args[1], run) };
    let count = count.integer_within(-i64::MAX, i64::MAX)?;
    let with_scores = match &args[3..] {
        [] => false,
        [word] if word.is_word("withscores") => true,
        _ => return Err(CommandError::Syntax),
    };
    let asked = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 && asked > REPEATS_MAX || with_scores && count.unsigned_abs() > i64::MAX as u64 / 2
    {
        return Err(CommandError::OutOfRange);
    }
    // The generator steps out of the keyspace while a set in there is read.
    let mut random = mem::replace(&mut space.random, fastrand::Rng::with_seed(0));
    let ranks = read::<SortedSet>(space, args[1], run).map(|set| {
        let ranks = set.map_or(Vec::new(), |set| draw(set.len(), count < 0, asked, &mut random));
        if with_scores {
            run.reply.pairs(ranks.len());
        } else {
            run.reply.array(ranks.len());
        }
        for (member, score) in ranks.iter().filter_map(|rank| set?.entry(*rank)) {
            run.reply.bulk(&member);
            if with_scores {
                run.reply.double(score);
            }
        }
    });
    space.random = random;
    ranks
}

fn random_member(space: &mut Keyspace, key: Arg<'_>, run: &mut Execution<'_>) -> Done {
    let chance = space.random.u64(..);
    match read::<SortedSet>(space, key, run)?
        .and_then(|set| set.entry((chance % set.len() as u64) as usize))
    {
        Some((member, _)) => run.reply.bulk(&member),
        None => run.reply.null(),
    }
    Ok(())
}

/// Draws ranks below `len`: exactly `count` with repeats, else at most `count`.
fn draw(len: usize, repeats: bool, count: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    if repeats {
        return (0..count).map(|_| random.usize(..len)).collect();
    }
    if count >= len {
        return (0..len).collect();
    }
    // Floyd's: each rank from here on stands in for one that was drawn before.
    let mut drawn = HashSet::with_capacity(count);
    let mut order = Vec::with_capacity(count);
    for last in len - count..len {
        let rank = random.usize(..=last);
        let rank = if drawn.insert(rank) { rank } else { last };
        drawn.insert(rank);
        order.push(rank);
    }
    order
}

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`
pub(super) fn zscan(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let cursor = scan::cursor(args[2])?;
    let (mut next, mut shown, mut is_big) = (0, Vec::new(), false);
    if let Some(set) = read::<SortedSet>(space, args[1], run)? {
        let options = ScanOptions::parse(&args[3..], false)?;
        is_big = set.is_big();
        next = set.scan(cursor, options.count, |member, score| {
            if options.shows(&member) {
                shown.push((member, score));
            }
        });
    }
    run.reply.array(2);
    run.reply.bulk_integer(next);
    run.reply.array(2 * shown.len());
    for (member, score) in shown {
        run.reply.bulk(&member);
        // A small set of Redis holds whole scores as integers and shows them so.
        let is_integer = !is_big && score.abs() <= WHOLE_SCORE_MAX && score.fract() == 0.0;
        let text =
            if is_integer { NumberText::integer(score as i64) } else { NumberText::double(score) };
        run.reply.bulk(&text);
    }
    Ok(())
}
