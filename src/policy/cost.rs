//! Costs: how many units a request uses.
//!
//! ```yaml
//! cost: 5                                        # always so many
//! cost: header:x-cost                            # what a field says; 1 without it
//! cost: { from: body_bytes, per: 1024, max: 64 } # its size in KiB, at most 64
//! ```
//!
//! A field that a client sends is the client's word: take costs only from those
//! that a proxy in front sets.

use super::RequestFacts;

/// No request costs more: a cost is charged by members of a sorted set.
pub(super) const COST_MAX: u64 = 100_000;

/// How many units a request uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) from: From,
    /// Units are a multiple of so much.
    pub(super) per: u64,
    /// Where the request does not say.
    pub(super) default: u64,
    pub(super) max: u64,
}

/// Where a cost comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Nothing,
    Header(Box<str>),
    BodyBytes,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { from: From::Nothing, per: 1, default: 1, max: COST_MAX }
    }
}

impl Cost {
    /// True when units are bytes of bodies.
    pub(super) fn counts_bytes(&self) -> bool {
        self.from == From::BodyBytes && self.per == 1
    }

    /// The units of a request.
    pub(super) fn of(&self, facts: &RequestFacts<'_>) -> u64 {
        let raw = match &self.from {
            From::Nothing => return self.default,
            From::Header(name) => {
                let text = facts.headers.get(name).and_then(|it| std::str::from_utf8(it).ok());
                text.and_then(|text| text.trim().parse().ok())
            }
            From::BodyBytes => facts.body_bytes,
        };
        let units = raw.map_or(self.default, |raw: u64| raw.div_ceil(self.per));
        units.min(self.max)
    }
}
