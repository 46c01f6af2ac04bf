//! Elements by where they stand, and where elements stand.

use super::End;
use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{change, locate, read, remove};
use crate::keyspace::error::CommandError;
use crate::keyspace::list::List;
use crate::keyspace::notices::EventClass;
use crate::keyspace::space::{Execution, Keyspace};

/// The place of an index, which counts from the end if it is negative.
fn place(list: &List, index: i64) -> Option<usize> {
    let distance = usize::try_from(index.unsigned_abs()).ok()?;
    let place = if index < 0 { list.len().checked_sub(distance)? } else { distance };
    (place < list.len()).then_some(place)
}

/// The indexes of elements that equal a text, beginning from an end, looking at
/// so many elements.
fn matches<'a>(
    list: &'a List,
    text: &'a [u8],
    from: End,
    looked_at: usize,
) -> Box<dyn Iterator<Item = usize> + 'a> {
    let is_it = move |(index, found): (usize, &[u8])| (found == text).then_some(index);
    let texts = list.iter().enumerate();
    match from {
        End::Left => Box::new(texts.take(looked_at).filter_map(is_it)),
        End::Right => Box::new(texts.rev().take(looked_at).filter_map(is_it)),
    }
}

/// `LINDEX key index`
pub(super) fn lindex(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let Some(list) = read::<List>(space, args[1], run)? else {
        run.reply.null();
        return Ok(());
    };
    match place(list, args[2].integer()?).and_then(|place| list.get(place)) {
        Some(text) => run.reply.bulk(text),
        None => run.reply.null(),
    }
    Ok(())
}

/// `LSET key index element`
pub(super) fn lset(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let (Ok(id), Some(list)) = locate::<List>(space, &key, run)? else {
        return Err(CommandError::NoSuchKey);
    };
    let place = place(list, args[2].integer()?).ok_or(CommandError::IndexOutOfRange)?;
    change::<List>(space, id)?.replace(place, &args[3].text());
    run.notify(EventClass::LIST, "lset", &key);
    run.record(args);
    run.reply.status("OK");
    Ok(())
}

/// `LINSERT key BEFORE|AFTER pivot element`
pub(super) fn linsert(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let is_after = args[2].is_word("after");
    if !is_after && !args[2].is_word("before") {
        return Err(CommandError::Syntax);
    }
    let key = args[1].text();
    let (Ok(id), Some(list)) = locate::<List>(space, &key, run)? else {
        run.reply.integer(0);
        return Ok(());
    };
    let pivot = matches(list, &args[3].text(), End::Left, usize::MAX).next();
    let Some(pivot) = pivot else {
        run.reply.integer(-1);
        return Ok(());
    };
    let mut list = change::<List>(space, id)?;
    list.insert(pivot + usize::from(is_after), &args[4].text());
    let len = list.len();
    run.notify(EventClass::LIST, "linsert", &key);
    run.record(args);
    run.reply.count(len);
    Ok(())
}

/// `LREM key count element`
pub(super) fn lrem(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = args[2].integer()?;
    let key = args[1].text();
    let (Ok(id), Some(list)) = locate::<List>(space, &key, run)? else {
        run.reply.integer(0);
        return Ok(());
    };
    let (from, most) = match count {
        0 => (End::Left, usize::MAX),
        1.. => (End::Left, usize::try_from(count).unwrap_or(usize::MAX)),
        _ => (End::Right, usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let text = args[3].text();
    let mut found: Vec<usize> = matches(list, &text, from, usize::MAX).take(most).collect();
    if !found.is_empty() {
        // From the last on, so that none moves before it is removed.
        found.sort_unstable();
        let mut list = change::<List>(space, id)?;
        found.iter().rev().for_each(|index| list.remove(*index..*index + 1));
        let is_empty = list.is_empty();
        run.notify(EventClass::LIST, "lrem", &key);
        if is_empty {
            remove(space, id, &key, run);
        }
        run.record(args);
    }
    run.reply.count(found.len());
    Ok(())
}

/// The options of `LPOS`.
struct PositionOptions {
    from: End,
    /// Matches that are passed over.
    skipped: usize,
    /// How many matches to tell; `None`: the first, and not as an array.
    count: Option<usize>,
    looked_at: usize,
}

impl PositionOptions {
    fn parse(args: &[Arg<'_>]) -> Result<PositionOptions, CommandError> {
        let mut options =
            PositionOptions { from: End::Left, skipped: 0, count: None, looked_at: usize::MAX };
        let (pairs, rest) = args.as_chunks::<2>();
        for [word, value] in pairs {
            // 0 means as many as there are.
            let many = |name: &'static str| match value.count() {
                Ok(0) => Ok(usize::MAX),
                Err(_) => Err(CommandError::Negative(name)),
                number => number,
            };
            if word.is_word("rank") {
                let rank = match value.integer()? {
                    0 => return Err(CommandError::RankZero),
                    rank => rank,
                };
                options.from = if rank < 0 { End::Right } else { End::Left };
                options.skipped = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
            } else if word.is_word("count") {
                options.count = Some(many("COUNT")?);
            } else if word.is_word("maxlen") {
                options.looked_at = many("MAXLEN")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if rest.is_empty() { Ok(options) } else { Err(CommandError::Syntax) }
    }
}

/// `LPOS key element [RANK rank] [COUNT count] [MAXLEN length]`
pub(super) fn lpos(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = PositionOptions::parse(&args[3..])?;
    let list = read::<List>(space, args[1], run)?;
    let text = args[2].text();
    let mut found = list
        .into_iter()
        .flat_map(|list| matches(list, &text, options.from, options.looked_at))
        .skip(options.skipped);
    match options.count {
        None => match found.next() {
            Some(index) => run.reply.count(index),
            None => run.reply.null(),
        },
        Some(count) => {
            let mark = run.reply.open_array();
            let mut told = 0;
            for index in found.take(count) {
                run.reply.count(index);
                told += 1;
            }
            run.reply.close_array(mark, told);
        }
    }
    Ok(())
}
