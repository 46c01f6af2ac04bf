//! The table of commands: everything that is known of a command, as data.
//!
//! Dispatch, arity checks, key positions, `COMMAND` and what Functions may call
//! all come from here. Each kind of command states its own [`Table`] beside its
//! handlers; this file joins them. A command stands in exactly one table, also
//! when something above the keyspace runs it, see [`Run`].

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::arg::Arg;
use super::commands as kinds;
use super::error::CommandError;
use super::space::{Execution, Keyspace};
use crate::resp::until_zero;

/// Runs a command whose arity has been checked.
pub type Handler = fn(&mut Keyspace, &[Arg<'_>], &mut Execution<'_>) -> Result<(), CommandError>;

/// Who runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// The keyspace, by [`Keyspace::execute`].
    Keyspace(Handler),
    /// The Lua engine: scripts and Functions.
    Engine,
    /// The door or the store: connections, transactions, the server itself.
    Door,
}

/// One command.
#[derive(Debug)]
pub struct Command {
    /// In lower case; of a subcommand, its own name alone.
    pub name: &'static str,
    /// Arguments with the name (of a subcommand: with both); negative means at
    /// least that many.
    pub arity: i32,
    /// What it may do.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: KeyPositions,
    /// Who runs it.
    pub run: Run,
    /// What people are told of it.
    pub docs: Docs,
    /// What its first argument may name.
    pub subcommands: &'static [Command],
}

/// What `COMMAND DOCS` tells.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// One sentence.
    pub summary: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// How its time grows.
    pub complexity: &'static str,
}

/// Commands of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As `COMMAND DOCS` names the kind: `string`, `sorted-set`.
    pub group: &'static str,
    /// In any order.
    pub commands: &'static [Command],
}

/// The tables, one for each kind.
static TABLES: &[&Table] = &[
    &kinds::administration::TABLE,
    &kinds::connection::TABLE,
    &kinds::hashes::TABLE,
    &kinds::inspection::SERVER_TABLE,
    &kinds::inspection::TABLE,
    &kinds::keys::TABLE,
    &kinds::lists::TABLE,
    &kinds::payloads::TABLE,
    &kinds::pubsub::TABLE,
    &kinds::scripting::TABLE,
    &kinds::server::TABLE,
    &kinds::sets::TABLE,
    &kinds::sorted_sets::TABLE,
    &kinds::strings::TABLE,
    &kinds::transactions::TABLE,
];

