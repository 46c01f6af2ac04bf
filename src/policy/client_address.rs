//! Which address a request comes from, when proxies stand in between.
//!
//! A downstream can write anything into `X-Forwarded-For` or `Forwarded`; what it
//! cannot do is take away what our own proxies append at the right. So the list is
//! read from the right, and no further than the proxies that are trusted, told by
//! their number or by the networks they are in:
//!
//! ```text
//!   X-Forwarded-For: forged, 203.0.113.7, 10.0.0.2      peer 10.0.0.1
//!   trusted_hops: 0                                     ^^^^ the client
//!   trusted_hops: 1                       ^^^^ the client
//!   trusted_hops: 2          ^^^^ the client
//!   trusted_proxies: [10.0.0.0/8]
//!                            ^^^^ the client: the first that is not in them
//! ```
//!
//! # Invariants
//!
//! 1. One field is believed, never both: a proxy writes one of them, and the other
//!    is whatever the client put there.
//! 2. At an element that is no address (`unknown`, `_hidden`, garbage) the walk
//!    stops, at the last good one. What cannot be read never becomes a key.
//! 3. What stands left of an element cannot change how it is read. Elements are
//!    split from the right for that, quoted strings included.
//!
//! # Not here
//!
//! PROXY protocol, which speaks before HTTP does: the proxy door reads it, and its
//! address is the peer here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whose word about a client's address is believed, and in which field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The proxies.
    pub proxies: Proxies,
    /// The field that they write.
    pub field: Field,
}

/// Proxies in front of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// So many, whoever connects being the first.
    Hops(u32),
    /// Those in these networks.
    In(Vec<IpNet>),
}

impl Default for Proxies {
    fn default() -> Proxies {
        Proxies::Hops(0)
    }
}

/// The field in which proxies tell of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// `X-Forwarded-For`: a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list of elements, of which `for` counts.
    Forwarded,
}

impl Field {
    /// Its name, lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Field::XForwardedFor => "x-forwarded-for",
            Field::Forwarded => "forwarded",
        }
    }

    /// The addresses that `lines` name, from the right: the values of all fields of
    /// this name, in the order received. `None` for an element that is no address.
    pub fn from_right<'a>(
        self,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> impl Iterator<Item = Option<IpAddr>> {
        lines.rev().flat_map(move |line| FromRight { rest: Some(line) }).map(move |element| {
            match self {
                Field::XForwardedFor => parse_address(std::str::from_utf8(element).ok()?),
                Field::Forwarded => parse_node(node_of(element)?),
            }
        })
    }
}

impl Trust {
    /// Whether `peer` is a proxy whose word counts.
    pub fn believes(&self, peer: IpAddr) -> bool {
        match &self.proxies {
            Proxies::Hops(count) => *count > 0,
            Proxies::In(networks) => networks.iter().any(|network| network.contains(&peer)),
        }
    }

    /// The client's address in canonical form. `lines` are the values of all fields
    /// named [`Field::name`], in the order received.
    ///
    /// By number, a list that is shorter than the proxies are many makes it the
    /// peer: then somebody came past them.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let peer = peer.to_canonical();
        let mut elements = self.field.from_right(lines);
        let mut client = peer;
        match &self.proxies {
            Proxies::Hops(count) => {
                for _ in 0..*count {
                    let Some(element) = elements.next() else { return peer };
                    let Some(address) = element else { return client };
                    client = address;
                }
            }
            Proxies::In(_) => {
                while self.believes(client) {
                    let Some(Some(address)) = elements.next() else { break };
                    client = address;
                }
            }
        }
        client
    }
}

/// The elements of a line from the right. A comma inside a quoted string does not
/// part them.
struct FromRight<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, element) = split_last(self.rest?, b',');
        self.rest = rest;
        Some(element.trim_ascii())
    }
}

/// What stands behind the last `separator` outside quoted strings, and what stands
/// before it, if there is one.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut at = text.len();
    while let Some(byte) = at.checked_sub(1).map(|before| text[before]) {
        at -= 1;
        if byte == separator {
            return (Some(&text[..at]), &text[at + 1..]);
        }
        if byte == b'"' {
            at = opening_quote(&text[..at]);
        }
    }
    (None, text)
}

