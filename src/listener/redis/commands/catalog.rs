//! `COMMAND`: what commands there are, from the one table.

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
    let KeyPositions { first, last, step, counted } = command.keys;
    reply.array(10);
    reply.bulk(entry.full_name.as_bytes());
    reply.integer(command.arity.into());
    write_words(flags(command), reply);
    reply.integer(first.into());
    reply.integer(if first == 0 { 0 } else { last.into() });
    reply.integer(if first == 0 { 0 } else { step.into() });
    write_words(categories(entry), reply);
    reply.set(0);
    reply.set(usize::from(first > 0) + usize::from(counted > 0));
    if first > 0 {
        // A negative last key counts from the end, and is told as it is.
        let span = if last < 0 { last } else { last - first as i32 };
        write_key_spec(command, 0, first, Find::Range { last: span, step }, reply);
    }
    if counted > 0 {
        let place = usize::from(first > 0);
        write_key_spec(command, place, counted, Find::Counted, reply);
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

/// How keys are found behind a word.
enum Find {
    Range { last: i32, step: u32 },
    Counted,
}

fn write_key_spec(command: &Command, place: usize, index: u32, find: Find, reply: &mut Reply) {
    reply.map(3);
    reply.bulk(b"flags");
    write_words(key_flags(command, place).iter().copied(), reply);
    reply.bulk(b"begin_search");
    write_spec(reply, "index", &[("index", index.into())]);
    reply.bulk(b"find_keys");
    match find {
        Find::Range { last, step } => write_spec(
            reply,
            "range",
            &[("lastkey", last.into()), ("keystep", step.into()), ("limit", 0)],
        ),
        Find::Counted => {
            write_spec(reply, "keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)])
        }
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

/// What happens to the key in this place among the command's keys, in the words of
/// Redis' key specifications.
fn key_flags(command: &Command, place: usize) -> &'static [&'static str] {
    match (command.name, place) {
        ("set", _) => &["RW", "access", "update", "variable_flags"],
        ("setnx" | "msetnx", _) | ("renamenx", 1) => &["OW", "insert"],
        ("mset" | "setex" | "psetex" | "restore" | "zrangestore", 0)
        | ("mset", _)
        | ("sunionstore" | "sdiffstore" | "zunionstore" | "zinterstore" | "zdiffstore", 0)
        | ("rename" | "copy", 1) => &["OW", "update"],
        ("del" | "unlink", _) => &["RM", "delete"],
        (
            "type" | "touch" | "exists" | "watch" | "strlen" | "hexists" | "hstrlen" | "hlen"
            | "sismember" | "scard" | "zcard" | "llen" | "usage" | "encoding" | "freq" | "idletime"
            | "refcount",
            _,
        ) => &["RO"],
        (
            "smove" | "rpoplpush" | "rpop" | "lpop" | "lmpop" | "zpopmin" | "zpopmax" | "zmpop"
            | "renamenx" | "rename" | "lmove" | "spop" | "getdel",
            0,
        ) => &["RW", "access", "delete"],
        (
            "zremrangebyscore" | "zremrangebyrank" | "zremrangebylex" | "zrem" | "srem" | "lrem"
            | "ltrim" | "hdel",
            _,
        ) => &["RW", "delete"],
        ("rpush" | "rpushx" | "lpush" | "lpushx" | "linsert" | "append" | "sadd" | "hsetnx", _)
        | ("smove" | "rpoplpush" | "lmove", 1) => &["RW", "insert"],
        (
            "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" | "lset" | "hset" | "hmset"
            | "zadd" | "setrange" | "sinterstore",
            0,
        ) => &["RW", "update"],
        ("ssubscribe" | "sunsubscribe" | "spublish", _) => &["not_key"],
        ("lmpop" | "zmpop", _) => &["RW", "access", "delete"],
        ("eval" | "evalsha" | "fcall", _) => &["RW", "access", "update"],
        ("copy", _) => &["RO", "access"],
        (_, 0) if command.flags.contains(Flags::WRITE) => &["RW", "access", "update"],
        _ => &["RO", "access"],
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
    let fields = [
        ("summary", docs.summary),
        ("since", docs.since),
        ("group", entry.group),
        ("complexity", docs.complexity),
    ];
    let fields: Vec<_> = fields.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    let has_parts = !entry.subcommands.is_empty();
    reply.bulk(entry.full_name.as_bytes());
    reply.map(fields.len() + usize::from(has_parts));
    for (name, text) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if has_parts {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        for part in &entry.subcommands {
            document(part, reply);
        }
    }
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
    let Some((_, keys)) = keys_of(turn, &args[2..]) else { return };
    turn.reply.array(keys.len());
    for key in keys {
        turn.reply.bulk(key);
    }
}

/// `COMMAND GETKEYSANDFLAGS command arg …`
fn getkeysandflags(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let Some((entry, keys)) = keys_of(turn, &args[2..]) else { return };
    turn.reply.array(keys.len());
    // Whether `SET` reads what was there depends on how it is asked.
    let set_flags = match args[2..].iter().any(|word| word.eq_ignore_ascii_case(b"get")) {
        true => ["RW", "access", "update"].as_slice(),
        false => ["OW", "update"].as_slice(),
    };
    for (place, key) in keys.into_iter().enumerate() {
        turn.reply.array(2);
        turn.reply.bulk(key);
        let flags = match entry.command.name {
            "set" => set_flags,
            _ => key_flags(entry.command, place),
        };
        write_words(flags.iter().copied(), turn.reply);
    }
}

fn keys_of<'a>(
    turn: &mut Turn<'_, '_>,
    line: &[&'a [u8]],
) -> Option<(&'static Entry, Vec<&'a [u8]>)> {
    let refusal = match directory::find(line) {
        Err(_) => "ERR Invalid command specified",
        Ok(entry) if entry.command.keys.first == 0 && entry.command.keys.counted == 0 => {
            "ERR The command has no key arguments"
        }
        Ok(entry) if !entry.command.accepts(line.len()) => {
            "ERR Invalid number of arguments specified for command"
        }
        Ok(entry) => {
            let KeyPositions { first, counted, .. } = entry.command.keys;
            let keys: Vec<&[u8]> = entry.command.key_places(line).map(|at| line[at]).collect();
            // A count that is none, or promises what is not there, gives no keys.
            let lacks_counted = counted > 0 && keys.len() == usize::from(first > 0);
            if lacks_counted && !entry.command.flags.contains(Flags::NO_MANDATORY_KEYS) {
                "ERR Invalid arguments specified for command"
            } else {
                return Some((entry, keys));
            }
        }
    };
    turn.reply.error(refusal);
    None
}
