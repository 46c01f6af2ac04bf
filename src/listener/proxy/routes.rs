//! Routes: which upstream a path goes to.
//!
//! A pattern is matched against the *normalised* path, the same that policies
//! see and that is forwarded, so that no spelling of a path takes another route
//! than the one that was checked.

use crate::policy::PathPattern;

/// All routes, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<(PathPattern, usize)>);

impl Routes {
    /// Routes by pattern and index of the upstream.
    pub fn new(routes: Vec<(PathPattern, usize)>) -> Routes {
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
    fn the_first_route_that_matches_wins() {
        let route = |text, upstream| (PathPattern::parse(text).unwrap(), upstream);
        let routes = Routes::new(vec![route("/a/**", 1), route("/a/b", 2), route("/c", 3)]);
        assert_eq!(routes.find("/a/b"), Some(1));
        assert_eq!(routes.find("/c"), Some(3));
        assert_eq!(routes.find("/d"), None);
    }
}