/// Where the quoted string opens whose closing quote stands behind `text`; its
/// beginning, if it does not. Inside it quotes have a backslash before them.
fn opening_quote(text: &[u8]) -> usize {
    let is_quote = |at: &usize| text[*at] == b'"' && text[..*at].last() != Some(&b'\\');
    (0..text.len()).rev().find(is_quote).unwrap_or(0)
}

/// What the one `for` of a `Forwarded` element says, without quotes. `None` when
/// there is none or more than one, or when an address could not be written so.
fn node_of(element: &[u8]) -> Option<&str> {
    let (mut node, mut rest) = (None, Some(element));
    while let Some(pairs) = rest {
        let (before, pair) = split_last(pairs, b';');
        rest = before;
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if !name.trim_ascii_start().eq_ignore_ascii_case(b"for") {
            continue;
        }
        if node.is_some() {
            return None;
        }
        let value = std::str::from_utf8(value).ok()?.trim_ascii_end();
        let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        node = Some(quoted.unwrap_or(value));
    }
    node
}

/// A node of `Forwarded`: an address, whose port may be a name (`_x`).
fn parse_node(node: &str) -> Option<IpAddr> {
    let is_obfuscated = |port: &str| {
        let name = port.strip_prefix('_').unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !name.is_empty() && name.bytes().all(is_name)
    };
    match node.rsplit_once(':') {
        Some((address, port)) if is_obfuscated(port) => parse_address(address),
        _ => parse_address(node),
    }
}

/// An address as proxies write it: with or without brackets, port and zone.
fn parse_address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_is_good.then(|| parse_v6(address)).flatten();
    }
    if let Some((address, port)) = text.split_once(':')
        && let Ok(address) = address.parse::<Ipv4Addr>()
    {
        return is_port(port).then_some(IpAddr::V4(address));
    }
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4).or_else(|| parse_v6(text))
}

