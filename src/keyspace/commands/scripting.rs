//! Commands that the Lua engine runs, above the keyspace.

use crate::keyspace::command::short::NO_KEY;
use crate::keyspace::command::{Command, Flags, KeyPositions, Run, Table, docs};

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "scripting",
    commands: &[
        call("eval", CALL_WRITES, "2.6.0", "Runs a script."),
        call("eval_ro", CALL_READS, "7.0.0", "Runs a script that only reads."),
        call("evalsha", CALL_WRITES, "2.6.0", "Runs a script that is known, by its SHA1."),
        call(
            "evalsha_ro",
            CALL_READS,
            "7.0.0",
            "Runs a script that is known and only reads, by its SHA1.",
        ),
        call("fcall", CALL_WRITES, "7.0.0", "Calls a Function."),
        call("fcall_ro", CALL_READS, "7.0.0", "Calls a Function that only reads."),
        container(
            "function",
            "7.0.0",
            "Commands on libraries of Functions.",
            &[
                part("delete", 3, CHANGE, "7.0.0", "O(1)", "Removes a library and its Functions."),
                part(
                    "dump",
                    2,
                    Flags::NOSCRIPT,
                    "7.0.0",
                    "O(N) in libraries",
                    "Packs all libraries.",
                ),
                part("flush", -2, CHANGE, "7.0.0", "O(N) in libraries", "Removes all libraries."),
                part("help", 2, HELP, "7.0.0", "O(1)", "Tells what the subcommands do."),
                part(
                    "kill",
                    2,
                    Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                    "7.0.0",
                    "O(1)",
                    "Ends the Function that runs, and undoes what it wrote.",
                ),
                part(
                    "list",
                    -2,
                    Flags::NOSCRIPT,
                    "7.0.0",
                    "O(N) in Functions",
                    "Lists libraries and their Functions.",
                ),
                part(
                    "load",
                    -3,
                    CHANGE.and(Flags::DENYOOM),
                    "7.0.0",
                    "O(1), and what its top level takes",
                    "Loads a library.",
                ),
                part(
                    "restore",
                    -3,
                    CHANGE.and(Flags::DENYOOM),
                    "7.0.0",
                    "O(N) in libraries",
                    "Loads libraries that were packed by FUNCTION DUMP.",
                ),
                part(
                    "stats",
                    2,
                    Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                    "7.0.0",
                    "O(1)",
                    "Tells what runs and how much is loaded.",
                ),
            ],
        ),
        container(
            "script",
            "2.6.0",
            "Commands on scripts.",
            &[
                part(
                    "debug",
                    3,
                    Flags::NOSCRIPT,
                    "3.2.0",
                    "O(1)",
                    "Sets how scripts are debugged.",
                ),
                part(
                    "exists",
                    -3,
                    Flags::NOSCRIPT,
                    "2.6.0",
                    "O(N) in names",
                    "Tells which scripts are known.",
                ),
                part(
                    "flush",
                    -2,
                    Flags::NOSCRIPT,
                    "2.6.0",
                    "O(N) in scripts",
                    "Forgets all scripts.",
                ),
                part("help", 2, HELP, "5.0.0", "O(1)", "Tells what the subcommands do."),
                part(
                    "kill",
                    2,
                    Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                    "2.6.0",
                    "O(1)",
                    "Ends the script that runs, and undoes what it wrote.",
                ),
                part(
                    "load",
                    3,
                    Flags::NOSCRIPT.and(Flags::STALE),
                    "2.6.0",
                    "O(N) in its length",
                    "Makes a script known without running it.",
                ),
            ],
        ),
    ],
};

const CALL: Flags = Flags::NOSCRIPT
    .and(Flags::STALE)
    .and(Flags::SKIP_MONITOR)
    .and(Flags::NO_MANDATORY_KEYS)
    .and(Flags::MOVABLE_KEYS);
const CALL_WRITES: Flags = CALL.and(Flags::MAY_REPLICATE);
const CALL_READS: Flags = CALL.and(Flags::READONLY);
const CHANGE: Flags = Flags::WRITE.and(Flags::NOSCRIPT);
const HELP: Flags = Flags::LOADING.and(Flags::STALE);

/// `name text-or-name numkeys key… arg…`
const fn call(
    name: &'static str,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
) -> Command {
    Command {
        name,
        arity: -3,
        flags,
        keys: KeyPositions { first: 0, last: 0, step: 0, counted: 2 },
        run: Run::Engine,
        docs: docs(since, "that of what it runs", summary),
        subcommands: &[],
    }
}

const fn container(
    name: &'static str,
    since: &'static str,
    summary: &'static str,
    subcommands: &'static [Command],
) -> Command {
    let docs = docs(since, "that of the subcommand", summary);
    Command {
        name,
        arity: -2,
        flags: Flags::NONE,
        keys: NO_KEY,
        run: Run::Engine,
        docs,
        subcommands,
    }
}

const fn part(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: NO_KEY,
        run: Run::Engine,
        docs: docs(since, complexity, summary),
        subcommands: &[],
    }
}
