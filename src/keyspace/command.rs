//! The table of commands: everything that is known of a command, as data.
//!
//! Dispatch, arity checks, key positions and what Functions may call all come
//! from here. A new command is a new entry; a test holds the table sorted.

use super::arg::Arg;
use super::commands::{keys, server, sorted_sets, strings};
use super::error::CommandError;
use super::space::{Execution, Keyspace};

/// Runs a command whose arity has been checked.
pub(super) type Handler =
    fn(&mut Keyspace, &[Arg<'_>], &mut Execution<'_>) -> Result<(), CommandError>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Arguments with the name; negative means at least that many.
    pub arity: i32,
    /// What it may do.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: KeyPositions,
    pub(super) run: Handler,
}

/// A set of properties of a command, named as `COMMAND INFO` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// May change the keyspace.
    pub const WRITE: Flags = Flags(1);
    /// Never changes the keyspace.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need memory: refused when there is none.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 3);
    /// Not for Functions.
    pub const NOSCRIPT: Flags = Flags(1 << 4);

    /// True if every property of `other` is in `self`.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Where the keys stand among the arguments; the name is argument 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPositions {
    /// The first key; 0 means that there is none.
    pub first: u32,
    /// The last key; negative counts from the end, -1 being the last argument.
    pub last: i32,
    /// From one key to the next.
    pub step: u32,
}

impl KeyPositions {
    const NONE: KeyPositions = KeyPositions { first: 0, last: 0, step: 1 };
    const ONE: KeyPositions = KeyPositions { first: 1, last: 1, step: 1 };
    const TWO: KeyPositions = KeyPositions { first: 1, last: 2, step: 1 };
    const ALL: KeyPositions = KeyPositions { first: 1, last: -1, step: 1 };
}

impl Command {
    /// True if the command may be given this many arguments, its name included.
    pub fn accepts(&self, arg_count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arg_count >= least } else { arg_count == least }
    }

    /// The places of the keys among `arg_count` arguments.
    pub fn key_places(&self, arg_count: usize) -> impl Iterator<Item = usize> {
        let KeyPositions { first, last, step } = self.keys;
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (arg_count + 1).saturating_sub(last.unsigned_abs() as usize),
        };
        let start = if first == 0 { end } else { first as usize };
        (start..end.min(arg_count)).step_by(step as usize)
    }
}

/// The command of this name, in any case.
pub fn command(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_LEN_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}

/// Every command, by name.
pub fn commands() -> &'static [Command] {
    COMMANDS
}

/// No name of a command is longer.
const NAME_LEN_MAX: usize = 24;

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);

const fn entry(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeyPositions,
    run: Handler,
) -> Command {
    Command { name, arity, flags, keys, run }
}

/// Sorted by name.
static COMMANDS: &[Command] = &[
    entry("dbsize", 1, READ_FAST, KeyPositions::NONE, server::dbsize),
    entry("decr", 2, GROW_FAST, KeyPositions::ONE, strings::decr),
    entry("decrby", 3, GROW_FAST, KeyPositions::ONE, strings::decrby),
    entry("del", -2, WRITE, KeyPositions::ALL, keys::del),
    entry("echo", 2, Flags::FAST, KeyPositions::NONE, server::echo),
    entry("exists", -2, READ_FAST, KeyPositions::ALL, keys::exists),
    entry("expire", -3, WRITE_FAST, KeyPositions::ONE, keys::expire),
    entry("expireat", -3, WRITE_FAST, KeyPositions::ONE, keys::expireat),
    entry("expiretime", 2, READ_FAST, KeyPositions::ONE, keys::expiretime),
    entry("flushall", -1, WRITE, KeyPositions::NONE, server::flush),
    entry("flushdb", -1, WRITE, KeyPositions::NONE, server::flush),
    entry("get", 2, READ_FAST, KeyPositions::ONE, strings::get),
    entry("incr", 2, GROW_FAST, KeyPositions::ONE, strings::incr),
    entry("incrby", 3, GROW_FAST, KeyPositions::ONE, strings::incrby),
    entry("persist", 2, WRITE_FAST, KeyPositions::ONE, keys::persist),
    entry("pexpire", -3, WRITE_FAST, KeyPositions::ONE, keys::pexpire),
    entry("pexpireat", -3, WRITE_FAST, KeyPositions::ONE, keys::pexpireat),
    entry("pexpiretime", 2, READ_FAST, KeyPositions::ONE, keys::pexpiretime),
    entry("ping", -1, Flags::FAST, KeyPositions::NONE, server::ping),
    entry("psetex", 4, GROW, KeyPositions::ONE, strings::psetex),
    entry("pttl", 2, READ_FAST, KeyPositions::ONE, keys::pttl),
    entry("rename", 3, WRITE, KeyPositions::TWO, keys::rename),
    entry("renamenx", 3, WRITE_FAST, KeyPositions::TWO, keys::renamenx),
    entry("select", 2, Flags::FAST, KeyPositions::NONE, server::select),
    entry("set", -3, GROW, KeyPositions::ONE, strings::set),
    entry("setex", 4, GROW, KeyPositions::ONE, strings::setex),
    entry("setnx", 3, GROW_FAST, KeyPositions::ONE, strings::setnx),
    entry("time", 1, Flags::FAST, KeyPositions::NONE, server::time),
    entry("ttl", 2, READ_FAST, KeyPositions::ONE, keys::ttl),
    entry("type", 2, READ_FAST, KeyPositions::ONE, keys::type_of),
    entry("unlink", -2, WRITE_FAST, KeyPositions::ALL, keys::del),
    entry("zadd", -4, GROW_FAST, KeyPositions::ONE, sorted_sets::zadd),
    entry("zcard", 2, READ_FAST, KeyPositions::ONE, sorted_sets::zcard),
    entry("zcount", 4, READ_FAST, KeyPositions::ONE, sorted_sets::zcount),
    entry("zincrby", 4, GROW_FAST, KeyPositions::ONE, sorted_sets::zincrby),
    entry("zrange", -4, READ, KeyPositions::ONE, sorted_sets::zrange),
    entry("zrangebyscore", -4, READ, KeyPositions::ONE, sorted_sets::zrangebyscore),
    entry("zrank", 3, READ_FAST, KeyPositions::ONE, sorted_sets::zrank),
    entry("zrem", -3, WRITE_FAST, KeyPositions::ONE, sorted_sets::zrem),
    entry("zremrangebyrank", 4, WRITE, KeyPositions::ONE, sorted_sets::zremrangebyrank),
    entry("zremrangebyscore", 4, WRITE, KeyPositions::ONE, sorted_sets::zremrangebyscore),
    entry("zrevrange", -4, READ, KeyPositions::ONE, sorted_sets::zrevrange),
    entry("zrevrangebyscore", -4, READ, KeyPositions::ONE, sorted_sets::zrevrangebyscore),
    entry("zrevrank", 3, READ_FAST, KeyPositions::ONE, sorted_sets::zrevrank),
    entry("zscore", 3, READ_FAST, KeyPositions::ONE, sorted_sets::zscore),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_names_are_lower_case_and_short() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for command in COMMANDS {
            assert!(command.name.len() <= NAME_LEN_MAX, "{}", command.name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
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
        let places = |name: &str, arg_count: usize| -> Vec<usize> {
            command(name.as_bytes()).unwrap().key_places(arg_count).collect()
        };
        assert_eq!(places("get", 2), [1]);
        assert_eq!(places("del", 4), [1, 2, 3]);
        assert_eq!(places("rename", 3), [1, 2]);
        assert_eq!(places("ping", 2), [0usize; 0]);
    }
}
