//! A connection to an upstream, and one exchange after another over it.
//!
//! Whoever has an exchange drives it: no task stands behind a connection. One
//! exception: an upstream may answer before it has read the whole request. The rest goes
//! up in a task of its own then, because the downstream may send all before it reads.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body::Frame;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{self, Sleep};
use tokio_util::io::poll_read_buf;

use crate::base::clock::Stopwatch;
use crate::base::tasks::Tasks;

use super::body::BodyError;
use super::errors::ForwardError;
use super::http1::body::{BadBody, Framing};
use super::http1::response::{self, Head};
use super::sending::{SendError, Sending};

/// Bytes that are read at once: at first, and when so many come.
const READ_LEN_MIN: usize = 8 << 10;
const READ_LEN_MAX: usize = 64 << 10;

/// A connection to an upstream.
#[derive(Debug)]
pub struct Connection {
    reader: OwnedReadHalf,
    /// `None` when a task has the rest of a request.
    writer: Option<OwnedWriteHalf>,
    /// That task could not send it.
    has_failed: Rc<Cell<bool>>,
    /// What has come and was not looked at.
    ahead: BytesMut,
    read_len: usize,
    /// Something has come since the exchange began.
    pub is_heard: bool,
    patience: Patience,
}

impl Connection {
    /// A connection that was just made.
    pub fn new(stream: TcpStream) -> Connection {
        let (reader, writer) = stream.into_split();
        Connection {
            reader,
            writer: Some(writer),
            has_failed: Rc::default(),
            ahead: BytesMut::new(),
            read_len: READ_LEN_MIN,
            is_heard: false,
            patience: Patience::new(),
        }
    }

    /// Whether the exchange has used what came, and left both ways open.
    pub fn is_reusable(&self) -> bool {
        self.writer.is_some() && self.ahead.is_empty()
    }

    /// Whether nothing has come since the last exchange: neither the end of the
    /// connection nor what nobody has asked for.
    pub fn is_quiet(&self) -> bool {
        // Without a system call, while the runtime knows of nothing.
        let came = self.reader.try_read(&mut [0]);
        came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// The clock runs from the end of the request: an upload that moves, or that the
    /// downstream is slow to send, does not count against the upstream. `fields` is
    /// empty and becomes that of the head.
    ///
    /// # Errors
    /// No response. The connection is of no more use.
    pub async fn ask(
        &mut self,
        sending: &mut Sending,
        method: &Method,
        fields: &mut HeaderMap,
        allowed: Duration,
    ) -> Result<Head, ForwardError> {
        self.is_heard = false;
        self.patience.begin();
        poll_fn(|cx| self.poll_ask(cx, sending, method, fields, allowed)).await
    }

    fn poll_ask(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
        method: &Method,
        fields: &mut HeaderMap,
        allowed: Duration,
    ) -> Poll<Result<Head, ForwardError>> {
        let sent = match &mut self.writer {
            Some(writer) => sending.poll(cx, writer),
            None => Poll::Pending,
        };
        let closed = match sent {
            Poll::Ready(Err(SendError::Body(error))) => return Poll::Ready(Err(error.into())),
            // It may have answered before, and not wanted the rest.
            Poll::Ready(Err(SendError::Connection(error))) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            let error = match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => io::ErrorKind::UnexpectedEof.into(),
                Poll::Ready(Ok(_)) => match response::take_head(&mut self.ahead, method, fields)? {
                    Some(head) => return Poll::Ready(Ok(head)),
                    None => continue,
                },
                Poll::Ready(Err(error)) => error,
                Poll::Pending => match closed {
                    Some(error) => error,
                    None => {
                        ready!(self.poll_overdue(cx, sending, allowed));
                        return Poll::Ready(Err(ForwardError::ResponseTimeout));
                    }
                },
            };
            return Poll::Ready(Err(ForwardError::Closed(error)));
        }
    }

    /// Ready when the upstream has had the time that it is allowed.
    fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
        allowed: Duration,
    ) -> Poll<()> {
        loop {
            ready!(self.patience.poll(cx, allowed));
            if !sending.take_moved() && !sending.is_starved() {
                return Poll::Ready(());
            }
            self.patience.begin();
        }
    }

    /// The next frame of a response's body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(frame) = framing.take(&mut self.ahead)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if framing.is_done() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                // What answers half a request is no whole response.
                Ok(0) if self.has_failed.get() => Err(BadBody::BrokenOff)?,
                Ok(0) => framing.end()?,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Connection(error)))),
            }
        }
    }

    /// Sends what is left of a request while its response comes down. `idle` is how long
    /// the upstream may take no more of it.
    pub fn go_on_sending(&mut self, mut sending: Sending, idle: Duration, tasks: &Tasks) {
        let Some(mut writer) = self.writer.take() else { return };
        let has_failed = Rc::clone(&self.has_failed);
        tasks.spawn_local(async move {
            let mut patience = Patience::new();
            let sent = poll_fn(|cx| {
                if let Poll::Ready(sent) = sending.poll(cx, &mut writer) {
                    return Poll::Ready(sent.is_ok());
                }
                if sending.take_moved() || sending.is_starved() {
                    patience.begin();
                }
                patience.poll(cx, idle).map(|()| false)
            });
            if sent.await {
                // The response may still be on its way.
                writer.forget();
            } else {
                has_failed.set(true);
            }
        });
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.ahead.reserve(self.read_len);
        let len = ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut self.ahead))?;
        self.is_heard |= len > 0;
        if self.ahead.len() == self.ahead.capacity() {
            self.read_len = READ_LEN_MAX.min(self.read_len * 2);
        }
        Poll::Ready(Ok(len))
    }
}

/// A timer for many waits, none of which mostly takes long: it is armed once, and looks
/// at the clock when it fires.
#[derive(Debug)]
struct Patience {
    since: Stopwatch,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new() -> Patience {
        Patience { since: Stopwatch::start(), timer: None }
    }

    /// A wait begins.
    fn begin(&mut self) {
        self.since = Stopwatch::start();
    }

    /// Ready when the wait has taken longer than this.
    fn poll(&mut self, cx: &mut Context<'_>, allowed: Duration) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep(allowed)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let left = allowed.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            timer.set(time::sleep(left));
        }
    }
}
