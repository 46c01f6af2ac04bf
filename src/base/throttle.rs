//! A log line that may be due at every request is written once a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Stopwatch;

/// Time between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// Lets one event a second through, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    clock: Stopwatch,
    /// Milliseconds on `clock` when the next event may pass.
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            clock: Stopwatch::start(),
            next_ms: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }
}

impl Throttle {
    /// `Some` if this event may pass, with the number of those since the last
    /// that did not.
    pub fn pass(&self) -> Option<u64> {
        let now_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.next_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next_ms| {
            (now_ms >= next_ms).then(|| now_ms + PERIOD.as_millis() as u64)
        });
        if due.is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_passes_and_the_next_are_counted() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass(), Some(0));
        assert_eq!((throttle.pass(), throttle.pass()), (None, None));
        throttle.next_ms.store(0, Ordering::Relaxed);
        assert_eq!(throttle.pass(), Some(2));
    }
}
