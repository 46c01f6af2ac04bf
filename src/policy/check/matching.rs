//! The `match` of a policy, checked.

use std::collections::BTreeMap;

use super::super::condition::{Conditions, HeaderCondition, HostPattern};
use super::super::pattern::PathPattern;
use super::super::written;
use super::{Checker, is_token, transpose};

impl Checker<'_> {
    pub(super) fn conditions(
        &mut self,
        path: &str,
        written: &written::Match,
    ) -> Option<Conditions> {
        let pattern = written.path.as_ref().map(|text| match PathPattern::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => self.problem(format!("{path}.path"), format!("`{text}` {error}")),
        });
        let methods = written
            .method
            .as_ref()
            .map_or(Some(Vec::new()), |methods| self.methods(&format!("{path}.method"), methods));
        let host = written.host.as_ref().map(|text| {
            HostPattern::parse(text).or_else(|| {
                let message = format!(
                    "`{text}` is not a host; write `api.example.com`, or `*.example.com` for every \
                     host below it; ports are not compared"
                );
                self.problem(format!("{path}.host"), message)
            })
        });
        let headers = written
            .header
            .as_ref()
            .map_or(Some(Vec::new()), |headers| self.headers(&format!("{path}.header"), headers));
        Some(Conditions {
            path: transpose(pattern)?,
            methods: methods?,
            host: transpose(host)?,
            headers: headers?,
        })
    }

    fn methods(&mut self, path: &str, written: &written::Words) -> Option<Vec<Box<str>>> {
        let before = self.problems.len();
        let mut methods = Vec::new();
        for (path, method) in written.located(path) {
            let upper = method.to_ascii_uppercase();
            if is_token(method) && method == upper {
                methods.push(method.into());
                continue;
            }
            let hint = if is_token(method) {
                format!("methods are case-sensitive; write `{upper}`")
            } else {
                "write a word such as `GET`, or a list of them".to_owned()
            };
            self.problem::<()>(path, format!("`{method}` is not a method; {hint}"));
        }
        if methods.is_empty() && self.problems.len() == before {
            return self.problem(path, "names no method; leave it out to match every method");
        }
        self.if_sound_since(before, methods)
    }

    fn headers(
        &mut self,
        path: &str,
        written: &BTreeMap<String, String>,
    ) -> Option<Vec<HeaderCondition>> {
        let before = self.problems.len();
        let mut headers: Vec<HeaderCondition> = Vec::new();
        for (name, value) in written {
            let path = format!("{path}.{name}");
            let lower: Box<str> = name.to_ascii_lowercase().into();
            if !is_token(name) {
                self.problem::<()>(path, format!("`{name}` is not the name of a header field"));
            } else if headers.iter().any(|it| it.name == lower) {
                let message = format!("`{name}` is written twice; names are compared without case");
                self.problem::<()>(path, message);
            } else if value.is_empty() {
                self.problem::<()>(path, "has no value; write one, or `*` for any");
            } else {
                let value = (value != "*").then(|| value.as_str().into());
                headers.push(HeaderCondition { name: lower, value });
            }
        }
        self.if_sound_since(before, headers)
    }
}
