//! A connection: bytes in, bytes out, and how it ends.
//!
//! Whatever has been read is answered before more is read; replies that the
//! socket does not take wait in `output` while further requests are answered,
//! up to the ceiling, at which the connection is dropped: a client that sends
//! a long pipeline and only then reads must not be left hanging, and one that
//! never reads must not fill the memory.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;

use crate::base::mailbox::End;
use crate::listener::accept::Accepted;
use crate::resp::request::{RequestLimits, Requests};

use super::batch::{self, Then};
use super::clients::Client;
use super::session::Session;
use super::worker::Worker;

/// Replies are offered to the socket when they come to so much, even if more
/// requests are at hand.
const OUTPUT_BYTES_TARGET: usize = 256 << 10;

/// Serves a connection until it ends.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted, shutdown: CancellationToken) {
    let Accepted { stream, peer, slot } = accepted;
    let Ok(local) = stream.local_addr() else { return };
    let since = worker.server.store.now();
    let client = worker.server.clients.add((peer, local), stream.as_raw_fd(), since);
    let connection = Connection {
        stream,
        session: Session::new(Arc::clone(&client)),
        requests: Requests::new(RequestLimits::REDIS),
        input: Vec::new(),
        output: Vec::new(),
        worker: Rc::clone(&worker),
    };
    tokio::select! {
        ended = connection.run() => {
            if let Err(error) = ended {
                tracing::debug!(client = client.id, %error, "redis connection ended");
            }
        }
        () = shutdown.cancelled() => {}
    }
    worker.server.clients.remove(client.id);
    drop(slot);
}

struct Connection {
    stream: TcpStream,
    session: Session,
    requests: Requests,
    /// Read and not yet answered.
    input: Vec<u8>,
    /// Answered and not yet written.
    output: Vec<u8>,
    worker: Rc<Worker>,
}

/// What a connection waited for.
enum Event {
    /// There is input to answer.
    Input,
    /// The other side has closed, or somebody else wants an end.
    End,
}

impl Connection {
    /// Answers until the client closes or is to be closed.
    async fn run(mut self) -> io::Result<()> {
        loop {
            match std::future::poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Input => {}
                Event::End => return Ok(()),
            }
            match self.answer().await {
                Then::GoOn => {}
                Then::Close => return std::future::poll_fn(|cx| self.poll_flush(cx)).await,
            }
        }
    }

    /// Answers what has been read, batch by batch.
    async fn answer(&mut self) -> Then {
        let worker = Rc::clone(&self.worker);
        if self.output.capacity() == 0 {
            self.output = worker.lend_buffer();
        }
        let mut answered_bytes = 0;
        let then = loop {
            let batch = batch::answer(
                &worker,
                &mut self.session,
                &mut self.requests,
                &self.input[answered_bytes..],
                &mut self.output,
            );
            answered_bytes += batch.input_bytes;
            if let Some(record) = batch.recorded {
                worker.server.store.durable(record).await;
            }
            let more = batch.is_cut_short && self.output.len() < OUTPUT_BYTES_TARGET;
            if batch.then != Then::GoOn || !more {
                break batch.then;
            }
        };
        self.input.drain(..answered_bytes);
        worker.give_back(&mut self.input);
        then
    }

    /// Waits for input, or for an end. Writes what is to be written meanwhile.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let client = Arc::clone(&self.session.client);
        client.mailbox.register(cx.waker());
        if client.mailbox.is_flagged() && self.take_mail(&client).is_some() {
            return Poll::Ready(Ok(Event::End));
        }
        if !self.output.is_empty() {
            // Requests are answered even while replies wait.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        if self.input.capacity() == 0 {
            self.input = self.worker.lend_buffer();
        }
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
        else {
            self.worker.give_back(&mut self.input);
            return Poll::Pending;
        };
        Poll::Ready(Ok(match read? {
            0 => Event::End,
            _ => Event::Input,
        }))
    }

    fn take_mail(&mut self, client: &Client) -> Option<End> {
        client.mailbox.take(&mut self.output)
    }

    /// Writes everything that is to be written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        let flushed = loop {
            if written == self.output.len() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.output[written..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.output.drain(..written);
        self.worker.give_back(&mut self.output);
        ready!(flushed)?;
        Poll::Ready(Ok(()))
    }
}
