//! Tiers, overrides and lists of a policy, checked.

use std::collections::BTreeMap;

use super::super::budget::KeyBudget;
use super::super::choice::{
    Choices, List, Override, Overrides, Test, Tiers, Treatment, Wanted, network, rendered,
};
use super::super::key::Part;
use super::super::source::{Source, Value};
use super::super::{Limit, written};
use super::Checker;
use crate::base::problems::Problem;

/// Overrides that name sources are walked, so they are few.
pub(super) const WALKED_MAX: usize = 100;

/// What a policy's requests are limited by: sets of limits, one after the other,
/// and who gets which.
pub(super) struct Sets<'p> {
    pub(super) policy: Option<&'p str>,
    /// Stands in each set, when the policy has a penalty.
    pub(super) ban: Option<Limit>,
    pub(super) limits: Vec<Limit>,
    /// Where each set lies in `limits`; the first is the policy's own.
    pub(super) ranges: Vec<std::ops::Range<u32>>,
}

impl Sets<'_> {
    /// Adds a set and tells its number.
    pub(super) fn add(&mut self, set: Vec<Limit>) -> Treatment {
        let start = self.limits.len() as u32;
        self.limits.extend(set);
        self.limits.extend(self.ban.clone());
        self.ranges.push(start..self.limits.len() as u32);
        Treatment::Limited(self.ranges.len() as u32 - 1)
    }
}

