//! Limits: a quota over a window, who decides it, and its arguments for the
//! Function, rendered once.
//!
//! Not here: which requests a limit concerns ([`super::plan`]), and what the
//! arguments mean (`functions/limiter.lua`).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::base::units::Span;

/// A quota over a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: Box<str>,
    quota: u64,
    window: Duration,
    algorithm: Algorithm,
    role: Role,
    /// Its place among the limits of its policy; part of its store keys, so that
    /// counts go on when quota and window change.
    place: u32,
    /// Its units are the bytes of bodies.
    counts_bytes: bool,
    /// Units that a key may remember: the quota, or that of another that shares it.
    kept_units: u64,
    args: Arguments,
}

/// What a limit has to say in the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It refuses when it has no room (unless its policy is shadowed).
    #[default]
    Live,
    /// Live, and another is tried in its place.
    LiveWithCandidate,
    /// Tried beside the live one of the same place; never refuses.
    Candidate,
}

/// How a limit is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The exact log of hits.
    SlidingWindow,
    /// Two weighted windows.
    SlidingCounter,
    /// GCRA: `burst` at once, `quota` a window in the long run.
    TokenBucket {
        /// Units that a full bucket holds.
        burst: u64,
    },
    /// A count for each window.
    FixedWindow {
        /// When a window begins.
        begins: Begins,
    },
    /// Leases of requests under way; the window is how long one lasts unless it
    /// is released.
    Concurrency,
    /// The ban of a key that was refused too often; the quota is how often.
    Penalty,
    /// A Function by its full name, `mylimiter.allow`.
    Function(String),
}

/// When a fixed window begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begins {
    /// At whole multiples of its length since 1970: minutes, hours, days of UTC.
    #[default]
    Clock,
    /// With the first hit after the last window.
    FirstHit,
}

/// Arguments of a limit, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arguments {
    algorithm: Box<str>,
    quota: Box<str>,
    window_ms: Box<str>,
    option: Box<str>,
}

/// The library that ships.
pub const LIBRARY: &str = "limiter";

impl Algorithm {
    /// The names of the shipped ones.
    pub const NAMES: [&'static str; 5] =
        ["sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency"];

    /// As written in a policy.
    pub fn name(&self) -> &str {
        match self {
            Algorithm::SlidingWindow => "sliding_window",
            Algorithm::SlidingCounter => "sliding_counter",
            Algorithm::TokenBucket { .. } => "token_bucket",
            Algorithm::FixedWindow { .. } => "fixed_window",
            Algorithm::Concurrency => "concurrency",
            Algorithm::Penalty => "penalty",
            Algorithm::Function(name) => name,
        }
    }

    /// True for those of the library that ships: they are decided in one call.
    pub fn is_shipped(&self) -> bool {
        !matches!(self, Algorithm::Function(_))
    }

    /// What sets its store keys apart. The shipped algorithms, leases excepted,
    /// read one another's states; a Function may keep anything.
    fn key_suffix(&self) -> &'static str {
        match self {
            Algorithm::Concurrency => "l",
            Algorithm::Penalty => "ban",
            Algorithm::Function(_) => "f",
            _ => "",
        }
    }
}

/// What a limit is made of, checked.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) quota: u64,
    pub(super) window: Duration,
    pub(super) algorithm: Algorithm,
    pub(super) role: Role,
    pub(super) place: u32,
    pub(super) counts_bytes: bool,
}

impl Limit {
    pub(super) fn new(parts: Parts) -> Limit {
        let Parts { name, quota, window, algorithm, role, place, counts_bytes } = parts;
        let option = match &algorithm {
            Algorithm::TokenBucket { burst } => burst.to_string(),
            Algorithm::FixedWindow { begins: Begins::FirstHit } => "first_hit".to_owned(),
            _ => "-".to_owned(),
        };
        let args = Arguments {
            algorithm: algorithm.name().into(),
            quota: quota.to_string().into(),
            window_ms: window.as_millis().to_string().into(),
            option: option.into(),
        };
        let (name, kept_units) = (name.into(), quota);
        Limit { name, quota, window, algorithm, role, place, counts_bytes, kept_units, args }
    }

