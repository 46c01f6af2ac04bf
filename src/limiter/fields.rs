//! Texts of a decision: header fields that tell a quota, in the dialect that the
//! policy file asks for.
//!
//! | dialect | fields |
//! |---|---|
//! | `draft-10` | `RateLimit-Policy` and `RateLimit`, an item a limit |
//! | `draft-07` | `RateLimit-Limit`, `-Remaining`, `-Reset`, of the tightest limit |
//! | `draft-03` | `X-RateLimit-Limit`, `-Remaining`, `-Reset`, of the tightest limit |
//! | `both` | those of `draft-10` and `draft-03` |
//!
//! The first are structured fields (RFC 9651), which a library serialises: lists of
//! strings with parameters `q` quota, `w` window, `qu` unit, `r` remaining, `t` time
//! until there is more, `pk` a digest of the partition key.
//!
//! Not here: what a refused request is told beside them ([`super::refusal`]).

use std::time::Duration;

use bytes::Bytes;
use sfv::{KeyRef, ListSerializer, StringRef, key_ref, string_ref};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::policy::{Algorithm, Dialect, Limit};

use super::decision::Outcome;

/// Bytes of a partition key's digest that are told: enough to tell keys apart,
/// too few to search for one.
const PARTITION_DIGEST_BYTES: usize = 8;

const Q: &KeyRef = key_ref("q");
const W: &KeyRef = key_ref("w");
const QU: &KeyRef = key_ref("qu");
const R: &KeyRef = key_ref("r");
const T: &KeyRef = key_ref("t");
const PK: &KeyRef = key_ref("pk");

/// Header fields by lower-case name, ready to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    lines: SmallVec<[(&'static str, Bytes); 2]>,
}

impl Fields {
    /// Adds a field, unless it is empty.
    pub(super) fn push(&mut self, name: &'static str, value: Bytes) {
        if !value.is_empty() {
            self.lines.push((name, value));
        }
    }

    /// Each field: its name in lower case, its value in visible ASCII.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        self.lines.iter().map(|(name, value)| (*name, value))
    }

    /// True when no field is to be sent.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl FromIterator<(&'static str, Bytes)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'static str, Bytes)>>(lines: I) -> Fields {
        let mut fields = Fields::default();
        lines.into_iter().for_each(|(name, value)| fields.push(name, value));
        fields
    }
}

/// Whole seconds that are not shorter than `span`: a client that waits this
/// long has waited long enough.
pub fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// A list under way.
pub(super) struct Items(ListSerializer<String>);

impl Items {
    pub(super) fn new() -> Items {
        Items(ListSerializer::new())
    }

    /// Adds the `RateLimit-Policy` item of a limit. `w` is left out when the window
    /// is not a whole number of seconds, because the draft cannot say it, and for
    /// leases, which have no window.
    pub(super) fn push_policy(&mut self, limit: &Limit) {
        let Ok(name) = StringRef::from_str(limit.name()) else { return };
        let mut item = self.0.bare_item(name).parameter(Q, integer(limit.quota()));
        if *limit.algorithm() == Algorithm::Concurrency {
            let _ = item.parameter(QU, string_ref("concurrent-requests"));
            return;
        }
        if limit.window().subsec_nanos() == 0 {
            item = item.parameter(W, integer(limit.window().as_secs()));
        }
        if limit.counts_bytes() {
            let _ = item.parameter(QU, string_ref("content-bytes"));
        }
    }

    /// Adds the `RateLimit` item of a limit that told its state.
    pub(super) fn push_state(&mut self, limit: &Limit, outcome: &Outcome, key: Option<&[u8]>) {
        let (Some(remaining), Ok(name)) = (outcome.remaining, StringRef::from_str(limit.name()))
        else {
            return;
        };
        let mut item = self.0.bare_item(name).parameter(R, integer(remaining));
        if let Some(reset_after) = outcome.reset_after
            && *limit.algorithm() != Algorithm::Concurrency
        {
            item = item.parameter(T, integer(seconds_up(reset_after)));
        }
        if let Some(key) = key {
            let digest = Sha256::digest(key);
            let _ = item.parameter(PK, &digest[..PARTITION_DIGEST_BYTES]);
        }
    }

    /// The list; empty when it has no item.
    pub(super) fn finish(self) -> Bytes {
        self.0.finish().map(Bytes::from).unwrap_or_default()
    }
}

/// An integer as structured fields can carry it: fifteen digits.
fn integer(number: u64) -> sfv::Integer {
    let most = sfv::Integer::MAX;
    sfv::Integer::try_from(number).unwrap_or(most)
}

/// The triple of the older dialects, of one limit.
pub(super) fn push_triple(fields: &mut Fields, dialect: Dialect, limit: &Limit, told: &Outcome) {
    let [limit_name, remaining_name, reset_name] = match dialect {
        Dialect::Draft07 => ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
        _ => ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
    };
    let number = |number: u64| Bytes::from(number.to_string());
    fields.push(limit_name, number(limit.quota()));
    if let (Some(remaining), Some(reset_after)) = (told.remaining, told.reset_after) {
        fields.push(remaining_name, number(remaining));
        fields.push(reset_name, number(seconds_up(reset_after)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_so_that_waiting_them_is_enough() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    #[test]
    fn a_number_over_fifteen_digits_is_the_largest_that_can_be_said() {
        assert_eq!(integer(7).to_string(), "7");
        assert_eq!(integer(u64::MAX).to_string(), "999999999999999");
    }
}
