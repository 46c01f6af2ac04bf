//! Commands on channels; the door runs those that change a subscription.

use crate::keyspace::command::short::{ALL_KEYS, CLIENTS, NO_KEY};
use crate::keyspace::command::{Flags, Table, docs, door};

const LISTEN: Flags = CLIENTS.and(Flags::PUBSUB);

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "pubsub",
    commands: &[
        door(
            "psubscribe",
            -2,
            LISTEN,
            NO_KEY,
            docs("2.0.0", "O(N) in the patterns", "Listens to channels whose names match."),
        ),
        door(
            "punsubscribe",
            -1,
            LISTEN,
            NO_KEY,
            docs(
                "2.0.0",
                "O(N) in the patterns",
                "No longer listens to channels whose names match.",
            ),
        ),
        door(
            "ssubscribe",
            -2,
            LISTEN,
            ALL_KEYS,
            docs("7.0.0", "O(N) in the channels", "Listens to shard channels."),
        ),
        door(
            "subscribe",
            -2,
            LISTEN,
            NO_KEY,
            docs("2.0.0", "O(N) in the channels", "Listens to channels."),
        ),
        door(
            "sunsubscribe",
            -1,
            LISTEN,
            ALL_KEYS,
            docs("7.0.0", "O(N) in the channels", "No longer listens to shard channels."),
        ),
        door(
            "unsubscribe",
            -1,
            LISTEN,
            NO_KEY,
            docs("2.0.0", "O(N) in the channels", "No longer listens to channels."),
        ),
    ],
};
