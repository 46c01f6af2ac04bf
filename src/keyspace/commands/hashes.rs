//! Commands on hashes.

use super::Done;
use super::collections::{Picks, change, locate, open, read, read_by_chance, remove};
use super::scan::{self, ScanOptions};
use crate::keyspace::arg::{Arg, Text, parse_integer};
use crate::keyspace::command::short::{GROW_FAST, ONE_KEY, READ, READ_FAST, WRITE_FAST};
use crate::keyspace::command::{Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::hash::Hash;
use crate::keyspace::long_double::LongDouble;
use crate::keyspace::notices::EventClass;
use crate::keyspace::space::{Execution, Keyspace};
use crate::resp::Reply;
use crate::resp::number::NumberText;

/// Redis refuses to count twice as many texts as fit a `long`.
const PAIRS_MAX: usize = (i64::MAX / 2) as usize;

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "hash",
    commands: &[
        entry(
            "hdel",
            -3,
            WRITE_FAST,
            ONE_KEY,
            hdel,
            docs("2.0.0", "O(N) for N fields named", "Removes fields of a hash."),
        ),
        entry(
            "hexists",
            3,
            READ_FAST,
            ONE_KEY,
            hexists,
            docs("2.0.0", "O(1)", "Tells whether a hash has a field."),
        ),
        entry(
            "hget",
            3,
            READ_FAST,
            ONE_KEY,
            hget,
            docs("2.0.0", "O(1)", "Answers with the value of a field."),
        ),
        entry(
            "hgetall",
            2,
            READ,
            ONE_KEY,
            hgetall,
            docs("2.0.0", "O(N) for N fields", "Answers with every field and its value."),
        ),
        entry(
            "hincrby",
            4,
            GROW_FAST,
            ONE_KEY,
            hincrby,
            docs("2.0.0", "O(1)", "Adds to the integer that a field holds."),
        ),
        entry(
            "hincrbyfloat",
            4,
            GROW_FAST,
            ONE_KEY,
            hincrbyfloat,
            docs("2.6.0", "O(1)", "Adds to the float that a field holds."),
        ),
        entry(
            "hkeys",
            2,
            READ,
            ONE_KEY,
            hkeys,
            docs("2.0.0", "O(N) for N fields", "Answers with every field."),
        ),
        entry(
            "hlen",
            2,
            READ_FAST,
            ONE_KEY,
            hlen,
            docs("2.0.0", "O(1)", "Counts the fields of a hash."),
        ),
        entry(
            "hmget",
            -3,
            READ_FAST,
            ONE_KEY,
            hmget,
            docs("2.0.0", "O(N) for N fields named", "Answers with the values of fields."),
        ),
        entry(
            "hmset",
            -4,
            GROW_FAST,
            ONE_KEY,
            hmset,
            docs("2.0.0", "O(N) for N fields named", "Sets the values of fields."),
        ),
        entry(
            "hrandfield",
            -2,
            READ,
            ONE_KEY,
            hrandfield,
            docs("6.2.0", "O(N) for N fields answered", "Answers with fields at random."),
        ),
        entry(
            "hscan",
            -3,
            READ,
            ONE_KEY,
            hscan,
            docs("2.8.0", "O(1) a step, O(N) for the whole", "Walks over a hash in steps."),
        ),
        entry(
            "hset",
            -4,
            GROW_FAST,
            ONE_KEY,
            hset,
            docs("2.0.0", "O(N) for N fields named", "Sets the values of fields."),
        ),
        entry(
            "hsetnx",
            4,
            GROW_FAST,
            ONE_KEY,
            hsetnx,
            docs("2.0.0", "O(1)", "Sets the value of a field that is not there."),
        ),
        entry(
            "hstrlen",
            3,
            READ_FAST,
            ONE_KEY,
            hstrlen,
            docs("3.2.0", "O(1)", "Tells how long the value of a field is."),
        ),
        entry(
            "hvals",
            2,
            READ,
            ONE_KEY,
            hvals,
            docs("2.0.0", "O(N) for N fields", "Answers with the value of every field."),
        ),
    ],
};

/// `HGET key field`
fn hget(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    reply_value(run.reply, hash, args[2]);
    Ok(())
}

/// `HMGET key field …`
fn hmget(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    run.reply.array(args.len() - 2);
    args[2..].iter().for_each(|field| reply_value(run.reply, hash, *field));
    Ok(())
}

fn reply_value(reply: &mut Reply, hash: Option<&Hash>, field: Arg<'_>) {
    match hash.and_then(|hash| hash.get(&field.text())) {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

/// `HEXISTS key field`
fn hexists(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    let exists = hash.is_some_and(|hash| hash.get(&args[2].text()).is_some());
    run.reply.integer(i64::from(exists));
    Ok(())
}

/// `HSTRLEN key field`
fn hstrlen(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    let value = hash.and_then(|hash| hash.get(&args[2].text()));
    run.reply.count(value.map_or(0, <[u8]>::len));
    Ok(())
}

/// `HLEN key`
fn hlen(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = read::<Hash>(space, args[1], run)?.map_or(0, Hash::len);
    run.reply.count(count);
    Ok(())
}

/// `HGETALL key`
fn hgetall(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    run.reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        run.reply.bulk(field);
        run.reply.bulk(value);
    }
    Ok(())
}

/// `HKEYS key`
fn hkeys(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    run.reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| run.reply.bulk(field));
    Ok(())
}

