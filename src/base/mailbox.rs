//! A mailbox: what others leave for a connection, and how they end it.
//!
//! A connection reads its socket on its own thread; what happens elsewhere (a
//! message to a channel, an order to close) is left here, and the connection is
//! woken. A mailbox that nobody empties fills only up to its bound.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// What others leave for one connection.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    /// Set when there is something to see; so an empty mailbox costs one load.
    flagged: AtomicBool,
    /// Bytes that may lie here unread.
    bytes_max: AtomicU64,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Mail {
    bytes: Vec<u8>,
    end: Option<End>,
}

/// How a connection is ended by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At once.
    Killed,
    /// It does not read what it is sent.
    Overflowed,
    /// It has been silent for too long.
    Idle,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            mail: Mutex::default(),
            flagged: AtomicBool::new(false),
            bytes_max: AtomicU64::new(u64::MAX),
            waker: AtomicWaker::new(),
        }
    }
}

impl Mailbox {
    /// Leaves bytes, unless they do not fit; then the connection is to end.
    pub fn post(&self, bytes: &[u8]) {
        let mut mail = self.lock();
        if mail.end.is_some() {
            return;
        }
        let len = (mail.bytes.len() + bytes.len()) as u64;
        if len > self.bytes_max.load(Ordering::Relaxed) {
            mail.bytes = Vec::new();
            mail.end = Some(End::Overflowed);
        } else {
            mail.bytes.extend_from_slice(bytes);
        }
        drop(mail);
        self.wake();
    }

    /// Tells the connection to end; the first reason counts.
    pub fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.wake();
    }

    /// Bounds what may lie here unread.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// True if there may be something to take.
    pub fn is_flagged(&self) -> bool {
        self.flagged.load(Ordering::Acquire)
    }

    /// Moves what was left to the end of `out`; says if the connection is to end. An
    /// end stays to be seen: who takes mail may have something to finish first.
    pub fn take(&self, out: &mut Vec<u8>) -> Option<End> {
        let mut mail = self.lock();
        self.flagged.store(mail.end.is_some(), Ordering::Release);
        out.append(&mut mail.bytes);
        if mail.bytes.capacity() > KEPT_BYTES_MAX {
            mail.bytes = Vec::new();
        }
        mail.end
    }

    /// Wakes the connection, though nothing is left for it here.
    pub fn nudge(&self) {
        self.waker.wake();
    }

    /// Whom to wake when something is left.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn wake(&self) {
        self.flagged.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that an empty mailbox keeps.
const KEPT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_taken_once_and_in_order() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.is_flagged());
        mailbox.post(b"a");
        mailbox.post(b"b");
        let mut out = Vec::new();
        assert!(mailbox.is_flagged());
        assert_eq!((mailbox.take(&mut out), out.as_slice()), (None, b"ab".as_slice()));
        assert!(!mailbox.is_flagged());
    }

    #[test]
    fn a_mailbox_that_nobody_empties_ends_its_connection() {
        let mailbox = Mailbox::default();
        mailbox.set_bytes_max(3);
        mailbox.post(b"abc");
        mailbox.post(b"d");
        mailbox.end(End::Killed);
        let mut out = Vec::new();
        assert_eq!(mailbox.take(&mut out), Some(End::Overflowed));
        assert!(out.is_empty());
        assert!(mailbox.is_flagged(), "who takes mail later sees the end as well");
        assert_eq!(mailbox.take(&mut out), Some(End::Overflowed));
    }
}
