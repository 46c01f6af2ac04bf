//! What Redis tells of each command beside what it takes to run it: what becomes of
//! its keys, what proxies and clients should know, its arguments and its history.
//!
//! The facts stand in `facts.json`, under the full names of the commands. What runs
//! a command is in the one table of commands and not here; the tests hold the two
//! against each other, and `tests/peers` holds both against a redis-server.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::parse_integer;
use crate::resp::number::c_int;

/// The facts of one command. What is not told is not there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// Where its keys stand, and what becomes of them.
    pub keys: Vec<KeySpec>,
    /// Hints for clients and proxies.
    pub tips: Vec<String>,
    /// What it may be given.
    pub arguments: Vec<Argument>,
    /// Since which version it does what.
    pub history: Vec<(String, String)>,
    /// What `COMMAND DOCS` calls `doc_flags`.
    pub flags: Vec<String>,
    /// If it is better not used any more.
    pub deprecated: Option<Deprecated>,
}

/// Where keys stand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// What becomes of them, in Redis' words.
    pub flags: Vec<String>,
    /// More about that.
    pub note: Option<String>,
    /// The argument at which they begin.
    pub index: usize,
    /// How far they reach. Without it, the argument at `index` counts the keys behind
    /// it.
    pub range: Option<KeyRange>,
}

/// Keys from one argument on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRange {
    /// The last one, from the first one on; negative counts from the end.
    pub last: i32,
    /// From one key to the next.
    pub step: usize,
}

/// An argument, or a choice or block of some.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// What it is called.
    pub name: String,
    /// What it is, in Redis' words.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which specification of keys it belongs to.
    pub key: Option<u32>,
    /// The word before it, or that it is.
    pub token: Option<String>,
    /// Since which version.
    pub since: Option<String>,
    /// Since when it is better not used.
    pub deprecated_since: Option<String>,
    /// If it may be left out or come again.
    #[serde(default)]
    pub flags: Vec<String>,
    /// What it is made of.
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// Since when a command is better not used, and what is used for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deprecated {
    /// Since which version.
    pub since: String,
    /// Used in its place.
    #[serde(rename = "for")]
    pub replacement: String,
}

/// The facts of the command of this full name.
pub fn of(full_name: &str) -> &'static Facts {
    FACTS.get(full_name).unwrap_or(&NONE)
}

static NONE: LazyLock<Facts> = LazyLock::new(Facts::default);

// That the file reads is a test's; a server does not end over documentation.
static FACTS: LazyLock<HashMap<String, Facts>> = LazyLock::new(|| read().unwrap_or_default());

fn read() -> serde_json::Result<HashMap<String, Facts>> {
    serde_json::from_str(include_str!("facts.json"))
}

