//! A worker: what one thread holds to serve its connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time;

use crate::base::tasks::Tasks;
use crate::listener::accept::{Accepted, Acceptor, Cap};
use crate::resp::Reply;

use super::Server;
use super::ahead::Ahead;
use super::connection;
use super::kill::{Arrival, Doorway};

/// What one thread holds.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub server: Arc<Server>,
    /// The reply that is being written; between batches nobody's.
    pub reply: RefCell<Reply>,
    /// The requests that are being answered; between batches nobody's.
    pub ahead: RefCell<Ahead>,
    /// No connection begins any more.
    pub is_ending: Cell<bool>,
    /// It has the keyspace.
    pub is_holding: Arc<AtomicBool>,
    /// Buffers that no connection needs now.
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// How often connections are looked through for those to end.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Room for what is read at once.
const BUFFER_BYTES: usize = 16 << 10;

/// A buffer that grew beyond this is not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Buffers kept for the next connections.
const KEPT_COUNT_MAX: usize = 64;

impl Worker {
    /// An empty buffer.
    pub fn lend_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back if it is empty.
    pub fn give_back(&self, buffer: &mut Vec<u8>) {
        if !buffer.is_empty() || buffer.capacity() == 0 {
            return;
        }
        let buffer = std::mem::take(buffer);
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < KEPT_COUNT_MAX && buffer.capacity() <= KEPT_BYTES_MAX {
            buffers.push(buffer);
        }
    }
}

/// Serves one listening socket on this thread until shutdown. Runs on a
/// `LocalRuntime`; connections are local tasks of `tasks`.
///
/// # Errors
/// The socket could not be registered with the runtime of this thread.
pub async fn serve(
    socket: std::net::TcpListener,
    server: Arc<Server>,
    tasks: &Tasks,
) -> io::Result<()> {
    let (doorway, mut arrived) = Doorway::new(socket.try_clone()?);
    let is_holding = Arc::clone(&doorway.is_holding);
    server.doorways().push(doorway);
    // Who comes when there are too many is told so, and not left waiting.
    let mut acceptor = Acceptor::new("redis", socket, Cap::new(u32::MAX))?;
    let worker = Rc::new(Worker {
        server,
        reply: RefCell::default(),
        ahead: RefCell::default(),
        is_ending: Cell::new(false),
        is_holding,
        buffers: RefCell::default(),
    });
    let shutdown = tasks.shutdown();
    let mut sweep = time::interval(SWEEP_PERIOD);
    loop {
        tokio::select! {
            Accepted { stream, peer, .. } = acceptor.next() => {
                // Before its task runs, which may have to wait: see `kill`.
                let admitted = worker.server.admit(&SockRef::from(&stream), peer);
                let connection = connection::serve(Rc::clone(&worker), stream, peer, admitted);
                tasks.spawn_local(connection);
            }
            Some(Arrival { stream, peer, admitted }) = arrived.recv() => {
                match (TcpStream::from_std(stream), admitted) {
                    (Ok(stream), admitted) => tasks.spawn_local(connection::serve(
                        Rc::clone(&worker), stream, peer, admitted,
                    )),
                    (Err(_), Ok(client)) => worker.server.clients.remove(client.id),
                    (Err(_), Err(_)) => {}
                }
            }
            _ = sweep.tick() => worker.server.sweep(),
            () = shutdown.cancelled() => break,
        }
    }
    // Those that are being accepted see the flag, the others are told.
    worker.is_ending.set(true);
    worker.server.end_all();
    Ok(())
}
