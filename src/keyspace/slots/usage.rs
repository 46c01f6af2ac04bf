//! How a key was used: what tells eviction which keys matter least, and a bit
//! that says whether the key may go at all.
//!
//! ```text
//! | guarded 1 | last use, in ticks of 65.536 ms: 31        |   by recency
//! | guarded 1 | unused 7 | minutes: 16      | counter: 8   |   by frequency
//! ```
//!
//! The counter is logarithmic, as in Redis: each use raises it with a chance that
//! falls as it rises, and time lowers it. Which reading holds is a setting; after
//! it changes, old bits are read the new way until keys are used again.

use crate::base::clock::Timestamp;

/// What a key that was never used before starts with, so that it is not the
/// first to go.
const COUNTER_INITIAL: u32 = 5;

const GUARDED: u32 = 1 << 31;
const CLOCK: u32 = GUARDED - 1;

/// Binary digits of the microseconds of a tick.
const TICK_BITS: u32 = 16;

/// How a key was used. See the module's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::keyspace) struct Usage(u32);

/// How usage is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyspace) enum Counting {
    /// By the time of the last use.
    Recency,
    /// By a counter that decays.
    Frequency {
        /// The higher, the more uses it takes to raise the counter.
        log_factor: u32,
        /// Minutes until the counter falls by one; 0 never.
        decay_minutes: u32,
    },
}

impl Usage {
    /// The usage of a key that is born.
    pub(super) fn born(now: Timestamp, counting: Counting) -> Usage {
        match counting {
            Counting::Recency => Usage(ticks(now)),
            Counting::Frequency { .. } => Usage(minutes(now) << 8 | COUNTER_INITIAL),
        }
    }

    /// Notes one more use. `chance` is uniform in all 32 bits.
    pub(super) fn note(
        &mut self,
        now: Timestamp,
        counting: Counting,
        chance: impl FnOnce() -> u32,
    ) {
        let guarded = self.0 & GUARDED;
        self.0 = guarded
            | match counting {
                Counting::Recency => ticks(now),
                Counting::Frequency { log_factor, decay_minutes } => {
                    let counter = self.frequency(now, decay_minutes);
                    minutes(now) << 8 | raised(counter, log_factor, chance)
                }
            };
    }

    /// Time since the last use in ticks, when counted by recency.
    pub(in crate::keyspace) fn idle_ticks(self, now: Timestamp) -> u32 {
        ticks(now).wrapping_sub(self.0) & CLOCK
    }

    /// Seconds since the last use, when counted by recency.
    pub(in crate::keyspace) fn idle_seconds(self, now: Timestamp) -> u64 {
        // The last use was anywhere in its tick.
        ((u64::from(self.idle_ticks(now)) + 1) << TICK_BITS) / 1_000_000
    }

    /// The counter as time has lowered it, when counted by frequency.
    pub(in crate::keyspace) fn frequency(self, now: Timestamp, decay_minutes: u32) -> u32 {
        let elapsed = minutes(now).wrapping_sub(self.0 >> 8) & 0xFFFF;
        let lowered = elapsed.checked_div(decay_minutes).unwrap_or(0);
        (self.0 & 0xFF).saturating_sub(lowered)
    }

    /// True if the key may not be evicted.
    pub(super) fn is_guarded(self) -> bool {
        self.0 & GUARDED != 0
    }

    /// From here on the key may not be evicted.
    pub(super) fn guard(&mut self) {
        self.0 |= GUARDED;
    }

    /// Sets the last use, as a restored key brings it along.
    pub(in crate::keyspace) fn set_idle(&mut self, now: Timestamp, idle_seconds: u64) {
        let idle = (idle_seconds.saturating_mul(1_000_000) >> TICK_BITS).min(u64::from(CLOCK));
        self.0 = self.0 & GUARDED | ticks(now).wrapping_sub(idle as u32) & CLOCK;
    }

    /// Sets the counter, as a restored key brings it along.
    pub(in crate::keyspace) fn set_frequency(&mut self, now: Timestamp, counter: u8) {
        self.0 = self.0 & GUARDED | minutes(now) << 8 | u32::from(counter);
    }
}

fn ticks(now: Timestamp) -> u32 {
    (now.micros() >> TICK_BITS) as u32 & CLOCK
}

fn minutes(now: Timestamp) -> u32 {
    (now.seconds() / 60) as u32 & 0xFFFF
}

/// The counter after one more use: by one higher with a chance of one in
/// `1 + (counter - 5) * log_factor`.
fn raised(counter: u32, log_factor: u32, chance: impl FnOnce() -> u32) -> u32 {
    if counter >= 255 {
        return 255;
    }
    let against = u64::from(counter.saturating_sub(COUNTER_INITIAL)) * u64::from(log_factor) + 1;
    let wins = u64::from(chance()) * against < 1 << 32;
    counter + u32::from(wins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_FREQUENCY: Counting = Counting::Frequency { log_factor: 10, decay_minutes: 1 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn idle_time_is_counted_from_the_last_use_also_when_the_clock_wraps() {
        let wrap = ((1 << 31) << TICK_BITS) / 1_000_000;
        let mut usage = Usage::born(at(wrap - 5), Counting::Recency);
        assert_eq!(usage.idle_seconds(at(wrap + 5)), 10);
        usage.note(at(wrap + 5), Counting::Recency, || 0);
        assert_eq!(usage.idle_seconds(at(wrap + 5)), 0);
        assert_eq!(usage.idle_seconds(at(wrap + 7)), 2);
        usage.set_idle(at(wrap + 7), 100);
        assert_eq!(usage.idle_seconds(at(wrap + 7)), 100);
    }

    #[test]
    fn frequency_rises_ever_more_slowly_and_falls_with_time() {
        let mut usage = Usage::born(at(0), BY_FREQUENCY);
        assert_eq!(usage.frequency(at(0), 1), 5);
        usage.note(at(0), BY_FREQUENCY, || u32::MAX);
        assert_eq!(usage.frequency(at(0), 1), 6, "the first use always counts");
        usage.note(at(0), BY_FREQUENCY, || u32::MAX);
        assert_eq!(usage.frequency(at(0), 1), 6, "the second has one chance in eleven");
        usage.note(at(0), BY_FREQUENCY, || u32::MAX / 11);
        assert_eq!(usage.frequency(at(0), 1), 7);
        assert_eq!(usage.frequency(at(180), 1), 4, "three minutes take three away");
        assert_eq!(usage.frequency(at(180), 0), 7, "unless nothing decays");
        assert_eq!(usage.frequency(at(6_000), 1), 0);
    }

    #[test]
    fn a_guard_outlasts_every_use() {
        let mut usage = Usage::born(at(0), Counting::Recency);
        assert!(!usage.is_guarded());
        usage.guard();
        usage.note(at(1), Counting::Recency, || 0);
        usage.note(at(1), BY_FREQUENCY, || 0);
        usage.set_frequency(at(2), 200);
        assert!(usage.is_guarded());
        assert_eq!(usage.frequency(at(2), 1), 200);
    }
}
