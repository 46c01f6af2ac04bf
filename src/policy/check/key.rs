//! The key of a policy, checked.

use super::super::key::{CLIENT_PREFIX_DEFAULT, Part};
use super::super::written;
use super::{Checker, is_token};
use crate::base::problems::suggest;

/// Bits of an IPv6 prefix that make sense as one client: from what a provider
/// is given to a single address.
const CLIENT_PREFIXES: std::ops::RangeInclusive<u8> = 32..=128;

/// The words of `key`, as a suggestion shows them.
const KEY_WORDS: [&str; 6] = ["client_ip", "client_ip/64", "header:NAME", "method", "host", "path"];

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
}
