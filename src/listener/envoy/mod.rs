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
//! Not here: whose address the client's is behind other proxies (Envoy says so),
//! and TLS (Envoy is a neighbour; the door is on loopback by default).

mod answer;
mod facts;
mod metrics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::base::clock::Stopwatch;
use crate::limiter::{Limiter, Scratch, Verdict};

use facts::{Check, Error as FactsError};
pub use metrics::Metrics;

/// Bytes of one check. Envoy sends a request's head, 60 KiB by default, and its
/// body only where `with_request_body` asks for it, which is of no use here.
const CHECK_SIZE_MAX: usize = 1 << 20;
/// Checks that one connection may have open. An Envoy worker uses one connection
/// for all of its checks and opens another when this is reached.
const STREAMS_MAX: u32 = 1_024;
/// Receive window of one check, and of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a check's HTTP/2 header fields.
const HEADER_LIST_SIZE_MAX: u32 = 16 << 10;
/// A silent peer is asked for a sign of life after this long, and given this
/// long again to show one.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Scratch spaces kept for the next checks.
const SCRATCH_KEPT_MAX: usize = 64;

/// Serves the door until `shutdown`, then finishes the checks that are open.
///
/// # Errors
/// The server cannot go on. A failed accept is not a reason: it is retried.
pub async fn serve(
    listener: TcpListener,
    limiter: Arc<Limiter>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = AuthorizationServer::new(Authorizer::new(limiter, metrics))
        .max_decoding_message_size(CHECK_SIZE_MAX);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_SIZE_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.cancelled_owned(),
        )
        .await
}

/// Answers checks.
struct Authorizer {
    limiter: Arc<Limiter>,
    metrics: Metrics,
    /// Checks of all connections share these; a connection has no place of its
    /// own to keep one, because its checks run concurrently.
    scratches: Mutex<Vec<Scratch>>,
}

impl Authorizer {
    fn new(limiter: Arc<Limiter>, metrics: Metrics) -> Authorizer {
        Authorizer { limiter, metrics, scratches: Mutex::default() }
    }

    async fn answer(&self, request: &CheckRequest) -> Result<CheckResponse, Status> {
        let check = match Check::read(request) {
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
        let decision = self.limiter.check(&check.facts(), &mut scratch).await;
        self.keep_scratch(scratch);
        match decision.verdict {
            Verdict::Admit => self.metrics.admitted.inc(),
            Verdict::Deny => self.metrics.refused.inc(),
        }
        Ok(answer::decided(&decision))
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
        let answer = self.answer(request.get_ref()).await;
        self.metrics.answered(watch.elapsed());
        answer.map(Response::new)
    }
}
