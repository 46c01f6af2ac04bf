//! The key of a policy, checked.

use super::super::key::Part;
use super::super::source::{CLIENT_PREFIX_DEFAULT, Source};
use super::super::written;
use super::{Checker, is_token};
use crate::base::problems::suggest;

/// Bits of an IPv6 prefix that make sense as one client: from what a provider
/// is given to a single address.
const CLIENT_PREFIXES: std::ops::RangeInclusive<u8> = 32..=128;

/// The words of `key`, as a suggestion shows them.
const KEY_WORDS: [&str; 13] = [
    "client_ip",
    "client_ip/64",
    "header:NAME",
    "cookie:NAME",
    "query:NAME",
    "method",
    "host",
    "path",
    "path:N",
    "jwt:CLAIM",
    "descriptor:NAME",
    "literal:TEXT",
    "A | B",
];

impl Checker<'_> {
    pub(super) fn key(
        &mut self,
        path: &str,
        written: Option<&written::Words>,
    ) -> Option<Vec<Part>> {
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

    /// `a`, or `a | b` for the first of them that is there.
    fn part(&mut self, path: &str, word: &str) -> Option<Part> {
        let before = self.problems.len();
        let choices = word.split(" | ").map(str::trim);
        let choices: Vec<Source> = choices.filter_map(|choice| self.source(path, choice)).collect();
        self.if_sound_since(before, Part { choices })
    }

    /// One source of a value.
    pub(super) fn source(&mut self, path: &str, word: &str) -> Option<Source> {
        match word {
            "client_ip" => return Some(Source::ClientIp { prefix: CLIENT_PREFIX_DEFAULT }),
            "method" => return Some(Source::Method),
            "host" => return Some(Source::Host),
            "path" => return Some(Source::Path),
            _ => {}
        }
        if let Some(bits) = word.strip_prefix("client_ip/") {
            return self.client_prefix(path, word, bits);
        }
        let Some((kind, name)) = word.split_once(':') else {
            let message = format!("unknown key part `{word}`{}", suggest(word, KEY_WORDS));
            return self.problem(path, message);
        };
        let is_visible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        match kind {
            "header" if is_token(name) => Some(Source::Header(name.to_ascii_lowercase().into())),
            "header" => {
                let message = format!(
                    "`{word}` names no header field; write `header:x-api-key`, without a space"
                );
                self.problem(path, message)
            }
            "cookie" if is_token(name) => Some(Source::Cookie(name.into())),
            "query" if is_visible => Some(Source::Query(name.into())),
            "descriptor" if is_visible => Some(Source::Descriptor(name.into())),
            "literal" if is_visible => Some(Source::Literal(name.into())),
            "jwt" if !self.has_tokens => {
                let message = format!(
                    "`{word}` needs `jwt:` at the top of the file, to say which tokens are believed"
                );
                self.problem(path, message)
            }
            "jwt" if is_visible => Some(Source::Claim(name.into())),
            "path" => match name.parse::<usize>() {
                Ok(number @ 1..=64) => Some(Source::Segment(number)),
                _ => {
                    let message =
                        format!("`{word}` is not a segment of a path; write `path:1` to `path:64`");
                    self.problem(path, message)
                }
            },
            "cookie" | "query" | "descriptor" | "literal" | "jwt" => {
                self.problem(path, format!("`{word}` lacks a name after `{kind}:`"))
            }
            _ => {
                let message = format!("unknown key part `{word}`{}", suggest(word, KEY_WORDS));
                self.problem(path, message)
            }
        }
    }

    fn client_prefix(&mut self, path: &str, word: &str, bits: &str) -> Option<Source> {
        let prefix = bits.parse::<u8>().ok().filter(|bits| CLIENT_PREFIXES.contains(bits));
        if let Some(prefix) = prefix {
            return Some(Source::ClientIp { prefix });
        }
        let message = format!(
            "`{word}` is not a prefix of IPv6 addresses; write `client_ip/{}` to `client_ip/{}` (IPv4 \
             addresses count whole)",
            CLIENT_PREFIXES.start(),
            CLIENT_PREFIXES.end()
        );
        self.problem(path, message)
    }
}
