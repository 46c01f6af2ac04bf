//! What each policy would have done, counted as the requests pass.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::base::clock::Timestamp;
use crate::limiter::Scratch;
use crate::policy::PolicySet;

use super::quota::History;

/// Counts are kept by the minute and drawn in wider columns.
pub const MINUTE_MICROS: u64 = 60_000_000;

/// Requests, and how many of them were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that the limit was asked about.
    pub asked: u64,
    /// Those it had no room for.
    pub refused: u64,
}

impl Count {
    pub(super) fn add(&mut self, refused: bool) {
        self.asked += 1;
        self.refused += u64::from(refused);
    }

    /// The part refused, in percent.
    pub fn percent(self) -> f64 {
        if self.asked == 0 { 0.0 } else { self.refused as f64 * 100.0 / self.asked as f64 }
    }
}

/// One limit of one policy.
#[derive(Debug, Default)]
pub struct LimitTally {
    /// Over all.
    pub total: Count,
    /// Of those it had room for, that passed: the log does not say how long they took.
    pub without_duration: u64,
    /// By the minute since 1970.
    pub by_minute: BTreeMap<u64, Count>,
    /// Numbers of the keys, by store key.
    key_numbers: HashMap<Box<[u8]>, u32>,
    /// By number of the key.
    by_key: Vec<Count>,
    /// When which key was asked about.
    pub history: History,
}

impl LimitTally {
    fn add(&mut self, key: &[u8], at: Timestamp, refused: bool) {
        self.total.add(refused);
        self.by_minute.entry(at.micros() / MINUTE_MICROS).or_default().add(refused);
        let number = match self.key_numbers.get(key) {
            Some(number) => *number,
            None => {
                let number = self.by_key.len() as u32;
                self.key_numbers.insert(key.into(), number);
                self.by_key.push(Count::default());
                number
            }
        };
        self.by_key[number as usize].add(refused);
        self.history.add(number, at);
    }

    /// How many keys there were, and how many of them were ever refused.
    pub fn key_counts(&self) -> (usize, usize) {
        (self.by_key.len(), self.by_key.iter().filter(|it| it.refused > 0).count())
    }

    /// The keys refused most, most first: what stands between the braces of
    /// the store key.
    pub fn most_refused(&self, count: usize) -> Vec<(String, Count)> {
        let counted = self.key_numbers.iter().map(|(key, at)| (key, self.by_key[*at as usize]));
        let refused = counted.filter(|(_, count)| count.refused > 0);
        let mut keys: Vec<_> = refused.map(|(key, count)| (shown(key), count)).collect();
        keys.sort_by(|(a_key, a), (b_key, b)| (b.refused, a_key).cmp(&(a.refused, b_key)));
        keys.truncate(count);
        keys
    }
}

/// `weir:policy:0:{203.0.113.7}` as `203.0.113.7`.
fn shown(store_key: &[u8]) -> String {
    let text = String::from_utf8_lossy(store_key);
    text.split_once('{').map_or(&*text, |(_, rest)| rest.trim_end_matches('}')).to_owned()
}

/// Everything counted.
#[derive(Debug)]
pub struct Tally {
    /// By policy and limit, as in the policy set.
    pub policies: Vec<Vec<LimitTally>>,
    /// Requests that a policy denied without asking a limit: for want of its key, or
    /// because a list names them.
    pub denied_unasked: Vec<u64>,
    /// Requests, and those that would have been refused.
    pub requests: Count,
    /// The first and the last moment.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(set: &PolicySet) -> Tally {
        let limits = |count| std::iter::repeat_with(LimitTally::default).take(count).collect();
        Tally {
            policies: set.policies().iter().map(|it| limits(it.limits().len())).collect(),
            denied_unasked: vec![0; set.policies().len()],
            requests: Count::default(),
            span: None,
        }
    }

    /// Counts one request that was decided; `has_duration`: the log says how long it took.
    pub fn add(&mut self, at: Timestamp, refused: bool, has_duration: bool, scratch: &Scratch) {
        self.requests.add(refused);
        let first = self.span.map_or(at, |(first, _)| first);
        self.span = Some((first, at));
        let plan = scratch.plan();
        for denial in plan.denying() {
            self.denied_unasked[denial.policy as usize] += 1;
        }
        for (entry, outcome) in plan.entries().iter().zip(scratch.outcomes()) {
            let Some(outcome) = outcome else { continue };
            let limit = &mut self.policies[entry.policy as usize][entry.limit as usize];
            limit.add(plan.key(entry), at, !outcome.admitted);
            limit.without_duration += u64::from(outcome.admitted && !refused && !has_duration);
        }
    }
}
