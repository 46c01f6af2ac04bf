//! Routes: which upstream a path goes to.
//!
//! A pattern is matched against the *normalised* path, the same that policies
//! see and that is forwarded, so that no spelling of a path takes another route
//! than the one that was checked.
//!
//! ```text
//!   /api/v1      that path alone
//!   /api/*/x     any one segment in the middle; `*` may also be a part of one
//!   /api/**      /api, and everything below it
//! ```

/// A glob over paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The segments between slashes, without a final `**`.
    segments: Vec<String>,
    /// The pattern ended in `**`: anything may follow.
    open: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text says what is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` must start with /"));
        };
        let (body, open) = match rest.strip_suffix("**") {
            Some("") => (None, true),
            Some(body) if body.ends_with('/') => (body.strip_suffix('/'), true),
            Some(_) => return Err(format!("`{text}`: `**` must be a segment of its own")),
            None => (Some(rest), false),
        };
        if body.is_some_and(|body| body.contains("**")) {
            return Err(format!("`{text}`: `**` can only be the last segment"));
        }
        let segments = body.map(|body| body.split('/').map(str::to_owned).collect());
        Ok(Pattern { segments: segments.unwrap_or_default(), open })
    }

    /// True when the normalised `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        if self.segments.is_empty() {
            return self.open;
        }
        let mut segments = rest.split('/');
        let all = self.segments.iter().all(|pattern| {
            segments.next().is_some_and(|segment| segment_matches(pattern, segment))
        });
        all && (self.open || segments.next().is_none())
    }
}

/// True when one segment matches; `*` is any run of characters in it.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == segment };
    let Some(mut rest) = segment.strip_prefix(head) else { return false };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// All routes, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<(Pattern, usize)>);

impl Routes {
    /// Routes by pattern and index of the upstream.
    pub fn new(routes: Vec<(Pattern, usize)>) -> Routes {
        Routes(routes)
    }

    /// The index of the upstream of the first route that matches.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.0.iter().find(|(pattern, _)| pattern.matches(path)).map(|(_, upstream)| *upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_segments() {
        let table = [
            ("/**", "/ /a /a/b", ""),
            ("/", "/", "/a"),
            ("/a", "/a", "/ /a/ /ab /a/b"),
            ("/a/", "/a/", "/a /a/b"),
            ("/a/**", "/a /a/ /a/b /a/b/c", "/ /ab /b/a"),
            ("/a/*", "/a/b /a/", "/a /a/b/c"),
            ("/a/*/c", "/a/b/c", "/a/c /a/b/b/c"),
            ("/v*/x", "/v1/x /v/x", "/w/x /v1/y"),
            ("/*.png", "/a.png /.png", "/a.jpg /a/b.png"),
            ("/a*b*c", "/abc /a1b2c /abbcc", "/ab /acb"),
        ];
        for (text, matching, other) in table {
            let pattern = Pattern::parse(text).unwrap();
            for path in matching.split_whitespace() {
                assert!(pattern.matches(path), "{text} should match {path}");
            }
            for path in other.split_whitespace() {
                assert!(!pattern.matches(path), "{text} should not match {path}");
            }
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for text in ["", "a", "**", "/a**", "/**/b", "/a/**/b"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let route = |text, upstream| (Pattern::parse(text).unwrap(), upstream);
        let routes = Routes::new(vec![route("/a/**", 1), route("/a/b", 2), route("/c", 3)]);
        assert_eq!(routes.find("/a/b"), Some(1));
        assert_eq!(routes.find("/c"), Some(3));
        assert_eq!(routes.find("/d"), None);
    }
}
