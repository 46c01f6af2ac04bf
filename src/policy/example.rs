//! Examples: requests that a policy file names, and what it should make of them.
//!
//! They are run whenever the file is read. A file whose examples do not hold does
//! not say what its author means, so it is refused like any other that is wrong.
//!
//! Not here: quotas. An example says whether a policy concerns a request, not
//! whether it would be the one too many.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::{Headers, Plan, PolicySet, RequestFacts, host, path};
use crate::base::problems::{Problem, Problems, suggest};

/// What a policy makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// Its `match` does not hold.
    Unmatched,
    /// Its limits apply.
    Limited,
    /// It concerns the request and does not limit it.
    Unlimited,
    /// It denies it.
    Denied,
}

const WORDS: [(&str, Made); 4] = [
    ("unmatched", Made::Unmatched),
    ("limited", Made::Limited),
    ("unlimited", Made::Unlimited),
    ("denied", Made::Denied),
];

/// An entry of `examples`, as written.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    request: String,
    header: Option<BTreeMap<String, String>>,
    from: Option<String>,
    expect: String,
    /// The key that it should be counted under.
    key: Option<String>,
}

/// Header fields by lower-case name.
struct Fields(Vec<(String, String)>);

impl Headers for Fields {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_bytes())
    }
}

impl Example {
    /// What is wrong with this example of the policy at `place`, if anything.
    pub(super) fn run(&self, at: &str, set: &PolicySet, place: usize, problems: &mut Problems) {
        let mut wrong = |key: &str, message: String| {
            problems.add(Problem::new(format!("{at}.{key}"), message));
        };
        let Some((_, expected)) = WORDS.iter().find(|(word, _)| *word == self.expect) else {
            let hint = suggest(&self.expect, WORDS.iter().map(|(word, _)| *word));
            return wrong("expect", format!("unknown word `{}`{hint}", self.expect));
        };
        let Some((method, target)) = self.request.split_once(' ') else {
            let message = format!("`{}` is not a request; write `GET /path`", self.request);
            return wrong("request", message);
        };
        let (written_path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = match path::normalise(written_path) {
            Ok(path) => path,
            Err(error) => return wrong("request", format!("`{target}` {error}")),
        };
        let default = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let client = self.from.as_ref().map_or(Ok(default), |text| text.parse());
        let Ok(client) = client else {
            return wrong("from", "is not an address".to_owned());
        };
        let lower = |(name, value): (&String, &String)| (name.to_ascii_lowercase(), value.clone());
        let headers = Fields(self.header.iter().flatten().map(lower).collect());
        let asked = headers.get("host").and_then(|it| std::str::from_utf8(it).ok());
        let facts = RequestFacts {
            method,
            host: &host::normalise(asked.unwrap_or_default()),
            path: &path,
            query,
            client,
            headers: &headers,
            body_bytes: None,
            descriptors: &[],
        };
        let mut plan = Plan::default();
        set.plan(&facts, None, &mut plan);
        let entry = plan.entries().iter().find(|it| it.policy as usize == place);
        let made = if !set.policies[place].conditions.hold(&facts) {
            Made::Unmatched
        } else if entry.is_some() {
            Made::Limited
        } else if plan.denying().iter().any(|it| it.policy as usize == place) {
            Made::Denied
        } else {
            Made::Unlimited
        };
        if made != *expected {
            let word = WORDS.iter().find(|(_, it)| *it == made).map_or("", |(word, _)| word);
            return wrong("expect", format!("does not hold: the request is {word}"));
        }
        let key = entry.map(|entry| String::from_utf8_lossy(plan.partition(entry)).into_owned());
        if let (Some(expected), Some(key)) = (&self.key, key)
            && *expected != key
        {
            wrong("key", format!("does not hold: the request is counted under `{key}`"));
        }
    }
}
