//! Channels: who listens to what, and how a message finds its listeners.
//!
//! The keyspace holds them because commands on keys and on channels run in one
//! order. What a call publishes leaves it with its effects, and is told when the
//! call has ended: a call that is undone has published nothing.
//!
//! Listeners are told by leaving frames in their [`Mailbox`], and nothing here
//! waits for them.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;

use super::glob;
use super::notices::{EventClass, Notice};
use crate::base::mailbox::Mailbox;
use crate::resp::{Protocol, Reply};

/// Who may listen: a connection.
#[derive(Debug, Default)]
pub struct Listener {
    /// Where frames are left for it.
    pub mailbox: Mailbox,
    speaks_resp3: AtomicBool,
}

/// How somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ear {
    /// To one channel, by name.
    Channel,
    /// To all whose names match.
    Pattern,
    /// To one shard channel. There is one shard, and its channels are apart.
    Shard,
}

/// Where and how keyspace events are told (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// `K`: on a channel for each key.
    pub by_key: bool,
    /// `E`: on a channel for each event.
    pub by_event: bool,
    /// What is told at all.
    pub classes: EventClass,
}

impl Announced {
    /// Reads the letters of `notify-keyspace-events`, in any order.
    pub fn parse(letters: &str) -> Option<Announced> {
        let mut announced = Announced::default();
        for letter in letters.chars() {
            match letter {
                'K' => announced.by_key = true,
                'E' => announced.by_event = true,
                'A' => announced.classes = announced.classes.and(EventClass::ALL),
                _ => {
                    let known = EventClass::LETTERS.iter().find(|(_, it)| *it == letter);
                    announced.classes = announced.classes.and(known?.0);
                }
            }
        }
        Some(announced)
    }

    /// The classes that somebody can hear of.
    pub(super) fn heard(self) -> EventClass {
        if self.by_key || self.by_event { self.classes } else { EventClass::NONE }
    }
}

