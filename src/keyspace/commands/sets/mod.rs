//! Commands on sets.

mod algebra;
mod chance;
#[cfg(test)]
mod tests;

use super::Done;
use super::collections::{at, change, locate, open, read, remove};
use super::scan::{self, ScanOptions};
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{
    ALL_KEYS, GROW, GROW_FAST, NO_KEY, ONE_KEY, READ, READ_FAST, TWO_KEYS, WRITE_FAST,
};
use crate::keyspace::command::{Command, Flags, KeyPositions, Table, docs, entry};
use crate::keyspace::notices::EventClass;
use crate::keyspace::set::Set;
use crate::keyspace::space::{Execution, Keyspace};

/// Keys behind the count of them.
const COUNTED_KEYS: KeyPositions = KeyPositions { counted: 1, ..NO_KEY };

/// The commands of this folder.
pub(in crate::keyspace) static TABLE: Table = Table { group: "set", commands: &COMMANDS };

static COMMANDS: [Command; 17] = [
    entry(
        "sadd",
        -3,
        GROW_FAST,
        ONE_KEY,
        sadd,
        docs("1.0.0", "O(N) for N members named", "Adds members to a set."),
    ),
    entry(
        "scard",
        2,
        READ_FAST,
        ONE_KEY,
        scard,
        docs("1.0.0", "O(1)", "Counts the members of a set."),
    ),
    entry(
        "sdiff",
        -2,
        READ,
        ALL_KEYS,
        algebra::sdiff,
        docs(
            "1.0.0",
            "O(N) for N members of all sets",
            "Answers with the members of the first set that no other has.",
        ),
    ),
    entry(
        "sdiffstore",
        -3,
        GROW,
        ALL_KEYS,
        algebra::sdiffstore,
        docs(
            "1.0.0",
            "O(N) for N members of all sets",
            "Stores the members of the first set that no other has.",
        ),
    ),
    entry(
        "sinter",
        -2,
        READ,
        ALL_KEYS,
        algebra::sinter,
        docs(
            "1.0.0",
            "O(N * M) for N members of the smallest of M sets",
            "Answers with the members that all sets have.",
        ),
    ),
    entry(
        "sintercard",
        -3,
        READ.and(Flags::MOVABLE_KEYS),
        COUNTED_KEYS,
        algebra::sintercard,
        docs(
            "7.0.0",
            "O(N * M) for N members of the smallest of M sets",
            "Counts the members that all sets have.",
        ),
    ),
    entry(
        "sinterstore",
        -3,
        GROW,
        ALL_KEYS,
        algebra::sinterstore,
        docs(
            "1.0.0",
            "O(N * M) for N members of the smallest of M sets",
            "Stores the members that all sets have.",
        ),
    ),
    entry(
        "sismember",
        3,
        READ_FAST,
        ONE_KEY,
        sismember,
        docs("1.0.0", "O(1)", "Tells whether a set has a member."),
    ),
    entry(
        "smembers",
        2,
        READ,
        ONE_KEY,
        algebra::sinter,
        docs("1.0.0", "O(N) for N members", "Answers with the members of a set."),
    ),
    entry(
        "smismember",
        -3,
        READ_FAST,
        ONE_KEY,
        smismember,
        docs("6.2.0", "O(N) for N members named", "Tells which members a set has."),
    ),
    entry(
        "smove",
        4,
        WRITE_FAST,
        TWO_KEYS,
        smove,
        docs("1.0.0", "O(1)", "Moves a member from one set to another."),
    ),
    entry(
        "spop",
        -2,
        WRITE_FAST,
        ONE_KEY,
        chance::spop,
        docs("1.0.0", "O(N) for N members answered", "Removes members at random."),
    ),
    entry(
        "srandmember",
        -2,
        READ,
        ONE_KEY,
        chance::srandmember,
        docs("1.0.0", "O(N) for N members answered", "Answers with members at random."),
    ),
    entry(
        "srem",
        -3,
        WRITE_FAST,
        ONE_KEY,
        srem,
        docs("1.0.0", "O(N) for N members named", "Removes members of a set."),
    ),
    entry(
        "sscan",
        -3,
        READ,
        ONE_KEY,
        sscan,
        docs("2.8.0", "O(1) a step, O(N) for the whole", "Walks over a set in steps."),
    ),
    entry(
        "sunion",
        -2,
        READ,
        ALL_KEYS,
        algebra::sunion,
        docs(
            "1.0.0",
            "O(N) for N members of all sets",
            "Answers with the members that any of the sets has.",
        ),
    ),
    entry(
        "sunionstore",
        -3,
        GROW,
        ALL_KEYS,
        algebra::sunionstore,
        docs(
            "1.0.0",
            "O(N) for N members of all sets",
            "Stores the members that any of the sets has.",
        ),
    ),
];

