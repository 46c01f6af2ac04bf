//! Commands that look at how keys are kept: `OBJECT`, `MEMORY`, `DEBUG`.
//!
//! None of them counts as a use of the key.

use super::Done;
use super::help::help;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{ADMIN, NO_KEY, READ};
use crate::keyspace::command::{Command, Flags, KeyPositions, Table, container, docs, door, entry};
use crate::keyspace::digest::Digest;
use crate::keyspace::error::CommandError;
use crate::keyspace::rdb::payload;
use crate::keyspace::slots::SlotId;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;
use crate::resp::number::c_int;

/// The key is the first argument after the subcommand.
const KEY_AFTER: KeyPositions = KeyPositions { first: 2, last: 2, step: 1, counted: 0 };

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "generic",
    commands: &[container("object", docs("2.2.3", "O(1)", "How a key is kept."), OBJECT)],
};

/// The commands of this file that concern the server.
pub(in crate::keyspace) static SERVER_TABLE: Table = Table {
    group: "server",
    commands: &[
        Command { flags: ADMIN, ..container("debug", docs("1.0.0", "", "For tests."), DEBUG) },
        container("memory", docs("4.0.0", "", "What memory is used for."), MEMORY),
    ],
};

const OBJECT: &[Command] = &[
    entry(
        "encoding",
        3,
        READ,
        KEY_AFTER,
        object_encoding,
        docs("2.2.3", "O(1)", "How the value is kept, in Redis' words."),
    ),
    entry(
        "freq",
        3,
        READ,
        KEY_AFTER,
        object_freq,
        docs("4.0.0", "O(1)", "How often the key is used, on a logarithmic scale."),
    ),
    help("6.2.0"),
    entry(
        "idletime",
        3,
        READ,
        KEY_AFTER,
        object_idletime,
        docs("2.2.3", "O(1)", "Seconds since the last use of the key."),
    ),
    entry(
        "refcount",
        3,
        READ,
        KEY_AFTER,
        object_refcount,
        docs("2.2.3", "O(1)", "How many refer to the value: one, but for small integers."),
    ),
];

const MEMORY: &[Command] = &[
    entry("doctor", 2, Flags::NONE, NO_KEY, memory_doctor, docs("4.0.0", "O(1)", "Gives advice.")),
    help("4.0.0"),
    entry(
        "purge",
        2,
        Flags::NONE,
        NO_KEY,
        memory_purge,
        docs("4.0.0", "O(1)", "Does nothing: the allocator gives memory back by itself."),
    ),
    entry(
        "stats",
        2,
        Flags::NONE,
        NO_KEY,
        memory_stats,
        docs("4.0.0", "O(1)", "What memory is used for, in bytes."),
    ),
    entry(
        "usage",
        -3,
        READ,
        KEY_AFTER,
        memory_usage,
        docs("4.0.0", "O(1)", "Bytes of a key with its value."),
    ),
];

const DEBUG: &[Command] = &[
    entry(
        "digest",
        2,
        ADMIN,
        NO_KEY,
        debug_digest,
        docs("", "O(N) in the bytes of all keys", "A digest of all keys, as Redis computes it."),
    ),
    entry(
        "digest-value",
        -2,
        ADMIN,
        KeyPositions { first: 2, last: -1, step: 1, counted: 0 },
        debug_digest_value,
        docs("", "O(N) in the bytes of the values", "A digest of each value."),
    ),
    Command { flags: ADMIN, ..help("") },
    door("loadaof", 2, ADMIN, docs("", "O(N)", "Loads the log into an empty keyspace.")),
    entry(
        "reload",
        -2,
        ADMIN,
        NO_KEY,
        debug_reload,
        docs("", "O(N)", "Replaces each value by what a snapshot of it loads as."),
    ),
    entry(
        "set-active-expire",
        3,
        ADMIN,
        NO_KEY,
        debug_set_active_expire,
        docs("", "O(1)", "Whether expired keys are removed before somebody asks for them."),
    ),
    door("sleep", 3, ADMIN, docs("", "", "Keeps everybody waiting.")),
];

