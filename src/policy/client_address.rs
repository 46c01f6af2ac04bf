//! Which address a request comes from, when proxies stand in between.
//!
//! A downstream can write anything into `X-Forwarded-For`; what it cannot do is
//! take away what our own proxies append at the right. So the list is read from
//! the right, and no further than the proxies that are trusted:
//!
//! ```text
//!   X-Forwarded-For: forged, 203.0.113.7, 10.0.0.2      peer 10.0.0.1
//!   trusted_hops: 0                                     ^^^^ the client
//!   trusted_hops: 1                       ^^^^ the client
//!   trusted_hops: 2          ^^^^ the client
//! ```
//!
//! Not here: `Forwarded` (RFC 7239), which doors strip.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The client's address: the element of `X-Forwarded-For` that the outermost of
/// `trusted_hops` proxies wrote, in canonical form.
///
/// `lines` are the values of all fields of that name, in the order received.
/// With no trusted hops, or a list shorter than them, it is the peer. At an
/// element that is no address the walk stops, at the last good one.
pub fn client_address<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted_hops: u32,
) -> IpAddr {
    let peer = peer.to_canonical();
    let mut elements = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer;
    for _ in 0..trusted_hops {
        let Some(element) = elements.next() else { return peer };
        let Some(address) = parse_element(element) else { return client };
        client = address;
    }
    client
}

/// An address as proxies write it: with or without brackets, port and zone.
fn parse_element(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
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

    #[track_caller]
    fn check(trusted_hops: u32, lines: &[&str], client: &str) {
        let peer = "::ffff:10.0.0.1".parse().unwrap();
        let found = client_address(peer, lines.iter().map(|it| it.as_bytes()), trusted_hops);
        assert_eq!(found.to_string(), client, "{trusted_hops} hops, {lines:?}");
    }

    #[test]
    fn without_trusted_hops_the_list_is_not_believed() {
        check(0, &["203.0.113.7"], "10.0.0.1");
        check(0, &[], "10.0.0.1");
    }

    #[test]
    fn each_trusted_hop_leads_one_element_to_the_left() {
        let lines = ["6.6.6.6, 203.0.113.7", "10.0.0.2"];
        check(1, &lines, "10.0.0.2");
        check(2, &lines, "203.0.113.7");
        check(3, &lines, "6.6.6.6");
        check(4, &lines, "10.0.0.1");
        check(u32::MAX, &lines, "10.0.0.1");
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
            "[::1",
            "[::1]x",
            "::1::",
            "1.2.3.4 5",
            "0x7f.0.0.1",
            "010.0.0.1",
        ] {
            check(2, &[&format!("6.6.6.6, {bad}, 10.0.0.2")], "10.0.0.2");
            check(1, &[&format!("6.6.6.6, {bad}")], "10.0.0.1");
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
            check(1, &[element], client);
        }
    }
}