/// An IPv6 address without its zone, which has no meaning outside its host.
fn parse_v6(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client of a request whose peer is 10.0.0.1.
    #[track_caller]
    fn check(trust: &Trust, lines: &[&str], client: &str) {
        let peer = "::ffff:10.0.0.1".parse().unwrap();
        let found = trust.client(peer, lines.iter().map(|it| it.as_bytes()));
        assert_eq!(found.to_string(), client, "{trust:?}, {lines:?}");
    }

    fn hops(count: u32) -> Trust {
        Trust { proxies: Proxies::Hops(count), field: Field::XForwardedFor }
    }

    /// Proxies of 10.0.0.0/8 and fd00::/8.
    fn networks(field: Field) -> Trust {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|it| it.parse().unwrap());
        Trust { proxies: Proxies::In(networks.to_vec()), field }
    }

    #[test]
    fn without_trusted_hops_the_list_is_not_believed() {
        check(&hops(0), &["203.0.113.7"], "10.0.0.1");
        check(&hops(0), &[], "10.0.0.1");
    }

    #[test]
    fn each_trusted_hop_leads_one_element_to_the_left() {
        let lines = ["6.6.6.6, 203.0.113.7", "10.0.0.2"];
        check(&hops(1), &lines, "10.0.0.2");
        check(&hops(2), &lines, "203.0.113.7");
        check(&hops(3), &lines, "6.6.6.6");
        check(&hops(4), &lines, "10.0.0.1");
        check(&hops(u32::MAX), &lines, "10.0.0.1");
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
        let trust = networks(Field::XForwardedFor);
        for (lines, client) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7, 10.9.9.9", "fd00::5, ::ffff:10.0.0.2"], "203.0.113.7"),
            // Nobody but proxies: whoever is furthest from us.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&[], "10.0.0.1"),
            (&["unknown"], "10.0.0.1"),
            (&["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
            // A client that says it is a proxy is where its own proxy saw it.
            (&["10.0.0.66, 203.0.113.7"], "203.0.113.7"),
        ] {
            check(&trust, lines, client);
        }
        let forged = format!("{}203.0.113.7", "6.6.6.6, ".repeat(10_000));
        check(&trust, &[&forged], "203.0.113.7");
    }

    #[test]
    fn a_peer_outside_the_networks_is_the_client_whatever_it_says() {
        let peer = "203.0.113.9".parse().unwrap();
        let trust = networks(Field::XForwardedFor);
        assert!(!trust.believes(peer));
        assert_eq!(trust.client(peer, [&b"6.6.6.6"[..]].into_iter()), peer);
    }

    #[test]
    fn a_bad_element_stops_the_walk_at_the_last_good_one() {
        for bad in [
            "unknown",
            "_hidden",
            "",
            " ",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "1.2.3.4:+1",
            "1.2.3.4:_x",
            "[::1",
            "[::1]x",
            "::1::",
            "1.2.3.4 5",
            "0x7f.0.0.1",
            "010.0.0.1",
            "\"1.2.3.4\"",
            "for=1.2.3.4",
        ] {
            check(&hops(2), &[&format!("6.6.6.6, {bad}, 10.0.0.2")], "10.0.0.2");
            check(&hops(1), &[&format!("6.6.6.6, {bad}")], "10.0.0.1");
        }
    }

    #[test]
    fn addresses_are_read_in_the_forms_that_proxies_write() {
        for (element, client) in [
            ("1.2.3.4", "1.2.3.4"),
            ("\t1.2.3.4 ", "1.2.3.4"),
            ("1.2.3.4:5", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:5", "1.2.3.4"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:7", "fe80::1"),
        ] {
            check(&hops(1), &[element], client);
        }
    }

    #[test]
    fn forwarded_says_the_client_in_the_for_of_its_elements() {
        let trust = networks(Field::Forwarded);
        for (line, client) in [
            ("for=1.2.3.4", "1.2.3.4"),
            ("For=\"1.2.3.4:80\"", "1.2.3.4"),
            ("proto=https; FOR=1.2.3.4 ;by=10.0.0.2", "1.2.3.4"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]:_port\"", "2001:db8::1"),
            ("for=\"1.2.3.4:_a-1\"", "1.2.3.4"),
            ("for=\"[::ffff:1.2.3.4]:5\"", "1.2.3.4"),
            ("for=6.6.6.6, for=1.2.3.4;by=10.0.0.9, for=10.0.0.9", "1.2.3.4"),
            // Commas, semicolons and quotes inside strings part nothing.
            ("for=1.2.3.4;host=\"a,b;for=6.6.6.6\"", "1.2.3.4"),
            ("for=1.2.3.4;host=\"a\\\", for=6.6.6.6\"", "1.2.3.4"),
            // No address: who told of it is the last that we know.
            ("for=unknown", "10.0.0.1"),
            ("for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("for=_hidden", "10.0.0.1"),
            ("for=\"_hidden:80\"", "10.0.0.1"),
            ("by=1.2.3.4", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("1.2.3.4", "10.0.0.1"),
            ("for=1.2.3.4;for=6.6.6.6", "10.0.0.1"),
            ("for=1.2.3.4;x", "10.0.0.1"),
            ("for =1.2.3.4", "10.0.0.1"),
            ("for= 1.2.3.4", "10.0.0.1"),
            ("for=\"1.2.3.4", "10.0.0.1"),
            ("for=\"1.2.3.4:_\"", "10.0.0.1"),
        ] {
            check(&trust, &[line], client);
        }
    }

    #[test]
    fn what_a_client_wrote_cannot_change_what_our_proxy_wrote_behind_it() {
        let trust = networks(Field::Forwarded);
        for forged in
            ["for=\"", "for=\"6.6.6.6", "\"", "for=\"\\", "for=6.6.6.6;x=\"\\\"", ";;=,=\"\"\""]
        {
            check(&trust, &[&format!("{forged}, for=1.2.3.4;by=10.0.0.2")], "1.2.3.4");
            check(&trust, &[&format!("{forged}, for=\"1.2.3.4:5\";by=\"10.0.0.2\"")], "1.2.3.4");
            check(&trust, &[forged, "for=1.2.3.4"], "1.2.3.4");
        }
    }

    #[test]
    fn the_field_that_is_not_believed_is_not_read_as_the_other() {
        check(&networks(Field::XForwardedFor), &["for=1.2.3.4"], "10.0.0.1");
        check(&networks(Field::Forwarded), &["1.2.3.4"], "10.0.0.1");
    }
}
