//! What a request to the API is about: its path and query, taken apart.

use std::collections::HashMap;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// Entries of a list that are told at once, at most and by default.
const COUNT_MAX: usize = 1_000;
const COUNT_DEFAULT: usize = 100;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `policies`
    Policies,
    /// `policies/NAME`
    Policy(String),
    /// `policies/NAME/keys/…`
    Key(String, Key),
    /// `policies/NAME/overrides`
    NewOverride(String),
    /// `policies/NAME/bans/…`
    Ban(String, Key),
    /// `overrides`
    Overrides,
    /// `overrides/ID`
    Override(String),
    /// `bans`
    Bans,
    /// `explain`
    Explain,
}

/// A key of a policy, as a path names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Its parts, as requests have them.
    Parts(Vec<String>),
    /// As it is counted under.
    Rendered(String),
}

/// A path and its query.
#[derive(Debug)]
pub(super) struct Target {
    /// As it was sent.
    pub(super) path: String,
    pub(super) resource: Resource,
    query: HashMap<String, String>,
}

impl Target {
    pub(super) fn read(uri: &Uri) -> Result<Target, Problem> {
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let query: HashMap<String, String> = query.into_owned().collect();
        let decode = |segment: &str| {
            let text = percent_decode_str(segment).decode_utf8();
            text.map(|it| it.into_owned()).map_err(|_| {
                Problem::bad(format!("`{segment}` is not UTF-8 text, percent-encoded"))
            })
        };
        let segments: Vec<String> =
            uri.path().split('/').skip(1).map(decode).collect::<Result<_, _>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let key = |parts: &[&str]| match query.get("key") {
            Some(rendered) => Key::Rendered(rendered.clone()),
            None => Key::Parts(parts.iter().map(|&part| part.to_owned()).collect()),
        };
        let resource = match segments.as_slice() {
            ["api", "v1", "policies"] => Resource::Policies,
            ["api", "v1", "policies", name] => Resource::Policy((*name).to_owned()),
            ["api", "v1", "policies", name, "overrides"] => {
                Resource::NewOverride((*name).to_owned())
            }
            ["api", "v1", "policies", name, "keys", parts @ ..] => {
                Resource::Key((*name).to_owned(), key(parts))
            }
            ["api", "v1", "policies", name, "bans", parts @ ..] => {
                Resource::Ban((*name).to_owned(), key(parts))
            }
            ["api", "v1", "overrides"] => Resource::Overrides,
            ["api", "v1", "overrides", id] => Resource::Override((*id).to_owned()),
            ["api", "v1", "bans"] => Resource::Bans,
            ["api", "v1", "explain"] => Resource::Explain,
            _ => {
                return Err(Problem::not_found(
                    "known here: /api/v1/policies, /api/v1/overrides, /api/v1/bans, /api/v1/explain",
                ));
            }
        };
        Ok(Target { path: uri.to_string(), resource, query })
    }

    /// A word of the query; empty if it is not there.
    pub(super) fn word(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// How many entries of a list are wanted.
    pub(super) fn count(&self) -> Result<usize, Problem> {
        match self.word("count") {
            "" => Ok(COUNT_DEFAULT),
            text => match text.parse() {
                Ok(count @ 1..=COUNT_MAX) => Ok(count),
                _ => Err(Problem::bad(format!(
                    "count: `{text}` is not a number from 1 to {COUNT_MAX}"
                ))),
            },
        }
    }
}

impl Resource {
    /// Whether a method means something here.
    pub(super) fn allows(&self, method: &Method) -> Result<(), Problem> {
        let allowed = match self {
            Resource::Policies | Resource::Policy(_) | Resource::Overrides | Resource::Bans => {
                "GET"
            }
            Resource::Key(..) | Resource::Override(_) => "GET, DELETE",
            Resource::Ban(..) => "DELETE",
            Resource::NewOverride(_) => "PUT",
            Resource::Explain => "POST",
        };
        let is_allowed = allowed.split(", ").any(|it| it == method.as_str());
        if is_allowed { Ok(()) } else { Err(Problem::method(allowed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> Resource {
        Target::read(&path.parse().unwrap()).unwrap().resource
    }

    #[test]
    fn a_key_is_named_part_by_part_or_whole() {
        let parts = |parts: &[&str]| {
            let parts = parts.iter().map(|&part| part.to_owned()).collect();
            Resource::Key("api".to_owned(), Key::Parts(parts))
        };
        let base = "/api/v1/policies/api/keys";
        assert_eq!(resource(&format!("{base}/10.0.0.1/a%2Fb%20c")), parts(&["10.0.0.1", "a/b c"]));
        assert_eq!(resource(&format!("{base}/10.0.0.1/")), parts(&["10.0.0.1", ""]));
        assert_eq!(resource(base), parts(&[]));
        let whole = Resource::Key("api".to_owned(), Key::Rendered("~1:a|b+c".to_owned()));
        assert_eq!(resource(&format!("{base}?key=~1:a%7Cb%2Bc")), whole);
    }
}
