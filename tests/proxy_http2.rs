//! The proxy door over HTTP/2, with prior knowledge, on the port that HTTP/1 has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod gateway;

use std::future::Future;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use gateway::{Gateway, Next, Upstream};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use weir::base::tasks::{Drained, Tasks};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok";

type Sender = SendRequest<Full<Bytes>>;

/// Runs `test` with an HTTP/2 connection to `gateway`.
fn over_http2<F: Future<Output = ()>>(gateway: &Gateway, test: impl FnOnce(Sender) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Tasks::default().spawn("test-http2", |_| async move { drop(connection.await) });
        test(sender).await;
    });
}

fn request(method: Method, uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    request
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn streams_are_forwarded_as_requests_of_their_own() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    over_http2(&gateway, |mut sender| async move {
        let response =
            sender.send_request(request(Method::GET, "http://site.example/a/../b?q", ""));
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(text(response).await, "ok");
        let response = sender.send_request(request(Method::POST, "http://site.example/c", "hi"));
        assert_eq!(text(response.await.unwrap()).await, "ok");
    });
    let seen = upstream.seen();
    assert_eq!(seen[0].line(), "GET /b?q HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("site.example"));
    assert_eq!(seen[0].field("via"), Some("2 weir"));
    assert_eq!((seen[1].line(), seen[1].field("content-length")), ("POST /c HTTP/1.1", Some("2")));
    assert_eq!(seen[1].body, b"hi");
}

#[test]
fn a_refused_stream_is_told_the_same_as_over_http1() {
    let upstream = Upstream::answering(OK);
    let gateway = Gateway::before(&upstream);
    over_http2(&gateway, |mut sender| async move {
        for status in [200, 200, 429, 429] {
            let request = request(Method::POST, "http://a/limited", "body");
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key("ratelimit"));
            assert_eq!(response.headers().contains_key("retry-after"), status == 429);
        }
    });
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn host_and_authority_must_agree() {
    let gateway = Gateway::start("{}");
    over_http2(&gateway, |mut sender| async move {
        for (host, status) in [("a", 200), ("A:80", 200), ("b", 400)] {
            let mut request = request(Method::GET, "http://a/x", "");
            request.headers_mut().insert("host", host.parse().unwrap());
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{host}");
        }
    });
}

#[test]
fn a_response_that_breaks_off_resets_the_stream() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    let upstream = Upstream::doing(move |_| Next::AnswerAndClose(half.clone()));
    let gateway = Gateway::before(&upstream);
    over_http2(&gateway, |mut sender| async move {
        let response = sender.send_request(request(Method::GET, "http://a/x", "")).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    });
}

#[test]
fn a_drain_finishes_open_streams() {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let slow = Upstream::doing(move |_| {
        told.lock().unwrap().recv().unwrap();
        Next::Answer(OK.to_vec())
    });
    let mut gateway = Gateway::before(&slow);
    let (stop, address) = (gateway.stopper(), gateway.address);
    over_http2(&gateway, |mut sender| async move {
        let running = sender.send_request(request(Method::GET, "http://a/x", ""));
        let stopping = async {
            while slow.seen().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            stop.send(()).unwrap();
            // Nobody is let in any more: the drain has begun.
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            go_on.send(()).unwrap();
        };
        let (response, ()) = tokio::join!(running, stopping);
        assert_eq!(text(response.unwrap()).await, "ok");
    });
    assert_eq!(gateway.drained(), Drained::Clean);
}
