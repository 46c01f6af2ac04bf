//! What the store may take: `store.memory` for its keys, `store.functions` for the
//! Functions of policies, as written and as checked.
//!
//! The names of the first are Redis' own, with underscores, so that what an operator
//! knows of Redis holds here.

use serde::Deserialize;

use crate::base::problems::{Problem, Problems};
use crate::base::units::{ByteSize, Span};
use crate::function;
use crate::keyspace::{EvictionPolicy, MemoryLimits, SAMPLES_MAX};

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

/// Less memory than this does not hold a library and its call.
const FUNCTION_MEMORY_MIN_BYTES: u64 = 1 << 20;

/// The section as written. Its defaults are the documented ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFunctions {
    /// Time for one call of a policy. Default: 5 ms.
    time_max: Span,
    /// Memory of each library, and of all scripts together. Default: 64 MiB.
    memory_max: ByteSize,
}

impl Default for RawFunctions {
    fn default() -> RawFunctions {
        let limits = function::Limits::DEFAULT;
        RawFunctions {
            time_max: Span(limits.call_time_max),
            memory_max: ByteSize(limits.memory_bytes_max),
        }
    }
}

impl RawFunctions {
    /// Checks the section, which stands at `path`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(self, path: &str) -> Result<function::Limits, Problems> {
        let mut problems = Problems::default();
        let mut problem = |key: &str, message: &str| {
            problems.add(Problem::new(format!("{path}.{key}"), message.to_owned()));
        };
        if self.time_max.0.is_zero() {
            problem("time_max", "must be more than 0, or no call would end well");
        }
        if self.memory_max.0 < FUNCTION_MEMORY_MIN_BYTES {
            problem("memory_max", "must be at least 1MiB: Lua itself takes a fifth of that");
        }
        match problems.is_empty() {
            true => Ok(function::Limits {
                call_time_max: self.time_max.0,
                memory_bytes_max: self.memory_max.0,
                ..function::Limits::DEFAULT
            }),
            false => Err(problems),
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
    fn functions_have_a_budget_that_can_be_set() {
        let load = |text: &str| {
            let document = yaml::read::<RawFunctions>("weir.yaml", text).unwrap();
            document.value.check("store.functions").map_err(|it| it.to_string())
        };
        assert_eq!(load("{}"), Ok(function::Limits::DEFAULT));
        let limits = load("{time_max: 2ms, memory_max: 1MiB}").unwrap();
        assert_eq!((limits.call_time_max.as_millis(), limits.memory_bytes_max), (2, 1 << 20));
        let message = load("{time_max: 0s, memory_max: 1KiB}").unwrap_err();
        assert!(message.contains("store.functions.time_max: must be more than 0"), "{message}");
        assert!(message.contains("store.functions.memory_max: must be at least 1MiB"), "{message}");
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
