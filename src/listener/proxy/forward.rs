//! Forwarding: an admitted request goes up, the response comes down.
//!
//! Connections are reused, and a reused one may have been closed by the upstream
//! while the request was on its way. That is nobody's fault, so the request is
//! sent once more, over a new connection, if that is safe: it was never written,
//! or not a byte came back and it is idempotent and has no body. Nothing else is
//! retried.

use std::error::Error as _;
use std::pin::pin;
use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time;

use super::body::{BodyError, RequestBody, ResponseBody, Upload};
use super::config::Timeouts;
use super::errors::ForwardError;
use super::head::{self, Sender};
use super::metrics::Metrics;
use super::upstream::{Lease, Pool};

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
        mut head: Parts,
        rewritten: Option<PathAndQuery>,
        body: &mut Option<Incoming>,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let method = head.method.clone();
        let mut lease = self.lend().await?;
        head::prepare_request(&mut head, self.sender, &self.pool.authority);
        if let Some(target) = rewritten {
            head.uri = Uri::from(target);
        }
        let (request, upload) = self.compose(head, body.take());
        let repeatable = lease.reused && upload.is_none() && method.is_idempotent();
        let spare = repeatable.then(|| copy(&request));

        let response = match self.send(&mut lease, request, upload.as_deref()).await {
            Ok(response) => response,
            Err(failed) => {
                let unheard = matches!(failed.error, ForwardError::Closed(_)) && !lease.heard();
                let again = failed.unsent.map(|it| *it).or(spare.filter(|_| unheard));
                let Some(request) = again.filter(|_| lease.reused) else {
                    return Err(failed.error);
                };
                self.metrics.upstream_retries.inc();
                lease = self.connect().await?;
                self.send(&mut lease, request, upload.as_deref())
                    .await
                    .map_err(|failed| failed.error)?
            }
        };
        self.pass_on(&method, response, lease)
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

    /// Puts the request together. Its framing is ours: one plain length, or one
    /// `chunked`, whatever the downstream wrote.
    fn compose(
        &self,
        head: Parts,
        body: Option<Incoming>,
    ) -> (Request<RequestBody>, Option<Rc<Upload>>) {
        let mut fields = head.headers;
        let (body, upload) = match body {
            Some(body) if !body.is_end_stream() => {
                let size = body.size_hint().exact();
                head::keep_one_length(&mut fields, size);
                if size.is_none() {
                    // hyper would send the body of a GET without any framing.
                    fields.remove(header::CONTENT_LENGTH);
                    let chunked = HeaderValue::from_static("chunked");
                    fields.insert(header::TRANSFER_ENCODING, chunked);
                }
                let (body, upload) = RequestBody::streaming(body, self.timeouts.body_idle);
                (body, Some(upload))
            }
            _ => {
                head::keep_one_length(&mut fields, Some(0));
                (RequestBody::EMPTY, None)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = origin_form(head.uri);
        *request.headers_mut() = fields;
        (request, upload)
    }

    /// Sends a request over `lease` and waits for the response's head.
    ///
    /// The clock runs from the end of the request: an upload that moves, or that
    /// the downstream is slow to send, does not count against the upstream.
    async fn send(
        &self,
        lease: &mut Lease,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut sent = pin!(lease.sender().try_send_request(request));
        loop {
            let frame_count = upload.map(|upload| upload.frame_count.get());
            match time::timeout(self.timeouts.response, sent.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut failed)) => {
                    let unsent = failed.take_message().map(Box::new);
                    return Err(Failed { error: classify(failed.into_error()), unsent });
                }
                Err(_elapsed) => {
                    let moving = upload.is_some_and(|upload| {
                        let starved = upload.starved.get() && !upload.ended.get();
                        starved || Some(upload.frame_count.get()) != frame_count
                    });
                    if !moving {
                        return Err(Failed { error: ForwardError::ResponseTimeout, unsent: None });
                    }
                }
            }
        }
    }

    /// Makes an upstream's response ours.
    fn pass_on(
        &self,
        method: &Method,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let (mut head, incoming) = response.into_parts();
        // 1xx other than 101 never get here, and 101 answers a question that we
        // do not pass on.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ForwardError::Unusable);
        }
        let size = incoming.size_hint().exact();
        if !head::prepare_response(method, head.status, &mut head.headers, size) {
            return Err(ForwardError::Unusable);
        }
        // The version is that of a connection, not of a message.
        head.version = Version::HTTP_11;
        let body = ResponseBody::upstream(incoming, self.timeouts.body_idle, lease);
        Ok(Response::from_parts(head, body))
    }
}

/// Why there is no response, and the request if it was never written.
#[derive(Debug)]
struct Failed {
    error: ForwardError,
    unsent: Option<Box<Request<RequestBody>>>,
}

fn classify(error: hyper::Error) -> ForwardError {
    if error.is_user() {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(BodyError::Idle) => ForwardError::RequestBodyIdle,
            _ => ForwardError::RequestBody(error),
        }
    } else if error.is_parse() {
        ForwardError::BadResponse(error)
    } else {
        ForwardError::Closed(error)
    }
}

/// The target without scheme and authority, which go into `Host`.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    uri.into_parts().path_and_query.map(Uri::from).unwrap_or_default()
}

/// The same request again; it has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::EMPTY);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    copy
}
