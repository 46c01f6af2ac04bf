//! The admin door: what Prometheus, orchestrators and people look at.
//!
//! ```text
//! GET /          what is here
//! GET /metrics   Prometheus' text format
//! GET /livez     200 while the process serves at all
//! GET /readyz    200 or 503, and a line for each condition
//! GET …          pages that the roof hands in, such as /policies
//! …   /api/v1/…  look at keys, reset them, set overrides (see [`api`])
//! ```
//!
//! All but the API only reads, needs no body and no secret. It answers while the other
//! doors are loading or draining, so it runs on a runtime of its own and is
//! closed last. Its limits are small: nobody who is slow may keep Prometheus out.
//!
//! Not here: what the numbers mean (each module registers its own metrics), and
//! who is allowed in (a loopback address by default; see [`host`] for browsers).

mod api;
mod host;
mod readiness;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Stopwatch;
use crate::base::tasks::Tasks;
use crate::listener::accept::{Accepted, Acceptor};

pub use api::Api;
pub use readiness::{Condition, Readiness, Report, State};

/// Connections at a time, for the acceptor's cap.
pub const CONNECTION_COUNT_MAX: u32 = 64;
/// How long a request's head may take to arrive, and a kept connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_SIZE_MAX: usize = 16 * 1024;
/// Age at which a connection is asked to close, with its next answer. One that
/// is closed between two requests would lose the second.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// Age at which a connection is dropped: its reader does not read.
const CONNECTION_AGE_LAST: Duration = Duration::from_secs(120);
/// How long a connection may take to close once the door does.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that another room renders, shown under `path`.
struct Page {
    path: &'static str,
    about: &'static str,
    content_type: &'static str,
    render: Box<dyn Fn() -> String + Send + Sync>,
}

/// What the admin door shows.
pub struct Admin {
    registry: Registry,
    readiness: Readiness,
    pages: Vec<Page>,
    api: Arc<Api>,
}

impl Admin {
    /// A door that shows the metrics of `registry` and the state of `readiness`, and
    /// leads to `api`.
    pub fn new(registry: Registry, readiness: Readiness, api: Arc<Api>) -> Admin {
        Admin { registry, readiness, pages: Vec::new(), api }
    }

    /// Adds a page: its path, the words that the index says about it, its media
    /// type, and what renders it. `render` is run for each request and must not
    /// wait.
    #[must_use]
    pub fn page(
        mut self,
        path: &'static str,
        about: &'static str,
        content_type: &'static str,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> Admin {
        self.pages.push(Page { path, about, content_type, render: Box::new(render) });
        self
    }

    /// The answer to one request.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        if let Some(refusal) = refuse_host(&request) {
            return refusal;
        }
        if request.uri().path().starts_with(api::PREFIX) {
            return self.api.answer(request, peer).await;
        }
        self.read(&request)
    }

    /// The answer to a request that only looks.
    fn read<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/" => text(StatusCode::OK, self.index()),
            "/metrics" => self.metrics(),
            "/livez" => text(StatusCode::OK, "live\n"),
            "/readyz" => self.ready(),
            path => match self.pages.iter().find(|page| page.path == path) {
                Some(page) => response(StatusCode::OK, page.content_type, (page.render)()),
                None => text(StatusCode::NOT_FOUND, "not here; GET / says what is\n"),
            },
        }
    }

    fn index(&self) -> String {
        let mut index = "weir admin\n\n".to_owned();
        let built_in = [
            ("/metrics", "metrics for Prometheus"),
            ("/livez", "200 while the process serves at all"),
            ("/readyz", "200 when every condition is met, else 503"),
            ("/api/v1/…", "policies, keys, overrides and bans, to look at and to change"),
        ];
        let handed_in = self.pages.iter().map(|page| (page.path, page.about));
        for (path, about) in built_in.into_iter().chain(handed_in) {
            index.push_str(&format!("{path:<12} {about}\n"));
        }
        index
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(page) => response(StatusCode::OK, METRICS, page),
            Err(error) => {
                tracing::error!(%error, "cannot encode metrics");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n")
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let report = self.readiness.report();
        let status =
            if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, report.to_string())
    }
}

