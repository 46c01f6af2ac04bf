//! Elements that leave one list for another, or for the caller.

use super::{End, reply_end, take};
use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::{locate, open, positive};
use crate::keyspace::error::CommandError;
use crate::keyspace::list::List;
use crate::keyspace::notices::EventClass;
use crate::keyspace::space::{Execution, Keyspace};
use crate::resp::number::NumberText;

/// `LMOVE source destination LEFT|RIGHT LEFT|RIGHT`
pub(super) fn lmove(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to) = (End::parse(args[3])?, End::parse(args[4])?);
    move_element(space, args, run, from, to)
}

/// `RPOPLPUSH source destination`
pub(super) fn rpoplpush(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    move_element(space, args, run, End::Right, End::Left)
}

fn move_element(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    from: End,
    to: End,
) -> Done {
    let (source, target) = (args[1].text(), args[2].text());
    let (Ok(id), Some(list)) = locate::<List>(space, &source, run)? else {
        run.reply.null();
        return Ok(());
    };
    let text: Box<[u8]> = list.range(from.range(list.len(), 1)).next().unwrap_or_default().into();
    let (at, _) = locate::<List>(space, &target, run)?;
    if *source == *target {
        // The list must not be empty in between.
        let mut list = open::<List>(space, at, &target, run)?;
        list.remove(from.range(list.len(), 1));
        list.insert(to.index(list.len()), &text);
        run.notify(EventClass::LIST, to.pushed(), &target);
        run.notify(EventClass::LIST, from.popped(), &source);
    } else {
        let mut list = open::<List>(space, at, &target, run)?;
        list.insert(to.index(list.len()), &text);
        run.notify(EventClass::LIST, to.pushed(), &target);
        take(space, id, &source, from, 1, run)?;
    }
    run.record(args);
    run.reply.bulk(&text);
    Ok(())
}

/// `LMPOP numkeys key … LEFT|RIGHT [COUNT count]`: recorded as `LPOP` or `RPOP` of
/// what it took.
pub(super) fn lmpop(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key_count = positive(args[1], "numkeys")?;
    let Some((keys, rest)) = args[2..].split_at_checked(key_count) else {
        return Err(CommandError::Syntax);
    };
    let (end, count) = match rest {
        [end] => (End::parse(*end)?, 1),
        [end, word, count, rest @ ..] => {
            let end = End::parse(*end)?;
            if !word.is_word("count") {
                return Err(CommandError::Syntax);
            }
            // The count is looked at before what is too much behind it.
            let count = positive(*count, "count")?;
            if rest.is_empty() { (end, count) } else { return Err(CommandError::Syntax) }
        }
        _ => return Err(CommandError::Syntax),
    };
    for arg in keys {
        let key = arg.text();
        let (Ok(id), Some(list)) = locate::<List>(space, &key, run)? else { continue };
        let count = count.min(list.len());
        run.reply.array(2);
        run.reply.bulk(&key);
        reply_end(run.reply, list, end, count);
        take(space, id, &key, end, count, run)?;
        let command: &[u8] = if end == End::Left { b"LPOP" } else { b"RPOP" };
        let count = NumberText::integer(i64::try_from(count).unwrap_or(i64::MAX));
        run.record(&[Arg::Bytes(command), *arg, Arg::Bytes(&count)]);
        return Ok(());
    }
    run.reply.null_array();
    Ok(())
}
