//! Settling: what a request has really used, once its response is known.
//!
//! ```yaml
//! cost: 500                                   # charged before: an estimate
//! settle: { from: "json:usage.total_tokens" } # charged after: the difference
//!
//! settle: { when_status: [401, 403] }         # only failed logins count
//! ```
//!
//! This file says where the truth stands; who looks at responses is the door, by
//! way of the limiter (`limiter/meter`).

use std::time::Duration;

/// How the requests of a policy are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Where the response says what was used; `None` leaves the estimate.
    pub from: Option<Measure>,
    /// Units are a multiple of so much.
    pub per: u64,
    /// The most that is charged.
    pub max: u64,
    /// Only responses of these statuses cost anything; empty means all.
    pub when_status: Vec<u16>,
    /// After so long an estimate that nobody settled is given back.
    pub reserve: Duration,
}

/// Where a response says what was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// `header:NAME`, lower case.
    Header(Box<str>),
    /// `trailer:NAME`, lower case.
    Trailer(Box<str>),
    /// `body_bytes`: the size of the body.
    BodyBytes,
    /// `json:a.b`: a number in the body, or in the last event of a stream that has
    /// one.
    Json(Vec<Box<str>>),
}

impl Settle {
    /// The units of a raw measure.
    pub fn units(&self, raw: u64) -> u64 {
        raw.div_ceil(self.per).min(self.max)
    }
}