/// The refusal of a request whose `Host` could be a rebound name, or that has
/// none. HTTP/1.0 needs none: no browser sends it, but some health checks do.
fn refuse_host<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let misdirected =
        || Some(text(StatusCode::MISDIRECTED_REQUEST, "ask by address or as localhost\n"));
    // A target in absolute form names a host too, and RFC 9112 prefers it.
    if request.uri().authority().is_some_and(|target| !host::is_allowed(target.as_str())) {
        return misdirected();
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_10 => None,
        (Some(host), None) if host.to_str().is_ok_and(host::is_allowed) => None,
        (Some(_), None) => misdirected(),
        _ => Some(text(StatusCode::BAD_REQUEST, "exactly one Host is needed\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, TEXT, body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Serves the door until `tasks` are drained, then closes idle connections and
/// lets running answers finish. The roof gives this door tasks of its own and
/// drains them last, so that the drain of the others can be watched.
pub async fn serve(mut acceptor: Acceptor, admin: Arc<Admin>, tasks: Tasks) {
    let shutdown = tasks.shutdown();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = acceptor.next() => accepted,
        };
        let admin = Arc::clone(&admin);
        tasks.spawn("admin-connection", |shutdown| serve_connection(accepted, admin, shutdown));
    }
}

async fn serve_connection(accepted: Accepted, admin: Arc<Admin>, shutdown: CancellationToken) {
    let Accepted { stream, peer, slot } = accepted;
    let age = Stopwatch::start();
    let service = service_fn(|request| {
        let admin = &admin;
        async move {
            let mut answer = admin.answer(request, peer).await;
            if age.elapsed() > CONNECTION_AGE_MAX {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => log_end(ended),
        () = time::sleep(CONNECTION_AGE_LAST) => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            if let Ok(ended) = time::timeout(CLOSE_GRACE, connection).await {
                log_end(ended);
            }
        }
    }
    drop(slot);
}

/// A peer that hangs up or sends rubbish is nobody's news.
fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::listener::accept::{self, Cap};

    /// An admin door on a free port, with a counter, a page and a condition.
    struct Door {
        address: std::net::SocketAddr,
        log: Condition,
        tasks: Tasks,
    }

    impl Door {
        async fn open() -> Door {
            let registry = Registry::new();
            let decided = IntCounter::new("weir_test_total", "Things").unwrap();
            decided.inc_by(7);
            registry.register(Box::new(decided)).unwrap();
            let readiness = Readiness::default();
            let log = readiness.condition("log", State::Unmet("loading".to_owned()));
            let api = Arc::new(Api::new(None, true, &registry).unwrap());
            let admin = Admin::new(registry, readiness, api).page(
                "/policies",
                "the live policies",
                "application/json",
                || "[]".to_owned(),
            );
            let any_port = "127.0.0.1:0".parse().unwrap();
            let bound = accept::bind("admin", any_port, 1).unwrap();
            let address = bound.address;
            let socket = bound.sockets.into_iter().next().unwrap();
            let acceptor = Acceptor::new("admin", socket, Cap::new(CONNECTION_COUNT_MAX)).unwrap();
            let tasks = Tasks::default();
            let serving = tasks.clone();
            tasks.spawn("admin", |_| serve(acceptor, Arc::new(admin), serving));
            Door { address, log, tasks }
        }

        /// Sends `request` as it is and returns all that comes back.
        async fn raw(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.raw(&format!(
                "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
                self.address
            ))
            .await
        }
    }

    #[track_caller]
    fn check(answer: &str, status: u16, body: &str) {
        let (head, got) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.contains(&format!(" {status} ")), "{status} expected:\n{answer}");
        assert!(got.contains(body), "`{body}` expected:\n{answer}");
    }

    #[tokio::test]
    async fn each_page_says_what_it_should() {
        let door = Door::open().await;
        check(&door.get("/").await, 200, "/policies    the live policies\n");
        check(
            &door.get("/metrics").await,
            200,
            "# TYPE weir_test_total counter\nweir_test_total 7\n",
        );
        check(&door.get("/livez").await, 200, "live\n");
        check(&door.get("/policies").await, 200, "[]");
        check(&door.get("/policies?x=1").await, 200, "[]");
        check(&door.get("/nothing").await, 404, "GET /");
    }

    #[tokio::test]
    async fn readiness_follows_its_conditions() {
        let door = Door::open().await;
        check(&door.get("/readyz").await, 503, "not ready\nlog: loading\n");
        check(&door.get("/livez").await, 200, "live\n");
        door.log.set(State::Ok);
        check(&door.get("/readyz").await, 200, "ready\nlog: ok\n");
    }

    #[tokio::test]
    async fn only_reading_is_allowed() {
        let door = Door::open().await;
        let head =
            door.raw("HEAD /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        check(&head, 200, "");
        assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
        let post = door
            .raw("POST /policies HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await;
        check(&post, 405, "only GET");
        assert!(post.contains("allow: GET, HEAD"), "{post}");
    }

    #[tokio::test]
    async fn a_name_that_could_be_rebound_is_refused() {
        let door = Door::open().await;
        let ask =
            |hosts: &str| format!("GET /metrics HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        check(&door.raw(&ask("host: evil.example\r\n")).await, 421, "localhost");
        check(&door.raw(&ask("")).await, 400, "Host");
        check(&door.raw(&ask("host: localhost\r\nhost: evil.example\r\n")).await, 400, "Host");
        check(&door.raw("GET /livez HTTP/1.0\r\n\r\n").await, 200, "live");
        let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        check(&door.raw(absolute).await, 421, "localhost");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let door = Door::open().await;
        let long = "x".repeat(2 * HEAD_SIZE_MAX);
        check(&door.get(&format!("/{long}")).await, 431, "");
    }

    #[tokio::test]
    async fn draining_closes_idle_connections() {
        let door = Door::open().await;
        let mut idle = TcpStream::connect(door.address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 16];
        idle.read_exact(&mut first).await.unwrap();
        let drained = door.tasks.drain(Duration::from_secs(5)).await;
        assert_eq!(drained, crate::base::tasks::Drained::Clean);
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
    }
}
