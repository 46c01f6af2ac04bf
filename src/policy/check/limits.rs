//! The limits of a policy, checked: quota, window, algorithm and what it needs.

use std::time::Duration;

use super::super::limit::{Algorithm, Begins, Limit, Parts, Role};
use super::super::written;
use super::Checker;
use crate::base::problems::suggest;
use crate::base::units::Span;

/// One call decides all limits of a request, so they are few.
const LIMITS_MAX: usize = 16;

/// Every hit of a sliding window, and every lease, is a member of a sorted set.
const REMEMBERED_MAX: u64 = 1_000_000;

/// The largest integer that a structured header field can carry (RFC 9651).
const QUOTA_MAX: u64 = 999_999_999_999_999;

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);

/// How long a lease lasts unless the policy says so.
const LEASE_DEFAULT: Duration = Duration::from_secs(300);

const BEGINS: [(&str, Begins); 2] = [("clock", Begins::Clock), ("first_hit", Begins::FirstHit)];

impl Checker<'_> {
    /// The limits at `list`, named after `policy`.
    pub(super) fn limits(
        &mut self,
        list: &str,
        policy: Option<&str>,
        written: &[written::Limit],
    ) -> Option<Vec<Limit>> {
        if written.is_empty() {
            let message =
                "has no limits; write at least one, such as `- { quota: 5, window: 10s }`";
            return self.problem(list, message);
        }
        if written.len() > LIMITS_MAX {
            let message = format!(
                "holds {} limits; at most {LIMITS_MAX} are decided together",
                written.len()
            );
            return self.problem(list, message);
        }
        let before = self.problems.len();
        let mut limits = Vec::new();
        for (place, limit) in (0_u32..).zip(written) {
            let path = format!("{list}[{place}]");
            let number = (place + 1).to_string();
            let own_name = match &limit.name {
                Some(name) => self.name(&format!("{path}.name"), name),
                None => Some(number.as_str()),
            };
            let name = match (policy, own_name, written.len()) {
                (Some(policy), Some(_), 1) => policy.to_owned(),
                (Some(policy), Some(own), _) => format!("{policy}.{own}"),
                _ => String::new(),
            };
            let has_candidate = limit.candidate.is_some();
            let role = if has_candidate { Role::LiveWithCandidate } else { Role::Live };
            let live = self.limit(&path, limit, Named { name: &name, role, place });
            let path = format!("{path}.candidate");
            let candidate = limit.candidate.as_ref();
            let candidate = candidate.and_then(|it| self.candidate(&path, it, &name, place));
            let is_own = |limit: &Limit| !limit.algorithm().is_shipped();
            if has_candidate && live.iter().chain(&candidate).any(is_own) {
                let message = "is decided with its limit, by the shipped library; try a Function \
                               of yours in a policy of `mode: shadow`";
                self.problem::<()>(path, message);
            }
            limits.extend(live);
            limits.extend(candidate);
        }
        self.if_sound_since(before, limits)
    }

    fn candidate(
        &mut self,
        path: &str,
        written: &written::Limit,
        live: &str,
        place: u32,
    ) -> Option<Limit> {
        if written.candidate.is_some() || written.name.is_some() {
            return self.problem(path, "has neither a name nor a candidate of its own");
        }
        let name = format!("{live}.candidate");
        self.limit(path, written, Named { name: &name, role: Role::Candidate, place })
    }

    fn limit(&mut self, path: &str, written: &written::Limit, named: Named<'_>) -> Option<Limit> {
        let algorithm = self.algorithm(path, written);
        let quota = self.quota(path, written.quota.as_deref(), algorithm.as_ref());
        let window = self.window(path, written.window.as_deref(), algorithm.as_ref());
        let algorithm = self.with_burst(path, written, algorithm, quota);
        let (algorithm, quota, window) = (algorithm?, quota?, window?);
        let Named { name, role, place } = named;
        let name = name.to_owned();
        let counts_bytes = self.counts_bytes;
        Some(Limit::new(Parts { name, quota, window, algorithm, role, place, counts_bytes }))
    }

    fn quota(
        &mut self,
        path: &str,
        written: Option<&str>,
        algorithm: Option<&Algorithm>,
    ) -> Option<u64> {
        let Some(text) = written else {
            return self.problem(
                path,
                "the key `quota` is missing; it says how many requests the window allows",
            );
        };
        let path = format!("{path}.quota");
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.problem(
                path,
                format!("`{text}` is not a quota; write a whole number, at least 1"),
            );
        }
        let is_remembered =
            matches!(algorithm, Some(Algorithm::SlidingWindow | Algorithm::Concurrency));
        let quota_max = if is_remembered { REMEMBERED_MAX } else { QUOTA_MAX };
        match text.parse::<u64>() {
            Ok(0) => self.problem(path, "must be at least 1; whom to allow nothing, name in `overrides` with `deny: true`"),
            Ok(quota) if quota <= quota_max => Some(quota),
            _ if is_remembered => self.problem(
                path,
                format!("`{text}` is too large; a sliding window remembers every hit, so at most {quota_max}"),
            ),
            _ => self.problem(path, format!("`{text}` is too large; at most {quota_max}")),
        }
    }

    fn window(
        &mut self,
        path: &str,
        written: Option<&str>,
        algorithm: Option<&Algorithm>,
    ) -> Option<Duration> {
        let text = match (written, algorithm) {
            (Some(text), _) => text,
            (None, Some(Algorithm::Concurrency)) => return Some(LEASE_DEFAULT),
            (None, _) => {
                return self.problem(
                    path,
                    "the key `window` is missing; it says how long a request counts, such as `10s`",
                );
            }
        };
        let path = format!("{path}.window");
        match text.parse::<Span>() {
            Ok(Span(window)) if (WINDOW_MIN..=WINDOW_MAX).contains(&window) => Some(window),
            Ok(_) => {
                let (least, most) = (Span(WINDOW_MIN), Span(WINDOW_MAX));
                self.problem(path, format!("`{text}` is out of range; write {least} to {most}"))
            }
            Err(error) => self.problem(path, error.to_string()),
        }
    }

    /// The algorithm; a token bucket's burst is filled in later.
    fn algorithm(&mut self, path: &str, written: &written::Limit) -> Option<Algorithm> {
        let begins = self.word(&format!("{path}.begins"), written.begins.as_deref(), &BEGINS)?;
        let text = written.algorithm.as_deref().unwrap_or("sliding_window");
        let own = text.strip_prefix("limiter.").unwrap_or(text);
        let algorithm = match own {
            "sliding_window" => Algorithm::SlidingWindow,
            "sliding_counter" => Algorithm::SlidingCounter,
            "token_bucket" => Algorithm::TokenBucket { burst: 0 },
            "fixed_window" => Algorithm::FixedWindow { begins },
            "concurrency" => Algorithm::Concurrency,
            _ => self.function(&format!("{path}.algorithm"), text)?,
        };
        if written.begins.is_some() && !matches!(algorithm, Algorithm::FixedWindow { .. }) {
            let message = format!("is for `fixed_window`, and this is `{text}`");
            return self.problem(format!("{path}.begins"), message);
        }
        Some(algorithm)
    }

    fn function(&mut self, path: &str, text: &str) -> Option<Algorithm> {
        let is_shipped = |name: &str| name.starts_with("limiter.");
        if self.functions.has(text) && !is_shipped(text) {
            return Some(Algorithm::Function(text.to_owned()));
        }
        if text == "limiter.decide" {
            let message = format!(
                "`{text}` decides many limits at once; write `sliding_window`, which uses it"
            );
            return self.problem(path, message);
        }
        let own = self.functions.names().filter(|it| !is_shipped(it));
        let known: Vec<&str> = Algorithm::NAMES.into_iter().chain(own).collect();
        let message = format!("unknown Function `{text}`{}", suggest(text, known));
        self.problem(path, message)
    }

    fn with_burst(
        &mut self,
        path: &str,
        written: &written::Limit,
        algorithm: Option<Algorithm>,
        quota: Option<u64>,
    ) -> Option<Algorithm> {
        let algorithm = algorithm?;
        let path = format!("{path}.burst");
        match (&written.burst, algorithm) {
            (None, Algorithm::TokenBucket { .. }) => Some(Algorithm::TokenBucket { burst: quota? }),
            (Some(text), Algorithm::TokenBucket { .. }) => match text.parse::<u64>() {
                Ok(burst) if (1..=QUOTA_MAX).contains(&burst) => {
                    Some(Algorithm::TokenBucket { burst })
                }
                _ => {
                    let message = format!(
                        "`{text}` is not a burst; write how many units may be used at once, at least 1"
                    );
                    self.problem(path, message)
                }
            },
            (Some(_), other) => {
                let message = format!("is for `token_bucket`, and this is `{}`", other.name());
                self.problem(path, message)
            }
            (None, other) => Some(other),
        }
    }
}

/// What a limit is called, and where it stands.
#[derive(Clone, Copy)]
struct Named<'n> {
    name: &'n str,
    role: Role,
    place: u32,
}
