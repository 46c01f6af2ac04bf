//! Log lines that may be due at every request are written a few times a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Stopwatch;

const PERIOD: Duration = Duration::from_secs(1);

/// Lets so many events a second through, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    per_second: u64,
    clock: Stopwatch,
    /// Milliseconds on `clock` when the next second begins.
    next_ms: AtomicU64,
    passed: AtomicU64,
    suppressed: AtomicU64,
}

impl Throttle {
    /// A throttle through which nothing has come yet.
    pub fn new(per_second: u64) -> Throttle {
        Throttle {
            per_second,
            clock: Stopwatch::start(),
            next_ms: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// `Some` if this event may pass, with the number of those since the last
    /// that did not.
    pub fn pass(&self) -> Option<u64> {
        let now_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let begun = self.next_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next_ms| {
            (now_ms >= next_ms).then(|| now_ms + PERIOD.as_millis() as u64)
        });
        if begun.is_ok() {
            self.passed.store(0, Ordering::Relaxed);
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) < self.per_second {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_events_of_a_second_pass_and_the_next_are_counted() {
        let throttle = Throttle::new(2);
        let pass = || throttle.pass();
        assert_eq!([pass(), pass(), pass(), pass()], [Some(0), Some(0), None, None]);
        throttle.next_ms.store(0, Ordering::Relaxed);
        assert_eq!([throttle.pass(), throttle.pass()], [Some(2), Some(0)]);
    }
}