/// `SADD key member …`
fn sadd(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let (at, set) = locate::<Set>(space, &key, run)?;
    let is_new = |member: &Arg<'_>| set.is_none_or(|set| !set.contains(&member.text()));
    let mut added = 0;
    if args[2..].iter().any(is_new) {
        let mut set = open::<Set>(space, at, &key, run)?;
        for member in &args[2..] {
            added += usize::from(set.add(&member.text()));
        }
        run.notify(EventClass::SET, "sadd", &key);
        run.record(args);
    }
    run.reply.count(added);
    Ok(())
}

/// `SREM key member …`
fn srem(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let key = args[1].text();
    let mut removed = 0;
    if let (Ok(id), Some(set)) = locate::<Set>(space, &key, run)?
        && args[2..].iter().any(|member| set.contains(&member.text()))
    {
        let mut set = change::<Set>(space, id)?;
        for member in &args[2..] {
            removed += usize::from(set.remove(&member.text()));
        }
        let is_empty = set.is_empty();
        run.notify(EventClass::SET, "srem", &key);
        if is_empty {
            remove(space, id, &key, run);
        }
        run.record(args);
    }
    run.reply.count(removed);
    Ok(())
}

/// `SMOVE source destination member`
fn smove(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to, member) = (args[1].text(), args[2].text(), args[3].text());
    let (source, target) = (space.find(&from, run), space.find(&to, run));
    let (Ok(id), Some(set)) = (source, at::<Set>(space, source)?) else {
        run.reply.integer(0);
        return Ok(());
    };
    let is_member = set.contains(&member);
    let is_new = at::<Set>(space, target)?.is_none_or(|set| !set.contains(&member));
    if is_member && *from != *to {
        let mut source = change::<Set>(space, id)?;
        source.remove(&member);
        let is_empty = source.is_empty();
        run.notify(EventClass::SET, "srem", &from);
        if is_empty {
            remove(space, id, &from, run);
        }
        if is_new {
            open::<Set>(space, target, &to, run)?.add(&member);
            run.notify(EventClass::SET, "sadd", &to);
        }
        run.record(args);
    }
    run.reply.integer(i64::from(is_member));
    Ok(())
}

/// `SISMEMBER key member`
fn sismember(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let set = read::<Set>(space, args[1], run)?;
    let is_member = set.is_some_and(|set| set.contains(&args[2].text()));
    run.reply.integer(i64::from(is_member));
    Ok(())
}

/// `SMISMEMBER key member …`
fn smismember(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let set = read::<Set>(space, args[1], run)?;
    run.reply.array(args.len() - 2);
    for member in &args[2..] {
        let is_member = set.is_some_and(|set| set.contains(&member.text()));
        run.reply.integer(i64::from(is_member));
    }
    Ok(())
}

/// `SCARD key`
fn scard(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = read::<Set>(space, args[1], run)?.map_or(0, Set::len);
    run.reply.count(count);
    Ok(())
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`
fn sscan(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let cursor = scan::cursor(args[2])?;
    let Some(set) = read::<Set>(space, args[1], run)? else {
        scan::reply(run.reply, 0, &[]);
        return Ok(());
    };
    let options = ScanOptions::parse(&args[3..], false)?;
    let mut shown = Vec::new();
    let next = set.scan(cursor as u32, options.count, |member| {
        if options.shows(&member) {
            shown.push(member);
        }
    });
    scan::reply(run.reply, next.into(), &shown);
    Ok(())
}
