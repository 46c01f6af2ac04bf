//! Bodies: what is streamed up, and what is streamed down.
//!
//! Both are plain types, not boxed trait objects, and hand frames on as they
//! come: nothing is collected, and a slow reader slows the sender.
//!
//! # Invariants
//!
//! 1. A body that does not move for `body_idle` fails. Waiting arms one timer
//!    for the whole body, and a body that never waits arms none.
//! 2. Trailers are not passed on. A trailer may carry a name that was checked or
//!    stripped in the head, such as `Content-Length` or `X-Forwarded-For`.
//! 3. A response that breaks off is never ended as if it were whole: the error
//!    goes to hyper, which cuts the downstream's connection or stream.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{self, Sleep};

use crate::limiter::Dues;

use super::facts::Fields;
use super::upstream::Lease;
use super::watch::ExchangeGuard;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender broke off, or sent what is not a body.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    /// The sender sent nothing for too long.
    #[error("the body did not move for too long")]
    Idle,
}

/// A lazy timer: armed at the first wait, and told of progress by a flag.
#[derive(Debug)]
struct IdleTimer {
    allowed: Duration,
    armed: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

impl IdleTimer {
    fn new(allowed: Duration) -> IdleTimer {
        IdleTimer { allowed, armed: None, moved: false }
    }

    /// Ready when nothing has moved for at least `allowed` (and less than twice
    /// that).
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let timer = self.armed.get_or_insert_with(|| Box::pin(time::sleep(self.allowed)));
            ready!(timer.as_mut().poll(cx));
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(());
            }
            timer.set(time::sleep(self.allowed));
        }
    }
}

/// Polls the next frame of a body that must move.
fn poll_moving(
    incoming: &mut Incoming,
    idle: &mut IdleTimer,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match Pin::new(incoming).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => {
            idle.moved = true;
            Poll::Ready(Some(Ok(frame)))
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
        Poll::Ready(None) => Poll::Ready(None),
        Poll::Pending => {
            ready!(idle.poll_waiting(cx));
            Poll::Ready(Some(Err(BodyError::Idle)))
        }
    }
}

/// What is passed on of a frame: trailers end the body.
fn without_trailers(
    polled: Option<Result<Frame<Bytes>, BodyError>>,
) -> Option<Result<Frame<Bytes>, BodyError>> {
    polled.filter(|frame| frame.as_ref().map_or(true, Frame::is_data))
}

/// How far the upload of a request is, for who waits for the response.
#[derive(Debug, Default)]
pub struct Upload {
    /// The last byte has been handed over.
    pub ended: Cell<bool>,
    /// The downstream is being waited for, not the upstream.
    pub starved: Cell<bool>,
    /// Data frames handed over.
    pub frame_count: Cell<u64>,
}

/// The body of a forwarded request.
#[derive(Debug)]
pub struct RequestBody(Option<Streaming>);

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    idle: IdleTimer,
    upload: Rc<Upload>,
}

impl RequestBody {
    /// No body.
    pub const EMPTY: RequestBody = RequestBody(None);

    /// Passes `incoming` on, and tells how far it is.
    pub fn streaming(incoming: Incoming, idle: Duration) -> (RequestBody, Rc<Upload>) {
        let upload = Rc::new(Upload::default());
        let streaming =
            Streaming { incoming, idle: IdleTimer::new(idle), upload: Rc::clone(&upload) };
        (RequestBody(Some(streaming)), upload)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(streaming) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let polled = poll_moving(&mut streaming.incoming, &mut streaming.idle, cx);
        let polled = polled.map(without_trailers);
        let upload = &streaming.upload;
        upload.starved.set(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                upload.frame_count.set(upload.frame_count.get() + 1);
                upload.ended.set(streaming.incoming.is_end_stream());
            }
            Poll::Ready(None) => upload.ended.set(true),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |streaming| streaming.incoming.size_hint())
    }
}

/// Shows a piece of a response to whom the request owes.
fn meter(dues: &mut Dues, frame: &Frame<Bytes>) {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => dues.data(data),
        (None, Some(trailers)) => dues.trailers(&Fields(trailers)),
        (None, None) => {}
    }
}

/// The body of a response to a downstream.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    /// Dropped with the body, which hyper drops when it has written it.
    exchange: Option<ExchangeGuard>,
    /// What the request gives back when the body is dropped.
    dues: Option<Dues>,
}

#[derive(Debug)]
enum Kind {
    /// Nothing, or our own text.
    Whole(Bytes),
    /// From an upstream. The lease goes back to the pool at the end; if the body
    /// is dropped before, the connection is closed with it.
    Upstream { incoming: Incoming, idle: IdleTimer, lease: Option<Lease> },
}

impl ResponseBody {
    /// A text of ours; may be empty.
    pub fn whole(text: Bytes) -> ResponseBody {
        ResponseBody { kind: Kind::Whole(text), exchange: None, dues: None }
    }

    /// A response that an upstream sends over the connection of `lease`.
    pub fn upstream(incoming: Incoming, idle: Duration, lease: Lease) -> ResponseBody {
        let mut body = ResponseBody {
            kind: Kind::Upstream { incoming, idle: IdleTimer::new(idle), lease: Some(lease) },
            exchange: None,
            dues: None,
        };
        body.give_back_at_end();
        body
    }

    /// Keeps `exchange` going until this body is dropped.
    pub fn keep(&mut self, exchange: ExchangeGuard) {
        self.exchange = Some(exchange);
    }

    /// Has `dues` paid when this body is dropped.
    pub fn owe(&mut self, dues: Dues) {
        self.dues = Some(dues);
    }

    /// Gives the connection back to the pool as soon as the last byte came:
    /// hyper does not poll a body again that says it has ended.
    fn give_back_at_end(&mut self) {
        if matches!(&self.kind, Kind::Upstream { incoming, .. } if incoming.is_end_stream()) {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Kind::Upstream { lease, .. } = &mut self.kind
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.kind {
            Kind::Whole(text) if text.is_empty() => None,
            Kind::Whole(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Kind::Upstream { incoming, idle, .. } => ready!(poll_moving(incoming, idle, cx)),
        };
        if let (Some(dues), Some(Ok(frame))) = (&mut this.dues, &polled)
            && dues.is_metered()
        {
            meter(dues, frame);
        }
        let polled = without_trailers(polled);
        if polled.is_none() {
            this.give_back();
        }
        this.give_back_at_end();
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(text) => text.is_empty(),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}
