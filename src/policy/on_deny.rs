//! What a policy has its refusals say, and the penalty of those who go on.
//!
//! Not here: the refusal itself, which knows HTTP ([`crate::limiter`]).

use std::time::Duration;

/// How a policy wants its refusals told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDeny {
    /// Instead of 429.
    pub status: Option<u16>,
    /// Further header fields, names in lower case.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// A text with `{policy}`, `{retry_after}` and `{status}`, instead of a problem.
    pub body: Option<Box<str>>,
    /// Its media type.
    pub content_type: Box<str>,
    /// At most so much is added to `Retry-After`, by chance, so that those who were
    /// refused together do not come back together.
    pub jitter: Duration,
    /// Requests wait for quota, within these bounds, before they are refused.
    pub delay: Option<Delay>,
}

/// How requests wait for quota instead of being refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// For no longer than this.
    pub wait_max: Duration,
    /// At most so many of one policy at a time.
    pub waiting_max: u64,
    /// And no more bytes of them.
    pub memory_max_bytes: u64,
}

impl Default for OnDeny {
    fn default() -> OnDeny {
        OnDeny {
            status: None,
            headers: Vec::new(),
            body: None,
            content_type: "text/plain; charset=utf-8".into(),
            jitter: Duration::ZERO,
            delay: None,
        }
    }
}

/// The penalty of a policy: its arguments for `limiter.penalize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Penalty {
    args: [Box<str>; 4],
}

impl Penalty {
    pub(super) fn new(
        refusals: u64,
        window: Duration,
        ban: Duration,
        ban_max: Duration,
    ) -> Penalty {
        let ms = |span: Duration| span.as_millis().to_string().into();
        Penalty { args: [refusals.to_string().into(), ms(window), ms(ban), ms(ban_max)] }
    }

    /// Refusals, window, ban and longest ban, in milliseconds as text.
    pub fn args(&self) -> [&[u8]; 4] {
        self.args.each_ref().map(|it| it.as_bytes())
    }
}

/// Which header fields tell a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `RateLimit-Policy` and `RateLimit`, structured fields.
    #[default]
    Draft10,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    Draft07,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.
    Draft03,
    /// Those of draft 10 and of draft 3.
    Both,
    /// None.
    None,
}

/// The header fields of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headings {
    /// Which fields.
    pub dialect: Dialect,
    /// Tells a digest of the partition key, `pk`.
    pub partition_key: bool,
}
