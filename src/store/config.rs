//! How much memory the store may take: `store.memory` as written, and as checked.
//!
//! The names are Redis' own, with underscores, so that what an operator knows
//! of Redis holds here.

use serde::Deserialize;

use crate::base::problems::{Problem, Problems};
use crate::base::units::ByteSize;
use crate::keyspace::{EvictionPolicy, MemoryLimits};

/// Redis accepts no more than this either.
const SAMPLES_MAX: u32 = 64;

/// The section as written. Its defaults are the documented ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMemory {
    /// Bytes that the keys may take; `0B` any. Default: `0B`.
    maxmemory: ByteSize,
    /// Which keys go when that is not enough. Default: `noeviction`.
    maxmemory_policy: String,
    /// Keys that are looked at to choose one. Default: 5.
    maxmemory_samples: u32,
    /// The higher, the more uses it takes to count as often used. Default: 10.
    lfu_log_factor: u32,
    /// Minutes until a key counts as used a little less; 0 never. Default: 1.
    lfu_decay_time: u32,
}

impl Default for RawMemory {
    fn default() -> RawMemory {
        let none = MemoryLimits::NONE;
        RawMemory {
            maxmemory: ByteSize(none.maxmemory),
            maxmemory_policy: none.policy.name().to_owned(),
            maxmemory_samples: none.samples,
            lfu_log_factor: none.lfu_log_factor,
            lfu_decay_time: none.lfu_decay_minutes,
        }
    }
}

impl RawMemory {
    /// Checks the section, which stands at `path`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(self, path: &str) -> Result<MemoryLimits, Problems> {
        let mut problems = Problems::default();
        let mut problem = |key: &str, message: String| {
            problems.add(Problem::new(format!("{path}.{key}"), message));
        };
        let policy = EvictionPolicy::named(&self.maxmemory_policy);
        if policy.is_none() {
            let known: Vec<_> = EvictionPolicy::ALL.iter().map(|it| it.name()).collect();
            let message = format!("`{}` is none of {}", self.maxmemory_policy, known.join(", "));
            problem("maxmemory_policy", message);
        }
        if !(1..=SAMPLES_MAX).contains(&self.maxmemory_samples) {
            let message = format!("must be 1 to {SAMPLES_MAX}, not {}", self.maxmemory_samples);
            problem("maxmemory_samples", message);
        }
        match policy {
            Some(policy) if problems.is_empty() => Ok(MemoryLimits {
                maxmemory: self.maxmemory.0,
                policy,
                samples: self.maxmemory_samples,
                lfu_log_factor: self.lfu_log_factor,
                lfu_decay_minutes: self.lfu_decay_time,
            }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::yaml;

    use super::*;

    fn load(text: &str) -> Result<MemoryLimits, String> {
        let document = yaml::read::<RawMemory>("weir.yaml", text).map_err(|it| it.to_string())?;
        document.value.check("store.memory").map_err(|it| it.to_string())
    }

    #[test]
    fn an_empty_section_is_the_documented_default() {
        assert_eq!(load("{}"), Ok(MemoryLimits::NONE));
    }

    #[test]
    fn the_words_of_redis_are_read() {
        for policy in EvictionPolicy::ALL {
            let limits = load(&format!("{{maxmemory: 1GiB, maxmemory_policy: {}}}", policy.name()));
            assert_eq!(limits.map(|it| (it.maxmemory, it.policy)), Ok((1 << 30, policy)));
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let message = load("{maxmemory_policy: lru, maxmemory_samples: 0}").unwrap_err();
        assert!(message.contains("store.memory.maxmemory_policy: `lru` is none of"), "{message}");
        assert!(message.contains("store.memory.maxmemory_samples: must be 1 to 64"), "{message}");
    }
}
