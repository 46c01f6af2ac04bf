//! Stand-in for the limiter until it is here.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::limiter::{Decision, Fields, Refusal, Verdict};
use crate::policy::RequestFacts;

#[derive(Debug, Default)]
pub struct Scratch;

#[derive(Debug, Default)]
pub struct Limiter {
    pub limited: AtomicU64,
}

impl Limiter {
    pub async fn check(&self, facts: &RequestFacts<'_>, _scratch: &mut Scratch) -> Decision {
        let _ = (facts.method, facts.host, facts.client, facts.headers.get("x"));
        if !facts.path.starts_with("/limited") {
            return Decision::UNLIMITED;
        }
        let used = self.limited.fetch_add(1, Ordering::Relaxed);
        let fields = Some(Fields {
            rate_limit_policy: Bytes::from_static(b"\"p\";q=2;w=10"),
            rate_limit: Bytes::from_static(b"\"p\";r=0;t=10"),
        });
        if used < 2 {
            return Decision { verdict: Verdict::Admit, fields, refusal: None };
        }
        let refusal = Refusal {
            status: 429,
            retry_after_seconds: Some(10),
            problem: Bytes::from_static(b"{\"violated-policies\":[\"p\"]}"),
        };
        Decision { verdict: Verdict::Deny, fields, refusal: Some(Box::new(refusal)) }
    }
}
