//! Who watches which keys, and whether they changed: `WATCH`.
//!
//! A watched key has changed when Redis would tell so: after a command that did
//! something to it, when it expired, was evicted, or went with all the others.
//! That is exactly when a command notifies of an event on the key, so the events
//! of each call are shown to this book, while anybody watches at all.
//!
//! A key that had expired when the watch began, but was still there, is gone as
//! far as its watcher knows: that it is then removed is no change.
//!
//! Not here: what `EXEC` does about it.

use hashbrown::HashMap;

use super::notices::EventClass;

/// The watches of all clients.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watchers: HashMap<u64, Watcher>,
    /// Who watches a key.
    keys: HashMap<Box<[u8]>, Vec<u64>>,
    /// Watchers of keys that the open transaction changed.
    pending: Vec<u64>,
}

#[derive(Debug, Default)]
struct Watcher {
    watches: Vec<Watch>,
    /// One of the keys has changed.
    is_stale: bool,
}

#[derive(Debug)]
struct Watch {
    key: Box<[u8]>,
    /// The key is there but had expired when the watch began.
    had_expired: bool,
}

impl Watches {
    /// True when nobody watches.
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// A client watches a key. Watching it again changes nothing.
    pub(super) fn add(&mut self, watcher: u64, key: &[u8], had_expired: bool) {
        let watches = &mut self.watchers.entry(watcher).or_default().watches;
        if watches.iter().all(|watch| *watch.key != *key) {
            watches.push(Watch { key: key.into(), had_expired });
            self.keys.entry(key.into()).or_default().push(watcher);
        }
    }

    /// A client watches nothing any more.
    pub(super) fn remove(&mut self, watcher: u64) {
        let Some(removed) = self.watchers.remove(&watcher) else { return };
        for watch in removed.watches {
            if let Some(watchers) = self.keys.get_mut(&watch.key) {
                watchers.retain(|it| *it != watcher);
                if watchers.is_empty() {
                    self.keys.remove(&watch.key);
                }
            }
        }
    }

    /// Something happened to a key. Within a transaction the watchers learn of
    /// it when it is committed.
    pub(super) fn happened(&mut self, class: EventClass, key: &[u8], in_transaction: bool) {
        if class == EventClass::MISSED {
            return;
        }
        let removes_expired = class.meets(EventClass::EXPIRED.and(EventClass::EVICTED));
        for id in self.keys.get(key).into_iter().flatten() {
            let Some(watcher) = self.watchers.get_mut(id) else { continue };
            let watch = watcher.watches.iter_mut().find(|watch| *watch.key == *key);
            match watch {
                Some(watch) if watch.had_expired && removes_expired => watch.had_expired = false,
                _ if in_transaction => self.pending.push(*id),
                _ => watcher.is_stale = true,
            }
        }
    }

    /// Every key was cleared away; `was_there` says which watched ones existed.
    pub(super) fn flushed(
        &mut self,
        in_transaction: bool,
        mut was_there: impl FnMut(&[u8]) -> bool,
    ) {
        for (id, watcher) in &mut self.watchers {
            for watch in &mut watcher.watches {
                if std::mem::take(&mut watch.had_expired) || !was_there(&watch.key) {
                    continue;
                }
                if in_transaction {
                    self.pending.push(*id);
                } else {
                    watcher.is_stale = true;
                }
            }
        }
    }

    /// The transaction is over; unless it was undone, what it did has happened.
    pub(super) fn close_transaction(&mut self, was_undone: bool) {
        for id in self.pending.drain(..) {
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.is_stale |= !was_undone;
            }
        }
    }

    /// True if none of a client's keys has changed or expired since.
    pub(super) fn are_intact(&self, watcher: u64, has_expired: impl Fn(&[u8]) -> bool) -> bool {
        self.watchers.get(&watcher).is_none_or(|watcher| {
            let stands = |watch: &Watch| watch.had_expired || !has_expired(&watch.key);
            !watcher.is_stale && watcher.watches.iter().all(stands)
        })
    }
}
