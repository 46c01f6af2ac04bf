//! Decisions: what one request is told, over all limits that concern it.

use std::time::Duration;

use super::dues::Dues;
use super::fields::Fields;
use super::refusal::Refusal;

/// Admit or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Admit,
    /// The request is refused.
    Deny,
}

/// The answer of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The limit had room for this request.
    pub admitted: bool,
    /// Units left now; `None` when the Function answers with a bare 1 or 0.
    pub remaining: Option<u64>,
    /// Time until more quota is there; `None` as above.
    pub reset_after: Option<Duration>,
    /// For a limit without room: when the same request would be admitted if
    /// nothing else came; `None` when it never would be.
    pub retry_after: Option<Duration>,
    /// When it was charged, in microseconds since 1970, by the store's clock; 0
    /// when the Function does not say.
    pub charged_at_us: u64,
}

impl Outcome {
    /// The outcome after what this limit was charged has been undone, because
    /// another limit of the request had no room.
    pub fn with_units_back(self, cost: u64, capacity: u64) -> Outcome {
        let remaining = self.remaining.map(|remaining| remaining + cost);
        // The hit that was undone may have been the one that resets.
        let is_unused = remaining == Some(capacity);
        let reset_after = if is_unused { Some(Duration::ZERO) } else { self.reset_after };
        Outcome { remaining, reset_after, ..self }
    }
}

/// The answer for one request.
#[derive(Debug)]
pub struct Decision {
    /// Admit or deny.
    pub verdict: Verdict,
    /// Header fields that tell the downstream its quota, on an admitted and on
    /// a refused response alike. `None` when no enforced limit concerns the
    /// request, or the store did not answer.
    pub fields: Option<Fields>,
    /// What a refused request is told. `Some` exactly when `verdict` is `Deny`.
    pub refusal: Option<Box<Refusal>>,
    /// What the request gives back when its response has ended: whoever answers
    /// it keeps this until then.
    pub dues: Option<Dues>,
}

impl Decision {
    /// No limit concerns this request, or none could be asked and the failure
    /// mode is open.
    pub const UNLIMITED: Decision =
        Decision { verdict: Verdict::Admit, fields: None, refusal: None, dues: None };
}
