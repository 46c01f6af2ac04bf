//! Subscriptions: the channels that a connection listens to.

use std::collections::BTreeSet;

use crate::keyspace::Ear;
use crate::listener::redis::directory::Handler;
use crate::listener::redis::dispatch::Turn;
use crate::listener::redis::session::Session;
use crate::store::Held;

/// The handlers of this file.
pub const HANDLERS: &[(&str, Handler)] = &[
    ("psubscribe", |turn, args| listen(turn, Ear::Pattern, "psubscribe", args)),
    ("punsubscribe", |turn, args| ignore(turn, Ear::Pattern, "punsubscribe", args)),
    ("ssubscribe", |turn, args| listen(turn, Ear::Shard, "ssubscribe", args)),
    ("subscribe", |turn, args| listen(turn, Ear::Channel, "subscribe", args)),
    ("sunsubscribe", |turn, args| ignore(turn, Ear::Shard, "sunsubscribe", args)),
    ("unsubscribe", |turn, args| ignore(turn, Ear::Channel, "unsubscribe", args)),
];

/// What one connection listens to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Box<[u8]>>,
    patterns: BTreeSet<Box<[u8]>>,
    shards: BTreeSet<Box<[u8]>>,
}

impl Subscriptions {
    /// How many channels, patterns, and shard channels.
    pub fn counts(&self) -> [usize; 3] {
        [self.channels.len(), self.patterns.len(), self.shards.len()]
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.counts() == [0; 3]
    }

    fn of(&mut self, ear: Ear) -> &mut BTreeSet<Box<[u8]>> {
        match ear {
            Ear::Channel => &mut self.channels,
            Ear::Pattern => &mut self.patterns,
            Ear::Shard => &mut self.shards,
        }
    }

    /// As confirmations count: shard channels apart from the others.
    fn count(&self, ear: Ear) -> usize {
        match ear {
            Ear::Shard => self.shards.len(),
            Ear::Channel | Ear::Pattern => self.channels.len() + self.patterns.len(),
        }
    }
}

/// `SUBSCRIBE name …`: one confirmation for each name.
fn listen(turn: &mut Turn<'_, '_>, ear: Ear, verb: &str, args: &[&[u8]]) {
    for name in &args[1..] {
        if turn.session.subscriptions.of(ear).insert((*name).into()) {
            turn.held.keyspace().channels_mut().listen(ear, name, &turn.session.client.listener);
        }
        confirm(turn, ear, verb, Some(name));
    }
}

/// `UNSUBSCRIBE [name …]`: one confirmation for each, and one if there was none.
fn ignore(turn: &mut Turn<'_, '_>, ear: Ear, verb: &str, args: &[&[u8]]) {
    let names: Vec<Box<[u8]>> = match &args[1..] {
        [] => turn.session.subscriptions.of(ear).iter().cloned().collect(),
        names => names.iter().map(|name| (*name).into()).collect(),
    };
    for name in &names {
        if turn.session.subscriptions.of(ear).remove(name) {
            turn.held.keyspace().channels_mut().ignore(ear, name, &turn.session.client.listener);
        }
        confirm(turn, ear, verb, Some(name));
    }
    if names.is_empty() {
        confirm(turn, ear, verb, None);
    }
}

fn confirm(turn: &mut Turn<'_, '_>, ear: Ear, verb: &str, name: Option<&[u8]>) {
    turn.reply.push(3);
    turn.reply.bulk(verb.as_bytes());
    match name {
        Some(name) => turn.reply.bulk(name),
        None => turn.reply.null(),
    }
    turn.reply.count(turn.session.subscriptions.count(ear));
}

/// Ends every subscription without a word.
pub fn forget_all(session: &mut Session, held: &mut Held<'_>) {
    if session.subscriptions.is_empty() {
        return;
    }
    let subscriptions = std::mem::take(&mut session.subscriptions);
    let channels = held.keyspace().channels_mut();
    let Subscriptions { channels: names, patterns, shards } = subscriptions;
    for (ear, names) in [(Ear::Channel, names), (Ear::Pattern, patterns), (Ear::Shard, shards)] {
        for name in names {
            channels.ignore(ear, &name, &session.client.listener);
        }
    }
}
