//! A socket under observation: whoever must know of its traffic notes it as it passes.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

/// While bytes lie there that nobody reads, so often it is looked whether more may come.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// Who notes what passes.
pub trait Observer: Unpin {
    /// Bytes have come.
    fn bytes_came(&self);

    /// A write was tried; `is_blocked` if the other side takes no more for now.
    fn wrote(&self, is_blocked: bool);
}

/// A socket under observation.
#[derive(Debug)]
pub struct ObservedStream<O> {
    stream: Rc<RefCell<TcpStream>>,
    observer: O,
}

impl<O: Observer> ObservedStream<O> {
    /// Shows the traffic of `stream` to `observer`.
    pub fn new(stream: TcpStream, observer: O) -> ObservedStream<O> {
        ObservedStream { stream: Rc::new(RefCell::new(stream)), observer }
    }

    /// The other side, for whom the same task asks that reads and writes.
    pub fn other_side(&self) -> OtherSide {
        OtherSide(Rc::clone(&self.stream))
    }
}

/// The other side of a socket that is read and written elsewhere.
#[derive(Debug)]
pub struct OtherSide(Rc<RefCell<TcpStream>>);

impl OtherSide {
    /// Waits until the other side has ended the connection, or its half of it. What it
    /// has sent before is not read. Cancel safe.
    pub async fn gone(&self) {
        let look = |cx: &mut Context<'_>| {
            let stream = self.0.borrow();
            // This wakes the task again, and the next tells what it was woken for.
            if ready!(stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(true);
            }
            let found = ready!(pin!(stream.ready(Interest::READABLE)).poll(cx));
            Poll::Ready(found.map_or(true, |found| found.is_read_closed()))
        };
        while !poll_fn(look).await {
            time::sleep(LOOK_PERIOD).await;
        }
    }
}

impl<O: Observer> AsyncRead for ObservedStream<O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut *this.stream.borrow_mut()).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.observer.bytes_came();
        }
        polled
    }
}

impl<O: Observer> AsyncWrite for ObservedStream<O> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this.stream.borrow_mut()).poll_write(cx, buf);
        this.observer.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this.stream.borrow_mut()).poll_write_vectored(cx, bufs);
        this.observer.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
