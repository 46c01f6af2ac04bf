//! Refusals, penalties and header fields of a file, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::limit::{Algorithm, Limit, Parts, Role};
use super::super::on_deny::{Delay, Dialect, Headings, OnDeny, Penalty};
use super::super::written;
use super::{Checker, is_token};
use crate::base::units::{ByteSize, Span};

const DIALECTS: [(&str, Dialect); 5] = [
    ("draft-10", Dialect::Draft10),
    ("draft-07", Dialect::Draft07),
    ("draft-03", Dialect::Draft03),
    ("both", Dialect::Both),
    ("none", Dialect::None),
];

/// A body of a refusal is a sentence, not a page.
const BODY_MAX_BYTES: usize = 16 << 10;

/// Statuses that a refusal may have.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

/// Who waits longer has left.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Requests of one policy that may wait, and their bytes.
const WAITING_MAX: u64 = 1_000_000;
const WAITING_DEFAULT: u64 = 1_000;
const WAITING_BYTES_DEFAULT: u64 = 16 << 20;

const BAN_MAX_DEFAULT: Duration = Duration::from_secs(86_400);

impl Checker<'_> {
    pub(super) fn headings(&mut self, written: Option<&written::Headers>) -> Option<Headings> {
        let Some(written) = written else { return Some(Headings::default()) };
        let dialect = self.word("headers", written.dialect.as_deref(), &DIALECTS)?;
        Some(Headings { dialect, partition_key: written.partition_key == Some(true) })
    }

    pub(super) fn on_deny(
        &mut self,
        path: &str,
        written: Option<&written::OnDeny>,
    ) -> Option<OnDeny> {
        let Some(written) = written else { return Some(OnDeny::default()) };
        let before = self.problems.len();
        let mut on_deny = OnDeny::default();
        if let Some(text) = &written.status {
            match text.parse::<u16>() {
                Ok(status) if STATUSES.contains(&status) => on_deny.status = Some(status),
                _ => {
                    let message =
                        format!("`{text}` is not a status of a refusal; write 400 to 599");
                    self.problem::<()>(format!("{path}.status"), message);
                }
            }
        }
        on_deny.headers = self.fields(&format!("{path}.headers"), written.headers.as_ref());
        if let Some(body) = &written.body {
            if body.len() > BODY_MAX_BYTES {
                let message = format!("is larger than {BODY_MAX_BYTES} bytes");
                self.problem::<()>(format!("{path}.body"), message);
            }
            on_deny.body = Some(body.as_str().into());
        }
        if let Some(media_type) = &written.content_type {
            if is_field_value(media_type) {
                on_deny.content_type = media_type.as_str().into();
            } else {
                let message = format!("`{media_type}` is not a media type");
                self.problem::<()>(format!("{path}.content_type"), message);
            }
        }
        on_deny.jitter =
            self.span(&format!("{path}.jitter"), written.jitter.as_deref(), Some(Duration::ZERO))?;
        if let Some(delay) = &written.delay {
            on_deny.delay = Some(self.delay(&format!("{path}.delay"), delay)?);
        }
        self.if_sound_since(before, on_deny)
    }

    fn delay(&mut self, path: &str, written: &written::Delay) -> Option<Delay> {
        let wait_max = self.span(&format!("{path}.wait_max"), written.wait_max.as_deref(), None);
        let wait_max = match wait_max {
            Some(span) if span.is_zero() || span > WAIT_MAX => {
                let message =
                    format!("must be longer than nothing, and at most {}", Span(WAIT_MAX));
                self.problem(format!("{path}.wait_max"), message)
            }
            other => other,
        };
        let waiting_max = match written.waiting_max.as_deref().map(str::parse::<u64>) {
            None => Some(WAITING_DEFAULT),
            Some(Ok(count @ 1..=WAITING_MAX)) => Some(count),
            Some(_) => {
                let message = format!("must say how many requests may wait, 1 to {WAITING_MAX}");
                self.problem(format!("{path}.waiting_max"), message)
            }
        };
        let memory_max = match written.memory_max.as_deref().map(str::parse::<ByteSize>) {
            None => Some(WAITING_BYTES_DEFAULT),
            Some(Ok(ByteSize(bytes))) if bytes > 0 => Some(bytes),
            Some(Ok(_)) => self.problem(
                format!("{path}.memory_max"),
                "must be more than nothing, such as `16MiB`",
            ),
            Some(Err(error)) => self.problem(format!("{path}.memory_max"), error.to_string()),
        };
        Some(Delay {
            wait_max: wait_max?,
            waiting_max: waiting_max?,
            memory_max_bytes: memory_max?,
        })
    }

    fn fields(
        &mut self,
        path: &str,
        written: Option<&BTreeMap<String, String>>,
    ) -> Vec<(Box<str>, Box<str>)> {
        let mut fields = Vec::new();
        for (name, value) in written.into_iter().flatten() {
            let lower = name.to_ascii_lowercase();
            let is_ours = ["content-length", "transfer-encoding", "connection", "content-type"];
            if !is_token(name) || is_ours.contains(&&*lower) {
                let message = format!("`{name}` is not a header field that a refusal may have");
                self.problem::<()>(format!("{path}.{name}"), message);
            } else if !is_field_value(value) {
                let message = "holds characters that a header field cannot have";
                self.problem::<()>(format!("{path}.{name}"), message);
            } else {
                fields.push((lower.into(), value.as_str().into()));
            }
        }
        fields
    }

    /// The penalty of a policy, and the limit that refuses while a ban lasts.
    pub(super) fn penalty(
        &mut self,
        path: &str,
        policy: Option<&str>,
        written: Option<&written::Penalty>,
    ) -> Option<Option<(Penalty, Limit)>> {
        let Some(written) = written else { return Some(None) };
        let refusals = match written.refusals.as_deref().map(str::parse::<u64>) {
            Some(Ok(refusals @ 1..=1_000_000)) => Some(refusals),
            _ => self.problem(
                format!("{path}.refusals"),
                "must say how many refusals begin a ban, a whole number, at least 1",
            ),
        };
        let window = self.span(&format!("{path}.window"), written.window.as_deref(), None);
        let ban = self.span(&format!("{path}.ban"), written.ban.as_deref(), None);
        let ban_max = self.span(
            &format!("{path}.ban_max"),
            written.ban_max.as_deref(),
            Some(BAN_MAX_DEFAULT),
        );
        let (refusals, window, ban, ban_max) = (refusals?, window?, ban?, ban_max?);
        if ban > ban_max || window.is_zero() || ban.is_zero() {
            let message = "must be longer than nothing, and not longer than `ban_max`";
            return self.problem(format!("{path}.ban"), message);
        }
        let limit = Limit::new(Parts {
            name: format!("{}.ban", policy?),
            quota: refusals,
            window,
            algorithm: Algorithm::Penalty,
            role: Role::Live,
            place: 0,
            counts_bytes: false,
        });
        Some(Some((Penalty::new(refusals, window, ban, ban_max), limit)))
    }

    /// A span of time; `default` when nothing is written, or a problem.
    pub(super) fn span(
        &mut self,
        path: &str,
        written: Option<&str>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        match (written, default) {
            (Some(text), _) => match text.parse::<Span>() {
                Ok(Span(span)) => Some(span),
                Err(error) => self.problem(path, error.to_string()),
            },
            (None, Some(default)) => Some(default),
            (None, None) => self.problem(path, "is missing; write a span of time, such as `1m`"),
        }
    }
}

/// Visible ASCII and spaces.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
