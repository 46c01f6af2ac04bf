//! Requests that a policy has wait, over HTTP/1.1 and over HTTP/2: in which order they
//! are answered, what becomes of one whose client leaves, and how many may wait.
//!
//! No test is timed: what is asserted is order, counts, and that nobody is early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod gateway;

use std::future::Future;
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use gateway::Gateway;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir::base::clock::Stopwatch;
use weir::base::tasks::Tasks;

/// One in longer than it takes to ask three times, whatever else the machine does; one in
/// longer than any test, where a line is not full soon, and where it is.
const POLICIES: &str = "
policies:
  - name: slow
    match: { path: /slow }
    limits: [{ quota: 1, window: 2s }]
    on_deny: { delay: { wait_max: 1m, waiting_max: 3 } }
  - name: never
    match: { path: /never }
    limits: [{ quota: 1, window: 1m }]
    on_deny: { delay: { wait_max: 1m } }
  - name: small
    match: { path: /small }
    limits: [{ quota: 1, window: 30s }]
    on_deny: { delay: { wait_max: 1m, memory_max: 4KiB } }
";

/// What the next in line of `slow` waits for, at least.
const STEP: Duration = Duration::from_secs(2);

/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

type Sender = SendRequest<Full<Bytes>>;

fn waiting(gateway: &Gateway, policy: &str) -> f64 {
    gateway.metric(&format!("weir_limiter_waiting_requests{{policy=\"{policy}\"}}"))
}

fn ended(gateway: &Gateway, policy: &str, outcome: &str) -> f64 {
    let labels = format!("outcome=\"{outcome}\",policy=\"{policy}\"");
    gateway.metric(&format!("weir_limiter_waits_total{{{labels}}}"))
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Stopwatch::start();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Stopwatch::start();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs `test` with an HTTP/2 connection to `gateway`.
fn over_http2<F: Future<Output = ()>>(gateway: &Gateway, test: impl FnOnce(Sender) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, _socket) = connect(gateway).await;
        test(sender).await;
    });
}

/// A connection, and its socket once more, to close it.
async fn connect(gateway: &Gateway) -> (Sender, std::net::TcpStream) {
    let socket = std::net::TcpStream::connect(gateway.address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    Tasks::default().spawn("test-http2", |_| async move { drop(connection.await) });
    (sender, socket)
}

fn ask(
    sender: &mut Sender,
    path: &str,
    body: &'static [u8],
) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
    let request = Request::post(format!("http://a{path}"));
    sender.send_request(request.body(Full::new(Bytes::from_static(body))).unwrap())
}

#[test]
fn streams_of_one_connection_wait_each_for_its_turn() {
    let gateway = &Gateway::under(POLICIES, "{}");
    over_http2(gateway, |mut sender| async move {
        let clock = Stopwatch::start();
        let mut passed = JoinSet::new();
        for number in 0..3 {
            let response = ask(&mut sender, "/slow", b"x");
            passed.spawn(async move { (number, response.await.unwrap()) });
            // One after the other, so that they have an order.
            let came = || waiting(gateway, "slow") + ended(gateway, "slow", "admitted");
            until("it has come", || came() >= f64::from(number)).await;
        }
        for number in 0..3 {
            let (next, response) = passed.join_next().await.unwrap().unwrap();
            let at = clock.elapsed();
            assert_eq!((next, response.status().as_u16()), (number, 200));
            assert!(at >= STEP * number, "{number} passed at {at:?}");
            assert_eq!(response.headers()["ratelimit"], "\"slow\";r=0;t=2");
        }
    });
    assert_eq!((ended(gateway, "slow", "admitted"), waiting(gateway, "slow")), (2.0, 0.0));
}

#[test]
fn a_stream_that_is_reset_leaves_its_place_and_the_others_of_its_connection_go_on() {
    let gateway = &Gateway::under(POLICIES, "{}");
    over_http2(gateway, |mut sender| async move {
        assert_eq!(ask(&mut sender, "/never", b"").await.unwrap().status().as_u16(), 200);
        let mut waits = JoinSet::new();
        // Dropping the future resets its stream.
        let [first, second] = [(); 2].map(|()| waits.spawn(ask(&mut sender, "/never", b"x")));
        until("both wait", || waiting(gateway, "never") == 2.0).await;
        first.abort();
        until("one place is free", || waiting(gateway, "never") == 1.0).await;
        assert_eq!(ended(gateway, "never", "gone"), 1.0);
        assert_eq!(ask(&mut sender, "/other", b"").await.unwrap().status().as_u16(), 200);
        assert!(!second.is_finished());
        second.abort();
        until("both places are free", || waiting(gateway, "never") == 0.0).await;
    });
}

#[test]
fn a_connection_that_ends_leaves_the_places_of_all_its_streams() {
    let gateway = &Gateway::under(POLICIES, "{}");
    over_http2(gateway, |mut other| async move {
        assert_eq!(ask(&mut other, "/never", b"").await.unwrap().status().as_u16(), 200);
        let (mut sender, socket) = connect(gateway).await;
        let mut waits = JoinSet::new();
        (0..3).for_each(|_| drop(waits.spawn(ask(&mut sender, "/never", b"x"))));
        until("all wait", || waiting(gateway, "never") == 3.0).await;
        socket.shutdown(Shutdown::Both).unwrap();
        until("all places are free", || waiting(gateway, "never") == 0.0).await;
    });
    assert_eq!(ended(gateway, "never", "gone"), 3.0);
}

