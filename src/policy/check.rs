//! From the written form to the checked one: everything that makes no sense in
//! a policy file, told in one go, each with its path and what would be right.
//!
//! A checker returns `None` where it has added a problem, so that a half-read
//! policy is never built; it goes on all the same, so that no problem hides
//! another.
//!
//! Not here: shape, such as unknown keys ([`super::written`]), and lines and
//! columns ([`crate::base::yaml`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::condition::{Conditions, HeaderCondition, HostPattern};
use super::index::Index;
use super::key::{CLIENT_PREFIX_DEFAULT, Part};
use super::pattern::PathPattern;
use super::written;
use super::{Algorithm, Functions, Limit, Mode, OnMissingKey, Policy, PolicySet};
use crate::base::problems::{Problem, Problems, suggest};
use crate::base::units::Span;

/// A name is a label in metrics and part of every store key.
const NAME_MAX_CHARS: usize = 64;

/// One call decides all limits of a request, so they are few.
const LIMITS_MAX: usize = 16;

/// Every hit of a sliding window is a member of a sorted set.
const SLIDING_WINDOW_QUOTA_MAX: u64 = 1_000_000;

/// The largest integer that a structured header field can carry (RFC 9651).
const QUOTA_MAX: u64 = 999_999_999_999_999;

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Bits of an IPv6 prefix that make sense as one client: from what a provider
/// is given to a single address.
const CLIENT_PREFIXES: std::ops::RangeInclusive<u8> = 32..=128;

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

const ON_MISSING_KEY: [(&str, OnMissingKey); 3] =
    [("skip", OnMissingKey::Skip), ("deny", OnMissingKey::Deny), ("shared", OnMissingKey::Shared)];

/// The words of `key`, as a suggestion shows them.
const KEY_WORDS: [&str; 6] = ["client_ip", "client_ip/64", "header:NAME", "method", "host", "path"];

/// The default algorithm, and the library Function behind it.
const SLIDING_WINDOW: [&str; 2] = ["sliding_window", "limiter.sliding_window"];

/// The Function that decides limits of sliding windows together. Its reply has
/// another form than that of a Function of one limit.
const DECIDE: &str = "limiter.decide";

/// Checks a file.
///
/// # Errors
/// All problems, with paths but not yet located.
pub(super) fn check(file: &written::File, functions: &Functions) -> Result<PolicySet, Problems> {
    let mut checker = Checker { functions, problems: Problems::default() };
    let policies = checker.policies(file);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    let index = Index::new(policies.iter().map(|it| &it.conditions));
    Ok(PolicySet { policies, index })
}

struct Checker<'f> {
    functions: &'f Functions,
    problems: Problems,
}