    /// Lets sliding windows of different lengths keep the hits of a key for one another.
    /// The tiers and overrides of a policy share its keys, place by place; `limits` are
    /// those that are told, `others` are of the same policy.
    pub(super) fn share_keys(limits: &mut [Limit], others: &[Limit]) {
        let shared = |limit: &Limit| {
            let key = (limit.place, limit.role == Role::Candidate);
            (limit.algorithm == Algorithm::SlidingWindow).then_some(key)
        };
        let mut by_key: HashMap<_, (Duration, Duration, u64)> = HashMap::new();
        for limit in limits.iter().chain(others) {
            let Some(key) = shared(limit) else { continue };
            let Limit { window, quota, .. } = *limit;
            let kept = by_key.entry(key).or_insert((window, window, quota));
            *kept = (kept.0.min(window), kept.1.max(window), kept.2.max(quota));
        }
        for limit in limits {
            if let Some((shortest, longest, units)) = shared(limit).and_then(|key| by_key.get(&key))
                && shortest < longest
            {
                limit.kept_units = *units;
                limit.args.option = format!("{}/{units}", longest.as_millis()).into();
            }
        }
    }

    /// As shown in header fields and problem bodies, unique in the set: the
    /// policy's name, or with several limits `<policy>.<name or number>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Units that a window allows; at least 1.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// How long a hit counts: whole milliseconds, 1 ms to 366 days.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Who decides.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// Live, or tried beside a live one.
    pub fn role(&self) -> Role {
        self.role
    }

    /// True when its units are the bytes of bodies.
    pub fn counts_bytes(&self) -> bool {
        self.counts_bytes
    }

    /// The most that can be used at once.
    pub fn capacity(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket { burst } => burst,
            _ => self.quota,
        }
    }

    /// The first arguments of the wire contract: algorithm, quota, window in
    /// milliseconds.
    pub fn args(&self) -> [&[u8]; 3] {
        let Arguments { algorithm, quota, window_ms, .. } = &self.args;
        [algorithm.as_bytes(), quota.as_bytes(), window_ms.as_bytes()]
    }

    /// The option of the wire contract; a lease is the request's instead.
    pub fn option(&self) -> &[u8] {
        self.args.option.as_bytes()
    }

    /// What its store keys begin with: `weir:<policy>:<place>:{`. The tiers and
    /// overrides of a policy share places, so a client that changes its tier
    /// keeps its counts.
    pub(super) fn store_prefix(&self, policy: &str) -> String {
        let candidate = if self.role == Role::Candidate { "c" } else { "" };
        format!("weir:{policy}:{}{candidate}{}:{{", self.place, self.algorithm.key_suffix())
    }

    /// Bytes that one key takes when its quota is used up, its name and all; `None`
    /// where only a Function of the user's knows. Within a quarter of what the keyspace
    /// accounts for, which a test of the library holds it to.
    pub fn state_bytes_max(&self) -> Option<u64> {
        /// A key of some 30 bytes with a short text.
        const KEY: u64 = 150;
        /// A sorted set of more members is indexed.
        const FEW: u64 = 128;

        let members = |small: u64, big: u64| match self.kept_units {
            units @ ..=FEW => KEY + small * units,
            units => units.saturating_mul(big),
        };
        match self.algorithm {
            Algorithm::SlidingWindow => Some(members(4, 44)),
            Algorithm::Concurrency => Some(members(31, 75)),
            Algorithm::SlidingCounter
            | Algorithm::TokenBucket { .. }
            | Algorithm::FixedWindow { .. }
            | Algorithm::Penalty => Some(KEY),
            Algorithm::Function(_) => None,
        }
    }
}

impl fmt::Display for Limit {
    /// `5 per 10s`, and the algorithm if it is not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = Span(self.window);
        match &self.algorithm {
            Algorithm::SlidingWindow => write!(f, "{} per {window}", self.quota),
            Algorithm::Concurrency => write!(f, "{} at a time", self.quota),
            Algorithm::Penalty => write!(f, "banned after {} refusals in {window}", self.quota),
            Algorithm::TokenBucket { burst } => {
                write!(f, "{} per {window}, {burst} at once (token_bucket)", self.quota)
            }
            other => write!(f, "{} per {window} ({})", self.quota, other.name()),
        }
    }
}
