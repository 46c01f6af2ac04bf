//! Grants: overrides that are set while the process runs, and may end by themselves.
//!
//! A grant is an entry of a policy's `overrides`, as JSON, with two words more:
//!
//! ```text
//! { "key": ["vip-7"], "limits": [{ "quota": 500, "window": "1s" }],
//!   "ends_after": "2h", "reason": "a launch" }
//! ```
//!
//! It is read and checked by what reads and checks the file, so that the same words
//! are known and the same problems told. [`PolicySet::with_grants`] makes a set in
//! which grants are in force; like a reload, it never changes the set it came from.
//!
//! # Invariants
//!
//! 1. Two grants of one policy for the same key, or the same `when`, have the same
//!    [`Grant::id`]: the later one takes the place of the earlier.
//! 2. A grant whose policy is gone, or no longer fits it, is kept and told of; it is
//!    never half in force.
//!
//! Not here: where grants are kept ([`crate::limiter`]).

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::budget::OVERFLOW;
use super::choice::Overrides;
use super::limit::Limit;
use super::written;
use super::{Functions, Policy, PolicySet, check, key};
use crate::base::clock::Timestamp;
use crate::base::problems::{Problem, Problems, suggest};
use crate::base::units::Span;
use crate::base::yaml;

/// Bytes of a grant's digest that make its id.
const ID_BYTES: usize = 8;

/// A reason is a sentence.
const REASON_MAX_BYTES: usize = 512;

/// An override that was set while the process runs.
#[derive(Clone, Debug)]
pub struct Grant {
    kept: Kept,
    read: Arc<written::Override>,
}

/// A grant as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    policy: String,
    #[serde(rename = "override")]
    written: Json,
    reason: Option<String>,
    set_at_us: u64,
    ends_at_us: Option<u64>,
}

/// Why a grant cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No policy is called so; with the name that may have been meant.
    #[error("there is no policy `{name}`{suggestion}")]
    UnknownPolicy {
        /// What was asked for.
        name: String,
        /// Reads on from the sentence.
        suggestion: String,
    },
    /// It says what makes no sense.
    #[error("{0}")]
    Wrong(Problems),
}

/// Why a text is no key of a policy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// More or fewer parts than the policy's key has.
    #[error("has {given} parts, and the key of the policy has {wanted}: {key}")]
    Parts {
        /// What was asked for.
        given: usize,
        /// What the policy has.
        wanted: usize,
        /// The key as the policy writes it.
        key: String,
    },
    /// A part that is no value of its source.
    #[error("part {number}, `{value}`, is not an address")]
    NotAnAddress {
        /// Which, from 1.
        number: usize,
        /// What was asked for.
        value: String,
    },
    /// A text that no request's key is rendered as.
    #[error("`{0}` is not a key as it is counted under; write it as `weir explain` shows it")]
    NotRendered(String),
}

/// The grants of one policy, ready to be looked up.
#[derive(Debug, Default)]
pub(super) struct Grants {
    pub(super) overrides: Overrides,
    pub(super) limits: Vec<Limit>,
    /// Where in `limits` the set of each number lies.
    pub(super) sets: Vec<Range<u32>>,
    /// What the store keys of each limit begin with.
    pub(super) store_prefixes: Vec<Box<str>>,
}

impl Grant {
    /// The policy that it is an override of.
    pub fn policy(&self) -> &str {
        &self.kept.policy
    }

    /// The override as it was written: `key` or `when`, and what is granted.
    pub fn written(&self) -> &Json {
        &self.kept.written
    }

    /// Why it was given, for people.
    pub fn reason(&self) -> Option<&str> {
        self.kept.reason.as_deref()
    }

    /// When it was given.
    pub fn set_at(&self) -> Timestamp {
        Timestamp::from_micros(self.kept.set_at_us)
    }

    /// When it ends, unless it is taken back before.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.kept.ends_at_us.map(Timestamp::from_micros)
    }

    /// What it is known by: a digest of its policy and of whom it is for.
    pub fn id(&self) -> String {
        let whom = match (&self.read.key, &self.read.when) {
            (Some(key), _) => {
                format!("{:?}", key.located("").iter().map(|it| it.1).collect::<Vec<_>>())
            }
            (None, when) => format!("{when:?}"),
        };
        let digest = Sha256::digest(format!("{} {whom}", self.kept.policy));
        digest.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The text that it is kept as.
    pub fn text(&self) -> String {
        // Cannot fail: texts and numbers.
        serde_json::to_string(&self.kept).unwrap_or_default()
    }

    /// The grant that was kept as `text`.
    ///
    /// # Errors
    /// It was not, or by a version that knew other words.
    pub fn from_text(text: &str) -> Result<Grant, Problems> {
        let kept: Kept = serde_json::from_str(text)
            .map_err(|error| Problem::new("", format!("is not a grant: {error}")))?;
        let read = Arc::new(read(kept.written.clone())?.overriding);
        Ok(Grant { kept, read })
    }

    pub(super) fn overriding(&self) -> &written::Override {
        &self.read
    }
}

/// What a request for a grant says.
struct Asked {
    overriding: written::Override,
    ends_after: Option<String>,
    reason: Option<String>,
}

