//! `SLOWLOG`, `LATENCY`, `MONITOR`: what was noted of the commands that ran.

use std::sync::Arc;

use super::parse_integer;
use crate::listener::redis::directory::{self, Handler};
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::records::CommandCounts;
use crate::resp::Reply;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("latency|doctor", doctor),
    ("latency|histogram", histogram),
    ("latency|history", history),
    ("latency|latest", latest),
    ("latency|reset", reset_latency),
    ("monitor", monitor),
    ("slowlog|get", get),
    ("slowlog|len", len),
    ("slowlog|reset", reset_slowlog),
];

/// `SLOWLOG GET [count]`: the latest first; ten, or -1 for all.
fn get(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let count = match args.get(2) {
        None => Some(10),
        Some(text) => parse_integer(text).filter(|count| *count >= -1),
    };
    let Some(count) = count else {
        return turn.reply.error("ERR count should be greater than or equal to -1");
    };
    let entries = &turn.records.slowlog.entries;
    let count = usize::try_from(count).map_or(entries.len(), |count| count.min(entries.len()));
    turn.reply.array(count);
    for entry in entries.iter().take(count) {
        turn.reply.array(6);
        turn.reply.count(entry.id as usize);
        turn.reply.count(entry.at.seconds() as usize);
        turn.reply.count(entry.took.as_micros() as usize);
        turn.reply.array(entry.args.len());
        for arg in &entry.args {
            turn.reply.bulk(arg);
        }
        turn.reply.bulk(entry.peer.as_bytes());
        turn.reply.bulk(entry.client_name.as_bytes());
    }
}

/// `SLOWLOG LEN`
fn len(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.count(turn.records.slowlog.entries.len());
}

/// `SLOWLOG RESET`
fn reset_slowlog(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.records.slowlog.entries.clear();
    turn.reply.status("OK");
}

/// `LATENCY LATEST`
fn latest(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    turn.reply.array(turn.records.latency.len());
    for (event, latency) in &turn.records.latency {
        let (second, ms) = latency.samples.back().copied().unwrap_or_default();
        turn.reply.array(4);
        turn.reply.bulk(event.as_bytes());
        turn.reply.count(second as usize);
        turn.reply.count(ms as usize);
        turn.reply.count(latency.max_ms as usize);
    }
}

/// `LATENCY HISTORY event`
fn history(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let name = String::from_utf8_lossy(args[2]);
    let Some(latency) = turn.records.latency.get(&*name) else { return turn.reply.array(0) };
    turn.reply.array(latency.samples.len());
    for (second, ms) in &latency.samples {
        turn.reply.array(2);
        turn.reply.count(*second as usize);
        turn.reply.count(*ms as usize);
    }
}

/// `LATENCY RESET [event …]`
fn reset_latency(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let before = turn.records.latency.len();
    match &args[2..] {
        [] => turn.records.latency.clear(),
        events => {
            turn.records.latency.retain(|name, _| !events.contains(&name.as_bytes()));
        }
    }
    turn.reply.count(before - turn.records.latency.len());
}

/// `LATENCY DOCTOR`: the same as `LATEST`, in words.
fn doctor(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    let mut text = String::new();
    if turn.settings.latency_threshold_ms == 0 {
        text.push_str(
            "Nothing is watched: set latency-monitor-threshold to the milliseconds from which on \
             a command counts as slow.\n",
        );
    } else if turn.records.latency.is_empty() {
        text.push_str("No command took that long.\n");
    }
    for (event, latency) in &turn.records.latency {
        let (second, ms) = latency.samples.back().copied().unwrap_or_default();
        text.push_str(&format!(
            "{event}: {} times, at most {} ms, the latest {ms} ms at {second}. \
             See SLOWLOG GET for the commands.\n",
            latency.samples.len(),
            latency.max_ms,
        ));
    }
    turn.reply.verbatim(*b"txt", text.as_bytes());
}

/// `LATENCY HISTOGRAM [command …]`
fn histogram(turn: &mut Turn<'_, '_>, args: &[&[u8]]) {
    let wanted = |name: &str| {
        let names = &args[2..];
        let is_named = |it: &&[u8]| {
            directory::find_full(it).is_some_and(|entry| {
                let container = name.split('|').next();
                entry.full_name == name || Some(entry.full_name.as_str()) == container
            })
        };
        names.is_empty() || names.iter().any(is_named)
    };
    let commands: Vec<_> = turn
        .records
        .counts
        .commands()
        .filter(|(entry, counts)| counts.calls > 0 && wanted(&entry.full_name))
        .collect();
    turn.reply.map(commands.len());
    for (entry, counts) in commands {
        turn.reply.bulk(entry.full_name.as_bytes());
        write_histogram(counts, turn.reply);
    }
}

/// Counts up to each power of two, where the count rises.
fn write_histogram(counts: &CommandCounts, reply: &mut Reply) {
    reply.map(2);
    reply.bulk(b"calls");
    reply.count(counts.calls as usize);
    reply.bulk(b"histogram_usec");
    reply.map(counts.histogram.iter().filter(|count| **count > 0).count());
    let mut total = 0;
    for (place, count) in counts.histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
        total += count;
        reply.integer(1 << place);
        reply.count(total as usize);
    }
}

/// `MONITOR`: from here on the connection is shown every command.
fn monitor(turn: &mut Turn<'_, '_>, _: &[&[u8]]) {
    if !turn.session.is_monitor {
        turn.session.is_monitor = true;
        turn.records.monitors.push(Arc::clone(&turn.session.client));
    }
    turn.reply.status("OK");
}
