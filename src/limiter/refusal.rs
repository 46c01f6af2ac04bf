//! What a refused request is told: status, body, `Retry-After`.
//!
//! A body is a problem (RFC 9457) unless the policy has one of its own. The types
//! are those of draft-ietf-httpapi-ratelimit-headers-10. `Retry-After` says when
//! the same request would be admitted if nothing else came, and never less; jitter,
//! where a policy asks for it, only adds.

use bytes::Bytes;
use serde_json::json;

use crate::policy::OnDeny;

/// Media type of a problem.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Where the draft's problem types are registered.
const TYPES: &str = "https://iana.org/assignments/http-problem-types#";

/// What a refused request is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429 when a quota is exceeded, unless the policy says otherwise; 403 when the
    /// request is denied unasked; 503 when the store cannot answer and the failure
    /// mode is closed.
    pub status: u16,
    /// `Retry-After`, in whole seconds, from the limit that refused; with
    /// several, the longest. `None` when waiting does not help.
    pub retry_after_seconds: Option<u64>,
    /// Further fields, in visible ASCII.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The media type of the body.
    pub content_type: Box<str>,
    /// The body.
    pub body: Bytes,
}

impl Refusal {
    fn problem(status: u16, retry_after_seconds: Option<u64>, body: &serde_json::Value) -> Refusal {
        Refusal {
            status,
            retry_after_seconds,
            headers: Vec::new(),
            content_type: PROBLEM_TYPE.into(),
            body: Bytes::from(body.to_string()),
        }
    }

    /// Limits had no room. `banned`: all that refused are bans.
    pub(super) fn exceeded(violated: &[&str], banned: bool, retry_after: Option<u64>) -> Refusal {
        let names = violated.join(", ");
        let (kind, title, detail) = if banned {
            let detail = format!("this key was refused too often and is banned by {names}");
            ("abnormal-usage-detected", "Abnormal usage detected", detail)
        } else {
            let detail = format!("this request would exceed the quota of {names}");
            ("quota-exceeded", "Quota exceeded", detail)
        };
        let body = json!({
            "type": format!("{TYPES}{kind}"),
            "title": title,
            "status": 429,
            "detail": detail,
            "violated-policies": violated,
        });
        Refusal::problem(429, retry_after, &body)
    }

    /// The request lacks a part of a policy's key, or a list denies whoever sent it.
    pub(super) fn unasked(policies: &[&str], lacks_key: bool) -> Refusal {
        let names = policies.join(", ");
        let detail = if lacks_key {
            format!("this request lacks what {names} limits by")
        } else {
            format!("this request is denied by {names}")
        };
        let body = json!({
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": detail,
            "violated-policies": policies,
        });
        Refusal::problem(403, None, &body)
    }

    /// The store cannot answer.
    pub(super) fn store_unavailable() -> Refusal {
        let body = json!({
            "type": format!("{TYPES}temporary-reduced-capacity"),
            "title": "Limits cannot be checked",
            "status": 503,
            "detail": "the limiter's store does not answer, and its failure mode is closed",
        });
        Refusal::problem(503, Some(1), &body)
    }

    /// As the policy that refused wants it told. `spread` is 0 to 1, by chance.
    pub(super) fn told_by(mut self, on_deny: &OnDeny, policy: &str, spread: f64) -> Refusal {
        self.status = on_deny.status.unwrap_or(self.status);
        if let Some(seconds) = &mut self.retry_after_seconds {
            *seconds += (on_deny.jitter.as_secs_f64() * spread).ceil() as u64;
        }
        self.headers.clone_from(&on_deny.headers);
        if let Some(template) = &on_deny.body {
            let retry_after = self.retry_after_seconds.map(|it| it.to_string()).unwrap_or_default();
            let body = template
                .replace("{policy}", policy)
                .replace("{retry_after}", &retry_after)
                .replace("{status}", &self.status.to_string());
            self.body = Bytes::from(body);
            self.content_type.clone_from(&on_deny.content_type);
        } else if on_deny.status.is_some()
            && let Ok(serde_json::Value::Object(mut problem)) = serde_json::from_slice(&self.body)
        {
            problem.insert("status".to_owned(), self.status.into());
            self.body = Bytes::from(serde_json::Value::Object(problem).to_string());
        }
        self
    }
}
