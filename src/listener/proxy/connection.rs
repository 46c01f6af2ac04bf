//! One downstream connection: what it speaks, how long it may take, how it ends.
//!
//! A connection from a load balancer may begin with PROXY protocol ([`preamble`]).
//! Then HTTP/1.1 and HTTP/2 (prior knowledge) share a port. Which of them it is can
//! be seen in the first bytes, which are peeked at and not read, so that hyper's
//! HTTP/1 and HTTP/2 servers get an untouched socket.
//!
//! At shutdown a connection takes no further request. HTTP/1: the one in flight
//! is answered with `Connection: close`. HTTP/2: GOAWAY, and open streams end.

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::tasks::Tasks;
use crate::listener::accept::Accepted;

use super::body::ResponseBody;
use super::head::Sender;
use super::observed::{ObservedStream, OtherSide};
use super::preamble;
use super::request;
use super::watch::{Phase, Watch};
use super::worker::Worker;

/// How an HTTP/2 connection begins (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of an HTTP/1 head, at most; more is 431.
const HEAD_SIZE_MAX: usize = 16 << 10;

/// Bytes read ahead of one connection, at most.
const READ_BUFFER_SIZE_MAX: usize = 64 << 10;

/// What one connection's requests share.
#[derive(Debug)]
pub struct Downstream {
    /// The thread that serves it.
    pub worker: Rc<Worker>,
    /// How long its phases take.
    pub watch: Rc<Watch>,
    /// The other end, or whom its PROXY header names; an IPv4 address even if it came
    /// over an IPv6 socket.
    pub peer: IpAddr,
    /// The other end, as upstreams are told.
    pub sender: Sender,
    /// Its socket, over HTTP/1: hyper does not look for its end before the body of a
    /// request is read.
    pub other_side: Option<OtherSide>,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves one connection to its end.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { mut stream, peer, slot: _slot } = accepted;
    let peer = peer.ip().to_canonical();
    let (metrics, timeouts) = (&worker.proxy.metrics, worker.proxy.timeouts);
    let _open = OpenConnection::count(&metrics.connections);
    let shutdown = worker.tasks.shutdown();
    // Biased: a request that has arrived already is served, even at shutdown.
    let protocol = tokio::select! {
        biased;
        opened = time::timeout(timeouts.first_byte, open(&worker, &mut stream, peer)) => opened,
        () = shutdown.cancelled() => Ok(None),
    };
    match protocol {
        Ok(Some((client, protocol))) => {
            serve_protocol(protocol, &worker, stream, client, &shutdown).await;
        }
        Ok(None) => {}
        Err(_elapsed) => metrics.timeouts.inc(),
    }
}

/// Reads what stands before HTTP and looks at how HTTP begins: whose connection it
/// is, and what it speaks. `None` when it ended before, or must be closed.
async fn open(worker: &Worker, stream: &mut TcpStream, peer: IpAddr) -> Option<(IpAddr, Protocol)> {
    let mut client = peer;
    if worker.proxy.proxy_protocol.iter().any(|network| network.contains(&peer)) {
        match preamble::read(stream).await {
            Ok(told) => client = told.unwrap_or(peer),
            Err(error) => {
                worker.proxy.metrics.protocol_errors.inc();
                tracing::debug!(%peer, %error, "connection closed before its first request");
                return None;
            }
        }
    }
    Some((client, sniff(stream).await?))
}