/// `HVALS key`
fn hvals(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let hash = read::<Hash>(space, args[1], run)?;
    run.reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| run.reply.bulk(value));
    Ok(())
}

/// `HSET key field value …`
fn hset(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let added = set_fields(space, args, run, "hset")?;
    run.reply.count(added);
    Ok(())
}

/// `HMSET key field value …`
fn hmset(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    set_fields(space, args, run, "hmset")?;
    run.reply.status("OK");
    Ok(())
}

/// Sets fields; how many of them are new.
fn set_fields(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    name: &'static str,
) -> Result<usize, CommandError> {
    let (pairs, rest) = args[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Arity(name));
    }
    let key = args[1].text();
    let (at, _) = locate::<Hash>(space, &key, run)?;
    let mut hash = open::<Hash>(space, at, &key, run)?;
    let mut added = 0;
    for [field, value] in pairs {
        added += usize::from(hash.set(&field.text(), &value.text()));
    }
    run.notify(EventClass::HASH, "hset", &key);
    run.record(args);
    Ok(added)
}

/// `HSETNX key field value`
fn hsetnx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (key, field) = (args[1].text(), args[2].text());
    let (at, hash) = locate::<Hash>(space, &key, run)?;
    let sets = hash.is_none_or(|hash| hash.get(&field).is_none());
    if sets {
        open::<Hash>(space, at, &key, run)?.set(&field, &args[3].text());
        run.notify(EventClass::HASH, "hset", &key);
        run.record(args);
    }
    run.reply.integer(i64::from(sets));
    Ok(())
}

/// `HDEL key field …`
fn hdel(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let mut removed = 0;
    if let (Ok(id), Some(hash)) = locate::<Hash>(space, &key, run)?
        && args[2..].iter().any(|field| hash.get(&field.text()).is_some())
    {
        let mut hash = change::<Hash>(space, id)?;
        for field in &args[2..] {
            removed += usize::from(hash.remove(&field.text()));
        }
        let is_empty = hash.is_empty();
        run.notify(EventClass::HASH, "hdel", &key);
        if is_empty {
            remove(space, id, &key, run);
        }
        run.record(args);
    }
    run.reply.count(removed);
    Ok(())
}

/// `HINCRBY key field amount`
fn hincrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let amount = args[3].integer()?;
    let (key, field) = (args[1].text(), args[2].text());
    let (at, hash) = locate::<Hash>(space, &key, run)?;
    let current = match hash.and_then(|hash| hash.get(&field)) {
        None => 0,
        Some(value) => parse_integer(value).ok_or(CommandError::HashValueNotInteger)?,
    };
    let sum = current.checked_add(amount).ok_or(CommandError::IncrementOverflow)?;
    open::<Hash>(space, at, &key, run)?.set(&field, &NumberText::integer(sum));
    run.notify(EventClass::HASH, "hincrby", &key);
    run.record(args);
    run.reply.integer(sum);
    Ok(())
}

/// `HINCRBYFLOAT key field amount`: recorded as what came of it, so that a replay
/// does not depend on how a machine adds.
fn hincrbyfloat(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let amount = LongDouble::parse(&args[3].text()).ok_or(CommandError::NotFloat)?;
    if !amount.is_finite() {
        return Err(CommandError::NotFinite);
    }
    let (key, field) = (args[1].text(), args[2].text());
    let (at, hash) = locate::<Hash>(space, &key, run)?;
    let current = match hash.and_then(|hash| hash.get(&field)) {
        None => Some(LongDouble::from(0)),
        Some(value) => LongDouble::parse(value),
    };
    let current = current.ok_or(CommandError::HashValueNotFloat)?;
    let sum = current.checked_add(amount).ok_or(CommandError::IncrementNotFinite)?.text();
    open::<Hash>(space, at, &key, run)?.set(&field, sum.as_bytes());
    run.notify(EventClass::HASH, "hincrbyfloat", &key);
    run.record(&[Arg::Bytes(b"HSET"), args[1], args[2], Arg::Bytes(sum.as_bytes())]);
    run.reply.bulk(sum.as_bytes());
    Ok(())
}

