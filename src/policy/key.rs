//! Keys: whose quota a request uses, rendered so that no two can be confused.
//!
//! A key template is a list of parts, each taken from the facts of a request.
//! Rendered, the parts are joined by `|`:
//!
//! ```text
//!   key: [client_ip, header:x-tenant]      203.0.113.7|acme
//!   key: [jwt:sub | client_ip]             ann, or without a token ~1:203.0.113.7
//! ```
//!
//! # Invariants
//!
//! 1. Under one template, different parts render differently, whatever a
//!    stranger sends. A part never holds a raw `|`, `{`, `}`, `%`, a space, a
//!    control character or a byte beyond ASCII: those are escaped as `%XX`.
//! 2. A part over [`PART_MAX_BYTES`] is replaced by `sha256-` and its digest, an
//!    absent one by `~`, and the value of a second or later choice begins with `~`
//!    and its number. A stranger who sends a text that looks like any of these
//!    gets its first byte escaped, so nobody can aim at another's count.
//!
//! Not here: the rest of a store key ([`super::plan`]), and what an absent part
//! means for the policy ([`super::OnMissingKey`]).

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

use super::RequestFacts;
use super::source::{Claims, Source, Value};

/// Longer parts are replaced by their digest, so that a stranger cannot fill
/// the memory with long keys.
const PART_MAX_BYTES: usize = 128;

/// What stands for an absent part, and before the number of a later choice.
const ABSENT: u8 = b'~';

/// The key of a template without parts. Not empty: Redis hashes a store key with
/// an empty `{}` as a whole, and the limits of a policy would not share a slot.
const EVERYONE: &[u8] = b"all";

/// What a digest begins with.
const DIGEST_PREFIX: &[u8] = b"sha256-";

/// One part of a key template: the first of its sources that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// At least one.
    pub(super) choices: Vec<Source>,
}

impl Part {
    /// Which of its sources a word of the operator's is about, and the value there. Of
    /// `jwt:sub | client_ip`, `client_ip=192.0.2.1` says which; a word that does not is
    /// about the first. A word is never about two, so that nobody who sends a value as the
    /// one is taken for whom it names as the other.
    pub(super) fn named<'w>(&self, word: &'w str) -> (usize, &'w str) {
        let value = |choice: &Source| word.strip_prefix(&*choice.to_string())?.strip_prefix('=');
        let choices = self.choices.iter().enumerate().filter(|_| self.choices.len() > 1);
        let named = choices.filter_map(|(index, choice)| Some((index, value(choice)?)));
        // `query:a=b` may be a source, too.
        named.min_by_key(|(_, value)| value.len()).unwrap_or((0, word))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, choice) in self.choices.iter().enumerate() {
            let separator = if index > 0 { " | " } else { "" };
            write!(f, "{separator}{choice}")?;
        }
        Ok(())
    }
}

/// Appends the key of a request to `out`. False if a part was absent; it is
/// then rendered as `~`.
pub(super) fn render(
    parts: &[Part],
    facts: &RequestFacts<'_>,
    claims: &Claims<'_>,
    out: &mut Vec<u8>,
) -> bool {
    if parts.is_empty() {
        out.extend_from_slice(EVERYONE);
    }
    let mut complete = true;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(b'|');
        }
        complete &= render_part(part, facts, claims, out);
    }
    complete
}

fn render_part(
    part: &Part,
    facts: &RequestFacts<'_>,
    claims: &Claims<'_>,
    out: &mut Vec<u8>,
) -> bool {
    for (index, choice) in part.choices.iter().enumerate() {
        let Some(value) = choice.of(facts, claims) else { continue };
        push_choice(index, &value, out);
        return true;
    }
    out.push(ABSENT);
    false
}

