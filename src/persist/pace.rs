//! How fast a snapshot is made: gently while others ask, briskly when nobody does.
//!
//! A snapshot can wait; who asks for a decision cannot. What it takes from them is more
//! than its holds of the keyspace: a core that is busy when they wake, caches, the disk's
//! queue. All of that comes with the bytes, so the fewer of them fall into a second, the
//! fewer calls meet it. Both threads that make a snapshot rest in proportion to their work.
//!
//! It hurries when it is waited for, and when the log grows so fast beside it that the
//! new file would come out no smaller than what it replaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::base::clock::{Stopwatch, WorkStopwatch};

/// While others ask, each of the two threads rests this many times as long as it worked.
const REST_FACTOR: u32 = 8;
/// No rest of the writer's is shorter: to go to sleep is work too. And no rest at all is
/// longer, whatever came before it.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(20);

/// Bytes that the log may grow by, beside any snapshot, before that hurries; and the part
/// of what is written of it, one in so many.
const GROWTH_MIN: u64 = 16 << 20;
const GROWTH_SHARE: u64 = 4;

/// What the walk should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Go on, and leave most of the time to others.
    Gently,
    /// Go on: it is urgent, or nobody asks.
    Briskly,
    /// Let the disk catch up first.
    Pause,
    /// Abort the snapshot: the rewrite was given up or has failed.
    Abort,
}

impl Pace {
    /// How long the walk keeps away after it has held the keyspace for `held`. At the
    /// least as long: a thread that asks again at once would win over those who wait.
    pub fn rest_after(self, held: Duration) -> Duration {
        match self {
            Pace::Gently => (held * REST_FACTOR).min(REST_MAX.max(held)),
            Pace::Briskly | Pace::Pause | Pace::Abort => held,
        }
    }
}

/// How a snapshot is under way: what those who walk and who write tell each other.
#[derive(Debug, Default)]
pub struct Course {
    is_gentle: AtomicBool,
    written_bytes: AtomicU64,
}

impl Course {
    /// Whether a snapshot beside which the log has grown by `grown_bytes` must hurry.
    pub fn falls_behind(&self, grown_bytes: u64) -> bool {
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        grown_bytes > GROWTH_MIN + written_bytes / GROWTH_SHARE
    }

    /// From here on the writer works gently, or does not.
    pub fn set_gentle(&self, is_gentle: bool) {
        self.is_gentle.store(is_gentle, Ordering::Relaxed);
    }

    /// Whether the writer works gently.
    pub fn is_gentle(&self) -> bool {
        self.is_gentle.load(Ordering::Relaxed)
    }

    /// What the writer owes in rest, having worked and rested for so long.
    fn rest_owed(&self, worked: Duration, rested: Duration) -> Duration {
        match self.is_gentle() {
            true => (worked * REST_FACTOR).saturating_sub(rested),
            false => Duration::ZERO,
        }
    }
}

/// The writer's part in it: what it does between two rests, on one thread.
#[derive(Debug)]
pub struct Effort {
    course: Arc<Course>,
    work: WorkStopwatch,
    since: Stopwatch,
}

impl Effort {
    /// This thread begins to work.
    pub fn begin(course: Arc<Course>) -> Effort {
        Effort { course, work: WorkStopwatch::start(), since: Stopwatch::start() }
    }

    /// The file has so many bytes now.
    pub fn has_written(&mut self, file_bytes: u64) {
        self.course.written_bytes.store(file_bytes, Ordering::Relaxed);
        self.rest();
    }

    /// Rests if the work since the last rest calls for more than the times in which there
    /// was nothing to do.
    pub fn rest(&mut self) {
        let worked = self.work.elapsed();
        let rested = self.since.elapsed().saturating_sub(worked);
        let owed = self.course.rest_owed(worked, rested);
        if owed.is_zero() || owed >= REST_MIN {
            thread::sleep(owed.min(REST_MAX));
            // It is paid, and nothing is saved up.
            (self.work, self.since) = (WorkStopwatch::start(), Stopwatch::start());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gentle_walk_leaves_eight_ninths_of_the_time_to_others() {
        let turn = Duration::from_micros(50);
        assert_eq!(Pace::Gently.rest_after(turn), turn * 8);
        assert_eq!(Pace::Briskly.rest_after(turn), turn);
        // One that was kept from its core for long says little of what it needs.
        let long = Duration::from_millis(10);
        assert_eq!(Pace::Gently.rest_after(long), REST_MAX);
        assert_eq!(Pace::Gently.rest_after(REST_MAX * 2), REST_MAX * 2);
    }

    #[test]
    fn it_falls_behind_when_the_log_grows_by_a_quarter_of_what_it_has_written() {
        let course = Arc::new(Course::default());
        assert!(!course.falls_behind(GROWTH_MIN));
        assert!(course.falls_behind(GROWTH_MIN + 1));
        Effort::begin(Arc::clone(&course)).has_written(100 << 20);
        assert!(!course.falls_behind(GROWTH_MIN + (25 << 20)));
        assert!(course.falls_behind(GROWTH_MIN + (25 << 20) + 1));
    }

    #[test]
    fn a_writer_that_is_to_be_gentle_rests_as_far_as_it_had_to_work_without() {
        let (course, ms) = (Course::default(), Duration::from_millis);
        assert_eq!(course.rest_owed(ms(1), ms(0)), Duration::ZERO);
        course.set_gentle(true);
        assert_eq!(course.rest_owed(ms(1), ms(0)), ms(8));
        assert_eq!(course.rest_owed(ms(1), ms(7)), ms(1));
        assert_eq!(course.rest_owed(ms(1), ms(9)), Duration::ZERO, "it had time enough");
        course.set_gentle(false);
        assert_eq!(course.rest_owed(ms(1), ms(0)), Duration::ZERO);
    }
}
