//! The guard against DNS rebinding: which `Host` may be asked for.
//!
//! A web page on `evil.example` can have that name resolve to 127.0.0.1 and then
//! read a loopback port as if it were its own origin. The browser still sends
//! `Host: evil.example`, so names other than `localhost` are refused. An address
//! is accepted, whichever it is: a page's origin is an address only if that very
//! address served the page, and no resolver has a say in it.

use std::net::IpAddr;

/// True when a request for `authority` (`host` or `host:port`) may be answered.
pub(super) fn is_allowed(authority: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    is_localhost(host) || host.parse::<IpAddr>().is_ok()
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`; `None` when it is none.
fn host_of(authority: &str) -> Option<&str> {
    let (host, after) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            // Brackets are for IPv6 only; `[localhost]` is nobody's spelling.
            (host.contains(':').then_some(host)?, after)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let well_formed = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
    well_formed.then_some(host)
}

/// `localhost` and the names under it, which RFC 6761 reserves for loopback.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last_label = host.rsplit('.').next().unwrap_or(host);
    last_label.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_and_addresses_are_answered_other_names_are_not() {
        for authority in [
            "localhost",
            "LocalHost:9900",
            "localhost.:9900",
            "weir.localhost",
            "127.0.0.1",
            "127.0.0.1:9900",
            "10.1.2.3:9900",
            "[::1]",
            "[::1]:9900",
        ] {
            assert!(is_allowed(authority), "{authority}");
        }
        for authority in [
            "",
            ":9900",
            "evil.example",
            "evil.example:9900",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "localhost:",
            "localhost:99x",
            "[::1",
            "[::1]9900",
            "[localhost]",
            "::1",
            "user@127.0.0.1",
        ] {
            assert!(!is_allowed(authority), "{authority}");
        }
    }
}