/// The key that these values make, one for each part; an empty one is absent.
///
/// # Errors
/// One that is no address, where there must be one, by its place.
pub(super) fn of_values(parts: &[Part], values: &[String]) -> Result<Vec<u8>, (usize, String)> {
    let mut out = Vec::new();
    if parts.is_empty() {
        out.extend_from_slice(EVERYONE);
    }
    for (index, (part, value)) in parts.iter().zip(values).enumerate() {
        if index > 0 {
            out.push(b'|');
        }
        if value.is_empty() {
            out.push(ABSENT);
            continue;
        }
        let (choice, value) = part.named(value);
        let value = match part.choices.get(choice) {
            Some(Source::ClientIp { prefix }) => {
                let address = value.parse().map_err(|_| (index, value.to_owned()))?;
                Value::Address(address, *prefix)
            }
            _ => Value::Text(value.as_bytes().into()),
        };
        push_choice(choice, &value, &mut out);
    }
    Ok(out)
}

/// The address that a key of one part `client_ip` was rendered from.
pub(super) fn client_of(parts: &[Part], key: &[u8]) -> Option<IpAddr> {
    let [part] = parts else { return None };
    let [Source::ClientIp { .. }] = part.choices[..] else { return None };
    let text = std::str::from_utf8(key).ok()?;
    text.split('/').next()?.parse().ok()
}

/// Appends the value of a choice, by its number, in the form that it has in a key.
pub(super) fn push_choice(number: usize, value: &Value<'_>, out: &mut Vec<u8>) {
    if number > 0 {
        out.push(ABSENT);
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        out.push(b':');
    }
    push(value, out);
}

/// Appends a value in the form that it has in a key.
fn push(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Address(address, prefix) => push_client(*address, *prefix, out),
        Value::Text(text) => push_value(text, out),
    }
}