impl Checker<'_> {
    fn problem<T>(&mut self, path: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.problems.add(Problem::new(path, message));
        None
    }

    /// `value`, unless a problem was added since there were `before` of them.
    fn if_sound_since<T>(&self, before: usize, value: T) -> Option<T> {
        (self.problems.len() == before).then_some(value)
    }

    fn policies(&mut self, file: &written::File) -> Vec<Policy> {
        let Some(written) = &file.policies else {
            let message = "holds nothing; write `policies: []` if nothing is to be limited";
            self.problem::<()>("policies", message);
            return Vec::new();
        };
        let mut policies = Vec::with_capacity(written.len());
        let mut policy_names = HashMap::new();
        let mut limit_names = HashMap::new();
        for (index, written) in written.iter().enumerate() {
            let path = format!("policies[{index}]");
            if let Some(name) = &written.name
                && let Some(first) = policy_names.insert(name.as_str(), index)
            {
                let message = format!(
                    "`{name}` is the name of policies[{first}] too; counts are kept under a policy's name"
                );
                self.problem::<()>(format!("{path}.name"), message);
                // Its limits would be shown under the same names, of course.
                self.policy(&path, written);
                continue;
            }
            let Some(policy) = self.policy(&path, written) else { continue };
            for (number, limit) in policy.limits.iter().enumerate() {
                let here = format!("{path}.limits[{number}]");
                if let Some(there) = limit_names.insert(limit.name.clone(), here.clone()) {
                    let message = format!(
                        "is shown as `{}` in header fields, as {there} is; give it another name",
                        limit.name
                    );
                    self.problem::<()>(here, message);
                }
            }
            policies.push(policy);
        }
        policies
    }

    fn policy(&mut self, path: &str, written: &written::Policy) -> Option<Policy> {
        let name = match &written.name {
            Some(name) => self.name(&format!("{path}.name"), name),
            None => self.problem(
                path,
                "the key `name` is missing; it stands for the policy in metrics, header fields and logs",
            ),
        };
        let matched = written.matched.as_ref().map_or(Some(Conditions::default()), |matched| {
            self.conditions(&format!("{path}.match"), matched)
        });
        let key = self.key(&format!("{path}.key"), written.key.as_ref());
        let on_missing_key = self.word(
            &format!("{path}.on_missing_key"),
            written.on_missing_key.as_deref(),
            &ON_MISSING_KEY,
        );
        let limits = self.limits(path, name, written.limits.as_deref().unwrap_or_default());
        let mode = self.word(&format!("{path}.mode"), written.mode.as_deref(), &MODES);
        let (name, conditions, limits) = (name?, matched?, limits?);
        Some(Policy {
            matched: conditions.describe(),
            store_prefixes: (0..limits.len())
                .map(|index| format!("weir:{name}:{index}:{{").into())
                .collect(),
            name: name.into(),
            conditions,
            key: key?,
            on_missing_key: on_missing_key?,
            limits,
            mode: mode?,
        })
    }

    /// A name, as it may stand in a store key, a metric label and a header field.
    fn name<'n>(&mut self, path: &str, name: &'n str) -> Option<&'n str> {
        let is_good = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && name.len() <= NAME_MAX_CHARS && name.bytes().all(is_good) {
            return Some(name);
        }
        let message = format!(
            "`{name}` is not a name; write 1 to {NAME_MAX_CHARS} lower-case letters, digits, `-`, `_` \
             and `.`, beginning with a letter or digit"
        );
        self.problem(path, message)
    }

    /// One of a few words, or the default.
    fn word<T: Copy + Default>(
        &mut self,
        path: &str,
        written: Option<&str>,
        known: &[(&'static str, T)],
    ) -> Option<T> {
        let Some(word) = written else { return Some(T::default()) };
        if let Some((_, value)) = known.iter().find(|(it, _)| *it == word) {
            return Some(*value);
        }
        let suggestion = suggest(word, known.iter().map(|(it, _)| *it));
        self.problem(path, format!("unknown word `{word}`{suggestion}"))
    }

    fn conditions(&mut self, path: &str, written: &written::Match) -> Option<Conditions> {
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

    fn key(&mut self, path: &str, written: Option<&written::Words>) -> Option<Vec<Part>> {
        let Some(written) = written else { return Some(Vec::new()) };
        let before = self.problems.len();
        let mut parts: Vec<Part> = Vec::new();
        for (path, word) in written.located(path) {
            let Some(part) = self.part(&path, word) else { continue };
            if parts.contains(&part) {
                self.problem::<()>(path, format!("`{word}` is part of the key already"));
            }
            parts.push(part);
        }
        self.if_sound_since(before, parts)
    }

    fn part(&mut self, path: &str, word: &str) -> Option<Part> {
        if let Some(name) = word.strip_prefix("header:") {
            if is_token(name) {
                return Some(Part::Header(name.to_ascii_lowercase().into()));
            }
            let message = format!(
                "`{word}` names no header field; write `header:x-api-key`, without a space"
            );
            return self.problem(path, message);
        }
        if let Some(bits) = word.strip_prefix("client_ip/") {
            let prefix = bits.parse::<u8>().ok().filter(|bits| CLIENT_PREFIXES.contains(bits));
            if let Some(prefix) = prefix {
                return Some(Part::ClientIp { prefix });
            }
            let message = format!(
                "`{word}` is not a prefix of IPv6 addresses; write `client_ip/{}` to `client_ip/{}` (IPv4 \
                 addresses count whole)",
                CLIENT_PREFIXES.start(),
                CLIENT_PREFIXES.end()
            );
            return self.problem(path, message);
        }
        match word {
            "client_ip" => Some(Part::ClientIp { prefix: CLIENT_PREFIX_DEFAULT }),
            "method" => Some(Part::Method),
            "host" => Some(Part::Host),
            "path" => Some(Part::Path),
            _ => {
                let message = format!("unknown key part `{word}`{}", suggest(word, KEY_WORDS));
                self.problem(path, message)
            }
        }
    }

    fn limits(
        &mut self,
        path: &str,
        policy: Option<&str>,
        written: &[written::Limit],
    ) -> Option<Vec<Limit>> {
        let list = format!("{path}.limits");
        if written.is_empty() {
            let message =
                "has no limits; write at least one, such as `- { quota: 5, window: 10s }`";
            return self.problem(list, message);
        }
        if written.len() > LIMITS_MAX {
            let message = format!(
                "holds {} limits; at most {LIMITS_MAX} are decided together",
                written.len()
            );
            return self.problem(list, message);
        }
        let before = self.problems.len();
        let mut limits = Vec::new();
        for (index, limit) in written.iter().enumerate() {
            let path = format!("{list}[{index}]");
            let number = (index + 1).to_string();
            let own_name = match &limit.name {
                Some(name) => self.name(&format!("{path}.name"), name),
                None => Some(number.as_str()),
            };
            let algorithm = self.algorithm(&path, limit.algorithm.as_deref());
            let quota = self.quota(&path, limit.quota.as_deref(), algorithm.as_ref());
            let window = self.window(&path, limit.window.as_deref());
            if let (Some(policy), Some(own_name), Some(algorithm), Some(quota), Some(window)) =
                (policy, own_name, algorithm, quota, window)
            {
                let is_only = written.len() == 1;
                let name = if is_only { policy.to_owned() } else { format!("{policy}.{own_name}") };
                limits.push(Limit::new(&name, quota, window, algorithm));
            }
        }
        self.if_sound_since(before, limits)
    }

    fn quota(
        &mut self,
        path: &str,
        written: Option<&str>,
        algorithm: Option<&Algorithm>,
    ) -> Option<u64> {
        let Some(text) = written else {
            return self.problem(
                path,
                "the key `quota` is missing; it says how many requests the window allows",
            );
        };
        let path = format!("{path}.quota");
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.problem(
                path,
                format!("`{text}` is not a quota; write a whole number, at least 1"),
            );
        }
        let quota_max = match algorithm {
            Some(Algorithm::SlidingWindow) => SLIDING_WINDOW_QUOTA_MAX,
            _ => QUOTA_MAX,
        };
        match text.parse::<u64>() {
            Ok(0) => self.problem(path, "must be at least 1; what is never allowed is no limit, refuse it at the upstream"),
            Ok(quota) if quota <= quota_max => Some(quota),
            _ if quota_max == SLIDING_WINDOW_QUOTA_MAX => self.problem(
                path,
                format!("`{text}` is too large; a sliding window remembers every hit, so at most {quota_max}"),
            ),
            _ => self.problem(path, format!("`{text}` is too large; at most {quota_max}")),
        }
    }

    fn window(&mut self, path: &str, written: Option<&str>) -> Option<Duration> {
        let Some(text) = written else {
            return self.problem(
                path,
                "the key `window` is missing; it says how long a request counts, such as `10s`",
            );
        };
        let path = format!("{path}.window");
        match text.parse::<Span>() {
            Ok(Span(window)) if (WINDOW_MIN..=WINDOW_MAX).contains(&window) => Some(window),
            Ok(_) => {
                let (least, most) = (Span(WINDOW_MIN), Span(WINDOW_MAX));
                self.problem(path, format!("`{text}` is out of range; write {least} to {most}"))
            }
            Err(error) => self.problem(path, error.to_string()),
        }
    }

    fn algorithm(&mut self, path: &str, written: Option<&str>) -> Option<Algorithm> {
        let Some(text) = written else { return Some(Algorithm::SlidingWindow) };
        let path = format!("{path}.algorithm");
        if SLIDING_WINDOW.contains(&text) {
            return Some(Algorithm::SlidingWindow);
        }
        if text == DECIDE {
            let message = format!(
                "`{text}` decides many limits at once; write `sliding_window`, which uses it"
            );
            return self.problem(path, message);
        }
        if self.functions.has(text) {
            return Some(Algorithm::Function(text.to_owned()));
        }
        let known: Vec<&str> = std::iter::once(SLIDING_WINDOW[0])
            .chain(
                self.functions.names().filter(|it| *it != DECIDE && !SLIDING_WINDOW.contains(it)),
            )
            .collect();
        let message = format!("unknown Function `{text}`{}", suggest(text, known));
        self.problem(path, message)
    }
}

/// A problem inside (`Some(None)`) is a problem of the whole.
fn transpose<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    match written {
        Some(None) => None,
        Some(Some(checked)) => Some(Some(checked)),
        None => Some(None),
    }
}

