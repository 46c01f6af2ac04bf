//! `COMMAND`: what commands there are, from the one table and the facts beside it.

use super::facts::{self, Argument, Facts, KeyPlace, KeySpec};
use crate::keyspace::{Command, Flags, KeyPositions, glob_matches};
use crate::listener::redis::directory::{self, Entry, Handler};
use crate::listener::redis::dispatch::Turn;
use crate::resp::Reply;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("command", command),
    ("command|count", count),
    ("command|docs", docs),
    ("command|getkeys", getkeys),
    ("command|getkeysandflags", getkeysandflags),
    ("command|info", info),
    ("command|list", list),
];

/// `COMMAND`: everything of every command.
fn command(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.array(directory::entries().len());
    for entry in directory::entries() {
        describe(entry, turn.reply);
    }
}

/// `COMMAND COUNT`
fn count(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.count(directory::entries().len());
}

/// `COMMAND INFO [name …]`
fn info(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let names = &args[2..];
    if names.is_empty() {
        return command(turn, args);
    }
    turn.reply.array(names.len());
    for name in names {
        match directory::find_full(name) {
            Some(entry) => describe(entry, turn.reply),
            None => turn.reply.null(),
        }
    }
}

/// The ten parts of a command: name, arity, flags, the first, last and step of
/// its keys, categories, hints, where keys stand, subcommands.
fn describe(entry: &Entry, reply: &mut Reply) {
    let command = entry.command;
    let facts = facts::of(&entry.full_name);
    let KeyPositions { first, last, step, .. } = command.keys;
    reply.array(10);
    reply.bulk(entry.full_name.as_bytes());
    reply.integer(command.arity.into());
    write_words(flags(command), reply);
    reply.integer(first.into());
    reply.integer(if first == 0 { 0 } else { last.into() });
    reply.integer(if first == 0 { 0 } else { step.into() });
    write_words(categories(entry), reply);
    reply.set(facts.tips.len());
    for tip in &facts.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(facts.keys.len());
    for spec in &facts.keys {
        write_key_spec(spec, reply);
    }
    match entry.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    for part in &entry.subcommands {
        describe(part, reply);
    }
}

fn write_words<'a>(words: impl IntoIterator<Item = &'a str>, reply: &mut Reply) {
    let open = reply.open_set();
    let mut count = 0;
    for word in words {
        reply.status(word);
        count += 1;
    }
    reply.close_set(open, count);
}

fn flags(command: &Command) -> impl Iterator<Item = &'static str> + use<> {
    let movable = command.keys.counted > 0 && !command.flags.contains(Flags::MOVABLE_KEYS);
    command.flags.names().chain(movable.then_some("movablekeys"))
}

fn write_key_spec(spec: &KeySpec, reply: &mut Reply) {
    reply.map(3 + usize::from(spec.note.is_some()));
    if let Some(note) = &spec.note {
        reply.bulk(b"notes");
        reply.bulk(note.as_bytes());
    }
    reply.bulk(b"flags");
    write_words(spec.flags.iter().map(String::as_str), reply);
    reply.bulk(b"begin_search");
    write_spec(reply, "index", &[("index", spec.index as i64)]);
    reply.bulk(b"find_keys");
    match spec.range {
        Some(range) => write_spec(
            reply,
            "range",
            &[("lastkey", range.last.into()), ("keystep", range.step as i64), ("limit", 0)],
        ),
        None => write_spec(reply, "keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)]),
    }
}

fn write_spec(reply: &mut Reply, kind: &str, numbers: &[(&str, i64)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(numbers.len());
    for (name, value) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

/// The categories that Redis' access lists know.
fn categories(entry: &Entry) -> Vec<&'static str> {
    let flags = entry.command.flags;
    let name = entry.full_name.as_str();
    let kind = match entry.group {
        _ if name == "wait" || name.split('|').next() == Some("command") => Some("@connection"),
        "generic" => Some("@keyspace"),
        "string" => Some("@string"),
        "hash" => Some("@hash"),
        "list" => Some("@list"),
        "set" => Some("@set"),
        "sorted-set" => Some("@sortedset"),
        "scripting" => Some("@scripting"),
        "transactions" => Some("@transaction"),
        "connection" => Some("@connection"),
        _ if matches!(name, "dbsize" | "flushall" | "flushdb") => Some("@keyspace"),
        _ => None,
    };
    // A container is of no kind; what it holds is.
    let kind = kind.filter(|_| entry.subcommands.is_empty() || name == "command");
    let is_dangerous = flags.contains(Flags::ADMIN)
        || matches!(
            name,
            "flushall" | "flushdb" | "info" | "keys" | "lastsave" | "restore" | "role" | "sort"
        );
    let is_admin = flags.contains(Flags::ADMIN) || matches!(name, "lastsave" | "role");
    let fast = flags.contains(Flags::FAST);
    let listed = [
        (flags.contains(Flags::WRITE), "@write"),
        (flags.contains(Flags::READONLY) && entry.group != "scripting", "@read"),
        (kind.is_some(), kind.unwrap_or_default()),
        (is_admin, "@admin"),
        (is_dangerous, "@dangerous"),
        (flags.contains(Flags::PUBSUB), "@pubsub"),
        (fast, "@fast"),
        (!fast, "@slow"),
    ];
    listed.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect()
}

/// `COMMAND DOCS [name …]`
fn docs(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let entries: Vec<&Entry> = match &args[2..] {
        [] => directory::entries().iter().collect(),
        names => names.iter().filter_map(|name| directory::find_full(name)).collect(),
    };
    turn.reply.map(entries.len());
    for entry in entries {
        document(entry, turn.reply);
    }
}

fn document(entry: &Entry, reply: &mut Reply) {
    let docs = &entry.command.docs;
    let facts = facts::of(&entry.full_name);
    let deprecated = facts.deprecated.as_ref();
    reply.bulk(entry.full_name.as_bytes());
    let open = reply.open_map();
    let mut texts = vec![
        ("summary", docs.summary),
        ("since", docs.since),
        ("group", entry.group),
        ("complexity", docs.complexity),
    ];
    texts.retain(|(_, text)| !text.is_empty());
    let mut count = write_texts(texts, reply);
    count += write_flags("doc_flags", &facts.flags, reply);
    let replaced =
        deprecated.map(|it| [("deprecated_since", &*it.since), ("replaced_by", &*it.replacement)]);
    count += write_texts(replaced.into_iter().flatten(), reply);
    count += write_history(facts, reply);
    count += write_arguments(&facts.arguments, reply);
    if !entry.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        for part in &entry.subcommands {
            document(part, reply);
        }
        count += 1;
    }
    reply.close_map(open, count);
}

/// Fields of a map; how many there were.
fn write_texts<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    reply: &mut Reply,
) -> usize {
    let mut count = 0;
    for (name, text) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
        count += 1;
    }
    count
}

