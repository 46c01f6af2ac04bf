//! `HELP` of every command that is the first word of others: from the table.

use crate::listener::redis::directory::{self, Handler};
use crate::listener::redis::dispatch::Turn;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("acl|help", help),
    ("client|help", help),
    ("command|help", help),
    ("config|help", help),
    ("latency|help", help),
    ("pubsub|help", help),
    ("slowlog|help", help),
];

/// `… HELP`
fn help(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let Ok(container) = directory::find(&args[..1]) else { return };
    let name = container.command.name.to_ascii_uppercase();
    let parts = &container.subcommands;
    turn.reply.array(1 + 2 * parts.len());
    turn.reply.status(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for part in parts {
        turn.reply.status(&part.command.name.to_ascii_uppercase());
        turn.reply.status(&format!("    {}", part.command.docs.summary));
    }
}
