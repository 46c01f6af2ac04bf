//! The proxy door over real sockets: what a downstream gets, and what an upstream
//! sees. Raw bytes on both sides, so that no client library tidies them up.

mod gateway;

use std::io::{Read, Write};
use std::time::Duration;

use gateway::{Client, Gateway, Upstream, in_parallel};

/// One exchange on a connection of its own: what was sent, and what happened, as
/// `statuses [closed] | request lines that the upstream saw`.
fn happened(raw: &[u8]) -> String {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.connect();
    client.send(raw);
    let (statuses, closed) = client.statuses();
    let mut text = statuses.join(" ");
    if closed {
        text.push_str(" closed");
    }
    for request in upstream.seen() {
        text.push_str(" | ");
        text.push_str(request.line());
    }
    text.trim().to_owned()
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    let rows = in_parallel(table, |(raw, expected)| {
        let happened = happened(raw.replace("\\0", "\0").as_bytes());
        (happened != *expected)
            .then(|| format!("\n{raw:?}\n  written   {expected}\n  happened  {happened}"))
    });
    let wrong: String = rows.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong}\n");
}

const GET: &str = "200 | GET /a HTTP/1.1";

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let post =
        |fields: &str, body: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    let rows = [
        (post("Content-Length: 2", "hi"), "200 | POST /a HTTP/1.1"),
        (post("Content-Length: 010", "0123456789"), "200 | POST /a HTTP/1.1"),
        (post("Content-Length: 2\r\nContent-Length: 2", "hi"), "200 | POST /a HTTP/1.1"),
        (post("Content-Length: 2\r\nContent-Length: 3", "hi!"), "400 closed"),
        (post("Content-Length: 1, 1", "h"), "400 closed"),
        (post("Content-Length: +1", "h"), "400 closed"),
        (post("Content-Length: 0x1", "h"), "400 closed"),
        (post("Content-Length: 1_0", "h"), "400 closed"),
        (post("Content-Length: -1", "h"), "400 closed"),
        (post("Content-Length: ", "h"), "400 closed"),
        (post("Content-Length: 99999999999999999999", "h"), "400 closed"),
        (post("Content-Length : 1", "h"), "400 closed"),
        (post("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n"), "200 | POST /a HTTP/1.1"),
        (post("Transfer-Encoding: Chunked", "2\r\nhi\r\n0\r\n\r\n"), "200 | POST /a HTTP/1.1"),
        // hyper drops the length: one chunked request, and no second one.
        (
            post(
                "Content-Length: 6\r\nTransfer-Encoding: chunked",
                "0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            "200 closed | POST /a HTTP/1.1",
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 6",
                "0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            "200 closed | POST /a HTTP/1.1",
        ),
        (post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), "400"),
        (post("Transfer-Encoding: ,chunked", "0\r\n\r\n"), "400"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "400"),
        (post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "400"),
        (post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), "400 closed"),
        (post("Transfer-Encoding: xchunked", "0\r\n\r\n"), "400 closed"),
        (
            "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400 closed",
        ),
        (post("X: a\r\n b", ""), "400 closed"),
        // A body that is broken: nothing whole reaches the upstream.
        (post("Transfer-Encoding: chunked", "0x1\r\nh\r\n0\r\n\r\n"), "400 closed"),
        (post("Transfer-Encoding: chunked", "+1\r\nh\r\n0\r\n\r\n"), "400 closed"),
        (post("Transfer-Encoding: chunked", "2\r\nhi0\r\n\r\n"), "400 closed"),
        (post("Transfer-Encoding: chunked", "fffffffffffffffff\r\nhi\r\n"), "400 closed"),
    ];
    let rows: Vec<_> = rows.iter().map(|(raw, expected)| (raw.as_str(), *expected)).collect();
    check(&rows);
}

#[test]
fn exactly_one_valid_host_is_served() {
    check(&[
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", GET),
        ("GET /a HTTP/1.1\r\nHost: a:8080\r\n\r\n", GET),
        ("GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", GET),
        ("GET /a HTTP/1.0\r\n\r\n", "200 closed | GET /a HTTP/1.1"),
        ("GET /a HTTP/1.1\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost:\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a b/../@:99999\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a:99999\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"),
        ("GET http://a/a HTTP/1.1\r\nHost: a\r\n\r\n", GET),
        ("GET http://A:80/a HTTP/1.1\r\nHost: a.\r\n\r\n", GET),
        ("GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET http://u@a/a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ]);
}

#[test]
fn targets_and_methods_are_what_a_gateway_serves() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 << 10));
    let wide = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17 << 10));
    let many = format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    check(&[
        ("GET ftp://a/a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET https://a/a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("get /a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("PURGE /a HTTP/1.1\r\nHost: a\r\n\r\n", "200 | PURGE /a HTTP/1.1"),
        ("GET //evil/x HTTP/1.1\r\nHost: a\r\n\r\n", "200 | GET /evil/x HTTP/1.1"),
        ("GET /b/../%61?q=%61/.. HTTP/1.1\r\nHost: a\r\n\r\n", "200 | GET /a?q=%61/.. HTTP/1.1"),
        ("GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /%2e%2e/a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /a?\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        // The fragment is cut before we see it: what is matched is forwarded.
        ("GET /a#frag HTTP/1.1\r\nHost: a\r\n\r\n", GET),
        ("GET /a HTTP/1.2\r\nHost: a\r\n\r\n", "400 closed"),
        ("GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "400 closed"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: \\0\r\n\r\n", "400 closed"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400 closed"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "400 closed"),
        ("GET /a HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", "400 closed"),
        (&long, "414"),
        (&wide, "431 closed"),
        (&many, "431 closed"),
    ]);
}

#[test]
fn fields_of_one_connection_are_not_passed_on() {
    check(&[
        ("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n", "400 closed"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Authorization\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: host\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", "417"),
        // Neither upgraded nor a tunnel: two requests, each decided.
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
             GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            "200 200 | GET /a HTTP/1.1 | GET /b HTTP/1.1",
        ),
    ]);
}

#[test]
fn an_upstream_sees_who_asked_and_nothing_that_was_only_for_us() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
          Keep-Alive: timeout=5\r\nX-Kept: 2\r\n\r\nok",
    );
    let gateway = Gateway::before(&upstream);
    let response = gateway.ask(
        "GET /a HTTP/1.1\r\nHost: Site.example\r\nX-Forwarded-For: 1.1.1.1\r\n\
         X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: gopher\r\nForwarded: for=3.3.3.3\r\n\
         Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Proxy-Connection: x\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
         X-Yours: 2\r\nVia: 1.0 old\r\n\r\n",
    );
    assert_eq!(response.field("x-kept"), Some("2"));
    assert_eq!(response.field("x-hop"), None);
    assert_eq!(response.field("keep-alive"), None);
    assert_eq!(response.field("via"), Some("1.1 weir"));
    let seen = upstream.seen();
    let mut fields: Vec<&str> = seen[0].head.lines().skip(1).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "host: Site.example",
            "via: 1.0 old",
            "via: 1.1 weir",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 127.0.0.1",
            "x-forwarded-host: Site.example",
            "x-forwarded-proto: http",
            "x-yours: 2",
        ]
    );
}
