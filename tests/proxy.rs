//! The proxy door over real sockets: what a downstream gets, and what an upstream
//! sees. Raw bytes on both sides, so that no client library tidies them up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod gateway;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use gateway::{Gateway, Next, Upstream, in_parallel};
use weir::base::clock::Stopwatch;
use weir::base::tasks::{Drained, spawn_thread};

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
fn a_request_without_a_single_meaning_is_told_why() {
    let refused =
        Gateway::before(&Upstream::answering(OK)).ask("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    // As `tests/envoy.rs` has it.
    assert_eq!(
        refused.text(),
        "{\"detail\":\"the path holds an encoded slash, backslash or control character (%2F)\",\
         \"status\":400,\"title\":\"Bad Request\",\"type\":\"about:blank\"}"
    );
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

/// A gateway before `upstream` with the timeouts of `timeouts`.
fn gateway_with(upstream: &str, timeouts: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ up: {{ endpoints: ['http://{upstream}'] }} }}\n\
         routes: [{{ upstream: up }}]\n\
         proxy: {{ timeouts: {{ {timeouts} }} }}"
    ))
}

fn outcome(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("weir_proxy_requests_total{{outcome=\"{outcome}\"}}"))
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_refused_request_is_told_when_to_come_back_and_reaches_no_upstream() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
        let admitted = client.response().unwrap();
        assert_eq!(admitted.status(), "200");
        assert!(
            admitted.field("ratelimit").is_some() && admitted.field("ratelimit-policy").is_some()
        );
        assert_eq!(admitted.field("retry-after"), None);
    }
    client.send(b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = client.response().unwrap();
    assert_eq!(refused.status(), "429");
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    let retry_after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3_590..=3_600).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.field("ratelimit-policy"), Some("\"two\";q=2;w=3600"));
    assert!(refused.field("ratelimit").unwrap().starts_with("\"two\";r=0;t="));
    let problem: serde_json::Value = serde_json::from_str(refused.text()).unwrap();
    let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!((problem["type"].as_str(), problem["status"].as_u64()), (Some(kind), Some(429)));
    assert_eq!(problem["violated-policies"], serde_json::json!(["two"]));

    client.send(b"HEAD /limited HTTP/1.1\r\nHost: a\r\n\r\nGET /free HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").unwrap().status(), "429");
    assert_eq!(client.response().unwrap().status(), "200");
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!((outcome(&gateway, "forwarded"), outcome(&gateway, "refused")), (3.0, 2.0));
}

/// Sends `raw` as a request beyond its quota; gives the statuses that follow and
/// whether the connection was closed. No body may ever be taken for a request.
fn refused_early(raw: &str) -> (String, bool) {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    for _ in 0..2 {
        gateway.ask("GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut client = gateway.connect();
    client.send(raw.as_bytes());
    let (statuses, closed) = client.statuses();
    let stolen = upstream.seen().iter().any(|request| request.line().contains("/stolen"));
    assert!(!stolen, "a body was forwarded as a request");
    (statuses.join(" "), closed)
}

#[test]
fn the_body_of_a_refused_request_is_never_read_as_a_request() {
    let next = "GET /stolen HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = |length: usize| {
        format!("POST /limited HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n")
    };
    let rows = [
        // All of it is there: read away, and the connection is kept.
        (format!("{}\r\n{next}", head(next.len())), "429", false),
        (
            format!("{}\r\n{next}GET /x HTTP/1.1\r\nHost: a\r\n\r\n", head(next.len())),
            "429 200",
            false,
        ),
        // It never comes: closed after a second.
        (format!("{}\r\n", head(100)), "429", false),
        // It is large: told to close, and not read to its end.
        (format!("{}\r\n{}", head(1 << 20), next.repeat(4_000)), "429", true),
        // It was not asked for: no 100, and closed.
        (format!("{}Expect: 100-continue\r\n\r\n", head(10)), "429", true),
        (format!("{}Expect: 100-continue\r\n\r\n{next}", head(10)), "429", true),
    ];
    in_parallel(&rows, |(raw, statuses, closed)| {
        let happened = refused_early(raw);
        let start = &raw[..raw.len().min(300)];
        assert_eq!(happened, ((*statuses).to_owned(), *closed), "{start}");
    });
}

#[test]
fn an_admitted_request_that_asks_first_is_told_to_continue() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.connect();
    client
        .send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().unwrap().status(), "100");
    client.send(b"hi");
    assert_eq!(client.response().unwrap().status(), "200");
    let seen = upstream.seen();
    assert_eq!((seen[0].field("expect"), seen[0].body.as_slice()), (None, b"hi".as_slice()));
}