/// Reads a grant. JSON is YAML, once what only JSON can say is written out.
fn read(json: Json) -> Result<Asked, Problems> {
    let document = yaml::read::<written::Grant>("", &json.to_string()).map_err(unlocated)?;
    let written::Grant { key, when, limits, unlimited, deny, ends_after, reason } = document.value;
    let overriding = written::Override { key, when, limits, unlimited, deny };
    Ok(Asked { overriding, ends_after, reason })
}

/// Without lines and columns: the text that they are of is not the one that was sent.
fn unlocated(problems: Problems) -> Problems {
    problems.into_iter().map(|it| Problem::new(it.path, it.message)).collect()
}

impl PolicySet {
    /// The place of the policy called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<u32, GrantError> {
        let place = self.policies.iter().position(|it| *it.name == *name);
        place.map(|it| it as u32).ok_or_else(|| GrantError::UnknownPolicy {
            name: name.to_owned(),
            suggestion: suggest(name, self.policies.iter().map(Policy::name)),
        })
    }

    /// A grant for a policy, from the JSON that asks for it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn grant(
        &self,
        policy: &str,
        json: &str,
        functions: &Functions,
        now: Timestamp,
    ) -> Result<Grant, GrantError> {
        let place = self.find(policy)?;
        let wrong =
            |path: &str, message: String| GrantError::Wrong(Problem::new(path, message).into());
        let mut written: Json = serde_json::from_str(json)
            .map_err(|error| wrong("", format!("is not JSON: {error}")))?;
        let Asked { overriding, ends_after, reason } =
            read(written.clone()).map_err(GrantError::Wrong)?;
        let lasts = match ends_after.as_deref().map(str::parse::<Span>) {
            None => None,
            Some(Ok(Span(span))) if !span.is_zero() => Some(span),
            Some(Ok(_)) => {
                return Err(wrong("ends_after", "must be longer than nothing".to_owned()));
            }
            Some(Err(error)) => return Err(wrong("ends_after", error.to_string())),
        };
        if reason.as_ref().is_some_and(|it| it.len() > REASON_MAX_BYTES) {
            return Err(wrong("reason", format!("is longer than {REASON_MAX_BYTES} bytes")));
        }
        if let Some(object) = written.as_object_mut() {
            object.retain(|key, _| !matches!(key.as_str(), "ends_after" | "reason"));
        }
        let ends_at = lasts.map(|span| now.micros().saturating_add(span.as_micros() as u64));
        let kept = Kept {
            policy: policy.to_owned(),
            written,
            reason,
            set_at_us: now.micros(),
            ends_at_us: ends_at,
        };
        let grant = Grant { kept, read: Arc::new(overriding) };
        let (_, problems) = check::grants(self, place, [&grant].into_iter(), functions);
        match problems.into_iter().flatten().next() {
            Some(problems) => Err(GrantError::Wrong(problems)),
            None => Ok(grant),
        }
    }

    /// This set with these grants in force, and no others; for each what is wrong with
    /// it, if it is not.
    pub fn with_grants(
        &self,
        grants: &[Grant],
        functions: &Functions,
    ) -> (PolicySet, Vec<Option<GrantError>>) {
        let mut told: Vec<Option<GrantError>> = grants.iter().map(|_| None).collect();
        let mut by_policy: Vec<Vec<usize>> = vec![Vec::new(); self.policies.len()];
        for (index, grant) in grants.iter().enumerate() {
            match self.find(grant.policy()) {
                Ok(place) => by_policy[place as usize].push(index),
                Err(error) => told[index] = Some(error),
            }
        }
        let mut set = PolicySet { grants: Vec::new(), ..self.clone() };
        let nothing = Arc::new(Grants::default());
        for (place, own) in (0_u32..).zip(&by_policy) {
            if own.is_empty() {
                continue;
            }
            let of_policy = own.iter().map(|index| &grants[*index]);
            let (checked, problems) = check::grants(self, place, of_policy, functions);
            for (index, problems) in own.iter().zip(problems) {
                told[*index] = problems.map(GrantError::Wrong);
            }
            set.grants.resize_with(self.policies.len(), || Arc::clone(&nothing));
            set.grants[place as usize] = Arc::new(checked);
        }
        (set, told)
    }

    /// The key of a policy that these values make, as a request's would be rendered;
    /// an empty value is one that is not there.
    ///
    /// # Errors
    /// They make none.
    pub fn key_of(&self, policy: u32, values: &[String]) -> Result<Vec<u8>, KeyError> {
        let policy = &self.policies[policy as usize];
        let (given, wanted) = (values.len(), policy.key.len());
        if given != wanted {
            return Err(KeyError::Parts { given, wanted, key: policy.key_text() });
        }
        key::of_values(&policy.key, values)
            .map_err(|(index, value)| KeyError::NotAnAddress { number: index + 1, value })
    }

    /// `text`, if it may be a key of a policy, rendered.
    ///
    /// # Errors
    /// No request's key is rendered so.
    pub fn rendered_key(&self, policy: u32, text: &str) -> Result<Vec<u8>, KeyError> {
        let is_harmless = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
        let parts = self.policies[policy as usize].key.len().max(1);
        let has_parts = text.split('|').count() == parts || text.as_bytes() == OVERFLOW;
        if text.is_empty() || !has_parts || !text.bytes().all(is_harmless) {
            return Err(KeyError::NotRendered(text.to_owned()));
        }
        Ok(text.as_bytes().to_vec())
    }
}
