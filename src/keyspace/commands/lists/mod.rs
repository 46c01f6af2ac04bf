//! Commands on lists.

mod moves;
mod places;
#[cfg(test)]
mod tests;

use super::Done;
use super::collections::{change, locate, open, read, remove};
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{
    GROW, GROW_FAST, ONE_KEY, READ, READ_FAST, TWO_KEYS, WRITE, WRITE_FAST,
};
use crate::keyspace::command::{Command, Flags, KeyPositions, Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::list::List;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::SlotId;
use crate::keyspace::space::{Execution, Keyspace};
use crate::resp::Reply;

/// Keys behind the count of them.
const COUNTED_KEYS: KeyPositions = KeyPositions { first: 0, last: 0, step: 0, counted: 1 };

/// The commands of this folder.
pub(in crate::keyspace) static TABLE: Table = Table { group: "list", commands: &COMMANDS };

static COMMANDS: [Command; 17] = [
    entry(
        "lindex",
        3,
        READ,
        ONE_KEY,
        places::lindex,
        docs("1.0.0", "O(N) for N elements passed", "Answers with the element of an index."),
    ),
    entry(
        "linsert",
        5,
        GROW,
        ONE_KEY,
        places::linsert,
        docs("2.2.0", "O(N) for N elements passed", "Puts an element beside another."),
    ),
    entry(
        "llen",
        2,
        READ_FAST,
        ONE_KEY,
        llen,
        docs("1.0.0", "O(1)", "Counts the elements of a list."),
    ),
    entry(
        "lmove",
        5,
        GROW,
        TWO_KEYS,
        moves::lmove,
        docs("6.2.0", "O(1)", "Moves an element from an end of a list to an end of another."),
    ),
    entry(
        "lmpop",
        -4,
        WRITE.and(Flags::MOVABLE_KEYS),
        COUNTED_KEYS,
        moves::lmpop,
        docs(
            "7.0.0",
            "O(N + M) for N keys and M elements",
            "Removes elements from an end of the first list that has any.",
        ),
    ),
    entry(
        "lpop",
        -2,
        WRITE_FAST,
        ONE_KEY,
        lpop,
        docs("1.0.0", "O(N) for N elements", "Removes elements from the front of a list."),
    ),
    entry(
        "lpos",
        -3,
        READ,
        ONE_KEY,
        places::lpos,
        docs("6.0.6", "O(N) for N elements passed", "Tells where an element stands."),
    ),
    entry(
        "lpush",
        -3,
        GROW_FAST,
        ONE_KEY,
        lpush,
        docs("1.0.0", "O(N) for N elements", "Adds elements to the front of a list."),
    ),
    entry(
        "lpushx",
        -3,
        GROW_FAST,
        ONE_KEY,
        lpushx,
        docs("2.2.0", "O(N) for N elements", "Adds elements to the front of a list that exists."),
    ),
    entry(
        "lrange",
        4,
        READ,
        ONE_KEY,
        lrange,
        docs(
            "1.0.0",
            "O(S + N) for S elements passed and N answered",
            "Answers with the elements of a range.",
        ),
    ),
    entry(
        "lrem",
        4,
        WRITE,
        ONE_KEY,
        places::lrem,
        docs("1.0.0", "O(N) for N elements", "Removes elements that equal one."),
    ),
    entry(
        "lset",
        4,
        GROW,
        ONE_KEY,
        places::lset,
        docs("1.0.0", "O(N) for N elements passed", "Sets the element of an index."),
    ),
    entry(
        "ltrim",
        4,
        WRITE,
        ONE_KEY,
        ltrim,
        docs("1.0.0", "O(N) for N elements removed", "Removes all elements outside a range."),
    ),
    entry(
        "rpop",
        -2,
        WRITE_FAST,
        ONE_KEY,
        rpop,
        docs("1.0.0", "O(N) for N elements", "Removes elements from the end of a list."),
    ),
    entry(
        "rpoplpush",
        3,
        GROW,
        TWO_KEYS,
        moves::rpoplpush,
        docs("1.2.0", "O(1)", "Moves an element from the end of a list to the front of another."),
    ),
    entry(
        "rpush",
        -3,
        GROW_FAST,
        ONE_KEY,
        rpush,
        docs("1.0.0", "O(N) for N elements", "Adds elements to the end of a list."),
    ),
    entry(
        "rpushx",
        -3,
        GROW_FAST,
        ONE_KEY,
        rpushx,
        docs("2.2.0", "O(N) for N elements", "Adds elements to the end of a list that exists."),
    ),
];

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Left,
    Right,
}

impl End {
    fn parse(word: Arg<'_>) -> Result<End, CommandError> {
        match () {
            () if word.is_word("left") => Ok(End::Left),
            () if word.is_word("right") => Ok(End::Right),
            () => Err(CommandError::Syntax),
        }
    }