impl fmt::Display for Announced {
    /// The letters in Redis' order; `A` stands for all that it stands for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_all = self.classes.contains(EventClass::ALL);
        if has_all {
            f.write_char('A')?;
        }
        let (misses, classes): (Vec<_>, Vec<_>) =
            EventClass::LETTERS.into_iter().partition(|(class, _)| *class == EventClass::MISSED);
        for (class, letter) in classes {
            if !has_all && self.classes.contains(class) {
                f.write_char(letter)?;
            }
        }
        for (holds, letter) in [(self.by_key, 'K'), (self.by_event, 'E')] {
            if holds {
                f.write_char(letter)?;
            }
        }
        for (class, letter) in misses {
            if self.classes.contains(class) {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// A pattern, and who listens to what matches it.
type Pattern = (Box<[u8]>, Vec<Arc<Listener>>);

type Listeners = HashMap<Box<[u8]>, Vec<Arc<Listener>>>;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Channels {
    channels: Listeners,
    shards: Listeners,
    /// In the order of their first listener.
    patterns: Vec<Pattern>,
    announced: Announced,
    /// Kept for its capacity.
    frame: Frame,
}

impl Listener {
    /// The version of RESP in which it is told.
    pub fn set_protocol(&self, protocol: Protocol) {
        self.speaks_resp3.store(protocol == Protocol::Resp3, Ordering::Relaxed);
    }

    /// The version of RESP in which it is told.
    pub fn protocol(&self) -> Protocol {
        if self.speaks_resp3.load(Ordering::Relaxed) { Protocol::Resp3 } else { Protocol::Resp2 }
    }
}

impl Channels {
    /// Adds a listener.
    pub fn listen(&mut self, ear: Ear, name: &[u8], listener: &Arc<Listener>) {
        let listeners = match ear {
            Ear::Channel => self.channels.entry(name.into()).or_default(),
            Ear::Shard => self.shards.entry(name.into()).or_default(),
            Ear::Pattern => {
                let place = self.patterns.iter().position(|(pattern, _)| **pattern == *name);
                let place = place.unwrap_or_else(|| {
                    self.patterns.push((name.into(), Vec::new()));
                    self.patterns.len() - 1
                });
                &mut self.patterns[place].1
            }
        };
        listeners.push(Arc::clone(listener));
    }

    /// Removes a listener.
    pub fn ignore(&mut self, ear: Ear, name: &[u8], listener: &Arc<Listener>) {
        let others = |listeners: &mut Vec<Arc<Listener>>| {
            listeners.retain(|it| !Arc::ptr_eq(it, listener));
            !listeners.is_empty()
        };
        match ear {
            Ear::Pattern => self
                .patterns
                .retain_mut(|(pattern, listeners)| **pattern != *name || others(listeners)),
            Ear::Channel | Ear::Shard => {
                let channels =
                    if ear == Ear::Shard { &mut self.shards } else { &mut self.channels };
                if channels.get_mut(name).is_some_and(|listeners| !others(listeners)) {
                    channels.remove(name);
                }
            }
        }
    }

    /// How many will get a message on this channel; a pattern counts for itself.
    pub fn receivers(&self, ear: Ear, channel: &[u8]) -> usize {
        let count = |listeners: &Listeners| listeners.get(channel).map_or(0, Vec::len);
        if ear == Ear::Shard {
            return count(&self.shards);
        }
        let patterns = self.patterns.iter().filter(|(it, _)| glob::matches(it, channel));
        count(&self.channels) + patterns.map(|(_, listeners)| listeners.len()).sum::<usize>()
    }

    /// The channels that somebody listens to by name, if they match.
    pub fn names<'a>(
        &'a self,
        ear: Ear,
        pattern: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a [u8]> {
        let channels = if ear == Ear::Shard { &self.shards } else { &self.channels };
        let is_wanted = move |name: &&[u8]| pattern.is_none_or(|it| glob::matches(it, name));
        channels.keys().map(|name| &**name).filter(is_wanted)
    }

    /// How many listen to this channel by name.
    pub fn listeners(&self, ear: Ear, name: &[u8]) -> usize {
        let channels = if ear == Ear::Shard { &self.shards } else { &self.channels };
        channels.get(name).map_or(0, Vec::len)
    }

    /// How many patterns somebody listens to.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// From here on these keyspace events are told.
    pub fn announce(&mut self, announced: Announced) {
        self.announced = announced;
    }

    /// Where and how keyspace events are told.
    pub fn announced(&self) -> Announced {
        self.announced
    }

    /// Tells of a keyspace event, on the channel of its key and that of its name.
    pub(super) fn tell_notice(&mut self, notice: Notice<'_>) {
        if !self.announced.classes.meets(notice.class) {
            return;
        }
        if self.announced.by_key {
            let channel = [b"__keyspace@0__:", notice.key].concat();
            self.tell(Ear::Channel, &channel, notice.event.as_bytes());
        }
        if self.announced.by_event {
            let channel = format!("__keyevent@0__:{}", notice.event);
            self.tell(Ear::Channel, channel.as_bytes(), notice.key);
        }
    }

    /// Hands a message to everybody who listens.
    pub(super) fn tell(&mut self, ear: Ear, channel: &[u8], message: &[u8]) {
        let (channels, kind): (_, &[u8]) = match ear {
            Ear::Shard => (&self.shards, b"smessage"),
            Ear::Channel | Ear::Pattern => (&self.channels, b"message"),
        };
        if let Some(listeners) = channels.get(channel) {
            self.frame.post(&[kind, channel, message], listeners);
        }
        if ear == Ear::Shard {
            return;
        }
        for (pattern, listeners) in &self.patterns {
            if glob::matches(pattern, channel) {
                self.frame.post(&[b"pmessage", pattern, channel, message], listeners);
            }
        }
    }
}

/// Messages that a call has published, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    list: Vec<(usize, Ear, Range<usize>, Range<usize>)>,
    bytes: Vec<u8>,
}

/// A message that a call has published.
pub(super) struct Message<'a> {
    /// How many notices came before it.
    pub(super) notice_count: usize,
    pub(super) ear: Ear,
    pub(super) channel: &'a [u8],
    pub(super) text: &'a [u8],
}

impl Messages {
    pub(super) fn push(&mut self, notice_count: usize, ear: Ear, channel: &[u8], text: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(channel);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.list.push((notice_count, ear, start..middle, middle..self.bytes.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.list.get(len).map_or(self.bytes.len(), |it| it.2.start));
        self.list.truncate(len);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.list.iter().map(|(notice_count, ear, channel, text)| Message {
            notice_count: *notice_count,
            ear: *ear,
            channel: &self.bytes[channel.clone()],
            text: &self.bytes[text.clone()],
        })
    }
}

/// A message as it is written to connections, once for each protocol.
#[derive(Debug, Default)]
struct Frame {
    reply: Reply,
    bytes: Vec<u8>,
}

impl Frame {
    fn post(&mut self, parts: &[&[u8]], listeners: &[Arc<Listener>]) {
        self.reply.clear();
        self.reply.push(parts.len());
        for part in parts {
            self.reply.bulk(part);
        }
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            self.bytes.clear();
            for listener in listeners.iter().filter(|it| it.protocol() == protocol) {
                if self.bytes.is_empty() {
                    self.reply.encode(protocol, &mut self.bytes);
                }
                listener.mailbox.post(&self.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &Listener) -> String {
        let mut bytes = Vec::new();
        listener.mailbox.take(&mut bytes);
        String::from_utf8(bytes).unwrap().replace("\r\n", " ").trim_end().to_owned()
    }

    #[test]
    fn a_message_reaches_who_listens_by_name_and_by_pattern() {
        let (one, other) = (Arc::new(Listener::default()), Arc::new(Listener::default()));
        other.set_protocol(Protocol::Resp3);
        let mut channels = Channels::default();
        channels.listen(Ear::Channel, b"news", &one);
        channels.listen(Ear::Pattern, b"n*", &other);
        channels.listen(Ear::Shard, b"news", &other);
        assert_eq!(channels.receivers(Ear::Channel, b"news"), 2);
        channels.tell(Ear::Channel, b"news", b"hi");
        assert_eq!(heard(&one), "*3 $7 message $4 news $2 hi");
        assert_eq!(heard(&other), ">4 $8 pmessage $2 n* $4 news $2 hi");
        channels.tell(Ear::Shard, b"news", b"yo");
        assert_eq!(
            (heard(&one).as_str(), heard(&other).as_str()),
            ("", ">3 $8 smessage $4 news $2 yo")
        );
        channels.ignore(Ear::Channel, b"news", &one);
        channels.ignore(Ear::Pattern, b"n*", &other);
        assert_eq!((channels.receivers(Ear::Channel, b"news"), channels.pattern_count()), (0, 0));
    }

    #[test]
    fn events_are_told_on_the_channels_that_are_asked_for() {
        let listener = Arc::new(Listener::default());
        let mut channels = Channels::default();
        channels.listen(Ear::Pattern, b"__key*", &listener);
        let set = Notice { class: EventClass::STRING, event: "set", key: b"a" };
        let mut check = |by_key, by_event, classes, expected: &str| {
            channels.announce(Announced { by_key, by_event, classes });
            channels.tell_notice(set);
            assert_eq!(heard(&listener), expected);
        };
        check(false, false, EventClass::STRING, "");
        check(true, true, EventClass::LIST, "");
        check(
            true,
            false,
            EventClass::STRING,
            "*4 $8 pmessage $6 __key* $16 __keyspace@0__:a $3 set",
        );
        check(
            false,
            true,
            EventClass::STRING,
            "*4 $8 pmessage $6 __key* $18 __keyevent@0__:set $1 a",
        );
    }
}
