//! Which quota would have refused how many.
//!
//! For each limit the moments of its requests are kept, and asked again under
//! other quotas, by an exact sliding window of the limit's length. That is what
//! the shipped algorithm does; for a limit of another algorithm it is the quota
//! that a sliding window in its place would have needed, and the report says so.
//!
//! The search may halve, because a greater quota never refuses more: admitting
//! whenever there is room admits as many as can be admitted, and room only grows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// When which key was asked about, in order.
#[derive(Debug, Default)]
pub struct History {
    events: Vec<(u32, u64)>,
    key_count: usize,
}

impl History {
    pub(super) fn add(&mut self, key: u32, at: Timestamp) {
        self.key_count = self.key_count.max(key as usize + 1);
        self.events.push((key, at.micros()));
    }

    /// The smallest quota that refuses at most this part of all requests.
    /// `None` without requests.
    pub fn quota_for(&self, percent: f64, window: Duration) -> Option<u64> {
        if self.events.is_empty() {
            return None;
        }
        let allowed = (self.events.len() as f64 * percent / 100.0) as u64;
        let (mut too_small, mut enough) = (0, self.events.len() as u64);
        while enough - too_small > 1 {
            let quota = too_small + (enough - too_small) / 2;
            if self.refused_by(quota, window, allowed) <= allowed {
                enough = quota;
            } else {
                too_small = quota;
            }
        }
        Some(enough)
    }

    /// How many a quota would have refused; stops counting over `enough`.
    fn refused_by(&self, quota: u64, window: Duration, enough: u64) -> u64 {
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let mut admitted = vec![VecDeque::new(); self.key_count];
        let mut refused = 0;
        for (key, at) in &self.events {
            let hits = &mut admitted[*key as usize];
            while hits.front().is_some_and(|hit| at - hit >= window) {
                hits.pop_front();
            }
            if (hits.len() as u64) < quota {
                hits.push_back(*at);
            } else {
                refused += 1;
                if refused > enough {
                    break;
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(events: &[(u32, u64)]) -> History {
        let mut history = History::default();
        events.iter().for_each(|(key, second)| {
            history.add(*key, Timestamp::from_micros(second * 1_000_000));
        });
        history
    }

    #[test]
    fn the_quota_that_refuses_nobody_is_the_busiest_window() {
        let history = history(&[(0, 0), (0, 1), (1, 1), (0, 2), (0, 11), (0, 12)]);
        let window = Duration::from_secs(10);
        assert_eq!(history.quota_for(0.0, window), Some(3));
        assert_eq!(history.quota_for(20.0, window), Some(2), "one of six may be refused");
        assert_eq!(history.quota_for(100.0, window), Some(1), "a quota is at least 1");
        assert_eq!(History::default().quota_for(1.0, window), None);
    }

    proptest! {
        #[test]
        fn a_greater_quota_never_refuses_more(
            mut events in prop::collection::vec((0..3_u32, 0..60_u64), 1..80),
            window in 1..20_u64,
        ) {
            events.sort_by_key(|(_, at)| *at);
            let (history, window) = (history(&events), Duration::from_secs(window));
            let refused: Vec<u64> =
                (1..10).map(|quota| history.refused_by(quota, window, u64::MAX)).collect();
            prop_assert!(refused.is_sorted_by(|a, b| a >= b), "{refused:?}");
        }
    }
}
