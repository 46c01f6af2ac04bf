//! A connection: bytes in, bytes out, and how it ends.
//!
//! Whatever has been read is answered before more is read; replies that the
//! socket does not take wait in `output` while further requests are answered,
//! up to the ceiling, at which the connection is dropped: a client that sends
//! a long pipeline and only then reads must not be left hanging, and one that
//! never reads must not fill the memory.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time;
use tokio_util::io::poll_read_buf;

use crate::base::mailbox::End;
use crate::resp::Reply;
use crate::resp::request::{RequestLimits, Requests};

use super::batch::{self, Then};
use super::clients::{Client, WayIn};
use super::session::Session;
use super::stream::Stream;
use super::worker::Worker;

/// Replies are offered to the socket when they come to so much, even if more
/// requests are at hand.
const OUTPUT_BYTES_TARGET: usize = 256 << 10;

/// Bytes that are read of a client while it waits for others, so that it is seen to
/// leave.
const WAITING_INPUT_BYTES_MAX: usize = 64 << 10;

/// How long a client may take to read the last replies.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a connection until it ends. `admitted` is it as others see it, or what it is
/// told instead.
pub async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    admitted: Result<Arc<Client>, &'static str>,
) {
    let server = Arc::clone(&worker.server);
    let client = match admitted {
        Ok(client) => client,
        Err(refusal) => {
            server.clients.fates.refused.count();
            // A new socket takes a line; if not, there is nobody to tell.
            let _ = stream.try_write(refusal.as_bytes());
            return;
        }
    };
    server.clients.fates.accepted.count();
    let settings = server.settings.load_full();
    keep_alive(&stream, settings.keepalive);
    client.listener.mailbox.set_bytes_max(settings.subscriber_output.ceiling());
    let stream = match server.transport.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "redis client did not shake hands");
            server.clients.remove(client.id);
            return;
        }
    };
    if let Some(sealed) = stream.sealed() {
        client.open(WayIn::Sealed(sealed));
    }
    let mut connection = Connection {
        stream,
        session: Session::new(Arc::clone(&client), settings.password.is_none()),
        requests: Requests::new(RequestLimits::REDIS),
        input: Vec::new(),
        output: Vec::new(),
        worker: Rc::clone(&worker),
    };
    if !worker.is_ending.get()
        && let Err(error) = connection.run().await
    {
        tracing::debug!(client = client.id, %error, "redis connection ended");
    }
    server.clients.remove(client.id);
    let mut held = server.store.hold().await;
    connection.session.leave(&mut held, &mut server.records());
}

/// Lets the kernel find out when the other side is gone.
fn keep_alive(stream: &TcpStream, silence: Duration) {
    if !silence.is_zero() {
        // In whole seconds, of which there must be one.
        let interval = (silence / 3).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(3);
        // Without it a connection that is gone is found when it is written to.
        let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    }
}

