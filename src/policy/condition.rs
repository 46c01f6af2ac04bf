//! Conditions: what a policy's `match` asks of a request.
//!
//! All must hold. Each is compiled to a comparison that allocates nothing.
//! Paths are compared segment by segment; a slash at the end makes no
//! difference on either side, because servers disagree about it and a limit
//! must not be dodged by it.
//!
//! Not here: which policies are worth asking ([`super::index`]).

use super::RequestFacts;

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

/// Segments of a path: `/api/*/items/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    segments: Vec<Segment>,
    /// Ends in `**`: the segments are the beginning of a path, or all of it.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `*`: one segment, whatever it is.
    Any,
}

/// Why a pattern is none; reads on from the pattern itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("must begin with `/`")]
    NotAbsolute,
    #[error("holds a query or fragment; only paths are matched")]
    NotAPath,
    #[error("cannot match any request: {0}")]
    Path(super::path::PathError),
    #[error("has `**` in the middle; it stands for the rest of a path, so it must be the end")]
    RestInTheMiddle,
    #[error("has `*` inside a segment; it stands for a whole segment, as in `/a/*/b`")]
    PartOfASegment,
}

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<PathPattern, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NotAbsolute);
        }
        if text.contains(['?', '#']) {
            return Err(PatternError::NotAPath);
        }
        // Requests are compared in normal form, so the pattern must be in it.
        let normal = super::path::normalise(text).map_err(PatternError::Path)?;
        let mut pattern = PathPattern { segments: Vec::new(), open: false };
        for segment in segments(&normal) {
            if pattern.open {
                return Err(PatternError::RestInTheMiddle);
            }
            match segment {
                "**" => pattern.open = true,
                "*" => pattern.segments.push(Segment::Any),
                _ if segment.contains('*') => return Err(PatternError::PartOfASegment),
                _ => pattern.segments.push(Segment::Literal(segment.into())),
            }
        }
        Ok(pattern)
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        let mut rest = segments(path);
        for segment in &self.segments {
            match (segment, rest.next()) {
                (Segment::Literal(literal), Some(found)) if **literal == *found => {}
                (Segment::Any, Some(_)) => {}
                _ => return false,
            }
        }
        self.open || rest.next().is_none()
    }

    fn describe(&self) -> String {
        let literal = |segment: &Segment| match segment {
            Segment::Literal(literal) => literal.to_string(),
            Segment::Any => "*".to_owned(),
        };
        let open = self.open.then(|| "**".to_owned());
        let segments: Vec<String> = self.segments.iter().map(literal).chain(open).collect();
        format!("/{}", segments.join("/"))
    }

    /// The first segment, if only one text will do.
    pub(super) fn first_literal(&self) -> Option<&str> {
        match self.segments.first() {
            Some(Segment::Literal(literal)) => Some(literal),
            _ => None,
        }
    }
}

/// The segments of a path in normal form; `/` and a slash at the end make none.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(|segment| !segment.is_empty())
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

    /// The host, if only one will do.
    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Below(_) => None,
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

    #[track_caller]
    fn check_path(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = PathPattern::parse(pattern).unwrap();
        for path in matching {
            assert!(compiled.matches(path), "{pattern} should match {path}");
        }
        for path in others {
            assert!(!compiled.matches(path), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn a_pattern_matches_whole_segments() {
        check_path("/", &["/"], &["/x"]);
        check_path("/**", &["/", "/x", "/x/y/"], &[]);
        check_path("/login", &["/login", "/login/"], &["/", "/Login", "/loginx", "/login/x"]);
        check_path("/login/", &["/login", "/login/"], &["/login/x"]);
        check_path("/a/*", &["/a/x", "/a/x/"], &["/a", "/a/", "/a/x/y", "/b/x"]);
        check_path("/a/*/c", &["/a/b/c"], &["/a/c", "/a/b/b/c"]);
        check_path("/a/**", &["/a", "/a/", "/a/x", "/a/x/y"], &["/", "/ab", "/b/a"]);
        check_path("/*/x/**", &["/a/x", "/b/x/y"], &["/x", "/a/y"]);
        check_path("/%7Ea//b/./c", &["/~a/b/c"], &["/%7Ea/b/c"]);
        check_path("/{id}", &["/%7Bid%7D"], &["/{id}"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, error) in [
            ("", PatternError::NotAbsolute),
            ("api/**", PatternError::NotAbsolute),
            ("**", PatternError::NotAbsolute),
            ("/a?b=c", PatternError::NotAPath),
            ("/a/**/b", PatternError::RestInTheMiddle),
            ("/a/b*", PatternError::PartOfASegment),
            ("/***", PatternError::PartOfASegment),
            ("/../a", PatternError::Path(super::super::path::PathError::AboveRoot)),
        ] {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
    }

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
