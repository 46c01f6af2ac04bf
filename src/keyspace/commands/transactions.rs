//! Commands of transactions; the door and the store run them.

use crate::keyspace::command::short::{ALL_KEYS, CLIENTS};
use crate::keyspace::command::{Command, Flags, Table, docs, door};

const QUICK: Flags = CLIENTS.and(Flags::FAST).and(Flags::ALLOW_BUSY);

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "transactions",
    commands: &[
        door(
            "discard",
            1,
            QUICK,
            docs("2.0.0", "O(N) in the queued commands", "Forgets the queued commands."),
        ),
        door(
            "exec",
            1,
            CLIENTS.and(Flags::SKIP_SLOWLOG),
            docs(
                "1.2.0",
                "that of the queued commands",
                "Runs the queued commands, with none of others between them.",
            ),
        ),
        door("multi", 1, QUICK, docs("1.2.0", "O(1)", "From here on commands are queued.")),
        door("unwatch", 1, QUICK, docs("2.2.0", "O(1)", "Forgets the watched keys.")),
        Command {
            keys: ALL_KEYS,
            ..door(
                "watch",
                -2,
                QUICK,
                docs(
                    "2.2.0",
                    "O(1) a key",
                    "EXEC will do nothing if one of these keys has changed.",
                ),
            )
        },
    ],
};
