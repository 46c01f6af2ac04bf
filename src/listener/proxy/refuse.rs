//! Answers of our own: refusals, and what is said when an upstream fails.
//!
//! Every one has a body of type `application/problem+json` (RFC 9457) and leaves
//! the connection in a state that cannot be misread: see [`settle_body`].

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time;

use crate::base::chain::Chain;
use crate::base::tasks::Tasks;
use crate::limiter::{Decision, Fields, PROBLEM_TYPE};
use crate::listener::problem;

use super::body::ResponseBody;
use super::errors::{BadRequest, ForwardError};
use super::metrics::Outcome;

/// Bytes of an unread request body that are read and thrown away so that the
/// connection can be kept, or at least closed without a reset.
const LINGER_SIZE_MAX: u64 = 64 << 10;

/// How long the rest of an unread request body is waited for.
const LINGER_SPAN_MAX: Duration = Duration::from_secs(1);

/// The answer to a request that the limiter denies.
pub fn denied(decision: &Decision) -> Response<ResponseBody> {
    let Some(refusal) = &decision.refusal else {
        return problem(StatusCode::TOO_MANY_REQUESTS, "the request is refused");
    };
    let mut response = Response::new(ResponseBody::whole(refusal.body.clone()));
    *response.status_mut() =
        StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    if let Ok(media_type) = HeaderValue::from_str(&refusal.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    }
    for (name, value) in &refusal.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(seconds) = refusal.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer to a request that no one is asked about.
pub fn bad_request(bad: BadRequest) -> (Response<ResponseBody>, Outcome) {
    let mut response = problem(bad.status(), &bad.to_string());
    if bad.status() == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110, 15.5.6 wants the list; what the upstream allows is not ours
        // to know, what is refused here is.
        let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(header::ALLOW, allow);
    }
    (response, Outcome::BadRequest)
}

/// The answer when an admitted request could not be forwarded.
pub fn failed(error: &ForwardError) -> (Response<ResponseBody>, Outcome) {
    let (status, outcome) = error.answer();
    tracing::debug!(error = %Chain(error), status = status.as_u16(), "request not forwarded");
    (problem(status, &error.to_string()), outcome)
}

/// A problem without a type of its own.
fn problem(status: StatusCode, detail: &str) -> Response<ResponseBody> {
    let body = problem::problem(status, detail).to_string();
    let mut response = Response::new(ResponseBody::whole(Bytes::from(body)));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(PROBLEM_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// Adds what the limiter has to say, on an admitted and a refused response
/// alike. An upstream's own fields of these names stay, ours follow on a line of
/// their own: both are lists, and a downstream is bound by the limits of both.
pub fn add_limits(headers: &mut HeaderMap, fields: &Fields) {
    for (name, value) in fields.iter() {
        if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

/// Deals with a request body that nobody will read, now that the answer is
/// known. What follows on the connection must never be taken for a request.
///
/// - HTTP/2 frames bodies by stream: dropping it resets the stream.
/// - With `Expect: 100-continue` the downstream has not begun; it is not asked
///   to, and the connection is closed, because whether it begins is unknown.
/// - Otherwise up to 64 KiB are read for up to a second while the answer is on
///   its way. If that was all, the connection is kept; if not, hyper closes it.
///   A connection closed with bytes unread is reset by the kernel, and the reset
///   can overtake the answer: hence reading a little, and not just closing.
pub fn settle_body(
    body: Incoming,
    version: Version,
    expects_continue: bool,
    response: &mut Response<ResponseBody>,
    tasks: &Tasks,
) {
    if body.is_end_stream() || version == Version::HTTP_2 {
        return;
    }
    let is_small = body.size_hint().lower() <= LINGER_SIZE_MAX;
    if expects_continue || !is_small {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if !expects_continue {
        tasks.spawn_local(async move {
            let _ = time::timeout(LINGER_SPAN_MAX, read_away(body)).await;
        });
    }
}

/// Reads up to [`LINGER_SIZE_MAX`] and forgets it.
async fn read_away(mut body: Incoming) {
    let mut size = 0;
    while let Some(Ok(frame)) = body.frame().await {
        size += frame.data_ref().map_or(0, |data| data.len() as u64);
        if size > LINGER_SIZE_MAX {
            return;
        }
    }
}