    /// The event of adding to this end.
    fn pushed(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    /// The event of taking from this end.
    fn popped(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }

    /// The indexes of `count` elements at this end of a list of `len`.
    fn range(self, len: usize, count: usize) -> std::ops::Range<usize> {
        let count = count.min(len);
        match self {
            End::Left => 0..count,
            End::Right => len - count..len,
        }
    }

    /// The index before which an element is put to be at this end.
    fn index(self, len: usize) -> usize {
        match self {
            End::Left => 0,
            End::Right => len,
        }
    }
}

/// `LPUSH key element …`
fn lpush(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    push(space, args, run, End::Left, false)
}

/// `RPUSH key element …`
fn rpush(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    push(space, args, run, End::Right, false)
}

/// `LPUSHX key element …`
fn lpushx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    push(space, args, run, End::Left, true)
}

/// `RPUSHX key element …`
fn rpushx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    push(space, args, run, End::Right, true)
}

fn push(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    end: End,
    must_exist: bool,
) -> Done {
    let key = args[1].text();
    let (at, list) = locate::<List>(space, &key, run)?;
    if must_exist && list.is_none() {
        run.reply.integer(0);
        return Ok(());
    }
    let mut list = open::<List>(space, at, &key, run)?;
    for text in &args[2..] {
        list.insert(end.index(list.len()), &text.text());
    }
    let len = list.len();
    run.notify(EventClass::LIST, end.pushed(), &key);
    run.record(args);
    run.reply.count(len);
    Ok(())
}

/// `LPOP key [count]`
fn lpop(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    pop(space, args, run, "lpop", End::Left)
}

/// `RPOP key [count]`
fn rpop(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    pop(space, args, run, "rpop", End::Right)
}

fn pop(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    name: &'static str,
    end: End,
) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(count.count()?),
        _ => return Err(CommandError::Arity(name)),
    };
    let key = args[1].text();
    match (locate::<List>(space, &key, run)?, count) {
        ((Ok(_), Some(_)), Some(0)) => run.reply.array(0),
        ((Ok(id), Some(list)), count) => {
            match count {
                Some(count) => reply_end(run.reply, list, end, count),
                None => reply_texts(run.reply, list, end.range(list.len(), 1), end),
            }
            take(space, id, &key, end, count.unwrap_or(1), run)?;
            run.record(args);
        }
        (_, Some(_)) => run.reply.null_array(),
        (_, None) => run.reply.null(),
    }
    Ok(())
}

/// Takes elements off an end; the key goes with the last.
fn take(
    space: &mut Keyspace,
    id: SlotId,
    key: &[u8],
    end: End,
    count: usize,
    run: &mut Execution<'_>,
) -> Done {
    let mut list = change::<List>(space, id)?;
    list.remove(end.range(list.len(), count));
    let is_empty = list.is_empty();
    run.notify(EventClass::LIST, end.popped(), key);
    if is_empty {
        remove(space, id, key, run);
    }
    Ok(())
}

/// Answers with an array of the elements at an end, the outermost first.
fn reply_end(reply: &mut Reply, list: &List, end: End, count: usize) {
    let range = end.range(list.len(), count);
    reply.array(range.len());
    reply_texts(reply, list, range, end);
}

/// Answers with the elements of a range, in order from an end.
fn reply_texts(reply: &mut Reply, list: &List, range: std::ops::Range<usize>, from: End) {
    let texts = list.range(range);
    match from {
        End::Left => texts.for_each(|text| reply.bulk(text)),
        End::Right => texts.rev().for_each(|text| reply.bulk(text)),
    }
}

/// `LLEN key`
fn llen(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let len = read::<List>(space, args[1], run)?.map_or(0, List::len);
    run.reply.count(len);
    Ok(())
}

/// `LRANGE key start stop`
fn lrange(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (start, stop) = (args[2].integer()?, args[3].integer()?);
    let Some(list) = read::<List>(space, args[1], run)? else {
        run.reply.array(0);
        return Ok(());
    };
    let range = index_range(start, stop, list.len());
    run.reply.array(range.len());
    reply_texts(run.reply, list, range, End::Left);
    Ok(())
}

/// `LTRIM key start stop`
fn ltrim(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (start, stop) = (args[2].integer()?, args[3].integer()?);
    let key = args[1].text();
    if let (Ok(id), Some(list)) = locate::<List>(space, &key, run)? {
        let len = list.len();
        let kept = index_range(start, stop, len);
        if kept.len() < len {
            let mut list = change::<List>(space, id)?;
            list.remove(kept.end..len);
            list.remove(0..kept.start);
            run.record(args);
        }
        run.notify(EventClass::LIST, "ltrim", &key);
        if kept.is_empty() {
            remove(space, id, &key, run);
        }
    }
    run.reply.status("OK");
    Ok(())
}

/// Indexes as people give them, both inclusive and negative from the end.
fn index_range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let last = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = |index: i64| if index < 0 { index.saturating_add(last) } else { index };
    let start = from_front(start).clamp(0, last);
    let end = from_front(stop).saturating_add(1).clamp(start, last.max(start));
    start as usize..end as usize
}
