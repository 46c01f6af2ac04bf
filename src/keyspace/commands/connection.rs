//! Commands on the connection itself. What needs no more than the arguments is
//! answered here; what concerns the session is the door's.

use super::Done;
use super::help::help;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{ADMIN, ANY_TIME, CLIENTS, NO_KEY};
use crate::keyspace::command::{Command, Flags, Table, container, docs, door, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace};

/// What a client may send before it has said who it is.
const FIRST: Flags = CLIENTS.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "connection",
    commands: &[
        door("auth", -2, FIRST, docs("1.0.0", "O(N) in the users", "Proves who the client is.")),
        container("client", docs("2.4.0", "", "Commands on connections."), CLIENT),
        entry(
            "echo",
            2,
            ANY_TIME.and(Flags::FAST),
            NO_KEY,
            echo,
            docs("1.0.0", "O(1)", "Answers with its argument."),
        ),
        door(
            "hello",
            -1,
            FIRST,
            docs(
                "6.0.0",
                "O(1)",
                "Chooses the protocol; may also authenticate and name the connection.",
            ),
        ),
        entry(
            "ping",
            -1,
            Flags::FAST,
            NO_KEY,
            ping,
            docs("1.0.0", "O(1)", "Answers PONG, or with its argument."),
        ),
        door("quit", -1, FIRST, docs("1.0.0", "O(1)", "Closes the connection.")),
        door(
            "reset",
            1,
            FIRST,
            docs("6.2.0", "O(1)", "Makes the connection as it was when it was new."),
        ),
        entry(
            "select",
            2,
            ANY_TIME.and(Flags::FAST),
            NO_KEY,
            select,
            docs("1.0.0", "O(1)", "Chooses the database; there is number 0."),
        ),
    ],
};

/// What follows `CLIENT`.
const CLIENT: &[Command] = &[
    door("getname", 2, CLIENTS, docs("2.6.9", "O(1)", "The name of the connection.")),
    help("5.0.0"),
    door("id", 2, CLIENTS, docs("5.0.0", "O(1)", "The number of the connection.")),
    door("info", 2, CLIENTS, docs("6.2.0", "O(1)", "What is known of the connection.")),
    door("kill", -3, ADMIN, docs("2.4.0", "O(N) in the connections", "Ends connections.")),
    door(
        "list",
        -2,
        ADMIN,
        docs("2.4.0", "O(N) in the connections", "What is known of all connections."),
    ),
    door(
        "no-evict",
        3,
        ADMIN,
        docs("7.0.0", "O(1)", "Exempts the connection from eviction of clients; there is none."),
    ),
    door("pause", -3, ADMIN, docs("2.9.50", "O(1)", "Lets commands wait for a while.")),
    door("reply", 3, CLIENTS, docs("3.2.0", "O(1)", "Whether the connection gets replies.")),
    door(
        "setinfo",
        4,
        CLIENTS,
        docs("7.2.0", "O(1)", "Tells the name or version of the client's library."),
    ),
    door("setname", 3, CLIENTS, docs("2.6.9", "O(1)", "Names the connection.")),
    door(
        "unpause",
        2,
        ADMIN,
        docs("6.2.0", "O(N) in the connections", "Lets waiting commands go on."),
    ),
];

/// `PING [message]`
fn ping(_: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match args {
        [_] => run.reply.status("PONG"),
        [_, message] => run.reply.bulk(&message.text()),
        _ => return Err(CommandError::Arity("ping")),
    }
    Ok(())
}

/// `ECHO message`
fn echo(_: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.bulk(&args[1].text());
    Ok(())
}

/// `SELECT index`: there is one database, number 0.
fn select(_: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    if args[1].integer_within(i64::from(i32::MIN), i64::from(i32::MAX))? != 0 {
        return Err(CommandError::DatabaseOutOfRange);
    }
    run.reply.status("OK");
    Ok(())
}