#[test]
fn a_client_of_http1_that_leaves_leaves_its_place() {
    let gateway = Gateway::under(POLICIES, "{}");
    assert_eq!(gateway.ask("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").status(), "200");
    let mut gone = 0.0;
    let post = "POST /never HTTP/1.1\r\nhost: a\r\n";
    let large = "x".repeat(30_000);
    for (request, body) in [
        ("GET /never HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), ""),
        (format!("{post}content-length: 4\r\n\r\nbody"), ""),
        // Of a body something is still to come, or lies where nobody reads it.
        (format!("{post}content-length: 4\r\n\r\nbo"), ""),
        (format!("{post}content-length: 4\r\nexpect: 100-continue\r\n\r\n"), ""),
        (format!("{post}transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n"), ""),
        (format!("{post}content-length: 1000000\r\n\r\n"), &large),
    ] {
        let mut client = gateway.connect();
        client.send(request.as_bytes());
        wait_until("it waits", || waiting(&gateway, "never") == 1.0);
        client.send(body.as_bytes());
        drop(client);
        wait_until("its place is free", || waiting(&gateway, "never") == 0.0);
        gone += 1.0;
        assert_eq!(ended(&gateway, "never", "gone"), gone, "{request}");
    }
    wait_until("they are counted off", || gateway.metric("weir_proxy_connections") == 0.0);
}

#[test]
fn a_client_of_http1_whose_body_is_not_read_yet_and_who_stays_has_its_turn() {
    let gateway = Gateway::under(POLICIES, "{}");
    assert_eq!(gateway.ask("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").status(), "200");
    let mut client = gateway.connect();
    client.send(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf");
    wait_until("it waits", || waiting(&gateway, "slow") == 1.0);
    client.send(b"half");
    assert_eq!(client.response().unwrap().status(), "200");
    assert_eq!(ended(&gateway, "slow", "admitted"), 1.0);
}

#[test]
fn a_full_line_refuses_at_once_over_both_protocols() {
    // The first in line has less to wait than it may, at whichever moment it comes.
    let gateway = &Gateway::under(&POLICIES.replace("2s", "45s"), "{}");
    over_http2(gateway, |mut sender| async move {
        let began = Stopwatch::start();
        // What is left of the window, in seconds.
        let is_left = |told: &str| {
            let told: u64 = told.parse().unwrap();
            assert!(told <= 45 && told + began.elapsed().as_secs() >= 45, "{told}");
        };
        assert_eq!(ask(&mut sender, "/slow", b"").await.unwrap().status().as_u16(), 200);
        let mut waits = JoinSet::new();
        (0..3).for_each(|_| drop(waits.spawn(ask(&mut sender, "/slow", b"x"))));
        until("the line is full", || waiting(gateway, "slow") == 3.0).await;
        let refused = ask(&mut sender, "/slow", b"x").await.unwrap();
        assert_eq!(refused.status().as_u16(), 429);
        let told = refused.headers()["ratelimit"].to_str().unwrap();
        is_left(told.strip_prefix("\"slow\";r=0;t=").unwrap());
        is_left(refused.headers()["retry-after"].to_str().unwrap());
        let refused = gateway.ask("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(refused.status(), "429");
        is_left(refused.field("retry-after").unwrap());
        assert_eq!(ended(gateway, "slow", "full"), 2.0);
        drop(waits);
        until("the line is empty", || waiting(gateway, "slow") == 0.0).await;
    });
}

#[test]
fn heads_of_waiting_requests_count_against_the_memory_of_the_line() {
    let gateway = Gateway::under(POLICIES, "{}");
    let padded = |bytes: usize| {
        format!("GET /small HTTP/1.1\r\nhost: a\r\nx-padding: {}\r\n\r\n", "x".repeat(bytes))
    };
    assert_eq!(gateway.ask(&padded(0)).status(), "200");
    let mut first = gateway.connect();
    first.send(padded(2_500).as_bytes());
    wait_until("it waits", || waiting(&gateway, "small") == 1.0);
    // About 3.5 KiB with what a request takes besides; another does not fit into 4 KiB.
    assert_eq!(gateway.ask(&padded(2_500)).status(), "429");
    assert_eq!(gateway.ask(&padded(0)).status(), "429");
    assert_eq!(ended(&gateway, "small", "full"), 2.0);
    drop(first);
    wait_until("its bytes are free", || waiting(&gateway, "small") == 0.0);
    let mut second = gateway.connect();
    second.send(padded(0).as_bytes());
    wait_until("it waits", || waiting(&gateway, "small") == 1.0);
}

#[test]
fn who_cannot_wait_so_long_is_refused_and_not_gone() {
    // A hit of the same moment leaves later than anybody may wait.
    let gateway = Gateway::under(&POLICIES.replace("2s", "10m"), "{}");
    for status in ["200", "429", "429"] {
        assert_eq!(gateway.ask("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").status(), status);
    }
    assert_eq!(waiting(&gateway, "slow"), 0.0);
    assert_eq!((ended(&gateway, "slow", "refused"), ended(&gateway, "slow", "gone")), (2.0, 0.0));
}
