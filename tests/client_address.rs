//! Whose quota is used, through the real proxy: `X-Forwarded-For`, `Forwarded` and
//! PROXY protocol, from those who may say so and from those who may not.
//!
//! A client may ask for `/limited` twice; a third 200 shows that the gateway took it
//! for somebody else, and a 429 that it did not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod gateway;

use std::time::Duration;

use gateway::{Client, Gateway, Upstream};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn request(fields: &str) -> String {
    format!("GET /limited HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Statuses of requests with these fields, one after the other.
fn statuses(gateway: &Gateway, fields: &[&str]) -> Vec<String> {
    let status = |fields: &&str| gateway.ask(&request(fields)).status().to_owned();
    fields.iter().map(status).collect()
}

#[test]
fn a_client_behind_trusted_proxies_has_one_quota_whatever_it_forges() {
    let gateway = Gateway::start("client_address: { trusted_proxies: [127.0.0.0/8, 10.0.0.0/8] }");
    let forged = [
        "X-Forwarded-For: 203.0.113.7\r\n",
        "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2\r\n",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: ::ffff:203.0.113.7\r\n",
        "X-Forwarded-For: 203.0.113.7:4711\r\nForwarded: for=6.6.6.7\r\n",
    ];
    assert_eq!(statuses(&gateway, &forged), ["200", "200", "429", "429"]);
    // Another client has its own, and those who cannot be read do not use it up.
    let others = ["X-Forwarded-For: 203.0.113.8\r\n", "X-Forwarded-For: unknown\r\n"];
    assert_eq!(statuses(&gateway, &others), ["200", "200"]);
}

#[test]
fn a_stranger_that_forges_is_known_by_its_own_address() {
    for trust in ["trusted_proxies: [10.0.0.0/8]", "trusted_hops: 0"] {
        let gateway = Gateway::start(&format!("client_address: {{ {trust} }}"));
        let forged = [
            "X-Forwarded-For: 1.1.1.1\r\n",
            "X-Forwarded-For: 2.2.2.2\r\n",
            "X-Forwarded-For: 3.3.3.3\r\n",
        ];
        assert_eq!(statuses(&gateway, &forged), ["200", "200", "429"], "{trust}");
    }
}

#[test]
fn forwarded_is_believed_where_it_is_the_field_and_upstreams_are_told() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::start(&format!(
        "upstreams: {{ up: {{ endpoints: ['http://{}'] }} }}
routes: [{{ upstream: up }}]
client_address: {{ trusted_proxies: [127.0.0.1], field: forwarded }}",
        upstream.address
    ));
    let asked = [
        "Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:80\";proto=https\r\n",
        "Forwarded: for=\"\r\nForwarded: for=\"[2001:db8::2]\"\r\nX-Forwarded-For: 7.7.7.7\r\n",
        "Forwarded: for=\"[2001:db8:0:0:ffff::3]:_x\"\r\n",
    ];
    assert_eq!(statuses(&gateway, &asked), ["200", "200", "429"], "one /64 is one client");
    let seen = upstream.seen();
    assert_eq!(seen[0].field("x-forwarded-for"), Some("6.6.6.6, 2001:db8::1, 127.0.0.1"));
    assert_eq!(seen[1].field("x-forwarded-for"), Some("2001:db8::2, 127.0.0.1"));
    assert!(seen.iter().all(|it| it.field("forwarded").is_none()));
}

const BALANCED: &str = "proxy: { proxy_protocol: [127.0.0.1], timeouts: { first_byte: 300ms } }";

/// A v2 header of 203.0.113.7, with a TLV.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x07\x0a\0\0\x09\0\x01\0\x50\x04\0\x01\x2a";

#[test]
fn a_balancer_says_whose_connection_it_is() {
    let gateway = Gateway::start(BALANCED);
    let ask = |header: &[u8]| {
        let mut client = gateway.connect();
        client.send(&[header, request("").as_bytes()].concat());
        client.response().map(|it| it.status().to_owned())
    };
    let status = |text: &str| Some(text.to_owned());
    assert_eq!(ask(b"PROXY TCP4 203.0.113.7 127.0.0.1 1 80\r\n"), status("200"));
    assert_eq!(ask(V2), status("200"));
    assert_eq!(ask(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 80\r\n"), status("429"));
    assert_eq!(ask(b"PROXY TCP4 203.0.113.8 127.0.0.1 1 80\r\n"), status("200"));
    // The balancer's own check, and a connection of which it knows nothing.
    assert_eq!(ask(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), status("200"));
    assert_eq!(ask(b"PROXY UNKNOWN\r\n"), status("200"));
}

#[test]
fn http2_may_stand_behind_a_header_that_comes_in_pieces() {
    let gateway = Gateway::start(BALANCED);
    let mut client = gateway.connect();
    for piece in V2.chunks(5) {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut settings = [0; 9];
    std::io::Read::read_exact(&mut client.stream, &mut settings).unwrap();
    assert_eq!(settings[3], 4, "the server's SETTINGS come first");
}

#[test]
fn a_connection_without_the_header_or_with_a_broken_one_is_closed_unanswered() {
    let gateway = Gateway::start(BALANCED);
    let long = [&V2[..14], &[0xFF, 0xFF], &[0; 65_535][..]].concat();
    let cases: [&[u8]; 5] = [
        b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 here there 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 80\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long,
    ];
    for sent in cases {
        let mut client = gateway.connect();
        client.send(sent);
        assert!(client.response().is_none(), "{}", sent[..20].escape_ascii());
        assert!(client.is_closed());
    }
    assert_eq!(gateway.metric("weir_proxy_protocol_errors_total"), cases.len() as f64);
    // One that drips in has no more time than a first byte has.
    let mut slow = gateway.connect();
    slow.send(b"PROXY TCP4 203.0.1");
    assert!(slow.is_closed_within(Duration::from_secs(5)));
    assert_eq!(gateway.metric("weir_proxy_connection_timeouts_total"), 1.0);
}

#[test]
fn a_header_from_anybody_else_is_a_bad_request() {
    let gateway = Gateway::start("proxy: { proxy_protocol: [10.0.0.0/8] }");
    let mut client = Client::to(gateway.address);
    client.send(&[b"PROXY TCP4 203.0.113.7 1.1.1.1 1 80\r\n", request("").as_bytes()].concat());
    assert_eq!(client.response().unwrap().status(), "400");
    assert_eq!(gateway.ask(&request("")).status(), "200");
}
