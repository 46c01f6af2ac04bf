//! `HELP` of every command that is the first word of others: from the table.

use super::Done;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{ANY_TIME, NO_KEY};
use crate::keyspace::command::{Command, command, docs, entry};
use crate::keyspace::space::{Execution, Keyspace};

/// The line of `HELP` among the subcommands of a command.
pub(super) const fn help(since: &'static str) -> Command {
    let docs = docs(since, "O(1)", "Lists the subcommands.");
    entry("help", 2, ANY_TIME, NO_KEY, list_subcommands, docs)
}

/// `… HELP`
fn list_subcommands(_: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let name = args[0].text().to_ascii_uppercase();
    let parts = command(&name).map_or(&[][..], |container| container.subcommands);
    let name = String::from_utf8_lossy(&name);
    run.reply.array(1 + 2 * parts.len());
    run.reply.status(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for part in parts {
        run.reply.status(&part.name.to_ascii_uppercase());
        run.reply.status(&format!("    {}", part.docs.summary));
    }
    Ok(())
}