/// `HRANDFIELD key [count [WITHVALUES]]`
fn hrandfield(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let Some(count) = args.get(2) else {
        let (hash, random) = read_by_chance::<Hash>(space, args[1], run)?;
        match hash {
            Some(hash) => run.reply.bulk(hash.pick(random).0),
            None => run.reply.null(),
        }
        return Ok(());
    };
    let picks = Picks::parse(*count)?;
    let with_values = match &args[3..] {
        [] => false,
        [word] if word.is_word("withvalues") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_values && matches!(picks, Picks::Different(count) if count > PAIRS_MAX) {
        return Err(CommandError::OutOfRange);
    }
    let (hash, random) = read_by_chance::<Hash>(space, args[1], run)?;
    let Some(hash) = hash else {
        run.reply.array(0);
        return Ok(());
    };
    let fields: Vec<_> = match picks {
        Picks::Different(count) if count >= hash.len() => hash.iter().collect(),
        Picks::Different(count) => hash.sample(count, random),
        Picks::Repeated(count) => (0..count).map(|_| hash.pick(random)).collect(),
    };
    if with_values {
        run.reply.pairs(fields.len())
    } else {
        run.reply.array(fields.len())
    }
    for (field, value) in fields {
        run.reply.bulk(field);
        if with_values {
            run.reply.bulk(value);
        }
    }
    Ok(())
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count]`
fn hscan(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let cursor = scan::cursor(args[2])?;
    let Some(hash) = read::<Hash>(space, args[1], run)? else {
        scan::reply(run.reply, 0, &[]);
        return Ok(());
    };
    let options = ScanOptions::parse(&args[3..], false)?;
    let mut shown = Vec::new();
    let next = hash.scan(cursor as u32, options.count, |field, value| {
        if options.shows(field) {
            shown.extend([Text::Borrowed(field), Text::Borrowed(value)]);
        }
    });
    scan::reply(run.reply, next.into(), &shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::keyspace::commands::tests::check;

    #[test]
    fn fields_are_set_read_and_removed() {
        check(
            "
            HSET h a 1 b 2 a 3 -> (2) | HSET h a 1 b 2 a 3
            HSET h a 4 c -> -ERR wrong number of arguments for 'hset' command
            HMSET h c 5 -> OK | HMSET h c 5
            HSETNX h c 6 -> (0)
            HSETNX h d 6 -> (1) | HSETNX h d 6
            HGET h a -> 3
            HGET h x -> nil
            HMGET h a x c -> [3 nil 5]
            HMGET nosuch a b -> [nil nil]
            HGETALL h -> %[a 3 b 2 c 5 d 6]
            HGETALL nosuch -> %[]
            HKEYS h -> [a b c d]
            HVALS h -> [3 2 5 6]
            HLEN h -> (4)
            HEXISTS h a -> (1)
            HEXISTS h x -> (0)
            HSTRLEN h a -> (1)
            HSTRLEN h x -> (0)
            HDEL h x -> (0)
            HDEL h a x c a -> (2) | HDEL h a x c a
            HGETALL h -> %[b 2 d 6]
            HDEL h b d -> (2) | HDEL h b d
            EXISTS h -> (0)
            SADD s m -> (1) | SADD s m
            HGET s m -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HSET s a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn fields_are_counted_and_floats_are_recorded_as_their_sum() {
        check(
            "
            HINCRBY h n 41 -> (41) | HINCRBY h n 41
            HINCRBY h n 1 -> (42) | HINCRBY h n 1
            HINCRBY h n x -> -ERR value is not an integer or out of range
            HSET h text x -> (1) | HSET h text x
            HINCRBY h text 1 -> -ERR hash value is not an integer
            HINCRBYFLOAT h text 1 -> -ERR hash value is not a float
            HSET h n 9223372036854775807 -> (0) | HSET h n 9223372036854775807
            HINCRBY h n 1 -> -ERR increment or decrement would overflow
            HINCRBYFLOAT h f 10.5 -> 10.5 | HSET h f 10.5
            HINCRBYFLOAT h f 0.1 -> 10.6 | HSET h f 10.6
            HINCRBYFLOAT h f -10.6 -> 0 | HSET h f 0
            HINCRBYFLOAT h f x -> -ERR value is not a valid float
            HINCRBY nosuch n x -> -ERR value is not an integer or out of range
            EXISTS nosuch -> (0)
            ",
        );
    }

    #[test]
    fn fields_at_random_are_different_or_repeat_as_asked() {
        check(
            "
            HRANDFIELD nosuch -> nil
            HRANDFIELD nosuch 3 -> []
            HSET h a 1 -> (1) | HSET h a 1
            HRANDFIELD h -> a
            HRANDFIELD h 5 -> [a]
            HRANDFIELD h 0 -> []
            HRANDFIELD h -3 -> [a a a]
            HRANDFIELD h -2 WITHVALUES -> [a 1 a 1]
            HRANDFIELD h 1 x -> -ERR syntax error
            HRANDFIELD h x -> -ERR value is not an integer or out of range
            ",
        );
    }

    #[test]
    fn a_scan_of_a_small_hash_is_one_step() {
        check(
            "
            HSCAN nosuch 0 -> [0 []]
            HSCAN nosuch x -> -ERR invalid cursor
            HSET h a 1 ab 2 b 3 -> (3) | HSET h a 1 ab 2 b 3
            HSCAN h 0 COUNT 1 -> [0 [a 1 ab 2 b 3]]
            HSCAN h 0 MATCH a* -> [0 [a 1 ab 2]]
            HSCAN h 0 COUNT 0 -> -ERR syntax error
            HSCAN h 0 COUNT x -> -ERR value is not an integer or out of range
            HSCAN h 0 TYPE hash -> -ERR syntax error
            ",
        );
    }
}
