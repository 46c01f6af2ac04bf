//! Forwarding: an admitted request goes up, the response comes down.
//!
//! Connections are reused, and a reused one may have been closed by the upstream
//! while the request was on its way. That is nobody's fault, so the request is
//! sent once more, over a new connection, if that is safe: it was never written,
//! or not a byte came back and it is idempotent and has no body. Nothing else is
//! retried.

use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{RequestBody, ResponseBody};
use super::config::Timeouts;
use super::errors::ForwardError;
use super::http1::request::{self, BodyLen, Sender};
use super::http1::response::Head;
use super::metrics::Metrics;
use super::sending::Sending;
use super::upstream::{Lease, Pool};

/// What we call ourselves in a response.
const VIA: HeaderValue = HeaderValue::from_static("1.1 weir");

/// What forwarding needs beside the request.
#[derive(Debug)]
pub struct Forwarder<'a> {
    /// Connections to the upstream.
    pub pool: &'a Rc<Pool>,
    /// How long each phase may take.
    pub timeouts: &'a Timeouts,
    /// Where connects, reuses and retries are counted.
    pub metrics: &'a Metrics,
    /// Who sends the request.
    pub sender: &'a Sender,
}

impl Forwarder<'_> {
    /// Sends a checked request on and gives its response, whose body streams.
    ///
    /// `rewritten` replaces the target, when normalising changed it.
    /// `body` is taken only when there is a connection to send it over.
    ///
    /// # Errors
    /// No response; see [`ForwardError`].
    pub async fn forward(
        &self,
        head: Parts,
        rewritten: Option<PathAndQuery>,
        body: &mut Option<Incoming>,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let mut lease = self.lend().await?;
        let target = rewritten.as_ref().or(head.uri.path_and_query());
        let target = target.map_or("/", PathAndQuery::as_str);
        let mut sending = self.compose(&head, target, body.take());
        let repeatable = sending.is_whole() && head.method.is_idempotent();

        // The map is empty from here on, and has room for the response's fields.
        let Parts { method, headers: mut fields, .. } = head;
        fields.clear();
        let response = match self.ask(&mut lease, &mut sending, &method, &mut fields).await {
            Ok(response) => response,
            Err(error) => {
                let closed = matches!(error, ForwardError::Closed(_));
                let unheard = closed && repeatable && !lease.connection.is_heard;
                if !lease.reused || !(sending.is_unheard() || unheard) {
                    return Err(error);
                }
                self.metrics.upstream_retries.inc();
                lease = self.connect().await?;
                sending.rewind();
                self.ask(&mut lease, &mut sending, &method, &mut fields).await?
            }
        };
        if !sending.is_done() {
            lease.connection.go_on_sending(sending, self.timeouts.body_idle, &self.pool.tasks);
        }
        Ok(self.pass_on(response, lease))
    }

    /// A kept connection, or a new one.
    async fn lend(&self) -> Result<Lease, ForwardError> {
        if let Some(lease) = self.pool.lend() {
            self.metrics.upstream_reuses.inc();
            return Ok(lease);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Lease, ForwardError> {
        let lease = self.pool.connect().await?;
        self.metrics.upstream_connects.inc();
        Ok(lease)
    }

    /// Puts the request together. Its framing is ours, whatever the downstream wrote.
    fn compose(&self, head: &Parts, target: &str, body: Option<Incoming>) -> Sending {
        let body = body.filter(|body| !body.is_end_stream());
        let len = match &body {
            Some(body) => body.size_hint().exact().map_or(BodyLen::Unknown, BodyLen::Known),
            None => BodyLen::None,
        };
        let mut text = Vec::with_capacity(512);
        request::write_head(&mut text, head, target, len, self.sender, &self.pool.authority);
        let body = body.map(|body| RequestBody::new(body, self.timeouts.body_idle));
        Sending::new(text, body, len)
    }

    async fn ask(
        &self,
        lease: &mut Lease,
        sending: &mut Sending,
        method: &Method,
        fields: &mut HeaderMap,
    ) -> Result<Head, ForwardError> {
        lease.connection.ask(sending, method, fields, self.timeouts.response).await
    }

    /// Makes an upstream's response ours.
    fn pass_on(&self, head: Head, lease: Lease) -> Response<ResponseBody> {
        let Head { status, reason, mut fields, framing, persists } = head;
        fields.append(header::VIA, VIA);
        let body = ResponseBody::upstream(framing, persists, lease, self.timeouts.body_idle);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}
