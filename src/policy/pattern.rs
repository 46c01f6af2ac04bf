//! Patterns of paths, `/api/*/items/**`: what policies match and routes lead by.
//!
//! ```text
//!   /login     that path
//!   /a/*/b     any one segment in the middle
//!   /a/**      /a, and everything below it
//! ```
//!
//! Paths are compared segment by segment; a slash at the end makes no difference
//! on either side, because servers disagree about it and a limit must not be
//! dodged by it.

/// Segments of a path: `/api/*/items/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
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
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("must begin with `/`")]
    NotAbsolute,
    /// It holds more than a path.
    #[error("holds a query or fragment; only paths are matched")]
    NotAPath,
    /// No request has such a path.
    #[error("cannot match any request: {0}")]
    Path(super::path::PathError),
    /// `**` stands before the end.
    #[error("has `**` in the middle; it stands for the rest of a path, so it must be the end")]
    RestInTheMiddle,
    /// `*` stands beside other characters.
    #[error("has `*` inside a segment; it stands for a whole segment, as in `/a/*/b`")]
    PartOfASegment,
}

impl PathPattern {
    /// Reads a pattern, which is brought to the normal form of paths.
    ///
    /// # Errors
    /// It could match nothing, or not what was meant.
    pub fn parse(text: &str) -> Result<PathPattern, PatternError> {
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

    /// True when a path in normal form matches.
    pub fn matches(&self, path: &str) -> bool {
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

    /// The pattern as it would be written.
    pub(super) fn describe(&self) -> String {
        let literal = |segment: &Segment| match segment {
            Segment::Literal(literal) => literal.to_string(),
            Segment::Any => "*".to_owned(),
        };
        let open = self.open.then(|| "**".to_owned());
        let segments: Vec<String> = self.segments.iter().map(literal).chain(open).collect();
        format!("/{}", segments.join("/"))
    }

    /// The segments that it begins with, as long as only one text will do.
    pub(super) fn literal_beginning(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(&**literal),
            Segment::Any => None,
        })
    }
}

/// The segments of a path in normal form; `/` and a slash at the end make none.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(|segment| !segment.is_empty())
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
            ("/../a", PatternError::Path(crate::policy::path::PathError::AboveRoot)),
        ] {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
    }
}