/// Appends a client's address. The IPv4-mapped form of an address is the
/// address: otherwise every client of a dual-stack socket shared one prefix.
fn push_client(client: IpAddr, prefix: u8, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match client.to_canonical() {
        IpAddr::V4(address) => {
            // By hand: formatting costs half of what planning a request does.
            let mut digits = itoa::Buffer::new();
            for (index, octet) in address.octets().into_iter().enumerate() {
                out.extend_from_slice(if index > 0 { b"." } else { b"" });
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
            Ok(())
        }
        IpAddr::V6(address) if prefix >= 128 => write!(out, "{address}"),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - u32::from(prefix));
            write!(out, "{}/{prefix}", Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    };
}

/// Appends a value that a stranger chose.
fn push_value(value: &[u8], out: &mut Vec<u8>) {
    if value.len() > PART_MAX_BYTES {
        out.extend_from_slice(DIGEST_PREFIX);
        for byte in Sha256::digest(value) {
            push_hex(byte, out);
        }
        return;
    }
    let looks_like_ours = value.first() == Some(&ABSENT) || value.starts_with(DIGEST_PREFIX);
    for (index, &byte) in value.iter().enumerate() {
        let must_escape = !byte.is_ascii_graphic() || matches!(byte, b'|' | b'{' | b'}' | b'%');
        if must_escape || (index == 0 && looks_like_ours) {
            out.push(b'%');
            push_hex(byte, out);
        } else {
            out.push(byte);
        }
    }
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 0xF)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::testing::{NoHeaders, Pairs};

    fn one(source: Source) -> Part {
        Part { choices: vec![source] }
    }

    fn rendered(parts: &[Part], facts: &RequestFacts<'_>) -> (String, bool) {
        let mut out = Vec::new();
        let complete = render(parts, facts, &Claims::new(None, None), &mut out);
        (String::from_utf8(out).unwrap(), complete)
    }

    fn headers(names: &[&str]) -> Vec<Part> {
        names.iter().map(|name| one(Source::Header((*name).into()))).collect()
    }

    fn render_values(values: &[Option<&[u8]>]) -> String {
        let names: Vec<String> = (0..values.len()).map(|index| format!("h{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pairs: Vec<(&str, &[u8])> = names
            .iter()
            .zip(values)
            .filter_map(|(name, value)| value.map(|value| (*name, value)))
            .collect();
        let facts = RequestFacts { headers: &Pairs(&pairs), ..RequestFacts::for_tests("/") };
        rendered(&headers(&names), &facts).0
    }

    #[track_caller]
    fn check_client(client: &str, prefix: u8, expected: &str) {
        let facts =
            RequestFacts { client: client.parse().unwrap(), ..RequestFacts::for_tests("/") };
        let part = one(Source::ClientIp { prefix });
        assert_eq!(rendered(&[part], &facts), (expected.to_owned(), true));
    }

    #[test]
    fn an_ipv4_client_is_its_address_however_it_arrives() {
        check_client("203.0.113.7", 64, "203.0.113.7");
        check_client("::ffff:203.0.113.7", 64, "203.0.113.7");
        check_client("203.0.113.7", 32, "203.0.113.7");
    }

    #[test]
    fn an_ipv6_client_is_its_prefix() {
        check_client("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64");
        check_client("2001:db8:1:2:ffff::", 64, "2001:db8:1:2::/64");
        check_client("2001:db8:1:2ff:3::", 56, "2001:db8:1:200::/56");
        check_client("2001:db8::1", 128, "2001:db8::1");
        check_client("::1", 64, "::/64");
    }

    #[test]
    fn strange_values_are_escaped() {
        for (value, expected) in [
            ("acme", "acme"),
            ("a|b", "a%7cb"),
            ("a}{b", "a%7d%7bb"),
            ("100%", "100%25"),
            ("a b\r\n", "a%20b%0d%0a"),
            ("é", "%c3%a9"),
            ("~", "%7e"),
            ("~x", "%7ex"),
            ("sha256-00", "%73ha256-00"),
            ("", "~"),
        ] {
            assert_eq!(render_values(&[Some(value.as_bytes())]), expected);
        }
        assert_eq!(render_values(&[None, Some(b"x")]), "~|x");
    }

    #[test]
    fn long_values_become_digests() {
        let (fits, long) = ([b'x'; PART_MAX_BYTES], [b'x'; PART_MAX_BYTES + 1]);
        assert_eq!(render_values(&[Some(&fits)]).len(), PART_MAX_BYTES);
        let digest = render_values(&[Some(&long)]);
        assert_eq!(digest.len(), "sha256-".len() + 64);
        assert_ne!(render_values(&[Some(digest.as_bytes())]), digest, "a digest can be aimed at");
    }

    #[test]
    fn without_parts_there_is_one_key_for_all() {
        assert_eq!(render_values(&[]), "all");
    }

    #[test]
    fn method_host_and_path_are_parts_too() {
        let facts =
            RequestFacts { method: "GET", host: "h.example", ..RequestFacts::for_tests("/a/b/") };
        let parts = [Source::Method, Source::Host, Source::Path].map(one);
        assert_eq!(rendered(&parts, &facts), ("GET|h.example|/a/b".to_owned(), true));
        let root = RequestFacts { headers: &NoHeaders, ..RequestFacts::for_tests("/") };
        assert_eq!(rendered(&[one(Source::Path)], &root), ("/".to_owned(), true));
    }

    #[test]
    fn each_source_has_its_value_or_none() {
        let pairs: &[(&str, &[u8])] =
            &[("cookie", b"a=1; session=\"s 1\"; session=2; empty="), ("x-plan", b"free")];
        let facts = RequestFacts {
            query: "k=a%20b&%6b2=c&k=d&none=",
            headers: &Pairs(pairs),
            descriptors: &[("tenant", "acme")],
            ..RequestFacts::for_tests("/api/v1/")
        };
        for (source, expected) in [
            (Source::Cookie("session".into()), Some("s%201")),
            (Source::Cookie("empty".into()), None),
            (Source::Cookie("other".into()), None),
            (Source::Query("k".into()), Some("a%20b")),
            (Source::Query("k2".into()), Some("c")),
            (Source::Query("none".into()), None),
            (Source::Segment(1), Some("api")),
            (Source::Segment(2), Some("v1")),
            (Source::Segment(3), None),
            (Source::Header("x-plan".into()), Some("free")),
            (Source::Claim("sub".into()), None),
            (Source::Descriptor("tenant".into()), Some("acme")),
            (Source::Literal("all".into()), Some("all")),
        ] {
            let told = source.to_string();
            let (key, complete) = rendered(&[one(source)], &facts);
            assert_eq!(
                (key.as_str(), complete),
                (expected.unwrap_or("~"), expected.is_some()),
                "{told}"
            );
        }
    }

    #[test]
    fn the_first_choice_that_is_there_is_taken_and_told_apart() {
        let choices = vec![
            Source::Header("x-key".into()),
            Source::Header("x-user".into()),
            Source::ClientIp { prefix: 64 },
        ];
        let part = Part { choices };
        let key = |pairs: &[(&str, &[u8])]| {
            let facts = RequestFacts { headers: &Pairs(pairs), ..RequestFacts::for_tests("/") };
            rendered(std::slice::from_ref(&part), &facts).0
        };
        assert_eq!(key(&[("x-key", b"k"), ("x-user", b"ann")]), "k");
        assert_eq!(key(&[("x-user", b"ann")]), "~1:ann");
        assert_eq!(key(&[]), "~2:203.0.113.7");
        assert_eq!(key(&[("x-key", b"~2:203.0.113.7")]), "%7e2:203.0.113.7");
        // As an operator names them.
        let parts = [part];
        for (word, expected) in [
            ("k", "k"),
            ("192.0.2.1", "192.0.2.1"),
            ("header:x-user=ann", "~1:ann"),
            ("client_ip=::ffff:192.0.2.1", "~2:192.0.2.1"),
            ("client_ip=2001:db8::1", "~2:2001:db8::/64"),
            ("header:x-key=client_ip=1", "client_ip=1"),
            ("header:x-other=ann", "header:x-other=ann"),
            ("", "~"),
        ] {
            let key = of_values(&parts, &[word.to_owned()]).unwrap();
            assert_eq!(String::from_utf8(key).unwrap(), expected, "{word}");
        }
        let told = of_values(&parts, &["client_ip=ann".to_owned()]).unwrap_err();
        assert_eq!(told, (0, "ann".to_owned()));
        let alone = [one(Source::Header("x-key".into()))];
        let key = of_values(&alone, &["header:x-key=k".to_owned()]).unwrap();
        assert_eq!(key, b"header:x-key=k", "there is nothing to choose");
    }

    /// Values that are likely to collide if anything can make them.
    fn tricky() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop_oneof![
            Just(None),
            "[a|%{}~7ce -]{0,6}".prop_map(|text| Some(text.into_bytes())),
            "sha256-[0-9a-f]{0,2}".prop_map(|text| Some(text.into_bytes())),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(Some),
            proptest::collection::vec(Just(b'x'), 120..140).prop_map(Some),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn different_parts_never_render_the_same(
            one in proptest::collection::vec(tricky(), 3),
            other in proptest::collection::vec(tricky(), 3),
        ) {
            // A field without a value is an absent one.
            let present = |values: &[Option<Vec<u8>>]| -> Vec<Option<Vec<u8>>> {
                values.iter().map(|it| it.clone().filter(|it| !it.is_empty())).collect()
            };
            let rendered = |values: &[Option<Vec<u8>>]| {
                render_values(&values.iter().map(Option::as_deref).collect::<Vec<_>>())
            };
            prop_assert_eq!(rendered(&one) == rendered(&other), present(&one) == present(&other));
        }

        #[test]
        fn a_key_is_one_word_of_harmless_characters(values in proptest::collection::vec(tricky(), 3)) {
            let key = render_values(&values.iter().map(Option::as_deref).collect::<Vec<_>>());
            let is_harmless = key.bytes().all(|b| b.is_ascii_graphic() && !b"{}".contains(&b));
            prop_assert!(is_harmless, "{}", key);
            prop_assert_eq!(key.matches('|').count(), 2);
        }
    }
}