/// A `token` of RFC 9110: a method, or the name of a header field.
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, compile};
    use super::*;

    fn functions() -> Functions {
        let names =
            ["limiter.decide", "limiter.sliding_window", "mylimiter.allow"].map(str::to_owned);
        Functions::new(names)
    }

    #[track_caller]
    fn refused(text: &str, written: &str) {
        let text = text.strip_prefix('\n').unwrap_or(text);
        let told = compile("policies.yaml", text, &functions()).unwrap_err().to_string();
        let written = written.trim_matches('\n');
        assert!(told == written, "\nwritten:\n{written}\n\ntold:\n{told}\n");
    }

    #[test]
    fn the_shipped_file_limits_each_client_under_limited() {
        let text = include_str!("../../config/policies.yaml");
        let set = compile("config/policies.yaml", text, &functions()).unwrap();
        let lines: Vec<String> = set.policies().iter().map(Policy::describe).collect();
        assert_eq!(lines, ["limited-per-client: 5 per 10s by client_ip on /limited/**"]);
    }

    #[test]
    fn a_policy_describes_itself_in_a_line() {
        let text = "
policies:
  - name: a
    match: { method: [GET, POST], host: '*.example.com', path: /api/*/x, header: { X-Plan: free, y: '*' } }
    key: [client_ip/56, header:X-Tenant]
    limits: [{ quota: 10, window: 1s }, { quota: 1000, window: 3600s, algorithm: mylimiter.allow, name: hourly }]
    mode: shadow
  - { name: b, limits: [{ quota: 1, window: 1500ms }] }
  - { name: c, match: { host: h.example, method: GET }, key: path, limits: [{ quota: 1, window: 7d }] }
";
        let set = compile("policies.yaml", text, &functions()).unwrap();
        let lines: Vec<String> = set.policies().iter().map(Policy::describe).collect();
        assert_eq!(
            lines,
            [
                "a: 10 per 1s and 1000 per 1h (mylimiter.allow) by client_ip/56, header:x-tenant on \
                 GET, POST *.example.com/api/*/x with x-plan: free and y: * (shadow)",
                "b: 1 per 1500ms all together on every request",
                "c: 1 per 7d by path on GET h.example/**",
            ]
        );
    }

    #[test]
    fn a_limit_is_shown_by_its_policy_or_by_a_name_of_its_own() {
        let text = "
policies:
  - name: one
    limits: [{ quota: 5, window: 10s, name: burst }]
  - name: more
    limits: [{ quota: 5, window: 10s }, { quota: 9, window: 1m, name: slow, algorithm: limiter.sliding_window }]
";
        let set = compile("policies.yaml", text, &functions()).unwrap();
        let limits: Vec<&Limit> = set.policies().iter().flat_map(Policy::limits).collect();
        let names: Vec<&str> = limits.iter().map(|it| it.name()).collect();
        assert_eq!(names, ["one", "more.1", "more.slow"]);
        assert_eq!(limits[2].args(), [&b"9"[..], b"60000", b"1"]);
        assert_eq!(limits[2].algorithm(), &Algorithm::SlidingWindow);
        assert_eq!((limits[2].quota(), limits[2].window()), (9, Duration::from_secs(60)));
    }

    #[test]
    fn everything_that_makes_no_sense_is_told_at_once() {
        refused(
            "
policies:
  - name: API per client
    match:
      path: api/**
      method: [get, GET]
      host: https://example.com
      header: { 'x plan': free, x-a: '' }
    key: [clinet_ip, client_ip/24, 'header: x']
    on_missing_key: share
    limits:
      - { quota: 0, window: 10 }
      - { quota: many, window: 400d, algorithm: mylimiter.alow }
    mode: shadwo
",
            "
policies.yaml:2:11: policies[0].name: `API per client` is not a name; write 1 to 64 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit
  2 |   - name: API per client
    |           ^
policies.yaml:4:13: policies[0].match.path: `api/**` must begin with `/`
  4 |       path: api/**
    |             ^
policies.yaml:5:16: policies[0].match.method[0]: `get` is not a method; methods are case-sensitive; write `GET`
  5 |       method: [get, GET]
    |                ^
policies.yaml:6:13: policies[0].match.host: `https://example.com` is not a host; write `api.example.com`, or `*.example.com` for every host below it; ports are not compared
  6 |       host: https://example.com
    |             ^
policies.yaml:7:27: policies[0].match.header.x plan: `x plan` is not the name of a header field
  7 |       header: { 'x plan': free, x-a: '' }
    |                           ^
policies.yaml:7:38: policies[0].match.header.x-a: has no value; write one, or `*` for any
  7 |       header: { 'x plan': free, x-a: '' }
    |                                      ^
policies.yaml:8:11: policies[0].key[0]: unknown key part `clinet_ip`; did you mean `client_ip`?
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |           ^
policies.yaml:8:22: policies[0].key[1]: `client_ip/24` is not a prefix of IPv6 addresses; write `client_ip/32` to `client_ip/128` (IPv4 addresses count whole)
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |                      ^
policies.yaml:8:36: policies[0].key[2]: `header: x` names no header field; write `header:x-api-key`, without a space
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |                                    ^
policies.yaml:9:21: policies[0].on_missing_key: unknown word `share`; did you mean `shared`?
  9 |     on_missing_key: share
    |                     ^
policies.yaml:11:18: policies[0].limits[0].quota: must be at least 1; what is never allowed is no limit, refuse it at the upstream
  11 |       - { quota: 0, window: 10 }
     |                  ^
policies.yaml:11:29: policies[0].limits[0].window: `10` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  11 |       - { quota: 0, window: 10 }
     |                             ^
policies.yaml:12:18: policies[0].limits[1].quota: `many` is not a quota; write a whole number, at least 1
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                  ^
policies.yaml:12:32: policies[0].limits[1].window: `400d` is out of range; write 1ms to 366d
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                                ^
policies.yaml:12:49: policies[0].limits[1].algorithm: unknown Function `mylimiter.alow`; did you mean `mylimiter.allow`?
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                                                 ^
policies.yaml:13:11: policies[0].mode: unknown word `shadwo`; did you mean `shadow`?
  13 |     mode: shadwo
     |           ^
",
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        refused(
            "policies:\n",
            "
policies.yaml:1:10: policies: holds nothing; write `policies: []` if nothing is to be limited
  1 | policies:
    |          ^
",
        );
        refused(
            "{}\n",
            "policies.yaml: policies: holds nothing; write `policies: []` if nothing is to be limited",
        );
        refused(
            "
policies:
  - key: client_ip
    limits:
      - name: x
",
            "
policies.yaml:2:5: policies[0]: the key `name` is missing; it stands for the policy in metrics, header fields and logs
  2 |   - key: client_ip
    |     ^
policies.yaml:4:9: policies[0].limits[0]: the key `quota` is missing; it says how many requests the window allows
  4 |       - name: x
    |         ^
policies.yaml:4:9: policies[0].limits[0]: the key `window` is missing; it says how long a request counts, such as `10s`
  4 |       - name: x
    |         ^
",
        );
        refused(
            "
policies:
  - name: a
    match: { method: [] }
    limits: []
",
            "
policies.yaml:3:14: policies[0].match.method: names no method; leave it out to match every method
  3 |     match: { method: [] }
    |              ^
policies.yaml:4:5: policies[0].limits: has no limits; write at least one, such as `- { quota: 5, window: 10s }`
  4 |     limits: []
    |     ^
",
        );
        assert!(
            compile("policies.yaml", "policies: []", &functions()).unwrap().policies().is_empty()
        );
    }

    #[test]
    fn names_that_could_be_confused_are_refused() {
        refused("
policies:
  - { name: a, limits: [{ quota: 1, window: 1s }] }
  - { name: a, limits: [{ quota: 0, window: 1s }] }
  - { name: b.1, limits: [{ quota: 1, window: 1s }] }
  - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
  - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
", "
policies.yaml:3:13: policies[1].name: `a` is the name of policies[0] too; counts are kept under a policy's name
  3 |   - { name: a, limits: [{ quota: 0, window: 1s }] }
    |             ^
policies.yaml:3:34: policies[1].limits[0].quota: must be at least 1; what is never allowed is no limit, refuse it at the upstream
  3 |   - { name: a, limits: [{ quota: 0, window: 1s }] }
    |                                  ^
policies.yaml:5:27: policies[3].limits[0]: is shown as `b.1` in header fields, as policies[2].limits[0] is; give it another name
  5 |   - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
    |                           ^
policies.yaml:5:90: policies[3].limits[2]: is shown as `b.3` in header fields, as policies[3].limits[1] is; give it another name
  5 |   - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
    |                                                                                          ^
policies.yaml:6:28: policies[4].key[1]: `path` is part of the key already
  6 |   - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
    |                            ^
policies.yaml:6:69: policies[4].match.header.x-a: `x-a` is written twice; names are compared without case
  6 |   - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
    |                                                                     ^
");
    }

    #[test]
    fn quotas_and_windows_keep_within_bounds() {
        refused(
            "
policies:
  - name: a
    limits:
      - { quota: 1000001, window: 0s }
      - { quota: -1, window: 1ms }
      - { quota: 1e9, window: 99999999999999999999d }
      - { quota: 1.5, window: 1us }
      - { quota: .nan, window: forever }
      - { quota: 1000000000000000, window: 366d, algorithm: mylimiter.allow }
      - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
",
            "
policies.yaml:4:18: policies[0].limits[0].quota: `1000001` is too large; a sliding window remembers every hit, so at most 1000000
  4 |       - { quota: 1000001, window: 0s }
    |                  ^
policies.yaml:4:35: policies[0].limits[0].window: `0s` is out of range; write 1ms to 366d
  4 |       - { quota: 1000001, window: 0s }
    |                                   ^
policies.yaml:5:18: policies[0].limits[1].quota: `-1` is not a quota; write a whole number, at least 1
  5 |       - { quota: -1, window: 1ms }
    |                  ^
policies.yaml:6:18: policies[0].limits[2].quota: `1e9` is not a quota; write a whole number, at least 1
  6 |       - { quota: 1e9, window: 99999999999999999999d }
    |                  ^
policies.yaml:6:31: policies[0].limits[2].window: `99999999999999999999d` is too large
  6 |       - { quota: 1e9, window: 99999999999999999999d }
    |                               ^
policies.yaml:7:18: policies[0].limits[3].quota: `1.5` is not a quota; write a whole number, at least 1
  7 |       - { quota: 1.5, window: 1us }
    |                  ^
policies.yaml:7:31: policies[0].limits[3].window: `1us` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  7 |       - { quota: 1.5, window: 1us }
    |                               ^
policies.yaml:8:18: policies[0].limits[4].quota: `.nan` is not a quota; write a whole number, at least 1
  8 |       - { quota: .nan, window: forever }
    |                  ^
policies.yaml:8:32: policies[0].limits[4].window: `forever` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  8 |       - { quota: .nan, window: forever }
    |                                ^
policies.yaml:9:18: policies[0].limits[5].quota: `1000000000000000` is too large; at most 999999999999999
  9 |       - { quota: 1000000000000000, window: 366d, algorithm: mylimiter.allow }
    |                  ^
policies.yaml:10:18: policies[0].limits[6].quota: `99999999999999999999` is too large; at most 999999999999999
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                  ^
policies.yaml:10:48: policies[0].limits[6].window: `367d` is out of range; write 1ms to 366d
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                                                ^
policies.yaml:10:65: policies[0].limits[6].algorithm: `limiter.decide` decides many limits at once; write `sliding_window`, which uses it
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                                                                 ^
",
        );
    }

    #[test]
    fn an_unknown_function_lists_what_there_is() {
        refused(
            "
policies:
  - name: a
    limits: [{ quota: 1, window: 1s, algorithm: token_bucket }]
",
            "
policies.yaml:3:49: policies[0].limits[0].algorithm: unknown Function `token_bucket`; known here: sliding_window, mylimiter.allow
  3 |     limits: [{ quota: 1, window: 1s, algorithm: token_bucket }]
    |                                                 ^
",
        );
    }

    #[test]
    fn words_that_are_not_words_are_told() {
        refused(
            "
policies:
  - name: a
    key: { header: x }
    limits: [{ quota: 1, window: 1s }]
",
            "
policies.yaml:3:10: policies[0].key: expected a word or a list of words, found a mapping
  3 |     key: { header: x }
    |          ^
",
        );
        refused(
            "
policies:
  - name: a
    limits: { quota: 1, window: 1s }
",
            "
policies.yaml:3:13: policies[0].limits: expected a list, found a mapping
  3 |     limits: { quota: 1, window: 1s }
    |             ^
",
        );
        refused(
            "
policies:
  - name: a
    macth: { path: /x }
    limits: [{ quota: 1, windw: 1s }]
",
            "
policies.yaml:3:5: policies[0]: unknown key `macth`; did you mean `match`?
  3 |     macth: { path: /x }
    |     ^
policies.yaml:4:26: policies[0].limits[0]: unknown key `windw`; did you mean `window`?
  4 |     limits: [{ quota: 1, windw: 1s }]
    |                          ^
",
        );
    }
}
