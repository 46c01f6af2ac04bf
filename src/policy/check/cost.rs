//! The cost of a policy's requests, how they are settled, and the tokens of a file,
//! checked.

use std::time::Duration;

use super::super::cost::{COST_MAX, Cost, From};
use super::super::jwt::{self, Tokens, Trust};
use super::super::settle::{Measure, Settle};
use super::super::written;
use super::{Checker, is_token};

impl Checker<'_> {
    pub(super) fn cost(&mut self, path: &str, written: Option<&written::Cost>) -> Option<Cost> {
        let Some(written) = written else { return Some(Cost::default()) };
        let before = self.problems.len();
        let mut cost = Cost::default();
        match written.from.as_deref() {
            None => {}
            Some("body_bytes") => cost.from = From::BodyBytes,
            Some(word) => match (word.strip_prefix("header:"), word.parse::<u64>()) {
                (Some(name), _) if is_token(name) => {
                    cost.from = From::Header(name.to_ascii_lowercase().into());
                }
                (None, Ok(number)) if number <= COST_MAX => cost.default = number,
                _ => {
                    let message = format!(
                        "`{word}` is not a cost; write a number up to {COST_MAX}, `header:NAME` or \
                         `body_bytes`"
                    );
                    self.problem::<()>(path, message);
                }
            },
        }
        let number =
            |checker: &mut Checker<'_>, key: &str, text: &Option<String>, default: u64, min| {
                let Some(text) = text else { return default };
                match text.parse::<u64>() {
                    Ok(number) if (min..=COST_MAX.max(default)).contains(&number) => number,
                    _ => {
                        let message =
                            format!("`{text}` is not a whole number from {min} to {COST_MAX}");
                        checker.problem::<()>(format!("{path}.{key}"), message);
                        default
                    }
                }
            };
        cost.max = number(self, "max", &written.max, COST_MAX, 1);
        cost.default = number(self, "default", &written.default, cost.default, 0);
        if let Some(text) = &written.per {
            match text.parse::<u64>() {
                Ok(per) if per >= 1 => cost.per = per,
                _ => {
                    let message = format!("`{text}` is not a whole number, at least 1");
                    self.problem::<()>(format!("{path}.per"), message);
                }
            }
        }
        self.if_sound_since(before, cost)
    }

    pub(super) fn settle(
        &mut self,
        path: &str,
        written: Option<&written::Settle>,
    ) -> Option<Option<Settle>> {
        let Some(written) = written else { return Some(None) };
        let before = self.problems.len();
        let from =
            written.from.as_ref().and_then(|word| self.measure(&format!("{path}.from"), word));
        let mut when_status = Vec::new();
        let statuses = format!("{path}.when_status");
        for (path, word) in written.when_status.iter().flat_map(|words| words.located(&statuses)) {
            match word.parse::<u16>() {
                Ok(status) if (100..=599).contains(&status) => when_status.push(status),
                _ => {
                    self.problem::<()>(path, format!("`{word}` is not a status, such as 401"));
                }
            }
        }
        if from.is_none() && when_status.is_empty() && self.problems.len() == before {
            let message = "needs `from`, where the response says what was used, or `when_status`, \
                           the responses that count";
            return self.problem(path, message);
        }
        let mut number = |key: &str, text: &Option<String>, default: u64| match text {
            None => default,
            Some(text) => text.parse().ok().filter(|it| *it >= 1).unwrap_or_else(|| {
                let message = format!("`{text}` is not a whole number, at least 1");
                self.problem::<()>(format!("{path}.{key}"), message);
                default
            }),
        };
        let per = number("per", &written.per, 1);
        let max = number("max", &written.max, COST_MAX);
        let minute = Some(Duration::from_secs(60));
        let reserve = self.span(&format!("{path}.reserve"), written.reserve.as_deref(), minute)?;
        self.if_sound_since(before, Some(Settle { from, per, max, when_status, reserve }))
    }

    fn measure(&mut self, path: &str, word: &str) -> Option<Measure> {
        let lower = |name: &str| -> Box<str> { name.to_ascii_lowercase().into() };
        match word.split_once(':') {
            None if word == "body_bytes" => Some(Measure::BodyBytes),
            Some(("header", name)) if is_token(name) => Some(Measure::Header(lower(name))),
            Some(("trailer", name)) if is_token(name) => Some(Measure::Trailer(lower(name))),
            Some(("json", names)) if names.split('.').all(|name| !name.is_empty()) => {
                Some(Measure::Json(names.split('.').map(Into::into).collect()))
            }
            _ => {
                let message = format!(
                    "`{word}` is no place in a response; write `header:NAME`, `trailer:NAME`, \
                     `body_bytes` or `json:usage.total_tokens`"
                );
                self.problem(path, message)
            }
        }
    }

    pub(super) fn tokens(&mut self, written: &written::Jwt) -> Option<Tokens> {
        let header = written.header.as_deref().unwrap_or("authorization");
        if !is_token(header) {
            let message = format!("`{header}` is not the name of a header field");
            self.problem::<()>("jwt.header", message);
        }
        let asked = jwt::Asked {
            issuers: self.asked("issuer", written.issuer.as_ref(), written),
            audiences: self.asked("audience", written.audience.as_ref(), written),
        };
        let trust = match (&written.keys, written.unverified == Some(true)) {
            (None, true) => Trust::Unverified,
            (Some(file), false) => {
                let read = (self.files)(file);
                let keys = read.map_err(|error| format!("cannot be read: {error}"));
                match keys.and_then(|bytes| jwt::keys(&bytes, &asked)) {
                    Ok(keys) => Trust::Signed(keys),
                    Err(error) => return self.problem("jwt.keys", format!("`{file}` {error}")),
                }
            }
            _ => {
                let message = "needs either `keys`, a file with the keys that sign tokens, or \
                               `unverified: true` when something in front has checked them";
                return self.problem("jwt", message);
            }
        };
        Some(Tokens { header: header.to_ascii_lowercase().into(), trust })
    }

    /// The words of `issuer` or `audience`, of which a token must say one.
    fn asked(
        &mut self,
        name: &str,
        written: Option<&written::Words>,
        jwt: &written::Jwt,
    ) -> Vec<String> {
        let Some(words) = written else { return Vec::new() };
        let path = format!("jwt.{name}");
        let words: Vec<String> =
            words.located(&path).into_iter().map(|(_, word)| word.to_owned()).collect();
        if jwt.unverified == Some(true) {
            let message =
                "is believed of a token only where its signature is checked; it needs `keys`";
            self.problem::<()>(path, message);
        } else if words.is_empty() || words.iter().any(String::is_empty) {
            let message = format!("names nobody; leave it out to believe tokens of any {name}");
            self.problem::<()>(path, message);
        }
        words
    }
}