/// The path of what stands under `key` at `path`, which may be the whole document.
fn inside(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Checker<'_> {
    pub(super) fn choices(
        &mut self,
        path: &str,
        written: &written::Policy,
        key: &[Part],
        sets: &mut Sets<'_>,
    ) -> Option<Choices> {
        let before = self.problems.len();
        let mut choices = Choices::default();
        if let Some(list) = &written.deny {
            choices.deny = self.list(&format!("{path}.deny"), list);
        }
        if let Some(list) = &written.allow {
            choices.allow = self.list(&format!("{path}.allow"), list);
        }
        if let Some(tiers) = &written.tiers {
            choices.tiers = self.tiers(&format!("{path}.tiers"), tiers, sets);
        }
        for (index, one) in written.overrides.iter().flatten().enumerate() {
            let path = format!("{path}.overrides[{index}]");
            let Some(treatment) = self.treatment(&path, one, sets) else { continue };
            let treated = Override { treatment, ends: None };
            let replaces = self.add_override(&path, one, key, treated, &mut choices.overrides);
            if replaces == Some(true) {
                let message = "is for whom an entry above is for already; write one for both";
                self.problem::<()>(format!("{path}.key"), message);
            }
        }
        if choices.overrides.when.len() > WALKED_MAX {
            let message = format!("holds more than {WALKED_MAX} entries with `when` or `*`");
            self.problem::<()>(format!("{path}.overrides"), message);
        }
        self.if_sound_since(before, choices)
    }

    /// The budget of keys, whose overflow has limits of its own, or the policy's.
    pub(super) fn key_budget(
        &mut self,
        path: &str,
        written: &written::KeyBudget,
        sets: &mut Sets<'_>,
    ) -> Option<KeyBudget> {
        let keys = written.keys.as_deref().map(str::parse::<u64>);
        let Some(Ok(keys @ 1..)) = keys else {
            let message = "must say how many keys may have counts of their own, at least 1";
            return self.problem(format!("{path}.key_budget.keys"), message);
        };
        let set = match &written.limits {
            Some(limits) => {
                self.limits(&format!("{path}.key_budget.limits"), sets.policy, limits)?
            }
            None => {
                sets.limits[sets.ranges[0].start as usize..sets.ranges[0].end as usize].to_vec()
            }
        };
        let Treatment::Limited(set) = sets.add(set) else { return None };
        let longest = sets.limits.iter().map(Limit::window).max().unwrap_or_default();
        Some(KeyBudget::new(sets.policy?, keys, longest, set))
    }

    fn list(&mut self, path: &str, written: &written::List) -> Option<List> {
        let of = match &written.of {
            Some(word) => self.source(&format!("{path}.of"), word)?,
            None => Source::ClientIp { prefix: 128 },
        };
        let Some(file) = &written.file else {
            return self
                .problem(path, "the key `file` is missing; it names a file of one entry a line");
        };
        let place = format!("{path}.file");
        let text = match (self.files)(file) {
            Ok(bytes) => bytes,
            Err(error) => return self.problem(place, format!("`{file}` cannot be read: {error}")),
        };
        let Ok(text) = String::from_utf8(text) else {
            return self.problem(place, format!("`{file}` is not UTF-8 text"));
        };
        match List::read(of, &text) {
            Ok(list) => Some(list),
            Err((line, entry)) => {
                let message = format!("{file}:{line}: `{entry}` is not an address or a network");
                self.problem(place, message)
            }
        }
    }

    fn tiers(
        &mut self,
        path: &str,
        written: &written::Tiers,
        sets: &mut Sets<'_>,
    ) -> Option<Tiers> {
        let by = match &written.by {
            Some(word) => self.source(&format!("{path}.by"), word),
            None => self.problem(
                path,
                "the key `by` is missing; it says what a tier is told by, such as `jwt:plan`",
            ),
        };
        let mut names = hashbrown::HashMap::new();
        for (name, limits) in written.limits.iter().flatten() {
            let set = self.limits(&format!("{path}.limits.{name}"), sets.policy, limits);
            if let Some(set) = set {
                names.insert(name.as_bytes().into(), sets.add(set));
            }
        }
        if written.limits.as_ref().is_none_or(BTreeMap::is_empty) {
            return self
                .problem(path, "names no tier; write `limits: { free: [...], pro: [...] }`");
        }
        Some(Tiers { by: by?, names })
    }

    pub(super) fn treatment(
        &mut self,
        path: &str,
        written: &written::Override,
        sets: &mut Sets<'_>,
    ) -> Option<Treatment> {
        let flag = |flag: Option<bool>| flag == Some(true);
        match (&written.limits, flag(written.unlimited), flag(written.deny)) {
            (Some(limits), false, false) => {
                let set = self.limits(&inside(path, "limits"), sets.policy, limits)?;
                Some(sets.add(set))
            }
            (None, true, false) => Some(Treatment::Unlimited),
            (None, false, true) => Some(Treatment::Denied),
            _ => self.problem(path, "needs one of `limits`, `unlimited: true` and `deny: true`"),
        }
    }

    /// Adds an override to those that are looked up, or walked, by whom it is for. True
    /// if it has taken the place of one that is looked up likewise.
    pub(super) fn add_override(
        &mut self,
        path: &str,
        written: &written::Override,
        key: &[Part],
        treated: Override,
        overrides: &mut Overrides,
    ) -> Option<bool> {
        let words = match (&written.key, &written.when) {
            (Some(words), None) => words.located(&inside(path, "key")),
            (None, Some(when)) => {
                let tests = self.tests(&inside(path, "when"), when)?;
                overrides.when.push((tests, treated));
                return Some(false);
            }
            _ => {
                return self.problem(path, "needs either `key` or `when`, to say whom it is for");
            }
        };
        if words.len() != key.len() {
            let message =
                format!("has {} parts, and the key of the policy has {}", words.len(), key.len());
            return self.problem(inside(path, "key"), message);
        }
        if let ([(_, word)], [part]) = (&words[..], key)
            && matches!(part.choices[..], [Source::ClientIp { .. }])
            && word.contains('/')
            && let Some(net) = network(word)
        {
            return Some(overrides.networks.insert(net, treated).is_some());
        }
        let named = words.iter().zip(key).map(|((path, word), part)| {
            let (choice, value) = part.named(word);
            (path, &part.choices[..=choice], value)
        });
        let is_pattern = |word: &str| word == "*" || word.contains('/') && network(word).is_some();
        if named.clone().any(|(.., value)| is_pattern(value)) {
            let mut tests = Vec::new();
            for (path, choices, value) in named {
                let (source, before) = choices.split_last()?;
                let absent = |it: &Source| Test { source: it.clone(), wanted: Wanted::Absent };
                tests.extend(before.iter().map(absent));
                tests.push(self.test(path, source, value)?);
            }
            overrides.when.push((tests, treated));
            return Some(false);
        }
        let mut values = Vec::new();
        for (path, choices, value) in named {
            let (source, before) = choices.split_last()?;
            values.push((before.len(), self.value(path, source, value)?));
        }
        Some(overrides.exact.insert(rendered(&values), treated).is_some())
    }

    fn tests(&mut self, path: &str, written: &BTreeMap<String, String>) -> Option<Vec<Test>> {
        let before = self.problems.len();
        let mut tests = Vec::new();
        for (name, word) in written {
            let path = format!("{path}.{name}");
            let Some(source) = self.source(&path, name) else { continue };
            tests.extend(self.test(&path, &source, word));
        }
        if written.is_empty() {
            return self.problem(path, "names nothing; write such as `{ jwt:plan: gold }`");
        }
        self.if_sound_since(before, tests)
    }

    fn test(&mut self, path: &str, source: &Source, word: &str) -> Option<Test> {
        let wanted = match (source, word) {
            (_, "*") => Wanted::Any,
            (Source::ClientIp { .. }, word) => match network(word) {
                Some(net) => Wanted::Network(net),
                None => {
                    let message = format!("`{word}` is not an address or a network");
                    return self.problem(path, message);
                }
            },
            (_, word) => Wanted::Text(word.as_bytes().into()),
        };
        Some(Test { source: source.clone(), wanted })
    }

    fn value<'w>(&mut self, path: &str, source: &Source, word: &'w str) -> Option<Value<'w>> {
        let Source::ClientIp { prefix } = source else {
            return Some(Value::Text(word.as_bytes().into()));
        };
        match word.parse() {
            Ok(address) => Some(Value::Address(address, *prefix)),
            Err(_) => {
                let problem =
                    Problem::new(path, format!("`{word}` is not an address or a network"));
                self.problems.add(problem);
                None
            }
        }
    }
}
