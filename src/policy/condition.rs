//! Conditions: what a policy's `match` asks of a request.
//!
//! All must hold. Each is compiled to a comparison that allocates nothing.
//!
//! Not here: paths ([`super::pattern`]), and which policies are worth asking ([`super::index`]).

use super::RequestFacts;
use super::pattern::PathPattern;

/// The `match` of one policy. Without conditions it holds for every request.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) path: Option<PathPattern>,
    /// Any of these; empty means every method.
    pub(super) methods: Vec<Box<str>>,
    pub(super) host: Option<HostPattern>,
    pub(super) headers: Vec<HeaderCondition>,
}

impl Conditions {
    pub(super) fn hold(&self, facts: &RequestFacts<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|it| **it == *facts.method))
            && self.path.as_ref().is_none_or(|it| it.matches(facts.path))
            && self.host.as_ref().is_none_or(|it| it.matches(facts.host))
            && self.headers.iter().all(|it| it.holds(facts))
    }

    /// The first of them that does not hold, for people; `None` when all do.
    pub(super) fn why_not(&self, facts: &RequestFacts<'_>) -> Option<String> {
        if let Some(host) = self.host.as_ref().filter(|it| !it.matches(facts.host)) {
            return Some(format!("the host `{}` is not {}", facts.host, host.describe()));
        }
        if let Some(path) = self.path.as_ref().filter(|it| !it.matches(facts.path)) {
            return Some(format!("the path {} is not {}", facts.path, path.describe()));
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|it| **it == *facts.method) {
            return Some(format!("the method {} is not {}", facts.method, self.methods.join(", ")));
        }
        let header = self.headers.iter().find(|it| !it.holds(facts))?;
        let wanted = header.value.as_deref().unwrap_or("*");
        Some(format!("the field {} is not {wanted}", header.name))
    }

    /// A path that they hold for, when its pattern is a path otherwise: each
    /// star becomes an `x`.
    pub(super) fn example_path(&self) -> String {
        let pattern = self.path.as_ref().map(PathPattern::describe);
        pattern.map_or("/".to_owned(), |it| it.replace("**", "x").replace('*', "x"))
    }

    /// In a few words: `GET, POST *.example.com/api/** with x-plan: free`.
    pub(super) fn describe(&self) -> String {
        let mut words = Vec::new();
        if !self.methods.is_empty() {
            words.push(self.methods.join(", "));
        }
        let host = self.host.as_ref().map(HostPattern::describe).unwrap_or_default();
        match &self.path {
            Some(path) => words.push(format!("{host}{}", path.describe())),
            None if !host.is_empty() => words.push(format!("{host}/**")),
            None => words.push("every request".to_owned()),
        }
        for header in &self.headers {
            let joint =
                if words.last().is_some_and(|it| it.starts_with("with ")) { "and" } else { "with" };
            words.push(format!(
                "{joint} {}: {}",
                header.name,
                header.value.as_deref().unwrap_or("*")
            ));
        }
        words.join(" ")
    }
}

/// A host, or every host below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// `api.example.com`.
    Exact(Box<str>),
    /// `*.example.com`, kept as `.example.com`. Not `example.com` itself.
    Below(Box<str>),
}

impl HostPattern {
    /// `None` if the text is neither a host nor a host below `*.`.
    pub(super) fn parse(text: &str) -> Option<HostPattern> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(parent) => (parent, true),
            None => (text, false),
        };
        let normal = super::host::normalise(name);
        let is_host_byte = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'[' | b']')
        };
        // A port would be cut off silently, so it must be refused here.
        let is_whole = normal.len() == name.trim_end_matches('.').len();
        if normal.is_empty() || !is_whole || !normal.bytes().all(is_host_byte) {
            return None;
        }
        Some(if below {
            HostPattern::Below(format!(".{normal}").into())
        } else {
            HostPattern::Exact(normal.into())
        })
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }

    fn describe(&self) -> String {
        match self {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Below(suffix) => format!("*{suffix}"),
        }
    }
}

/// A header field that must be there, or have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderCondition {
    /// Lower case.
    pub(super) name: Box<str>,
    /// `None`: any value, written `*`.
    pub(super) value: Option<Box<str>>,
}

impl HeaderCondition {
    fn holds(&self, facts: &RequestFacts<'_>) -> bool {
        match (facts.headers.get(&self.name), &self.value) {
            (Some(found), Some(value)) => found == value.as_bytes(),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_exact_or_below() {
        for (pattern, matching, others) in [
            ("example.com", vec!["example.com"], vec!["www.example.com", "example.org"]),
            ("Example.COM.", vec!["example.com"], vec![]),
            (
                "*.example.com",
                vec!["a.example.com", "a.b.example.com"],
                vec!["example.com", ".example.com", "badexample.com"],
            ),
            ("[::1]", vec!["[::1]"], vec!["::1"]),
        ] {
            let compiled = HostPattern::parse(pattern).unwrap();
            assert!(matching.iter().all(|host| compiled.matches(host)), "{pattern}");
            assert!(!others.iter().any(|host| compiled.matches(host)), "{pattern}");
        }
        for text in ["", "*.", "*", "a.*.com", "example.com:80", "http://x", "a b", "é.com"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
