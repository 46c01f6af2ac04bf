//! Commands on channels. Publishing and looking are done here; the door runs
//! what changes a subscription, because a subscription belongs to a connection.

use super::Done;
use super::help::help;
use crate::keyspace::arg::Arg;
use crate::keyspace::channels::Ear;
use crate::keyspace::command::short::{ALL_KEYS, ANY_TIME, CLIENTS, NO_KEY, ONE_KEY};
use crate::keyspace::command::{Command, Flags, Table, container, docs, door, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::space::{Execution, Keyspace};

const LISTEN: Flags = CLIENTS.and(Flags::PUBSUB);
const LOOK: Flags = ANY_TIME.and(Flags::PUBSUB);
const PUBLISH: Flags = LOOK.and(Flags::FAST).and(Flags::MAY_REPLICATE);

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "pubsub",
    commands: &[
        door(
            "psubscribe",
            -2,
            LISTEN,
            docs("2.0.0", "O(N) in the patterns", "Listens to channels whose names match."),
        ),
        entry(
            "publish",
            3,
            PUBLISH,
            NO_KEY,
            publish,
            docs(
                "2.0.0",
                "O(N+M) in listeners and patterns",
                "Tells everybody who listens to a channel.",
            ),
        ),
        container("pubsub", docs("2.8.0", "", "Who listens to which channels."), PUBSUB),
        door(
            "punsubscribe",
            -1,
            LISTEN,
            docs(
                "2.0.0",
                "O(N) in the patterns",
                "No longer listens to channels whose names match.",
            ),
        ),
        entry(
            "spublish",
            3,
            PUBLISH,
            ONE_KEY,
            spublish,
            docs(
                "7.0.0",
                "O(N) in the listeners",
                "Tells everybody who listens to a shard channel.",
            ),
        ),
        Command {
            keys: ALL_KEYS,
            ..door(
                "ssubscribe",
                -2,
                LISTEN,
                docs("7.0.0", "O(N) in the channels", "Listens to shard channels."),
            )
        },
        door(
            "subscribe",
            -2,
            LISTEN,
            docs("2.0.0", "O(N) in the channels", "Listens to channels."),
        ),
        Command {
            keys: ALL_KEYS,
            ..door(
                "sunsubscribe",
                -1,
                LISTEN,
                docs("7.0.0", "O(N) in the channels", "No longer listens to shard channels."),
            )
        },
        door(
            "unsubscribe",
            -1,
            LISTEN,
            docs("2.0.0", "O(N) in the channels", "No longer listens to channels."),
        ),
    ],
};

const PUBSUB: &[Command] = &[
    entry(
        "channels",
        -2,
        LOOK,
        NO_KEY,
        channels,
        docs("2.8.0", "O(N) in the channels", "The channels that somebody listens to."),
    ),
    help("6.2.0"),
    entry(
        "numpat",
        2,
        LOOK,
        NO_KEY,
        numpat,
        docs("2.8.0", "O(1)", "How many patterns somebody listens to."),
    ),
    entry(
        "numsub",
        -2,
        LOOK,
        NO_KEY,
        numsub,
        docs("2.8.0", "O(N) in the channels", "How many listen to each channel."),
    ),
    entry(
        "shardchannels",
        -2,
        LOOK,
        NO_KEY,
        shardchannels,
        docs("7.0.0", "O(N) in the channels", "The shard channels that somebody listens to."),
    ),
    entry(
        "shardnumsub",
        -2,
        LOOK,
        NO_KEY,
        shardnumsub,
        docs("7.0.0", "O(N) in the channels", "How many listen to each shard channel."),
    ),
];

/// `PUBLISH channel message`
fn publish(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    publish_on(Ear::Channel, space, args, run)
}

/// `SPUBLISH channel message`
fn spublish(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    publish_on(Ear::Shard, space, args, run)
}

fn publish_on(ear: Ear, space: &Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (channel, message) = (args[1].text(), args[2].text());
    let count = space.channels.receivers(ear, &channel);
    if count > 0 {
        run.publish(ear, &channel, &message);
    }
    run.reply.count(count);
    Ok(())
}

/// `PUBSUB CHANNELS [pattern]`
fn channels(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    list_names("channels", Ear::Channel, space, args, run)
}

/// `PUBSUB SHARDCHANNELS [pattern]`
fn shardchannels(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    list_names("shardchannels", Ear::Shard, space, args, run)
}

fn list_names(
    name: &'static str,
    ear: Ear,
    space: &Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Done {
    let pattern = match args {
        [_, _] => None,
        [_, _, pattern] => Some(pattern.text()),
        _ => return Err(CommandError::SubcommandUse { command: "pubsub", part: name }),
    };
    let open = run.reply.open_array();
    let mut count = 0;
    for name in space.channels.names(ear, pattern.as_deref()) {
        run.reply.bulk(name);
        count += 1;
    }
    run.reply.close_array(open, count);
    Ok(())
}

/// `PUBSUB NUMSUB [channel …]`
fn numsub(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    count_listeners(Ear::Channel, space, args, run)
}

/// `PUBSUB SHARDNUMSUB [channel …]`
fn shardnumsub(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    count_listeners(Ear::Shard, space, args, run)
}

fn count_listeners(ear: Ear, space: &Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let channels = &args[2..];
    run.reply.array(2 * channels.len());
    for channel in channels {
        let name = channel.text();
        run.reply.bulk(&name);
        run.reply.count(space.channels.listeners(ear, &name));
    }
    Ok(())
}

/// `PUBSUB NUMPAT`
fn numpat(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    run.reply.count(space.channels.pattern_count());
    Ok(())
}
