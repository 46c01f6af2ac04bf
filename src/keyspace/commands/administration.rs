//! Commands on the server as a whole; the door and the store run them.

use super::help::help;
use crate::keyspace::command::short::{ADMIN, ANY_TIME, CLIENTS};
use crate::keyspace::command::{Command, Flags, Table, container, docs, door};

const BACKGROUND: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "server",
    commands: &[
        container("acl", docs("6.0.0", "", "Who the client is; there is one user."), ACL),
        door(
            "bgrewriteaof",
            1,
            BACKGROUND,
            docs("1.0.0", "O(1)", "Rewrites the log while requests go on."),
        ),
        door(
            "bgsave",
            -1,
            BACKGROUND,
            docs("1.0.0", "O(1)", "Writes a snapshot while requests go on."),
        ),
        Command {
            arity: -1,
            flags: ANY_TIME,
            ..container(
                "command",
                docs("2.8.13", "O(N) in the commands", "What commands there are."),
                COMMAND,
            )
        },
        container("config", docs("2.0.0", "", "Settings of the running server."), CONFIG),
        door("info", -1, ANY_TIME, docs("1.0.0", "O(1)", "How the server fares.")),
        door(
            "lastsave",
            1,
            ANY_TIME.and(Flags::FAST),
            docs("1.0.0", "O(1)", "When the last snapshot was written."),
        ),
        container("latency", docs("2.8.13", "", "What took long, and when."), LATENCY),
        door("monitor", 1, ADMIN, docs("1.0.0", "", "Shows every command as it is run.")),
        door(
            "role",
            1,
            CLIENTS.and(Flags::FAST),
            docs(
                "2.8.12",
                "O(1)",
                "The part the server plays in replication: a master without replicas.",
            ),
        ),
        door(
            "save",
            1,
            BACKGROUND.and(Flags::NO_MULTI),
            docs("1.0.0", "O(N) in the keys", "Writes a snapshot and waits for it."),
        ),
        door(
            "shutdown",
            -1,
            ADMIN.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
            docs("1.0.0", "", "Ends the server; the log is synced first."),
        ),
        container(
            "slowlog",
            docs("2.2.12", "", "The commands that took longest of late."),
            SLOWLOG,
        ),
        door(
            "waitaof",
            4,
            Flags::NOSCRIPT,
            docs("7.2.0", "O(1)", "Waits until the log is synced up to the client's last write."),
        ),
    ],
};

const ACL: &[Command] =
    &[help("6.0.0"), door("whoami", 2, CLIENTS, docs("6.0.0", "O(1)", "The name of the user."))];

const COMMAND: &[Command] = &[
    door("count", 2, ANY_TIME, docs("2.8.13", "O(1)", "How many commands there are.")),
    door("docs", -2, ANY_TIME, docs("7.0.0", "O(N) in the commands", "What commands do.")),
    door(
        "getkeys",
        -4,
        ANY_TIME,
        docs("2.8.13", "O(N) in the arguments", "The keys of a command line."),
    ),
    door(
        "getkeysandflags",
        -4,
        ANY_TIME,
        docs(
            "7.0.0",
            "O(N) in the arguments",
            "The keys of a command line, and what happens to them.",
        ),
    ),
    help("5.0.0"),
    door(
        "info",
        -2,
        ANY_TIME,
        docs("2.8.13", "O(N) in the commands", "Arity, flags and keys of commands."),
    ),
    door("list", -2, ANY_TIME, docs("7.0.0", "O(N) in the commands", "The names of commands.")),
];

const CONFIG: &[Command] = &[
    door("get", -3, ADMIN, docs("2.0.0", "O(N) in the settings", "Settings whose names match.")),
    help("5.0.0"),
    door("resetstat", 2, ADMIN, docs("2.0.0", "O(1)", "Sets the counts of INFO to zero.")),
    door(
        "rewrite",
        2,
        ADMIN,
        docs(
            "2.8.0",
            "O(1)",
            "Writes settings to the configuration file; refused, people own that file.",
        ),
    ),
    door("set", -4, ADMIN, docs("2.0.0", "O(N) in the settings", "Changes settings, all or none.")),
];

const LATENCY: &[Command] = &[
    door("doctor", 2, ADMIN, docs("2.8.13", "O(1)", "What took long, in words.")),
    help("2.8.13"),
    door("histogram", -2, ADMIN, docs("7.0.0", "O(N) in the commands", "How long commands took.")),
    door("history", 3, ADMIN, docs("2.8.13", "O(1)", "When an event took long.")),
    door("latest", 2, ADMIN, docs("2.8.13", "O(1)", "The latest of each event that took long.")),
    door("reset", -2, ADMIN, docs("2.8.13", "O(1)", "Forgets what took long.")),
];

const SLOWLOG: &[Command] = &[
    door(
        "get",
        -2,
        Flags::ADMIN.and(ANY_TIME),
        docs("2.2.12", "O(N) in the entries", "The entries, the latest first."),
    ),
    help("6.2.0"),
    door(
        "len",
        2,
        Flags::ADMIN.and(ANY_TIME),
        docs("2.2.12", "O(1)", "How many entries there are."),
    ),
    door(
        "reset",
        2,
        Flags::ADMIN.and(ANY_TIME),
        docs("2.2.12", "O(N) in the entries", "Forgets the entries."),
    ),
];
