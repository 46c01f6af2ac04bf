//! Time: the one place that reads a clock.
//!
//! Weir's time is the wall clock at start plus monotonic time since. It never
//! runs backward while the process lives, so a wall clock that jumps neither
//! opens nor shuts a window. Rooms below the seam take a [`Timestamp`] as an
//! argument and can be run in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `micros` microseconds after 1970.
    pub const fn from_micros(micros: u64) -> Timestamp {
        Timestamp(micros)
    }

    /// The moment `millis` milliseconds after 1970.
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis.saturating_mul(1_000))
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since 1970. Deadlines of keys are in this unit.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The moment `span` later.
    pub fn plus(self, span: Duration) -> Timestamp {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Where moments come from: the machine, or a test's hand.
#[derive(Clone, Debug)]
pub enum Clock {
    /// Wall time at start, then monotonic.
    System {
        /// The wall clock when the process started.
        started_at: Timestamp,
        /// The monotonic clock at the same moment.
        started: Instant,
    },
    /// Stands still until a test moves it.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock, anchored now.
    #[expect(clippy::disallowed_methods, reason = "the one reader of clocks")]
    pub fn system() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        Clock::System { started_at: Timestamp(micros), started: Instant::now() }
    }

    /// A clock that shows `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Clock {
        Clock::Manual(Arc::new(AtomicU64::new(start.0)))
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System { started_at, started } => {
                let elapsed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                Timestamp(started_at.0.saturating_add(elapsed))
            }
            Clock::Manual(micros) => Timestamp(micros.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock forward. The system clock is not moved by anyone.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(micros) = self {
            let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            micros.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// Measures how long something took. The one stopwatch, so that no other room
/// needs to read a clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "the one reader of clocks")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since [`Stopwatch::start`].
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Measures how long this thread has worked: time in which the machine gave its
/// core to others does not count.
#[derive(Clone, Copy, Debug)]
pub struct WorkStopwatch(Duration);

impl WorkStopwatch {
    /// Starts measuring the work of this thread.
    pub fn start() -> WorkStopwatch {
        WorkStopwatch(thread_work())
    }

    /// Work of this thread since [`WorkStopwatch::start`], which must have been
    /// on the same thread.
    pub fn elapsed(&self) -> Duration {
        thread_work().saturating_sub(self.0)
    }
}

/// Time that this thread has had a core.
#[expect(unsafe_code, reason = "the standard library does not read this clock")]
fn thread_work() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the value that the pointer names.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(status, 0, "Linux has this clock");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        assert_eq!(clock.now().micros(), 5_000);
        clock.advance(Duration::from_micros(1_500));
        assert_eq!((clock.now().micros(), clock.now().millis()), (6_500, 6));
    }

    #[test]
    fn a_thread_that_sleeps_does_not_work() {
        let (work, wall) = (WorkStopwatch::start(), Stopwatch::start());
        std::thread::sleep(Duration::from_millis(50));
        assert!(work.elapsed() < wall.elapsed() / 2, "{:?}", work.elapsed());
        while work.elapsed() < Duration::from_millis(5) {}
    }

    #[test]
    fn the_system_clock_starts_at_wall_time_and_does_not_run_backward() {
        let clock = Clock::system();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert!(first.seconds() > 1_700_000_000, "{first:?} is long ago");
        assert_eq!(first.since(Timestamp::from_micros(u64::MAX)), Duration::ZERO);
    }
}
