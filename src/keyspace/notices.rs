//! Keyspace events: what a call tells those who listen for changes.
//!
//! Commands say what happened to which key; the classes that somebody listens
//! for are set from outside (Redis' `notify-keyspace-events`), and while there
//! are none a notice costs one branch. Notices leave a call together with its
//! [`Effects`](super::Effects), and are undone with them.
//!
//! Not here: channels and their subscribers.

use std::ops::Range;

/// A set of classes of events, with the letters that Redis gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClass(u16);

impl EventClass {
    /// No event.
    pub const NONE: EventClass = EventClass(0);
    /// `g`: commands on keys of any kind, such as `DEL` and `EXPIRE`.
    pub const GENERIC: EventClass = EventClass(1);
    /// `$`: commands on strings.
    pub const STRING: EventClass = EventClass(1 << 1);
    /// `l`: commands on lists.
    pub const LIST: EventClass = EventClass(1 << 2);
    /// `s`: commands on sets.
    pub const SET: EventClass = EventClass(1 << 3);
    /// `h`: commands on hashes.
    pub const HASH: EventClass = EventClass(1 << 4);
    /// `z`: commands on sorted sets.
    pub const SORTED_SET: EventClass = EventClass(1 << 5);
    /// `x`: a key has expired.
    pub const EXPIRED: EventClass = EventClass(1 << 6);
    /// `e`: a key was evicted.
    pub const EVICTED: EventClass = EventClass(1 << 7);
    /// `m`: a key was looked for and not there.
    pub const MISSED: EventClass = EventClass(1 << 8);
    /// `n`: a key is new.
    pub const NEW: EventClass = EventClass(1 << 9);
    /// `t`: streams, of which there are none.
    pub const STREAM: EventClass = EventClass(1 << 10);
    /// `d`: modules, of which there are none.
    pub const MODULE: EventClass = EventClass(1 << 11);
    /// `A`: all but those that are asked for one by one.
    pub const ALL: EventClass = EventClass(0b1100_1111_1111);

    /// The classes with their letters, in the order in which Redis prints them.
    pub(super) const LETTERS: [(EventClass, char); 12] = [
        (EventClass::GENERIC, 'g'),
        (EventClass::STRING, '$'),
        (EventClass::LIST, 'l'),
        (EventClass::SET, 's'),
        (EventClass::HASH, 'h'),
        (EventClass::SORTED_SET, 'z'),
        (EventClass::EXPIRED, 'x'),
        (EventClass::EVICTED, 'e'),
        (EventClass::STREAM, 't'),
        (EventClass::MODULE, 'd'),
        (EventClass::NEW, 'n'),
        (EventClass::MISSED, 'm'),
    ];

    /// True if the two sets share a class.
    pub const fn meets(self, other: EventClass) -> bool {
        self.0 & other.0 != 0
    }

    /// True if every class of `other` is in `self`.
    pub const fn contains(self, other: EventClass) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn and(self, other: EventClass) -> EventClass {
        EventClass(self.0 | other.0)
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// The class that it belongs to.
    pub class: EventClass,
    /// What happened: `set`, `expired`.
    pub event: &'static str,
    /// To which key.
    pub key: &'a [u8],
}

/// The events of one call, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices {
    wanted: EventClass,
    /// Everything is noted, for those who watch keys.
    is_watched: bool,
    list: Vec<(EventClass, &'static str, Range<usize>)>,
    keys: Vec<u8>,
}

impl Notices {
    /// From here on only these classes are noted.
    pub(super) fn want(&mut self, wanted: EventClass) {
        self.wanted = wanted;
    }

    pub(super) fn push(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        if self.is_watched || self.wanted.meets(class) {
            let start = self.keys.len();
            self.keys.extend_from_slice(key);
            self.list.push((class, event, start..self.keys.len()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.keys.truncate(self.list.get(len).map_or(self.keys.len(), |(_, _, key)| key.start));
        self.list.truncate(len);
    }

    /// Notes everything from here on; where that begins.
    pub(super) fn note_everything(&mut self) -> usize {
        self.is_watched = true;
        self.list.len()
    }

    /// Everything that was noted since `mark`; from here on only what is wanted.
    pub(super) fn since(&mut self, mark: usize) -> impl Iterator<Item = Notice<'_>> {
        self.is_watched = false;
        let mark = mark.min(self.list.len());
        self.list[mark..].iter().map(|entry| self.notice(entry))
    }

    /// What is wanted of a part of what was noted.
    pub(super) fn range(&self, range: Range<usize>) -> impl Iterator<Item = Notice<'_>> {
        let is_wanted = |notice: &Notice<'_>| self.wanted.meets(notice.class);
        self.list[range].iter().map(|entry| self.notice(entry)).filter(is_wanted)
    }

    /// What is wanted of what was noted.
    pub(super) fn iter(&self) -> impl Iterator<Item = Notice<'_>> {
        let is_wanted = |notice: &Notice<'_>| self.wanted.meets(notice.class);
        self.list.iter().map(|entry| self.notice(entry)).filter(is_wanted)
    }

    fn notice(&self, (class, event, key): &(EventClass, &'static str, Range<usize>)) -> Notice<'_> {
        Notice { class: *class, event, key: &self.keys[key.clone()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_noted_and_can_be_taken_back() {
        let mut notices = Notices::default();
        notices.push(EventClass::STRING, "set", b"unheard");
        notices.want(EventClass::STRING.and(EventClass::EXPIRED));
        notices.push(EventClass::STRING, "set", b"a");
        notices.push(EventClass::LIST, "lpush", b"b");
        notices.push(EventClass::EXPIRED, "expired", b"c");
        let events = |notices: &Notices| -> Vec<String> {
            notices.iter().map(|it| format!("{} {}", it.event, it.key.escape_ascii())).collect()
        };
        assert_eq!(events(&notices), ["set a", "expired c"]);
        notices.truncate(1);
        notices.push(EventClass::EXPIRED, "expired", b"d");
        assert_eq!(events(&notices), ["set a", "expired d"]);
    }
}
