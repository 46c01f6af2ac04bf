//! What is worth knowing about a set that is not wrong: the memory that a key can
//! take, and limits that would be better served by another algorithm.

use super::source::Source;
use super::{Algorithm, Limit, Policy, PolicySet, Role};

/// More than this for one key is worth a word.
const STATE_LARGE_BYTES: u64 = 64 << 10;

impl PolicySet {
    /// How much memory a key of each policy can take, in a line.
    pub fn memory(&self) -> Vec<String> {
        self.policies().iter().map(|it| format!("{}: {}", it.name, it.memory())).collect()
    }

    /// Lines of advice, for people; none where there is none to give.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        for policy in self.policies() {
            for source in policy.sources().filter(|it| matches!(it, Source::Descriptor(_))) {
                advice.push(format!(
                    "{}: `{source}` is absent in every request: only Envoy's rate limit service \
                     sends descriptors, and no door answers that yet",
                    policy.name
                ));
            }
            for limit in policy.limits.iter().filter(|it| it.role() != Role::Candidate) {
                let large = limit.state_bytes_max().filter(|bytes| *bytes > STATE_LARGE_BYTES);
                if let (Some(bytes), Algorithm::SlidingWindow) = (large, limit.algorithm()) {
                    advice.push(format!(
                        "{}: an exact log of {} units takes up to {} for each key that is busy; \
                         `sliding_counter` or `token_bucket` take less than 1 KiB",
                        limit.name(),
                        limit.quota(),
                        size(bytes)
                    ));
                }
            }
        }
        advice
    }
}

impl Policy {
    /// Everything of a request that the policy goes by, beside its `match`.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.key.iter().flat_map(|part| &part.choices).chain(self.choices.sources())
    }

    /// How much memory a key can take, whichever of the tiers and overrides it has.
    fn memory(&self) -> String {
        let of_set = |set: &std::ops::Range<u32>| -> u64 {
            let limits = &self.limits[set.start as usize..set.end as usize];
            limits.iter().filter_map(Limit::state_bytes_max).sum()
        };
        let most = self.sets.iter().map(of_set).max().unwrap_or(0);
        let functions: Vec<&str> = self
            .limits
            .iter()
            .filter_map(|limit| match limit.algorithm() {
                Algorithm::Function(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        match (most, functions.first()) {
            (most, None) => format!("at most {} a key", size(most)),
            (0, Some(function)) => format!("how much a key takes is for {function} to know"),
            (most, Some(function)) => {
                format!(
                    "at most {} a key, and what {function} keeps, which is not known",
                    size(most)
                )
            }
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::no_files;
    use super::super::{Functions, compile};

    #[test]
    fn a_key_is_said_to_take_what_the_largest_tier_does_and_what_is_not_known() {
        let text = "
policies:
  - { name: own, limits: [{ quota: 5, window: 10s, algorithm: mine.allow }] }
  - name: both
    limits: [{ quota: 5, window: 10s, algorithm: mine.allow }, { quota: 5, window: 1s, algorithm: token_bucket }]
  - name: tiers
    key: client_ip
    limits: [{ quota: 1, window: 10s, algorithm: token_bucket }]
    tiers: { by: header:x, limits: { pro: [{ quota: 100000, window: 10s }] } }
";
        let functions = Functions::new(["mine.allow".to_owned()]);
        let set = compile("p.yaml", text, &functions, &no_files).unwrap();
        let memory = set.memory();
        assert_eq!(memory[0], "own: how much a key takes is for mine.allow to know");
        assert!(memory[1].contains("and what mine.allow keeps, which is not known"), "{memory:?}");
        assert!(memory[2].contains("MiB a key"), "the tier is what takes most: {memory:?}");
        let [advice] = &set.advice()[..] else { panic!("of one there is something to say") };
        assert!(advice.contains("an exact log of 100000 units"), "{advice:?}");
    }

    #[test]
    fn what_no_door_can_tell_is_told_wherever_a_policy_goes_by_it() {
        let text = "
policies:
  - name: p
    key: ['descriptor:user | client_ip']
    limits: [{ quota: 5, window: 10s }]
    tiers: { by: 'descriptor:plan', limits: { pro: [{ quota: 9, window: 10s }] } }
    overrides: [{ when: { 'descriptor:role': staff }, unlimited: true }]
  - { name: q, key: client_ip, limits: [{ quota: 5, window: 10s }] }
";
        let set = compile("p.yaml", text, &Functions::default(), &no_files).unwrap();
        let advice = set.advice();
        let absent: Vec<&str> = advice
            .iter()
            .filter_map(|line| line.split_once("` is absent in every request"))
            .map(|(told, _)| told)
            .collect();
        let expected = ["p: `descriptor:user", "p: `descriptor:role", "p: `descriptor:plan"];
        assert_eq!(absent, expected);
    }
}