/// A set of properties of a command, named as `COMMAND INFO` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No property.
    pub const NONE: Flags = Flags(0);
    /// May change the keyspace.
    pub const WRITE: Flags = Flags(1);
    /// Never changes the keyspace.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need memory: refused when there is none.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 3);
    /// Not for scripts and Functions.
    pub const NOSCRIPT: Flags = Flags(1 << 4);
    /// Concerns the server rather than data.
    pub const ADMIN: Flags = Flags(1 << 5);
    /// Concerns channels.
    pub const PUBSUB: Flags = Flags(1 << 6);
    /// Answered while the state is loaded.
    pub const LOADING: Flags = Flags(1 << 7);
    /// Answered by a replica whose data may be old.
    pub const STALE: Flags = Flags(1 << 8);
    /// Not shown by `MONITOR`.
    pub const SKIP_MONITOR: Flags = Flags(1 << 9);
    /// Not noted in the slow log.
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    /// Answered before the client has said who it is.
    pub const NO_AUTH: Flags = Flags(1 << 11);
    /// Writes nothing itself and counts as a write where clients or scripts may only
    /// read: what it runs may write, or it is heard beyond this server. Not shown, as
    /// in Redis.
    pub const MAY_REPLICATE: Flags = Flags(1 << 12);
    /// Not within `MULTI`.
    pub const NO_MULTI: Flags = Flags(1 << 13);
    /// Where its keys stand depends on its arguments.
    pub const MOVABLE_KEYS: Flags = Flags(1 << 14);
    /// Answered while a script runs for too long.
    pub const ALLOW_BUSY: Flags = Flags(1 << 15);
    /// A script may run it without declaring keys.
    pub const NO_MANDATORY_KEYS: Flags = Flags(1 << 16);
    /// Not answered while the state is loaded in the background.
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 17);

    const NAMES: [(Flags, &'static str); 17] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_MONITOR, "skip_monitor"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::MOVABLE_KEYS, "movablekeys"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];

    /// True if every property of `other` is in `self`.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The names of the properties.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

/// What most commands are, in short.
pub(super) mod short {
    use super::{Flags, KeyPositions};

    pub const READ: Flags = Flags::READONLY;
    pub const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
    pub const WRITE: Flags = Flags::WRITE;
    pub const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
    /// Writes, and may need memory.
    pub const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
    pub const GROW_FAST: Flags = GROW.and(Flags::FAST);

    /// Concerns a connection or the server, and is answered whenever it can be.
    pub const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE);
    /// The same, and not for scripts.
    pub const CLIENTS: Flags = ANY_TIME.and(Flags::NOSCRIPT);
    /// The same, for administrators.
    pub const ADMIN: Flags = CLIENTS.and(Flags::ADMIN);

    pub const NO_KEY: KeyPositions = KeyPositions { first: 0, last: 0, step: 0, counted: 0 };
    pub const ONE_KEY: KeyPositions = KeyPositions { first: 1, last: 1, step: 1, counted: 0 };
    pub const TWO_KEYS: KeyPositions = KeyPositions { first: 1, last: 2, step: 1, counted: 0 };
    pub const ALL_KEYS: KeyPositions = KeyPositions { first: 1, last: -1, step: 1, counted: 0 };
}

/// Where the keys stand among the arguments; the name is argument 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPositions {
    /// The first key; 0 means that none has a fixed place.
    pub first: u32,
    /// The last key; negative counts from the end, -1 being the last argument.
    pub last: i32,
    /// From one key to the next.
    pub step: u32,
    /// Which argument says how many keys follow it (`ZUNION 2 a b`); 0 means that
    /// none does.
    pub counted: u32,
}

impl Command {
    /// True if the command may be given this many arguments, its name included.
    pub fn accepts(&self, arg_count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arg_count >= least } else { arg_count == least }
    }

    /// True if it may change something, by itself or by what it runs.
    pub fn may_write(&self) -> bool {
        self.flags.contains(Flags::WRITE) || self.flags.contains(Flags::MAY_REPLICATE)
    }

    /// The command that `args` name: this one, or the subcommand of it.
    ///
    /// # Errors
    /// There is no such subcommand, or there are too few or too many arguments.
    pub fn resolve(&'static self, args: &[Arg<'_>]) -> Result<&'static Command, CommandError> {
        if !self.accepts(args.len()) {
            return Err(CommandError::Arity(self.name));
        }
        let (false, Some(word)) = (self.subcommands.is_empty(), args.get(1)) else {
            return Ok(self);
        };
        match self.subcommands.iter().find(|it| word.is_word(it.name)) {
            Some(found) if found.accepts(args.len()) => Ok(found),
            Some(found) => Err(CommandError::SubcommandArity(self.name, found.name)),
            None => Err(CommandError::UnknownSubcommand {
                command: self.name,
                word: String::from_utf8_lossy(until_zero(&word.text())).chars().take(128).collect(),
            }),
        }
    }

    /// The place of the key, of a command that names one always.
    pub fn sole_key_place(&self) -> Option<usize> {
        (self.keys == short::ONE_KEY).then_some(1)
    }

    /// The places of the keys among `args`, the name included. A count of keys
    /// that is no number, or more than there are, gives none of those.
    pub fn key_places(&self, args: &[&[u8]]) -> impl Iterator<Item = usize> + use<> {
        let KeyPositions { first, last, step, counted } = self.keys;
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (args.len() + 1).saturating_sub(last.unsigned_abs() as usize),
        };
        let start = if first == 0 { end } else { first as usize };
        let fixed = (start..end.min(args.len())).step_by(step.max(1) as usize);
        let counted = counted as usize;
        let count = match args.get(counted) {
            Some(text) if counted > 0 => {
                std::str::from_utf8(text).ok().and_then(|it| it.parse().ok())
            }
            _ => None,
        };
        let begin = counted + 1;
        let count = count.filter(|count: &usize| *count <= args.len() - begin.min(args.len()));
        fixed.chain(begin..begin + count.unwrap_or(0))
    }
}

