//! `CONFIG`: settings of the running server.

use std::sync::Arc;
use std::time::Duration;

use crate::keyspace::glob_matches;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::records::Counts;
use crate::listener::redis::settings::{self, Draft, LogDraft, SETTINGS, Setting};

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("config|get", get),
    ("config|resetstat", resetstat),
    ("config|rewrite", rewrite),
    ("config|set", set),
];

/// How everything that can be changed stands.
fn draft(turn: &mut Turn<'_, '_>) -> Draft {
    let door = (*turn.settings).clone();
    let log = LogDraft::of(turn.server.store.log());
    let keyspace = turn.held.keyspace();
    let (memory, announced) = (*keyspace.memory_limits(), keyspace.channels().announced());
    Draft { door, memory, announced, log }
}

/// `CONFIG GET pattern …`
fn get(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let draft = draft(turn);
    let patterns: Vec<Vec<u8>> = args[2..].iter().map(|it| it.to_ascii_lowercase()).collect();
    let is_wanted = |setting: &&Setting| {
        patterns.iter().any(|pattern| glob_matches(pattern, setting.name.as_bytes()))
    };
    let wanted: Vec<&Setting> = SETTINGS.iter().filter(is_wanted).collect();
    turn.reply.map(wanted.len());
    for setting in wanted {
        turn.reply.bulk(setting.name.as_bytes());
        turn.reply.bulk(setting.read(&draft).as_bytes());
    }
}

/// `CONFIG SET name value …`: all or none.
fn set(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    if !args.len().is_multiple_of(2) {
        return turn.reply.error("ERR wrong number of arguments for 'config|set' command");
    }
    let mut draft = draft(turn);
    match change(&mut draft, &args[2..]) {
        Ok(()) => {
            put_in_force(turn, draft);
            turn.reply.status("OK");
        }
        Err(refusal) => turn.reply.error(&refusal),
    }
}

fn change(draft: &mut Draft, pairs: &[&[u8]]) -> Result<(), String> {
    let mut changes: Vec<(&Setting, String)> = Vec::new();
    let failed = |setting: &Setting, why: &str| {
        let name = setting.name;
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    for pair in pairs.chunks_exact(2) {
        let setting = settings::find(pair[0]).ok_or_else(|| {
            let name = String::from_utf8_lossy(pair[0]);
            format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
        })?;
        if changes.iter().any(|(other, _)| other.name == setting.name) {
            return Err(failed(setting, "duplicate parameter"));
        }
        changes.push((setting, String::from_utf8_lossy(pair[1]).into_owned()));
    }
    for (setting, text) in changes {
        let before = (!draft.log.is_open).then(|| draft.log.settings.clone());
        setting.write(draft, &text).map_err(|why| failed(setting, &why))?;
        // What asks for the state that is there already is fine.
        if before.is_some_and(|before| before != draft.log.settings) {
            return Err(failed(setting, "there is no log"));
        }
    }
    Ok(())
}

fn put_in_force(turn: &mut Turn<'_, '_>, draft: Draft) {
    let Draft { door, memory, announced, log: LogDraft { settings, .. } } = draft;
    if let Some(log) = turn.server.store.log()
        && settings != *log.settings()
    {
        log.change(settings);
    }
    turn.held.keyspace().set_memory_limits(memory);
    turn.held.announce(announced);
    let busy_after_ms = door.busy_reply_threshold_ms;
    let time = (busy_after_ms > 0).then(|| Duration::from_millis(busy_after_ms));
    turn.held.set_command_time_max(time);
    turn.settings = Arc::new(door);
    turn.server.settings.store(Arc::clone(&turn.settings));
}

/// `CONFIG RESETSTAT`
fn resetstat(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.records.counts = Counts::default();
    turn.server.clients.fates.reset();
    turn.records.counts.before = turn.held.keyspace().stats();
    turn.reply.status("OK");
}

/// `CONFIG REWRITE`: people own the configuration file.
fn rewrite(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.error(
        "ERR The configuration file is not rewritten: it belongs to who wrote it, comments and all",
    );
}
