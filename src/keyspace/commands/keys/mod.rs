//! Commands on keys of any kind.
//!
//! | file | what |
//! |---|---|
//! | this one | existence, names, copies |
//! | `deadlines` | when keys expire |
//! | `walk` | many keys: `KEYS`, `SCAN`, `RANDOMKEY` |

mod deadlines;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use deadlines::expire_at;

use super::Done;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{
    ALL_KEYS, GROW, NO_KEY, ONE_KEY, READ, READ_FAST, TWO_KEYS, WRITE, WRITE_FAST,
};
use crate::keyspace::command::{Flags, Table, docs, door, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::SlotId;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

/// The commands of this folder.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "generic",
    commands: &[
        door(
            "wait",
            3,
            Flags::NOSCRIPT,
            docs("3.0.0", "O(1)", "Waits for replicas; there are none."),
        ),
        entry(
            "copy",
            -3,
            GROW,
            TWO_KEYS,
            copy,
            docs(
                "6.2.0",
                "O(N) in the elements of the value",
                "Gives another key a copy of a value.",
            ),
        ),
        entry(
            "keys",
            2,
            READ,
            NO_KEY,
            walk::keys,
            docs(
                "1.0.0",
                "O(N) in the keys of the keyspace",
                "Lists the keys whose names match a pattern.",
            ),
        ),
        entry(
            "randomkey",
            1,
            READ,
            NO_KEY,
            walk::randomkey,
            docs("1.0.0", "O(1)", "Answers with the name of any key."),
        ),
        entry(
            "scan",
            -2,
            READ,
            NO_KEY,
            walk::scan,
            docs(
                "2.8.0",
                "O(1) for each step, O(N) for all",
                "Lists some keys, and from where to go on.",
            ),
        ),
        entry(
            "touch",
            -2,
            READ_FAST,
            ALL_KEYS,
            touch,
            docs(
                "3.2.1",
                "O(N) in the keys",
                "Counts how many of the named keys exist, as if each were used.",
            ),
        ),
        entry(
            "del",
            -2,
            WRITE,
            ALL_KEYS,
            del,
            docs(
                "1.0.0",
                "O(N) in the keys; freeing a value is O(M) in its elements",
                "Removes keys.",
            ),
        ),
        entry(
            "exists",
            -2,
            READ_FAST,
            ALL_KEYS,
            exists,
            docs("1.0.0", "O(N) in the keys", "Counts how many of the named keys exist."),
        ),
        entry(
            "expire",
            -3,
            WRITE_FAST,
            ONE_KEY,
            deadlines::expire,
            docs("1.0.0", "O(1)", "Sets when a key expires, in seconds from now."),
        ),
        entry(
            "expireat",
            -3,
            WRITE_FAST,
            ONE_KEY,
            deadlines::expireat,
            docs("1.2.0", "O(1)", "Sets when a key expires, in unix seconds."),
        ),
        entry(
            "expiretime",
            2,
            READ_FAST,
            ONE_KEY,
            deadlines::expiretime,
            docs("7.0.0", "O(1)", "Tells when a key expires, in unix seconds."),
        ),
        entry(
            "persist",
            2,
            WRITE_FAST,
            ONE_KEY,
            deadlines::persist,
            docs("2.2.0", "O(1)", "Lets a key live for ever."),
        ),
        entry(
            "pexpire",
            -3,
            WRITE_FAST,
            ONE_KEY,
            deadlines::pexpire,
            docs("2.6.0", "O(1)", "Sets when a key expires, in milliseconds from now."),
        ),
        entry(
            "pexpireat",
            -3,
            WRITE_FAST,
            ONE_KEY,
            deadlines::pexpireat,
            docs("2.6.0", "O(1)", "Sets when a key expires, in unix milliseconds."),
        ),
        entry(
            "pexpiretime",
            2,
            READ_FAST,
            ONE_KEY,
            deadlines::pexpiretime,
            docs("7.0.0", "O(1)", "Tells when a key expires, in unix milliseconds."),
        ),
        entry(
            "pttl",
            2,
            READ_FAST,
            ONE_KEY,
            deadlines::pttl,
            docs("2.6.0", "O(1)", "Tells how many milliseconds a key has to live."),
        ),
        entry(
            "rename",
            3,
            WRITE,
            TWO_KEYS,
            rename,
            docs("1.0.0", "O(1)", "Gives a key another name, whatever was there before."),
        ),
        entry(
            "renamenx",
            3,
            WRITE_FAST,
            TWO_KEYS,
            renamenx,
            docs("1.0.0", "O(1)", "Gives a key another name that must be free."),
        ),
        entry(
            "ttl",
            2,
            READ_FAST,
            ONE_KEY,
            deadlines::ttl,
            docs("1.0.0", "O(1)", "Tells how many seconds a key has to live."),
        ),
        entry(
            "type",
            2,
            READ_FAST,
            ONE_KEY,
            type_of,
            docs("1.0.0", "O(1)", "Tells what kind of value a key holds."),
        ),
        entry(
            "unlink",
            -2,
            WRITE_FAST,
            ALL_KEYS,
            del,
            docs("4.0.0", "O(N) in the keys; values are freed beside requests", "Removes keys."),
        ),
    ],
};