#[test]
fn connections_to_an_upstream_are_kept_and_reused() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.connect();
    for raw in ["GET /a", "HEAD /b", "GET /c", "DELETE /d"] {
        client.send(format!("{raw} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        // The upstream sends a body to HEAD, too; its connection is not reused.
        assert_eq!(client.response_to(raw).unwrap().status(), "200", "{raw}");
    }
    let connections: Vec<usize> = upstream.seen().iter().map(|it| it.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
    assert_eq!(gateway.metric("weir_proxy_upstream_connects_total"), 2.0);
    assert_eq!(gateway.metric("weir_proxy_upstream_reuses_total"), 2.0);
}

#[test]
fn idle_connections_to_an_upstream_are_closed_in_time() {
    let upstream = Upstream::answering(OK);
    let gateway = gateway_with(&upstream.address.to_string(), "upstream_idle: 100ms");
    gateway.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let clock = Stopwatch::start();
    while upstream.ended() == 0 {
        assert!(clock.elapsed() < Duration::from_secs(20), "it stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
    gateway.ask("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(upstream.seen().iter().map(|it| it.connection).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_request_is_sent_again_only_when_that_is_safe() {
    // The second request on a connection meets its end.
    let second = |bytes: &'static [u8]| {
        Upstream::doing(move |seen| match seen.line() {
            "GET /first HTTP/1.1" => Next::Answer(OK.to_vec()),
            _ if seen.connection == 0 => Next::AnswerAndClose(bytes.to_vec()),
            _ => Next::Answer(OK.to_vec()),
        })
    };
    let table: [(&[u8], &str, &str, usize); 6] = [
        (b"", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "200", 3),
        (b"", "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", "200", 3),
        (b"", "POST /a HTTP/1.1\r\nHost: a\r\n\r\n", "502", 2),
        (b"", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "502", 2),
        (b"HTTP/1.1 2", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "502", 2),
        (b"garbage\r\n\r\n", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "502", 2),
    ];
    for (bytes, raw, status, seen_count) in table {
        let upstream = second(bytes);
        let gateway = Gateway::before(&upstream);
        gateway.ask("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(gateway.ask(raw).status(), status, "{raw}");
        assert_eq!(upstream.seen().len(), seen_count, "{raw}");
        let retried = f64::from(u8::from(status == "200"));
        assert_eq!(gateway.metric("weir_proxy_upstream_retries_total"), retried);
    }
}

#[test]
fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let upstream = Upstream::doing(|_| Next::AnswerAndClose(OK.to_vec()));
    let gateway = Gateway::before(&upstream);
    for _ in 0..3 {
        let raw = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(gateway.ask(raw).status(), "200");
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn an_upstream_that_fails_is_told_from_one_that_is_slow() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = gateway_with(&nobody.to_string(), "connect: 1s");
    let response = gateway.ask("GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status(), "502");
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    assert!(response.text().contains("cannot connect to the upstream"));
    assert!(response.field("ratelimit").is_some(), "the quota is used, and told");
    assert_eq!(outcome(&gateway, "upstream_unreachable"), 1.0);

    let silent = Upstream::doing(|_| Next::Silence(Duration::from_secs(2)));
    let gateway = gateway_with(&silent.address.to_string(), "response: 200ms");
    let clock = Stopwatch::start();
    assert_eq!(gateway.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").status(), "504");
    assert!(clock.elapsed() < Duration::from_secs(1));
    assert_eq!(outcome(&gateway, "upstream_timeout"), 1.0);

    for script in [
        |_: &gateway::Seen| Next::AnswerAndReset(Vec::new()),
        |_: &gateway::Seen| Next::AnswerAndReset(b"HTTP/1.1 200 OK\r\nconte".to_vec()),
        |_: &gateway::Seen| Next::AnswerAndClose(b"HTTP/1.1 200 OK\r\nconte".to_vec()),
        |_: &gateway::Seen| Next::Answer(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_vec()),
        |_: &gateway::Seen| Next::Answer(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n".to_vec()),
        |_: &gateway::Seen| {
            Next::Answer(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec())
        },
        |_: &gateway::Seen| {
            Next::Answer(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
            )
        },
        |_: &gateway::Seen| {
            Next::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec())
        },
        |_: &gateway::Seen| {
            Next::Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx".to_vec())
        },
    ] {
        let upstream = Upstream::doing(script);
        let gateway = Gateway::before(&upstream);
        let mut client = gateway.connect();
        client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response().unwrap();
        assert_eq!(response.status(), "502", "{}", response.head);
        assert!(!client.is_closed(), "the downstream's connection is kept");
        assert_eq!(outcome(&gateway, "upstream_failed"), 1.0);
    }
}

#[test]
fn a_response_that_breaks_off_is_never_ended_as_if_it_were_whole() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnothex\r\n",
    ] {
        let upstream = Upstream::doing(move |_| Next::AnswerAndClose(bytes.as_bytes().to_vec()));
        let gateway = Gateway::before(&upstream);
        let mut client = gateway.connect();
        client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.response().is_none(), "{bytes}");
        assert!(client.is_closed(), "{bytes}");
    }
}

#[test]
fn a_body_that_does_not_move_is_given_up() {
    let stuck = Upstream::doing(|seen| match seen.line() {
        "GET /a HTTP/1.1" => {
            Next::AnswerAndWait(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec())
        }
        _ => Next::Answer(OK.to_vec()),
    });
    let gateway = gateway_with(&stuck.address.to_string(), "body_idle: 200ms, response: 5s");
    let mut client = gateway.connect();
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.response().is_none() && client.is_closed());

    let mut client = gateway.connect();
    client.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(client.response().unwrap().status(), "408");
    assert!(client.is_closed());
}

#[test]
fn every_shape_of_response_is_passed_on_as_it_is_meant() {
    let table: [(&str, &str, &str, &str); 9] = [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200", ""),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\nhello", "200", "hello"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200", ""),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "200",
            "x",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
            "200",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nto the end", "200", "A\r\nto the end\r\n0\r\n\r\n"),
    ];
    for (method, bytes, status, body) in table {
        let close = bytes.starts_with("HTTP/1.0");
        let upstream = Upstream::doing(move |_| match close {
            true => Next::AnswerAndClose(bytes.as_bytes().to_vec()),
            false => Next::Answer(bytes.as_bytes().to_vec()),
        });
        let gateway = Gateway::before(&upstream);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send(format!("{method} /a HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            let response = client.response_to(method).unwrap();
            assert_eq!((response.status(), response.text()), (status, body), "{bytes:?}");
            assert!(response.head.starts_with("HTTP/1.1 "), "{}", response.head);
        }
        let connections: Vec<usize> = upstream.seen().iter().map(|it| it.connection).collect();
        assert_eq!(connections, [0, usize::from(close)], "{bytes:?}");
    }
}

#[test]
fn an_upload_streams_and_is_framed_anew() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.connect();
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n");
    for _ in 0..3 {
        client.send(b"2;ext=1\r\nhi\r\n");
        std::thread::sleep(Duration::from_millis(10));
    }
    client.send(b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    assert_eq!(client.response().unwrap().status(), "200");
    let large = "x".repeat(1 << 20);
    client.send(
        format!("PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}", large.len())
            .as_bytes(),
    );
    assert_eq!(client.response().unwrap().status(), "200");
    // hyper would leave out the framing of a GET's body.
    client.send(
        b"GET /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().unwrap().status(), "200");

    let seen = upstream.seen();
    assert!(!String::from_utf8_lossy(&seen[0].body).contains("6.6.6.6"));
    assert_eq!((seen[1].body.len(), seen[1].field("content-length")), (1 << 20, Some("1048576")));
    assert_eq!(seen[2].body, b"2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(seen[2].field("transfer-encoding"), Some("chunked"));
}

/// An upstream for one request with a body of this length, which it answers when it has
/// its head: the response is written by one thread while another reads the body, and
/// gives its length.
fn answering_early(response: Vec<u8>, len: usize) -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        let head_len = loop {
            let mut buf = [0; 4 << 10];
            let len = stream.read(&mut buf).unwrap();
            received.extend_from_slice(&buf[..len]);
            if let Some(at) = received.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let mut writer = stream.try_clone().unwrap();
        let writing = spawn_thread("test-answer", move || writer.write_all(&response)).unwrap();
        let mut body = received.split_off(head_len);
        let missing = len - body.len();
        let _ = stream.take(missing as u64).read_to_end(&mut body);
        writing.join().unwrap().unwrap();
        body.len()
    };
    (address, spawn_thread("test-upstream", serve).unwrap())
}

#[test]
fn a_downstream_that_reads_last_is_no_reason_to_stop_its_upload() {
    // More than the sockets on the way hold.
    let len = 16 << 20;
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    response.resize(response.len() + len, b'y');
    let (address, upstream) = answering_early(response, len);
    let gateway = gateway_with(&address.to_string(), "");
    let mut client = gateway.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    client.stream.write_all(head.as_bytes()).unwrap();
    client.stream.write_all(&vec![b'x'; len]).unwrap();
    assert_eq!(client.response().unwrap().body.len(), len);
    assert_eq!(upstream.join().unwrap(), len);
}

#[test]
fn a_body_of_any_size_is_passed_on_byte_for_byte() {
    let body: String = (0..300_000).map(|number| format!("{number:x} ")).collect();
    let chunks: String = body
        .as_bytes()
        .chunks(77_777)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    let head = "HTTP/1.1 200 OK\r\n";
    for (response, is_chunked) in [
        (format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), false),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"), true),
    ] {
        let upstream = Upstream::doing(move |_| Next::Answer(response.clone().into_bytes()));
        let gateway = Gateway::before(&upstream);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            let response = client.response().unwrap();
            let text =
                if is_chunked { dechunked(response.text()) } else { response.text().to_owned() };
            assert!(text == body, "{} bytes of {}", text.len(), body.len());
        }
        assert_eq!(gateway.metric("weir_proxy_upstream_connects_total"), 1.0);
    }
}

/// The data of chunks.
fn dechunked(mut text: &str) -> String {
    let mut data = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        data.push_str(&rest[..size]);
        text = &rest[size + 2..];
    }
    data
}

#[test]
fn slow_and_silent_downstreams_are_let_go() {
    let upstream = Upstream::answering(OK);
    let timeouts = "first_byte: 200ms, request_head: 200ms, idle: 600ms";
    let gateway = gateway_with(&upstream.address.to_string(), timeouts);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let request = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let half = "GET /a HTTP/1.1\r\nHo";
    // What is sent and answered, what is sent then, and about when the connection
    // is closed (in ms).
    let rows = [
        ("", "", 200, 800),
        ("", half, 200, 800),
        ("", &preface[..8], 200, 800),
        ("", preface, 200, 1_000),
        (request, "", 600, 1_400),
        (request, half, 200, 1_000),
    ];
    in_parallel(&rows, |(first, raw, least, most)| {
        let mut client = gateway.connect();
        client.send(first.as_bytes());
        if !first.is_empty() {
            assert_eq!(client.response().unwrap().status(), "200");
        }
        client.send(raw.as_bytes());
        let clock = Stopwatch::start();
        while !client.is_closed() {
            assert!(clock.elapsed() < Duration::from_secs(5), "{raw:?} is never let go");
        }
        let elapsed = clock.elapsed().as_millis();
        assert!((*least..*most).contains(&elapsed), "{raw:?} was let go after {elapsed} ms");
    });
    // To be idle for long is no fault.
    assert_eq!(gateway.metric("weir_proxy_connection_timeouts_total"), 5.0);
    // A connection is closed first, and counted off then.
    let clock = Stopwatch::start();
    while gateway.metric("weir_proxy_connections") > 0.0 {
        assert!(clock.elapsed() < Duration::from_secs(5), "a connection is never counted off");
        std::thread::yield_now();
    }
}

#[test]
fn a_downstream_that_leaves_takes_its_request_along() {
    let silent = Upstream::doing(|_| Next::Silence(Duration::from_secs(1)));
    let gateway = Gateway::before(&silent);
    let mut client = gateway.connect();
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    while silent.seen().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    let clock = Stopwatch::start();
    while outcome(&gateway, "downstream_gone") < 1.0 {
        assert!(clock.elapsed() < Duration::from_secs(2), "the request goes on alone");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let slow = Upstream::doing(move |request| {
        if request.line().contains("/b") {
            told.lock().unwrap().recv().unwrap();
        }
        Next::Answer(OK.to_vec())
    });
    let mut gateway = Gateway::before(&slow);
    let (mut idle, mut busy) = (gateway.connect(), gateway.connect());
    idle.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().unwrap().status(), "200");
    busy.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    while slow.seen().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    gateway.stop();
    // So the drain has begun, and the other waits for its answer.
    assert!(idle.is_closed_within(Duration::from_secs(20)));
    go_on.send(()).unwrap();
    let response = busy.response().unwrap();
    assert_eq!((response.status(), response.field("connection")), ("200", Some("close")));
    assert!(busy.is_closed());
    let address = gateway.address;
    assert_eq!(gateway.drained(), Drained::Clean);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn without_an_upstream_weir_says_what_it_was_asked() {
    let gateway = Gateway::start("{}");
    let response =
        gateway.ask("GET /a/../b?q=1 HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nCookie: secret\r\n\r\n");
    let said: serde_json::Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!((said["method"].as_str(), said["path"].as_str()), (Some("GET"), Some("/b")));
    assert_eq!((said["query"].as_str(), said["headers"]["x-a"].as_str()), (Some("q=1"), Some("1")));
    assert!(!response.text().contains("secret"));
    assert_eq!(outcome(&gateway, "echoed"), 1.0);
}

#[test]
fn a_path_without_a_route_is_not_found() {
    let gateway = Gateway::start(
        "{ upstreams: { e: { endpoints: ['builtin:echo'] } }, routes: [{ path: /a/**, upstream: e }] }",
    );
    let get = |path: &str| gateway.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(get("/a/b").status(), "200");
    assert_eq!(get("/b").status(), "404");
    assert_eq!(get("/b/../a").status(), "200");
    assert_eq!(outcome(&gateway, "no_route"), 1.0);
}

#[test]
fn access_is_logged_a_line_a_request_with_values_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let gateway = Gateway::start(&format!("proxy: {{ access_log: '{}' }}", path.display()));
    gateway.ask("GET /a?b\\q HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.ask("get / HTTP/1.1\r\nHost: \"x\"\r\n\r\n");
    gateway.drained();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["target"], "/a?b\\q");
    assert_eq!((&lines[0]["status"], &lines[0]["outcome"]), (&200.into(), &"echoed".into()));
    assert_eq!((&lines[1]["host"], &lines[1]["outcome"]), (&"\"x\"".into(), &"bad_request".into()));
    assert_eq!(lines.len(), 2);
}

#[test]
fn bytes_that_are_no_request_are_counted() {
    let gateway = Gateway::start("{}");
    assert_eq!(gateway.ask("nonsense\r\n\r\n").status(), "400");
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status(), "400");
    assert_eq!(outcome(&gateway, "bad_request"), 2.0);
    assert_eq!(gateway.metric("weir_proxy_responses_total{class=\"4xx\"}"), 2.0);
}

#[test]
fn a_downstream_that_does_not_read_is_let_go() {
    let body = "x".repeat(32 << 20);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let upstream = Upstream::doing(move |_| Next::Answer(response.clone().into_bytes()));
    let gateway = gateway_with(&upstream.address.to_string(), "body_idle: 200ms");
    let mut client = gateway.connect();
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let clock = Stopwatch::start();
    while gateway.metric("weir_proxy_connection_timeouts_total") < 1.0 {
        assert!(clock.elapsed() < Duration::from_secs(3), "it is waited for without end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(gateway.metric("weir_proxy_connections"), 0.0);
}

#[test]
fn limits_of_the_upstream_are_told_beside_ours() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nRateLimit-Policy: \"theirs\";q=9\r\n\r\n",
    );
    let gateway = Gateway::before(&upstream);
    let response = gateway.ask("GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
    let lines: Vec<&str> =
        response.head.lines().filter(|line| line.starts_with("ratelimit-policy")).collect();
    assert_eq!(lines, ["ratelimit-policy: \"theirs\";q=9", "ratelimit-policy: \"two\";q=2;w=3600"]);
}
