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
    let name = args.first().ok_or(NotFound::Command)?;
    let entry = DIRECTORY.find(name).ok_or(NotFound::Command)?;
    match args.get(1) {
        Some(name) if !entry.subcommands.is_empty() => entry
            .subcommands
            .iter()
            .find(|it| it.command.name.as_bytes().eq_ignore_ascii_case(name))
            .ok_or(NotFound::Subcommand),
        _ => Ok(entry),
    }
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
    let entry = |command: &'static Command, container: &'static Command, full_name: String| {
        let handler = match command.run {
            Run::Door => handlers.get(full_name.as_str()).copied(),
            Run::Keyspace(_) | Run::Engine => None,
        };
        let runs = if matches!(command.run, Run::Engine) { container } else { command };
        Entry { command, runs, full_name, handler, subcommands: Vec::new() }
    };
    let entries: Vec<Entry> = keyspace::commands()
        .map(|(command, _)| {
            let subcommands = command.subcommands.iter().map(|it| {
                let full_name = format!("{}|{}", command.name, it.name);
                entry(it, command, full_name)
            });
            let subcommands = subcommands.collect();
            Entry { subcommands, ..entry(command, command, command.name.to_owned()) }
        })
        .collect();
    let names = entries.iter().enumerate();
    let by_name = names.map(|(index, it)| (it.command.name.as_bytes(), index)).collect();
    Directory { entries, by_name }
});
