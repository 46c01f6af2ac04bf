//! The cost of a policy's requests, and the tokens of a file, checked.

use super::super::cost::{COST_MAX, Cost, From};
use super::super::jwt::{self, Tokens, Trust};
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

    pub(super) fn tokens(&mut self, written: &written::Jwt) -> Option<Tokens> {
        let header = written.header.as_deref().unwrap_or("authorization");
        if !is_token(header) {
            let message = format!("`{header}` is not the name of a header field");
            self.problem::<()>("jwt.header", message);
        }
        let trust = match (&written.keys, written.unverified == Some(true)) {
            (None, true) => Trust::Unverified,
            (Some(file), false) => {
                let read = (self.files)(file);
                let keys = read.map_err(|error| format!("cannot be read: {error}"));
                match keys.and_then(|bytes| jwt::keys(&bytes)) {
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
}