/// `DEL key …`, `UNLINK key …`
fn del(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let mut removed = 0;
    for key in &args[1..] {
        let key = key.text();
        if let Ok(id) = space.find(&key, run) {
            space.slots.free(id);
            run.notify(EventClass::GENERIC, "del", &key);
            removed += 1;
        }
    }
    if removed > 0 {
        run.record(args);
    }
    run.reply.integer(removed);
    Ok(())
}

/// `EXISTS key …`: a key named twice counts twice. To ask is no use of it.
fn exists(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = args[1..].iter().filter(|key| space.glance(&key.text(), run).is_some()).count();
    run.reply.count(count);
    Ok(())
}

/// `TOUCH key …`: counts like `EXISTS`, and uses what it finds.
fn touch(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let count = args[1..].iter().filter(|key| space.look_up(&key.text(), run).is_some()).count();
    run.reply.count(count);
    Ok(())
}

/// `TYPE key`
fn type_of(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let id = space.glance(&args[1].text(), run);
    let value = id.and_then(|id| space.slots.value(id));
    let name = value.map_or("none", |value| value.type_name());
    run.reply.status(name);
    Ok(())
}

/// `RENAME key newkey`: what was at the new name is gone; the deadline comes along.
fn rename(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to) = (args[1].text(), args[2].text());
    let source = space.find(&from, run).map_err(|_| CommandError::NoSuchKey)?;
    if *from != *to {
        if let Ok(target) = space.find(&to, run) {
            space.slots.free(target);
        }
        move_key(space, source, &from, &to, run);
        run.record(args);
    }
    run.reply.status("OK");
    Ok(())
}

/// `RENAMENX key newkey`: only if the new name is free.
fn renamenx(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (from, to) = (args[1].text(), args[2].text());
    let source = space.find(&from, run).map_err(|_| CommandError::NoSuchKey)?;
    let moves = *from != *to && space.find(&to, run).is_err();
    if moves {
        move_key(space, source, &from, &to, run);
        run.record(args);
    }
    run.reply.integer(i64::from(moves));
    Ok(())
}

/// Gives the key of a slot a name that is free.
fn move_key(space: &mut Keyspace, id: SlotId, from: &[u8], to: &[u8], run: &mut Execution<'_>) {
    if let Err(vacant) = space.peek(to, run) {
        space.slots.rename(id, vacant, to);
        run.notify(EventClass::NEW, "new", to);
        run.notify(EventClass::GENERIC, "rename_from", from);
        run.notify(EventClass::GENERIC, "rename_to", to);
    }
}

/// `COPY source destination [DB 0] [REPLACE]`: the deadline is copied, too.
fn copy(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let replaces = parse_copy_options(&args[3..])?;
    let (from, to) = (args[1].text(), args[2].text());
    if *from == *to {
        return Err(CommandError::SameObject);
    }
    let Some(source) = space.look_up(&from, run) else {
        run.reply.integer(0);
        return Ok(());
    };
    let target = space.find(&to, run);
    if target.is_ok() && !replaces {
        run.reply.integer(0);
        return Ok(());
    }
    let deadline = space.slots.deadline(source);
    let value = space.slots.value(source).map(Value::copied);
    if let Ok(replaced) = target {
        space.slots.free(replaced);
    }
    if let (Some(value), Err(vacant)) = (value, space.peek(&to, run)) {
        let id = space.create(vacant, &to, value, run);
        space.slots.set_deadline(id, deadline);
        run.notify(EventClass::GENERIC, "copy_to", &to);
        run.record(args);
    }
    run.reply.integer(1);
    Ok(())
}

/// True if the copy may replace a value. There is one database, number 0.
fn parse_copy_options(options: &[Arg<'_>]) -> Result<bool, CommandError> {
    let mut replaces = false;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if option.is_word("replace") {
            replaces = true;
        } else if option.is_word("db")
            && let Some(index) = options.next()
        {
            let bounds = (i64::from(i32::MIN), i64::from(i32::MAX));
            if index.integer_within(bounds.0, bounds.1)? != 0 {
                return Err(CommandError::DatabaseOutOfRange);
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(replaces)
}