/// A field of a map if there are flags; how many fields that is.
fn write_flags(name: &str, flags: &[String], reply: &mut Reply) -> usize {
    if flags.is_empty() {
        return 0;
    }
    reply.bulk(name.as_bytes());
    write_words(flags.iter().map(String::as_str), reply);
    1
}

fn write_history(facts: &Facts, reply: &mut Reply) -> usize {
    if facts.history.is_empty() {
        return 0;
    }
    reply.bulk(b"history");
    reply.set(facts.history.len());
    for (version, change) in &facts.history {
        reply.array(2);
        reply.bulk(version.as_bytes());
        reply.bulk(change.as_bytes());
    }
    1
}

fn write_arguments(arguments: &[Argument], reply: &mut Reply) -> usize {
    if arguments.is_empty() {
        return 0;
    }
    reply.bulk(b"arguments");
    reply.array(arguments.len());
    for argument in arguments {
        let open = reply.open_map();
        let mut count = write_texts([("name", &*argument.name), ("type", &*argument.kind)], reply);
        if let Some(key) = argument.key {
            reply.bulk(b"key_spec_index");
            reply.integer(key.into());
            count += 1;
        }
        let texts = [
            ("token", &argument.token),
            ("since", &argument.since),
            ("deprecated_since", &argument.deprecated_since),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        count += write_texts(texts, reply);
        count += write_flags("flags", &argument.flags, reply);
        count += write_arguments(&argument.arguments, reply);
        reply.close_map(open, count);
    }
    1
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let filter = match args[2..] {
        [] => None,
        [word, kind, value] if word.eq_ignore_ascii_case(b"filterby") => {
            Some((kind.to_ascii_lowercase(), value))
        }
        _ => return turn.reply.error("ERR syntax error"),
    };
    let is_wanted: Box<dyn Fn(&Entry) -> bool> =
        match filter.as_ref().map(|(kind, it)| (&**kind, *it)) {
            None => Box::new(|_| true),
            Some((b"module", _)) => Box::new(|_| false),
            Some((b"aclcat", category)) => Box::new(|entry| {
                categories(entry).iter().any(|it| it.as_bytes()[1..].eq_ignore_ascii_case(category))
            }),
            Some((b"pattern", pattern)) => Box::new(|entry| {
                glob_matches(&pattern.to_ascii_lowercase(), entry.full_name.as_bytes())
            }),
            Some(_) => return turn.reply.error("ERR syntax error"),
        };
    let names: Vec<&Entry> = match filter {
        None => directory::entries().iter().collect(),
        Some(_) => directory::all().filter(|entry| is_wanted(entry)).collect(),
    };
    turn.reply.array(names.len());
    for entry in names {
        turn.reply.bulk(entry.full_name.as_bytes());
    }
}

/// `COMMAND GETKEYS command arg …`
fn getkeys(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let line = &args[2..];
    let Some(places) = key_places(turn, line) else { return };
    turn.reply.array(places.len());
    for (at, _) in places {
        turn.reply.bulk(line[at]);
    }
}

/// `COMMAND GETKEYSANDFLAGS command arg …`
fn getkeysandflags(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let line = &args[2..];
    let Some(places) = key_places(turn, line) else { return };
    turn.reply.array(places.len());
    for (at, flags) in places {
        turn.reply.array(2);
        turn.reply.bulk(line[at]);
        write_words(flags, turn.reply);
    }
}

fn key_places(turn: &mut Turn<'_, '_>, line: &[&[u8]]) -> Option<Vec<KeyPlace>> {
    let found = match directory::find(line) {
        Err(_) => Err("ERR Invalid command specified"),
        Ok(entry) => {
            let facts = facts::of(&entry.full_name);
            let places = || facts.key_places(line);
            let may_lack_keys = entry.command.flags.contains(Flags::NO_MANDATORY_KEYS);
            if !facts.has_keys() {
                Err("ERR The command has no key arguments")
            } else if !entry.command.accepts(line.len()) {
                Err("ERR Invalid number of arguments specified for command")
            } else {
                Some(places())
                    .filter(|places| !places.is_empty() || may_lack_keys)
                    .ok_or("ERR Invalid arguments specified for command")
            }
        }
    };
    found.map_err(|line| turn.reply.error(line)).ok()
}
