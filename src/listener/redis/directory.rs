//! Which command a name means, and who runs it: the one table of commands, with
//! the handlers of the door beside those that the door runs itself.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::keyspace::{self, Command, Run};

use super::commands;
use super::dispatch::Turn;

/// Runs a command of the door. The arity has been checked.
pub type Handler = fn(&mut Turn<'_, '_>, &[&[u8]]);

/// A command or a subcommand.
#[derive(Debug)]
pub struct Entry {
    /// Its line in the table.
    pub command: &'static Command,
    /// What the store is given to run; the engine finds subcommands by itself.
    pub runs: &'static Command,
    /// The kind of command.
    pub group: &'static str,
    /// Its place among all entries, subcommands included.
    pub index: usize,
    /// `get`, `client|id`.
    pub full_name: String,
    /// Runs it, if the door does.
    pub handler: Option<Handler>,
    /// What its first argument may name.
    pub subcommands: Vec<Entry>,
}

/// Why a request names no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is no such command.
    Command,
    /// There is no such subcommand.
    Subcommand,
}

/// Finds what a request names.
///
/// # Errors
/// See [`NotFound`].
pub fn find(args: &[&[u8]]) -> Result<&'static Entry, NotFound> {
    find_by(args.first().copied(), args.get(1).copied())
}

/// Finds what a request of this name, with this first argument, names.
///
/// # Errors
/// See [`NotFound`].
pub fn find_by(name: Option<&[u8]>, first: Option<&[u8]>) -> Result<&'static Entry, NotFound> {
    let entry = name.and_then(|name| DIRECTORY.find(name)).ok_or(NotFound::Command)?;
    match first {
        Some(name) if !entry.subcommands.is_empty() => entry
            .subcommands
            .iter()
            .find(|it| it.command.name.as_bytes().eq_ignore_ascii_case(name))
            .ok_or(NotFound::Subcommand),
        _ => Ok(entry),
    }
}

/// The entry of this full name, such as `client|id`, in any case.
pub fn find_full(name: &[u8]) -> Option<&'static Entry> {
    let mut words = name.splitn(2, |byte| *byte == b'|');
    let entry = DIRECTORY.find(words.next()?)?;
    let Some(part) = words.next() else { return Some(entry) };
    entry.subcommands.iter().find(|it| it.command.name.as_bytes().eq_ignore_ascii_case(part))
}

/// Every command, sorted by name.
pub fn entries() -> &'static [Entry] {
    &DIRECTORY.entries
}

/// Every command and subcommand.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    entries().iter().flat_map(|it| std::iter::once(it).chain(&it.subcommands))
}

#[derive(Debug)]
struct Directory {
    entries: Vec<Entry>,
    by_name: HashMap<&'static [u8], usize>,
}

/// No name of a command is longer.
const NAME_LEN_MAX: usize = 24;

impl Directory {
    fn find(&self, name: &[u8]) -> Option<&Entry> {
        let mut lower = [0; NAME_LEN_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower).map(|index| &self.entries[*index])
    }
}

static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let handlers: HashMap<&str, Handler> = commands::handlers().collect();
    let mut index = 0;
    let mut entry = |command: &'static Command, container: &'static Command, group| {
        let is_part = !std::ptr::eq(command, container);
        let full_name = match is_part {
            true => format!("{}|{}", container.name, command.name),
            false => command.name.to_owned(),
        };
        let handler = match command.run {
            Run::Door => handlers.get(full_name.as_str()).copied(),
            Run::Keyspace(_) | Run::Engine => None,
        };
        let runs = if matches!(command.run, Run::Engine) { container } else { command };
        index += 1;
        let subcommands = Vec::new();
        Entry { command, runs, group, index: index - 1, full_name, handler, subcommands }
    };
    let entries: Vec<Entry> = keyspace::commands()
        .map(|(command, group)| {
            let parts = command.subcommands.iter().map(|it| entry(it, command, group));
            let subcommands = parts.collect();
            Entry { subcommands, ..entry(command, command, group) }
        })
        .collect();
    let names = entries.iter().enumerate();
    let by_name = names.map(|(index, it)| (it.command.name.as_bytes(), index)).collect();
    Directory { entries, by_name }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_door_has_a_handler_and_every_handler_a_command() {
        let is_run_here = |entry: &&Entry| {
            matches!(entry.command.run, Run::Door)
                && (entry.subcommands.is_empty() || entry.handler.is_some())
        };
        let listed: Vec<&str> =
            all().filter(is_run_here).map(|entry| entry.full_name.as_str()).collect();
        let without: Vec<&&str> = listed
            .iter()
            .filter(|name| find_full(name.as_bytes()).unwrap().handler.is_none())
            .collect();
        assert!(without.is_empty(), "nobody runs {without:?}");
        for (name, _) in commands::handlers() {
            assert!(listed.contains(&name), "{name} is in no table");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_with_their_subcommands() {
        let full_name = |line: &[&[u8]]| find(line).map(|entry| entry.full_name.as_str());
        assert_eq!(full_name(&[b"GeT", b"a"]), Ok("get"));
        assert_eq!(full_name(&[b"client", b"ID"]), Ok("client|id"));
        assert_eq!(full_name(&[b"client"]), Ok("client"));
        assert_eq!(full_name(&[b"client", b"nosuch"]), Err(NotFound::Subcommand));
        assert_eq!(full_name(&[b"nosuch"]), Err(NotFound::Command));
        assert_eq!(find_full(b"CLIENT|id").map(|it| it.full_name.as_str()), Some("client|id"));
    }
}
