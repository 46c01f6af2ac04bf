//! Problems without a type of their own (RFC 9457): the one body of what doors answer by
//! themselves, so that a client is told the same, whichever door it came by.
//!
//! Not here: refusals of the limiter, which have types ([`crate::limiter::Refusal`]).

use http::StatusCode;
use serde_json::{Value as Json, json};

/// A problem that says this; its media type is [`crate::limiter::PROBLEM_TYPE`].
pub fn problem(status: StatusCode, detail: &str) -> Json {
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    })
}
