//! What can go wrong with a request, and the one table from that to an answer.
//!
//! Each error says whose fault it is by its type: [`BadRequest`] is the
//! downstream's, [`ForwardError`] the upstream's (with one exception, a request
//! body that broke off).

use std::io;

use http::StatusCode;

use crate::policy::path::PathError;

use super::metrics::Outcome;

/// A request that is refused before anybody is asked: it is malformed, can be
/// read in two ways, or asks for what a gateway must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// `CONNECT` would make an open proxy, `TRACE` shows other people's fields.
    #[error("this method is not served")]
    Method,
    /// Methods are case-sensitive: `get` is not GET, and no rule for GET sees it.
    #[error("a method is written in capital letters")]
    MethodCase,
    /// Absolute-form with another scheme, authority-form, or no path.
    #[error("the request target must be a path, or an http address of this server")]
    Target,
    /// `OPTIONS *` concerns the server as a whole, which is not here.
    #[error("there is nothing behind `*`")]
    Asterisk,
    /// The target is over [`head::TARGET_SIZE_MAX`](super::head::TARGET_SIZE_MAX).
    #[error("the request target is too long")]
    TargetSize,
    /// Could mean different things to different servers.
    #[error(transparent)]
    Path(PathError),
    /// No `Host`, or more than one.
    #[error("exactly one Host field is needed")]
    HostCount,
    /// Not `host` or `host:port`.
    #[error("the host is not a name or an address with an optional port")]
    Host,
    /// Two hosts in one request would be two rules for one request.
    #[error("the Host field and the request target name different hosts")]
    HostMismatch,
    /// Anything but a single `chunked`.
    #[error("the only transfer coding understood is a single `chunked`")]
    TransferEncoding,
    /// Without this, a downstream could make us strip what we or the upstream
    /// rely on.
    #[error("the Connection field names a field that is not for this connection only")]
    Connection,
    /// An expectation other than `100-continue`.
    #[error("the only expectation understood is 100-continue")]
    Expectation,
}

impl BadRequest {
    /// The status that says it.
    pub fn status(self) -> StatusCode {
        match self {
            BadRequest::Method => StatusCode::METHOD_NOT_ALLOWED,
            BadRequest::Asterisk => StatusCode::NOT_FOUND,
            BadRequest::TargetSize => StatusCode::URI_TOO_LONG,
            BadRequest::Expectation => StatusCode::EXPECTATION_FAILED,
            BadRequest::MethodCase
            | BadRequest::Target
            | BadRequest::Path(_)
            | BadRequest::HostCount
            | BadRequest::Host
            | BadRequest::HostMismatch
            | BadRequest::TransferEncoding
            | BadRequest::Connection => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why an admitted request has no answer from its upstream.
///
/// Its quota is *not* given back: the upstream may have done the work, and a
/// client that could spend without being charged would have a way around its
/// limit.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No route matches.
    #[error("no route leads to an upstream")]
    NoRoute,
    /// The upstream refused the connection, or its name is not known.
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    /// The connection was not made in time.
    #[error("the upstream did not accept the connection in time")]
    ConnectTimeout,
    /// The connection ended before the response's head.
    #[error("the upstream closed the connection without an answer")]
    Closed(#[source] hyper::Error),
    /// The response's head did not come in time.
    #[error("the upstream did not answer in time")]
    ResponseTimeout,
    /// What came is not a response.
    #[error("the upstream's answer is not HTTP")]
    BadResponse(#[source] hyper::Error),
    /// A response that cannot be passed on: 101, or two framings at once.
    #[error("the upstream's answer cannot be passed on")]
    Unusable,
    /// The downstream's fault: its body broke off, or is no body.
    #[error("the request's body is broken")]
    RequestBody(#[source] hyper::Error),
    /// The downstream's fault: its body did not move for too long.
    #[error("the request's body did not come in time")]
    RequestBodyIdle,
}

impl ForwardError {
    /// The answer to the downstream, and what it is counted as.
    pub fn answer(&self) -> (StatusCode, Outcome) {
        match self {
            ForwardError::NoRoute => (StatusCode::NOT_FOUND, Outcome::NoRoute),
            ForwardError::Connect(_) => (StatusCode::BAD_GATEWAY, Outcome::UpstreamUnreachable),
            ForwardError::ConnectTimeout | ForwardError::ResponseTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, Outcome::UpstreamTimeout)
            }
            ForwardError::Closed(_) | ForwardError::BadResponse(_) | ForwardError::Unusable => {
                (StatusCode::BAD_GATEWAY, Outcome::UpstreamFailed)
            }
            ForwardError::RequestBody(_) => (StatusCode::BAD_REQUEST, Outcome::BadRequest),
            ForwardError::RequestBodyIdle => (StatusCode::REQUEST_TIMEOUT, Outcome::BadRequest),
        }
    }
}
