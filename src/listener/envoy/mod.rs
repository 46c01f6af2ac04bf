//! The Envoy door: `envoy.service.auth.v3.Authorization/Check` over gRPC.
//!
//! Envoy's ext_authz filter sends the attributes of each request; the answer
//! admits it, with RateLimit fields for the response, or refuses it with the
//! status, fields and body that the proxy would send. Both doors ask the same
//! limiter, so a client has one quota, whichever way it comes.
//!
//! ```text
//! CheckRequest ─ facts ─▶ Limiter::check ─ answer ─▶ CheckResponse
//!      │ an attribute is missing: INVALID_ARGUMENT (Envoy's failure mode decides)
//!      └ the path has no single meaning: refused with 400
//! ```
//!
//! Not here: TLS (Envoy is a neighbour; the door is on loopback by default).

mod answer;
mod facts;
mod metrics;
mod patience;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

use crate::base::clock::Stopwatch;
use crate::base::tasks::Tasks;
use crate::limiter::{Limiter, Scratch, Verdict};
use crate::listener::accept::{Accepted, Acceptor};
use crate::policy::client_address::Trust;

use facts::{Check, Error as FactsError};
pub use metrics::Metrics;
use patience::patience;

/// Connections at a time, for the acceptor's cap. Each worker of each Envoy
/// holds one.
pub const CONNECTION_COUNT_MAX: u32 = 1_024;

/// Bytes of one check. Envoy sends a request's head, 60 KiB by default, and its
/// body only where `with_request_body` asks for it, which is of no use here.
const CHECK_SIZE_MAX: usize = 1 << 20;
/// Checks that one connection may have open. Envoy opens another connection when
/// this is reached.
const STREAM_COUNT_MAX: u32 = 1_024;
/// Receive window of one check, and of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a check's HTTP/2 header fields.
const HEADER_LIST_SIZE_MAX: u32 = 16 << 10;
/// Streams that we reset for the peer's faults before the connection goes.
const LOCAL_RESET_COUNT_MAX: usize = 128;
/// How long a new connection may say nothing. gRPC clients speak first.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is asked for a sign of life after this long, and given this
/// long again to show one.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Scratch spaces kept for the next checks.
const SCRATCH_KEPT_MAX: usize = 64;

/// Serves the door until `tasks` are drained: then tells each connection so
/// (GOAWAY), and finishes the checks that are open.
pub async fn serve(
    mut acceptor: Acceptor,
    limiter: Arc<Limiter>,
    trust: Trust,
    metrics: Metrics,
    tasks: Tasks,
) {
    let service = AuthorizationServer::new(Authorizer::new(limiter, trust, metrics))
        .max_decoding_message_size(CHECK_SIZE_MAX);
    let shutdown = tasks.shutdown();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = acceptor.next() => accepted,
        };
        let service = service.clone();
        tasks.spawn("envoy-connection", |shutdown| serve_connection(accepted, service, shutdown));
    }
}

/// Serves one connection. Checks that it multiplexes run as tasks of hyper's,
/// which end with the connection.
async fn serve_connection(
    accepted: Accepted,
    service: AuthorizationServer<Authorizer>,
    shutdown: CancellationToken,
) {
    let Accepted { stream, slot, .. } = accepted;
    if !matches!(time::timeout(FIRST_BYTE_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .max_header_list_size(HEADER_LIST_SIZE_MAX)
        .max_local_error_reset_streams(LOCAL_RESET_COUNT_MAX)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| service.clone().call(request)),
        );
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "envoy connection ended");
    }
    drop(slot);
}

/// Answers checks.
struct Authorizer {
    limiter: Arc<Limiter>,
    trust: Trust,
    metrics: Metrics,
    /// Checks of all connections share these; a connection has no place of its
    /// own to keep one, because its checks run concurrently.
    scratches: Mutex<Vec<Scratch>>,
}

impl Authorizer {
    fn new(limiter: Arc<Limiter>, trust: Trust, metrics: Metrics) -> Authorizer {
        Authorizer { limiter, trust, metrics, scratches: Mutex::default() }
    }

    async fn answer(
        &self,
        request: &CheckRequest,
        patience: Duration,
    ) -> Result<CheckResponse, Status> {
        let check = match Check::read(request, &self.trust) {
            Ok(check) => check,
            Err(error @ FactsError::Path(_)) => {
                self.metrics.malformed.inc();
                return Ok(answer::malformed(&error.to_string()));
            }
            Err(error @ (FactsError::Missing(_) | FactsError::NotAnAddress)) => {
                self.metrics.invalid.inc();
                return Err(Status::invalid_argument(error.to_string()));
            }
        };
        let mut scratch = self.take_scratch();
        let decision = self.limiter.check_within(patience, &check.facts(), &mut scratch).await;
        self.keep_scratch(scratch);
        match decision.verdict {
            Verdict::Admit => self.metrics.admitted.inc(),
            Verdict::Deny => self.metrics.refused.inc(),
        }
        Ok(answer::decided(&decision, check.is_grpc()))
    }

    fn take_scratch(&self) -> Scratch {
        let mut scratches = self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        scratches.pop().unwrap_or_default()
    }

    fn keep_scratch(&self, scratch: Scratch) {
        let mut scratches = self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        if scratches.len() < SCRATCH_KEPT_MAX {
            scratches.push(scratch);
        }
    }
}

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let watch = Stopwatch::start();
        let answer = self.answer(request.get_ref(), patience(request.metadata())).await;
        self.metrics.answered(watch.elapsed());
        answer.map(Response::new)
    }
}