/// A key among the arguments, and what becomes of it.
pub type KeyPlace = (usize, Vec<&'static str>);

impl Facts {
    /// True if some argument may be a key.
    pub fn has_keys(&self) -> bool {
        self.keys.iter().any(|spec| !spec.has_flag("not_key"))
    }

    /// The keys among `args`, as Redis finds them for `COMMAND GETKEYS`: by the
    /// specifications, and where these do not fit or say too little, by a closer
    /// look at the arguments, which tells less of what becomes of the keys.
    pub fn key_places(&'static self, args: &[&[u8]]) -> Vec<KeyPlace> {
        if self.keys.iter().any(|spec| spec.has_flag("variable_flags")) {
            return vec![(1, set_flags(args))];
        }
        let mut places = Vec::new();
        for spec in self.keys.iter().filter(|spec| !spec.has_flag("not_key")) {
            let Some(found) = spec.places(args) else { return self.counted_loosely(args) };
            let flags = || spec.flags.iter().map(String::as_str).collect();
            places.extend(found.into_iter().map(|at| (at, flags())));
        }
        places
    }

    /// The keys behind a count that is read as C's `atoi` does. A destination comes
    /// last.
    fn counted_loosely(&self, args: &[&[u8]]) -> Vec<KeyPlace> {
        let Some(spec) = self.keys.iter().find(|spec| spec.range.is_none()) else {
            return Vec::new();
        };
        let first = spec.index + 1;
        let count = args.get(spec.index).map_or(0, |text| c_int(text));
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 || first + count > args.len() {
            return Vec::new();
        }
        let destination = self.keys.iter().find(|spec| spec.range.is_some());
        let destination = destination.map(|spec| spec.index);
        (first..first + count).chain(destination).map(|at| (at, Vec::new())).collect()
    }
}

impl KeySpec {
    fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| it == flag)
    }

    /// Where the keys are; `None` if the arguments do not fit.
    fn places(&self, args: &[&[u8]]) -> Option<Vec<usize>> {
        let (first, last, step) = match self.range {
            Some(KeyRange { last, step }) => {
                let from = if last < 0 { args.len() } else { self.index };
                (self.index, from.checked_add_signed(last as isize)?, step)
            }
            None => {
                let count = parse_integer(args.get(self.index)?).filter(|it| *it >= 0)?;
                // Redis counts in 32 bits.
                let count = usize::try_from(count as i32).ok()?;
                (self.index + 1, self.index + count, 1)
            }
        };
        let fits = first <= last && last < args.len();
        fits.then(|| (first..=last).step_by(step).collect())
    }
}

/// Whether `SET` reads what was there depends on its arguments.
fn set_flags(args: &[&[u8]]) -> Vec<&'static str> {
    match args.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"get")) {
        true => vec!["RW", "access", "update"],
        false => vec!["OW", "update"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::redis::directory;

    #[test]
    fn the_facts_are_of_commands_that_are_there() {
        for name in read().unwrap().keys() {
            let entry = directory::find_full(name.as_bytes());
            assert!(entry.is_some_and(|it| it.full_name == *name), "{name} is no command");
        }
    }

    #[test]
    fn keys_stand_where_the_table_of_commands_says() {
        for entry in directory::all() {
            let keys = entry.command.keys;
            let (mut first, mut last, mut step, mut counted) = (0, 0, 0, 0);
            for spec in &of(&entry.full_name).keys {
                let Some(range) = spec.range else {
                    counted = spec.index as u32;
                    continue;
                };
                let from = if range.last < 0 { 0 } else { spec.index as i32 };
                // The next specification goes on where this one ends.
                first = if first == 0 { spec.index as u32 } else { first };
                (last, step) = (from + range.last, range.step as u32);
            }
            let told = (keys.first, keys.last, keys.step, keys.counted);
            assert_eq!(told, (first, last, step, counted), "{}", entry.full_name);
        }
    }

    #[test]
    fn counts_that_only_c_reads_are_counts_but_tell_nothing_of_the_keys() {
        let found = |line: &[&str]| {
            let args: Vec<&[u8]> = line.iter().map(|it| it.as_bytes()).collect();
            let places = of(line[0]).key_places(&args);
            places.iter().map(|(at, flags)| format!("{at} {}", flags.join(","))).collect::<Vec<_>>()
        };
        let nothing: [&str; 0] = [];
        assert_eq!(found(&["zmpop", "1", "a", "MIN"]), ["2 RW,access,delete"]);
        assert_eq!(found(&["zmpop", " 1x", "a", "MIN"]), ["2 "]);
        assert_eq!(found(&["zmpop", "3", "a", "MIN"]), nothing);
        assert_eq!(found(&["zunionstore", "d", "01", "a"]), ["3 ", "1 "]);
        assert_eq!(found(&["zunionstore", "d", "1", "a"]), ["1 OW,update", "3 RO,access"]);
        assert_eq!(found(&["mset", "a", "1", "b", "2"]), ["1 OW,update", "3 OW,update"]);
        assert_eq!(found(&["set", "get", "GET", "NX"]), ["1 OW,update"]);
        assert_eq!(found(&["set", "a", "b", "Get"]), ["1 RW,access,update"]);
    }
}
