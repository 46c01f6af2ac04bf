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

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{self, Sleep};

use crate::limiter::Dues;

use super::facts::Fields;
use super::http1::body::{BadBody, Framing};
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
    /// It is not as long as its head says.
    #[error("the body is longer or shorter than was said")]
    Length,
    /// An upstream sent what is not a body, or not all of it.
    #[error("the upstream's body is broken")]
    Upstream(#[from] BadBody),
    /// An upstream's connection broke.
    #[error("the upstream's connection broke")]
    Connection(#[source] io::Error),
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

/// Has a body fail that does not move.
fn moving<F>(
    polled: Poll<Option<Result<F, BodyError>>>,
    idle: &mut IdleTimer,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<F, BodyError>>> {
    match polled {
        Poll::Ready(frame) => {
            idle.moved = true;
            Poll::Ready(frame)
        }
        Poll::Pending => {
            ready!(idle.poll_waiting(cx));
            Poll::Ready(Some(Err(BodyError::Idle)))
        }
    }
}

/// The body of a forwarded request.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    idle: IdleTimer,
}

impl RequestBody {
    /// Passes `incoming` on.
    pub fn new(incoming: Incoming, idle: Duration) -> RequestBody {
        RequestBody { incoming, idle: IdleTimer::new(idle) }
    }

    /// The next piece; trailers end the body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx).map_err(BodyError::Broken);
        let frame = ready!(moving(polled, &mut self.idle, cx));
        Poll::Ready(frame.and_then(|frame| frame.map(|it| it.into_data().ok()).transpose()))
    }

    /// True when it is known that nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
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
    Upstream { lease: Option<Lease>, framing: Framing, persists: bool, idle: IdleTimer },
}

impl ResponseBody {
    /// A text of ours; may be empty.
    pub fn whole(text: Bytes) -> ResponseBody {
        ResponseBody { kind: Kind::Whole(text), exchange: None, dues: None }
    }

    /// A response that an upstream sends over the connection of `lease`, which serves
    /// others afterwards if it `persists`.
    pub fn upstream(
        framing: Framing,
        persists: bool,
        lease: Lease,
        idle: Duration,
    ) -> ResponseBody {
        let idle = IdleTimer::new(idle);
        let kind = Kind::Upstream { lease: Some(lease), framing, persists, idle };
        let mut body = ResponseBody { kind, exchange: None, dues: None };
        body.give_back_at_end();
        body
    }

    /// Keeps `exchange` going until this body is dropped.
    #[must_use]
    pub fn during(mut self, exchange: ExchangeGuard) -> ResponseBody {
        self.exchange = Some(exchange);
        self
    }

    /// Has `dues` paid when this body is dropped.
    #[must_use]
    pub fn owing(mut self, dues: Option<Dues>) -> ResponseBody {
        self.dues = dues;
        self
    }

    /// Gives the connection back to the pool as soon as the last byte came:
    /// hyper does not poll a body again that says it has ended.
    fn give_back_at_end(&mut self) {
        if let Kind::Upstream { lease, framing, persists, .. } = &mut self.kind
            && framing.is_done()
            && let Some(lease) = lease.take()
            && *persists
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
            Kind::Upstream { lease: None, .. } => None,
            Kind::Upstream { lease: Some(lease), framing, idle, .. } => {
                ready!(moving(lease.connection.poll_frame(cx, framing), idle, cx))
            }
        };
        if let (Some(dues), Some(Ok(frame))) = (&mut this.dues, &polled)
            && dues.is_metered()
        {
            meter(dues, frame);
        }
        this.give_back_at_end();
        // Trailers end the body.
        Poll::Ready(polled.filter(|frame| frame.as_ref().map_or(true, Frame::is_data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(text) => text.is_empty(),
            Kind::Upstream { framing, .. } => framing.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Upstream { framing, .. } => framing.size_hint(),
        }
    }
}
