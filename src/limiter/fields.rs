//! Texts of a decision: RateLimit header fields, Retry-After, the problem body.
//!
//! Syntax: draft-ietf-httpapi-ratelimit-headers-10, RFC 9651 lists of strings
//! with integer parameters; RFC 9457 problems. Names come from the policy file,
//! which allows only letters, digits, `-`, `_` and `.`, so they need no escapes.

use std::time::Duration;

use bytes::Bytes;

use super::decision::Outcome;

/// Media type of a refusal's body.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The problem type registered by the draft for an exceeded quota.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The problem type registered by the draft for our own trouble.
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// Whole seconds that are not shorter than `span`: a client that waits this
/// long has waited long enough.
pub fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Appends the `RateLimit-Policy` item of a limit. `w` is left out when the
/// window is not a whole number of seconds, because the draft cannot say it.
pub fn push_policy_item(out: &mut Vec<u8>, name: &str, quota: u64, window: Duration) {
    push_name(out, name);
    push_parameter(out, b";q=", quota);
    if window.subsec_nanos() == 0 {
        push_parameter(out, b";w=", window.as_secs());
    }
}

/// Appends the `RateLimit` item of a limit that told its state.
pub fn push_limit_item(out: &mut Vec<u8>, name: &str, outcome: &Outcome) {
    let Some(remaining) = outcome.remaining else { return };
    push_name(out, name);
    push_parameter(out, b";r=", remaining);
    if let Some(reset_after) = outcome.reset_after {
        push_parameter(out, b";t=", seconds_up(reset_after));
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

fn push_parameter(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The body of a refusal for an exceeded quota, naming the limits that refused.
pub fn quota_exceeded(violated: &[&str]) -> Bytes {
    let names = violated.join(", ");
    let body = serde_json::json!({
        "type": QUOTA_EXCEEDED,
        "title": "Quota exceeded",
        "status": 429,
        "detail": format!("this request would exceed the quota of {names}"),
        "violated-policies": violated,
    });
    Bytes::from(body.to_string())
}

/// The body of a refusal because the request lacks a part of a policy's key.
pub fn key_missing(policies: &[&str]) -> Bytes {
    let names = policies.join(", ");
    let body = serde_json::json!({
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": format!("this request lacks what {names} limits by"),
        "violated-policies": policies,
    });
    Bytes::from(body.to_string())
}

/// The body of a refusal because the store cannot answer.
pub fn store_unavailable() -> Bytes {
    let body = serde_json::json!({
        "type": REDUCED_CAPACITY,
        "title": "Limits cannot be checked",
        "status": 503,
        "detail": "the limiter's store does not answer, and its failure mode is closed",
    });
    Bytes::from(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(remaining: u64, reset_after_ms: u64) -> Outcome {
        Outcome {
            admitted: true,
            remaining: Some(remaining),
            reset_after: Some(Duration::from_millis(reset_after_ms)),
            retry_after: Some(Duration::ZERO),
            charged_at_us: 0,
        }
    }

    #[test]
    fn items_are_lists_of_strings_with_integer_parameters() {
        let mut policy = Vec::new();
        push_policy_item(&mut policy, "burst", 100, Duration::from_secs(60));
        push_policy_item(&mut policy, "short", 5, Duration::from_millis(1_500));
        assert_eq!(policy, br#""burst";q=100;w=60, "short";q=5"#);

        let mut limit = Vec::new();
        push_limit_item(&mut limit, "burst", &outcome(50, 29_001));
        push_limit_item(&mut limit, "short", &outcome(0, 2_000));
        assert_eq!(limit, br#""burst";r=50;t=30, "short";r=0;t=2"#);
    }

    #[test]
    fn a_limit_that_does_not_tell_its_state_has_no_item() {
        let mut limit = Vec::new();
        let bare = Outcome { remaining: None, ..outcome(0, 0) };
        push_limit_item(&mut limit, "mine", &bare);
        assert!(limit.is_empty());
    }

    #[test]
    fn seconds_are_rounded_up_so_that_waiting_them_is_enough() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    #[test]
    fn a_refusal_names_what_was_violated() {
        let body: serde_json::Value =
            serde_json::from_slice(&quota_exceeded(&["a", "b.hour"])).unwrap();
        assert_eq!(body["type"], QUOTA_EXCEEDED);
        assert_eq!(body["violated-policies"], serde_json::json!(["a", "b.hour"]));
    }
}
