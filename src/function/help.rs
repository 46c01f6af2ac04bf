//! What `FUNCTION HELP` and `SCRIPT HELP` tell.

use super::error::CommandError;
use crate::resp::Reply;

/// One line each, as a terminal shows them.
pub(super) const FUNCTION: [&str; 21] = [
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOAD [REPLACE] <library code>",
    "    Loads a library; with REPLACE in the place of one of the same name.",
    "DELETE <library name>",
    "    Removes a library and its Functions.",
    "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
    "    Lists libraries and their Functions.",
    "STATS",
    "    Tells what runs and how much is loaded.",
    "KILL",
    "    Ends the Function that runs, and undoes what it wrote.",
    "FLUSH [ASYNC|SYNC]",
    "    Removes all libraries.",
    "DUMP",
    "    Packs all libraries into one payload.",
    "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
    "    Loads the libraries of a payload: in place of all that are loaded (FLUSH),",
    "    beside them (APPEND, which names that are taken refuse), or in place of",
    "    those of the same name (REPLACE).",
    "HELP",
    "    Prints this.",
];

/// One line each, as a terminal shows them.
pub(super) const SCRIPT: [&str; 15] = [
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DEBUG (YES|SYNC|NO)",
    "    There is no debugger; NO is accepted.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Tells which scripts are known.",
    "FLUSH [ASYNC|SYNC]",
    "    Forgets all scripts.",
    "KILL",
    "    Ends the script that runs, and undoes what it wrote.",
    "LOAD <script>",
    "    Makes a script known without running it.",
    "    EVALSHA runs it by the SHA1 that this answers.",
    "    It stays known until SCRIPT FLUSH or the end of the process.",
    "HELP",
    "    Prints this.",
];

/// Writes the lines. Never fails; handlers do.
pub(super) fn write(lines: &[&str], reply: &mut Reply) -> Result<(), CommandError> {
    reply.array(lines.len());
    for line in lines {
        reply.status(line);
    }
    Ok(())
}