struct Connection {
    stream: Stream,
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
    async fn run(&mut self) -> io::Result<()> {
        let client = Arc::clone(&self.session.client);
        loop {
            client.set_idle(true);
            let event = std::future::poll_fn(|cx| self.poll_event(cx, true)).await?;
            client.set_idle(false);
            match event {
                Event::Input => {}
                Event::End => return Ok(()),
            }
            match self.answer().await {
                Then::Close => {
                    let flushed = std::future::poll_fn(|cx| self.poll_flush(cx));
                    return time::timeout(CLOSE_TIMEOUT, flushed).await.unwrap_or(Ok(()));
                }
                Then::Drop => return Ok(()),
                _ => {}
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
            // From before the look at the pause, so that its end is not missed.
            let unpaused = worker.server.unpaused.notified();
            let batch = batch::answer(
                &worker,
                &mut self.session,
                &mut self.requests,
                &self.input[answered_bytes..],
                &mut self.output,
            );
            answered_bytes += batch.input_bytes;
            if let Some(record) = batch.recorded
                && worker.server.store.durable(record).await.is_err()
            {
                // Nobody knows what became of it, so nothing is said of it.
                break Then::Drop;
            }
            match batch.then {
                Then::Close | Then::Drop => break batch.then,
                Then::Pause(pause) => {
                    if self.wait(time::timeout(pause, unpaused)).await.is_none() {
                        break Then::Drop;
                    }
                }
                Then::AwaitKeyspace => {
                    if self.wait(worker.server.store.released()).await.is_none() {
                        break Then::Drop;
                    }
                }
                Then::AwaitSync { timeout, needs_more } => {
                    if self.await_sync(timeout, needs_more).await.is_none() {
                        break Then::Drop;
                    }
                }
                Then::AwaitSave => {
                    let mut reply = Reply::new();
                    match worker.server.store.save().await {
                        true => reply.status("OK"),
                        false => reply.error("ERR"),
                    }
                    reply.encode(self.session.protocol, &mut self.output);
                    self.has_waited();
                }
                Then::GoOn if !batch.is_cut_short => break Then::GoOn,
                Then::GoOn => {}
            }
            if self.output.len() > OUTPUT_BYTES_TARGET {
                // More may be answered than the socket takes, up to the ceiling.
                std::future::poll_fn(|cx| Poll::Ready(self.poll_flush(cx).is_pending())).await;
                if self.is_over_ceiling() {
                    break Then::Drop;
                }
            }
        };
        self.input.drain(..answered_bytes);
        worker.give_back(&mut self.input);
        then
    }

    /// Waits for something that others do, perhaps for ever; `None` if the connection is
    /// to end before. A client that has sent more than [`WAITING_INPUT_BYTES_MAX`]
    /// meanwhile is not seen to leave: that stands behind all of it.
    async fn wait<T>(&mut self, event: impl Future<Output = T>) -> Option<T> {
        let mut event = pin!(event);
        loop {
            let may_read = self.input.len() < WAITING_INPUT_BYTES_MAX;
            tokio::select! {
                happened = event.as_mut() => {
                    self.has_waited();
                    return Some(happened);
                }
                came = std::future::poll_fn(|cx| self.poll_event(cx, may_read)) => match came {
                    Ok(Event::Input) => {}
                    Ok(Event::End) | Err(_) => return None,
                },
            }
        }
    }

    /// Its silence begins now, and not before it waited.
    fn has_waited(&self) {
        self.session.client.shown().state.active_at = self.worker.server.store.now();
    }

    /// Waits until what the client wrote last is on disk, and tells it; `None` if the
    /// connection is to end before.
    async fn await_sync(&mut self, timeout: Option<Duration>, needs_more: bool) -> Option<()> {
        let server = Arc::clone(&self.worker.server);
        let last_record = self.session.last_record;
        let synced = async {
            let synced = server.store.synced(last_record).await;
            if needs_more {
                std::future::pending::<()>().await;
            }
            synced
        };
        let is_synced = match timeout {
            Some(timeout) => match self.wait(time::timeout(timeout, synced)).await? {
                Ok(synced) => synced,
                // What is on disk by now is told without waiting.
                Err(_elapsed) => {
                    let synced = server.store.synced(last_record);
                    time::timeout(Duration::ZERO, synced).await.unwrap_or(false)
                }
            },
            None => self.wait(synced).await?,
        };
        let mut reply = Reply::new();
        reply.array(2);
        reply.integer(is_synced.into());
        reply.integer(0);
        reply.encode(self.session.protocol, &mut self.output);
        Some(())
    }

    /// True if the client leaves more unread than it may.
    fn is_over_ceiling(&self) -> bool {
        let ceiling = self.worker.server.settings.load().normal_output.ceiling();
        let is_over = self.output.len() as u64 > ceiling;
        if is_over {
            self.worker.server.clients.fates.overflowed.count();
            tracing::warn!(
                client = self.session.client.id,
                ceiling,
                "dropped a redis client that does not read"
            );
        }
        is_over
    }

    /// Waits for input, if there is to be more, or for an end. Writes what is to be
    /// written meanwhile.
    fn poll_event(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<io::Result<Event>> {
        let mailbox = &self.session.client.listener.mailbox;
        mailbox.register(cx.waker());
        if mailbox.is_flagged()
            && let Some(end) = mailbox.take(&mut self.output)
        {
            if end == End::Overflowed {
                self.worker.server.clients.fates.overflowed.count();
            }
            return Poll::Ready(Ok(Event::End));
        }
        if !self.output.is_empty() {
            // Requests are answered even while replies wait.
            match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.is_over_ceiling() => return Poll::Ready(Ok(Event::End)),
                Poll::Pending | Poll::Ready(Ok(())) => {}
            }
        }
        if !may_read {
            return Poll::Pending;
        }
        if self.input.capacity() == 0 {
            self.input = self.worker.lend_buffer();
        }
        let client = &self.session.client;
        client.will_read();
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
        else {
            if self.input.is_empty() {
                client.has_read_whole();
            }
            self.worker.give_back(&mut self.input);
            return Poll::Pending;
        };
        Poll::Ready(Ok(match read? {
            0 => Event::End,
            _ => Event::Input,
        }))
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
        // What TLS holds back is flushed even when it takes no more.
        let passed_on = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(flushed)?;
        passed_on
    }
}