/// Counts as open until it is dropped, which a drain that takes too long does.
#[derive(Debug)]
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn count(gauge: &IntGauge) -> OpenConnection {
        gauge.inc();
        OpenConnection(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Looks at the first bytes. `None` when the connection ended before any.
async fn sniff(stream: &TcpStream) -> Option<Protocol> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let len = stream.peek(&mut first).await.ok().filter(|len| *len > 0)?;
        if first[..len] != HTTP2_PREFACE[..len] {
            return Some(Protocol::Http1);
        }
        if len == HTTP2_PREFACE.len() {
            return Some(Protocol::Http2);
        }
        // The bytes so far stay readable, so readiness would not wait.
        time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve_protocol(
    protocol: Protocol,
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: IpAddr,
    shutdown: &CancellationToken,
) {
    let watch = Watch::new(worker.proxy.timeouts, protocol == Protocol::Http2);
    let stream = ObservedStream::new(stream, Rc::clone(&watch));
    let other_side = (protocol == Protocol::Http1).then(|| stream.other_side());
    let io = TokioIo::new(stream);
    let address = HeaderValue::from_str(&peer.to_string());
    let sender = Sender {
        address: address.unwrap_or(HeaderValue::from_static("unknown")),
        is_trusted: worker.proxy.trust.believes(peer),
        field: worker.proxy.trust.field,
    };
    let downstream = Rc::new(Downstream {
        worker: Rc::clone(worker),
        watch: Rc::clone(&watch),
        peer,
        sender,
        other_side,
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let downstream = Rc::clone(&downstream);
        async move { request::answer(downstream, request).await }
    });
    let ended = match protocol {
        Protocol::Http1 => {
            run(http1_server().serve_connection(io, service), &watch, shutdown).await
        }
        Protocol::Http2 => {
            let server = http2_server(&worker.tasks);
            run(server.serve_connection(io, service), &watch, shutdown).await
        }
    };
    match ended {
        Ended::Normally => {}
        Ended::Overdue(phase) => {
            worker.proxy.metrics.timeouts.inc();
            tracing::debug!(%peer, ?phase, "connection took too long");
        }
        Ended::Failed(error) => {
            if error.is_parse() {
                worker.proxy.metrics.unreadable();
            }
            tracing::debug!(%peer, %error, "connection failed");
        }
    }
}

/// HTTP/1: 100 fields at most is hyper's default. The header timer is off
/// because [`super::watch`] does its work; hyper still wants a timer.
fn http1_server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(HEAD_SIZE_MAX)
        .max_buf_size(READ_BUFFER_SIZE_MAX);
    server
}

/// HTTP/2: Envoy's limits for an edge where hyper's defaults are wider.
fn http2_server(tasks: &Tasks) -> http2::Builder<LocalExecutor> {
    let mut server = http2::Builder::new(LocalExecutor(tasks.clone()));
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(16 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(64 << 10)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    server
}

/// Spawns the streams of an HTTP/2 connection on its own thread.
#[derive(Clone, Debug)]
struct LocalExecutor(Tasks);

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, stream: F) {
        self.0.spawn_local(stream);
    }
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    Normally,
    Overdue(Phase),
    Failed(hyper::Error),
}

/// A downstream's socket.
type WatchedStream = ObservedStream<Rc<Watch>>;

/// A connection that can be asked to take no further request.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S> Graceful for http1::Connection<TokioIo<WatchedStream>, S>
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::Connection::graceful_shutdown(self);
    }
}

impl<S> Graceful for http2::Connection<TokioIo<WatchedStream>, S, LocalExecutor>
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http2::Connection::graceful_shutdown(self);
    }
}

/// Drives a connection until it ends, is overdue, or is asked to end and has.
async fn run(connection: impl Graceful, watch: &Watch, shutdown: &CancellationToken) -> Ended {
    let mut connection = pin!(connection);
    let mut timer = pin!(time::sleep(watch.check_period()));
    let mut shutting_down = pin!(shutdown.cancelled());
    let mut draining = false;
    loop {
        // Biased: what has arrived is read before the connection is asked to
        // take no more.
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                return ended.map_or_else(Ended::Failed, |()| Ended::Normally);
            }
            () = timer.as_mut() => {
                match watch.overdue() {
                    // Ended as at a drain: HTTP/2 says GOAWAY, so that no request
                    // is lost that is on its way.
                    Some(Phase::Idle) if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Some(phase) => return Ended::Overdue(phase),
                    None => {}
                }
                timer.set(time::sleep(watch.check_period()));
            }
            () = shutting_down.as_mut(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
