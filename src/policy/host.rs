//! One spelling for every host: lower case, without port and trailing dot.
//!
//! Doors normalise the authority of a request once; conditions and keys see the
//! result.
//!
//! Not here: whether a request may name that host at all.

use std::borrow::Cow;

/// The normal form of a `Host` field or `:authority`. Borrows when it already
/// is one. An IPv6 literal keeps its brackets.
pub fn normalise(raw: &str) -> Cow<'_, str> {
    let host = without_port(raw);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn without_port(raw: &str) -> &str {
    match raw.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((host, port)) if !port.contains(']') => host,
        _ => raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_become_one() {
        for raw in
            ["example.com", "Example.COM", "example.com:80", "example.com.", "EXAMPLE.com.:8080"]
        {
            assert_eq!(normalise(raw), "example.com", "{raw}");
        }
        for (raw, expected) in [
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("", ""),
        ] {
            assert_eq!(normalise(raw), expected);
        }
    }
}