/// One entry of a table.
pub(super) const fn entry(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeyPositions,
    run: Handler,
    docs: Docs,
) -> Command {
    Command { name, arity, flags, keys, run: Run::Keyspace(run), docs, subcommands: &[] }
}

/// One entry of a table that the door or the store runs. Hardly any of them has keys.
pub(super) const fn door(name: &'static str, arity: i32, flags: Flags, docs: Docs) -> Command {
    let keys = short::NO_KEY;
    Command { name, arity, flags, keys, run: Run::Door, docs, subcommands: &[] }
}

/// A command that is only the first word of others.
pub(super) const fn container(
    name: &'static str,
    docs: Docs,
    subcommands: &'static [Command],
) -> Command {
    let command = door(name, -2, Flags::NONE, docs);
    Command { subcommands, ..command }
}

/// What people are told: since which version of Redis, how time grows, and a
/// sentence.
pub(super) const fn docs(
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
) -> Docs {
    Docs { summary, since, complexity }
}

/// The command of this name, in any case.
pub fn command(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_LEN_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    COMMANDS.get(&*lower).map(|(command, _)| *command)
}

/// Every command with its group, by name.
pub fn commands() -> impl Iterator<Item = (&'static Command, &'static str)> {
    let mut commands: Vec<_> = COMMANDS.values().copied().collect();
    commands.sort_unstable_by_key(|(command, _)| command.name);
    commands.into_iter()
}

/// No name of a command is longer.
const NAME_LEN_MAX: usize = 24;

/// The tables joined.
static COMMANDS: LazyLock<HashMap<&[u8], (&Command, &str)>> = LazyLock::new(|| {
    let entries = TABLES.iter().flat_map(|table| table.commands.iter().map(|it| (it, table.group)));
    entries.map(|(command, group)| (command.name.as_bytes(), (command, group))).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_once_in_lower_case_and_with_a_summary() {
        let listed: usize = TABLES.iter().map(|table| table.commands.len()).sum();
        assert_eq!(listed, commands().count(), "a command stands in two tables");
        for (command, _) in commands() {
            assert!(command.name.len() <= NAME_LEN_MAX, "{}", command.name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert!(!command.docs.summary.is_empty(), "{}", command.name);
            assert!(
                !command.flags.contains(Flags::WRITE.and(Flags::READONLY)),
                "{} cannot be both",
                command.name,
            );
        }
    }

    #[test]
    fn commands_are_found_in_any_case() {
        assert_eq!(command(b"ZaDd").map(|it| it.name), Some("zadd"));
        assert!(command(b"nosuch").is_none());
        assert!(command(&[b'x'; 100]).is_none());
    }

    #[test]
    fn key_places_follow_the_positions() {
        let places = |line: &str| -> Vec<usize> {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            command(args[0]).unwrap().key_places(&args).collect()
        };
        assert_eq!(places("get a"), [1]);
        assert_eq!(places("del a b c"), [1, 2, 3]);
        assert_eq!(places("rename a b"), [1, 2]);
        assert_eq!(places("ping a"), [0usize; 0]);
    }

    #[test]
    fn counted_keys_are_as_many_as_the_count_says() {
        let keys = KeyPositions { first: 1, last: 1, step: 1, counted: 2 };
        let counted = Command { keys, ..entry("x", -4, Flags::WRITE, keys, unused, NO_DOCS) };
        let places = |args: &[&str]| -> Vec<usize> {
            let args: Vec<&[u8]> = args.iter().map(|it| it.as_bytes()).collect();
            counted.key_places(&args).collect()
        };
        assert_eq!(places(&["x", "dest", "2", "a", "b", "WITHSCORES"]), [1, 3, 4]);
        assert_eq!(places(&["x", "dest", "3", "a", "b"]), [1]);
        assert_eq!(places(&["x", "dest", "many", "a", "b"]), [1]);
        assert_eq!(places(&["x", "dest"]), [1]);
    }

    const NO_DOCS: Docs = docs("", "", "");

    fn unused(_: &mut Keyspace, _: &[Arg<'_>], _: &mut Execution<'_>) -> Result<(), CommandError> {
        Ok(())
    }
}