/// Answers about a key that is there, and null without one.
fn about(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    answer: impl FnOnce(&Keyspace, SlotId, &mut Execution<'_>) -> Done,
) -> Done {
    match space.peek(&args[2].text(), run) {
        Ok(id) => answer(space, id, run),
        Err(_) => {
            run.reply.null();
            Ok(())
        }
    }
}

fn object_encoding(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    about(space, args, run, |space, id, run| {
        let encoding = space.slots.value(id).map_or("", Value::encoding);
        run.reply.bulk(encoding.as_bytes());
        Ok(())
    })
}

fn object_freq(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    about(space, args, run, |space, id, run| {
        if !space.limits.policy.is_lfu() {
            return Err(CommandError::FrequencyNotTracked);
        }
        let frequency = space.slots.usage(id).frequency(run.now, space.limits.lfu_decay_minutes);
        run.reply.integer(i64::from(frequency));
        Ok(())
    })
}

fn object_idletime(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    about(space, args, run, |space, id, run| {
        if space.limits.policy.is_lfu() {
            return Err(CommandError::IdleTimeNotTracked);
        }
        let idle = space.slots.usage(id).idle_seconds(run.now);
        run.reply.integer(i64::try_from(idle).unwrap_or(i64::MAX));
        Ok(())
    })
}

/// Redis shares small integers, unless each key must have a value of its own to
/// count uses in.
fn object_refcount(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    about(space, args, run, |space, id, run| {
        let is_shared = match space.slots.value(id) {
            Some(Value::String(string)) => {
                string.is_shared() && !space.limits.counts_uses_of_each()
            }
            _ => false,
        };
        run.reply.integer(if is_shared { i64::from(i32::MAX) } else { 1 });
        Ok(())
    })
}

/// `MEMORY USAGE key [SAMPLES count]`: the account is exact, so that nothing is
/// sampled.
fn memory_usage(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let mut options = &args[3..];
    while let [option, rest @ ..] = options {
        let [samples, rest @ ..] = rest else { return Err(CommandError::Syntax) };
        if !option.is_word("samples") || samples.integer()? < 0 {
            return Err(CommandError::Syntax);
        }
        options = rest;
    }
    about(space, args, run, |space, id, run| {
        run.reply.count(space.slots.bytes_of(id));
        Ok(())
    })
}

fn memory_stats(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (total, dataset) = (space.used_bytes(), space.slots.content_bytes());
    let (overhead, keys) = (total - dataset, space.len());
    let percentage = if total == 0 { 0.0 } else { dataset as f64 * 100.0 / total as f64 };
    let reply = &mut *run.reply;
    reply.map(7);
    let mut count = |name: &str, bytes: usize| {
        reply.bulk(name.as_bytes());
        reply.count(bytes);
    };
    count("total.allocated", total);
    count("startup.allocated", 0);
    count("overhead.total", overhead);
    count("keys.count", keys);
    count("keys.bytes-per-key", total.checked_div(keys).unwrap_or(0));
    count("dataset.bytes", dataset);
    reply.bulk(b"dataset.percentage");
    reply.double(percentage);
    Ok(())
}

fn memory_doctor(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let limits = space.memory_limits();
    let advice = if limits.maxmemory == 0 {
        "No maxmemory is set: a stream of new keys may take all there is."
    } else if limits
        .ceiling(crate::keyspace::Asker::Client)
        .is_some_and(|it| space.used_bytes() > it)
    {
        "The keyspace is full: keys are evicted, or writes refused, at this moment."
    } else {
        "Nothing seems wrong with the memory."
    };
    run.reply.verbatim(*b"txt", advice.as_bytes());
    Ok(())
}

fn memory_purge(_: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.status("OK");
    Ok(())
}

fn debug_digest(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.status(&Digest::of_keys(space.entries()).to_hex());
    Ok(())
}

fn debug_digest_value(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.array(args.len() - 2);
    for key in &args[2..] {
        let digest = match space.peek(&key.text(), run) {
            Ok(id) => {
                let deadline = space.slots.deadline(id);
                space.slots.value(id).map(|value| Digest::of_value(value, deadline))
            }
            Err(_) => None,
        };
        run.reply.status(&digest.unwrap_or_default().to_hex());
    }
    Ok(())
}

/// `DEBUG RELOAD [MERGE] [NOFLUSH]`: as if the keyspace were saved and loaded. No
/// file is written, so that there is none to load without that (`NOSAVE`); what
/// is loaded is all there is, so that both options change nothing.
fn debug_reload(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    for option in &args[2..] {
        if option.is_word("nosave") {
            return Err(CommandError::ReloadWithoutSave);
        }
        if !option.is_word("merge") && !option.is_word("noflush") {
            return Err(CommandError::ReloadOption);
        }
    }
    for slot in 0..space.slots.used() {
        let Some(id) = space.slots.live_at(slot) else { continue };
        // What has expired is not loaded.
        if space.expire_if_due(id, run) {
            continue;
        }
        let dumped = space.slots.value(id).map(payload::dump).unwrap_or_default();
        let loaded = payload::restore(&dumped).map_err(|_| CommandError::PayloadFormat)?;
        space.slots.replace(id, loaded);
    }
    run.reply.status("OK");
    Ok(())
}

fn debug_set_active_expire(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    space.sweeps_by_itself = c_int(&args[2].text()) != 0;
    run.reply.status("OK");
    Ok(())
}
