//! Sockets that listen, and the loop that takes connections from them.
//!
//! # Invariants
//!
//! 1. Binding and serving are apart: the app binds every door before it serves
//!    any, so a start that fails leaves nothing half open.
//! 2. A door has one socket a worker, all on the same address (`SO_REUSEPORT`):
//!    the kernel deals connections to workers, and none ever changes its core.
//! 3. An error of `accept` never ends the loop. What concerns one connection is
//!    ignored, a lack of descriptors or memory is logged once and slept over.
//! 4. A door holds no more connections than its cap. At the cap it leaves the
//!    rest in the kernel's queue instead of accepting and closing them.
//!
//! # Not here
//!
//! What is spoken on a connection, and how a connection ends at shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

/// Connections that the kernel completes and queues before we accept them.
const BACKLOG: i32 = 1024;

/// How long a lack of descriptors or memory is slept over.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A door could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (listen.{listener})")]
pub struct BindError {
    /// The door, as the configuration calls it: `proxy`, `admin`, …
    pub listener: &'static str,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// A bound door: one listening socket a worker, not served yet.
#[derive(Debug)]
pub struct Bound {
    /// The door, as the configuration calls it.
    pub listener: &'static str,
    /// The address in use; its port is the real one when 0 was asked for.
    pub address: SocketAddr,
    /// The sockets, one for each worker, in non-blocking mode.
    pub sockets: Vec<std::net::TcpListener>,
}

/// Binds `socket_count` sockets (at least one) to `address`. Port 0 lets the
/// kernel choose a port, the same for all of them.
///
/// # Errors
/// The address is in use by anyone else, ourselves in another process included,
/// is not of this machine, or may not be bound by this user.
pub fn bind(
    listener: &'static str,
    address: SocketAddr,
    socket_count: usize,
) -> Result<Bound, BindError> {
    let fail = |source| BindError { listener, address, source };
    let shared = socket_count > 1;
    if shared && address.port() != 0 {
        // With SO_REUSEPORT alone a second process of the same user would bind
        // the port without a word and take half of our connections.
        open(address, false).map_err(fail)?;
    }
    let first = listen(address, shared).map_err(fail)?;
    let address = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    for _ in 1..socket_count {
        sockets.push(listen(address, true).map_err(fail)?);
    }
    Ok(Bound { listener, address, sockets })
}

/// Opens one listening socket.
fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = open(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Opens and binds one socket that does not listen yet.
fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The right to hold one of a door's connections. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// How many connections a door may hold, over all its workers.
#[derive(Clone, Debug)]
pub struct Cap(Arc<Semaphore>);

impl Cap {
    /// At most `connection_count_max` connections at a time.
    pub fn new(connection_count_max: u32) -> Cap {
        Cap(Arc::new(Semaphore::new(connection_count_max as usize)))
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection; Nagle's algorithm is off.
    pub stream: TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// Held as long as the connection lives.
    pub slot: Slot,
}

/// Takes connections from one listening socket, on the worker that serves them.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    door: &'static str,
    cap: Cap,
    /// A slot taken by a call of `next` that was dropped before it accepted.
    spare: Option<Slot>,
    exhausted: bool,
}

impl Acceptor {
    /// Prepares to accept on this worker.
    ///
    /// # Errors
    /// The socket could not be registered with the runtime of this thread.
    pub fn new(
        door: &'static str,
        socket: std::net::TcpListener,
        cap: Cap,
    ) -> io::Result<Acceptor> {
        let listener = TcpListener::from_std(socket)?;
        Ok(Acceptor { listener, door, cap, spare: None, exhausted: false })
    }

    /// The next connection. Cancel safe: a connection is lost in no case.
    pub async fn next(&mut self) -> Accepted {
        loop {
            if self.spare.is_none() {
                self.spare = self.cap.0.clone().acquire_owned().await.ok().map(Slot);
            }
            let accepted = self.listener.accept().await;
            if let Some(connection) = self.judge(accepted) {
                return connection;
            }
            if self.exhausted {
                time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }

    /// A connection that the kernel has completed already, for the last round
    /// before the socket is closed: those in the queue would be reset.
    pub async fn next_queued(&mut self) -> Option<Accepted> {
        time::timeout(Duration::ZERO, self.next()).await.ok()
    }

    /// Takes what `accept` gave; errors are told and forgotten.
    fn judge(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<Accepted> {
        match accepted {
            Ok((stream, peer)) => {
                self.exhausted = false;
                // Only fails on a connection that is already gone.
                let _ = stream.set_nodelay(true);
                let slot = self.spare.take()?;
                Some(Accepted { stream, peer, slot })
            }
            Err(error) if is_about_one_connection(&error) => {
                tracing::debug!(listener = self.door, %error, "connection was gone before accept");
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut self.exhausted, true) {
                    tracing::error!(listener = self.door, %error, "cannot accept connections, trying again");
                }
                None
            }
        }
    }
}

/// True when the error says something about the connection, not about us.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn all_sockets_of_a_door_share_the_port_the_kernel_chose() {
        let bound = bind("proxy", any_port(), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
        assert_eq!(bound.sockets.len(), 3);
    }

    #[test]
    fn a_port_in_use_is_refused_with_listener_and_address_even_by_ourselves() {
        for (ours, theirs) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            let held = bind("proxy", any_port(), ours).unwrap();
            let error = bind("admin", held.address, theirs).unwrap_err();
            let text = error.to_string();
            assert_eq!(text, format!("cannot listen on {} (listen.admin)", held.address));
            assert!(error.source().unwrap().to_string().contains("in use"), "{ours}, {theirs}");
        }
    }

    #[tokio::test]
    async fn a_door_at_its_cap_accepts_the_next_connection_when_one_ends() {
        let bound = bind("proxy", any_port(), 1).unwrap();
        let address = bound.address;
        let socket = bound.sockets.into_iter().next().unwrap();
        let mut acceptor = Acceptor::new("proxy", socket, Cap::new(1)).unwrap();
        let _clients = (TcpStream::connect(address).await, TcpStream::connect(address).await);

        let first = acceptor.next().await;
        assert!(time::timeout(Duration::from_millis(20), acceptor.next()).await.is_err());
        drop(first);
        let second = time::timeout(Duration::from_secs(2), acceptor.next()).await;
        assert_eq!(second.unwrap().peer.ip(), address.ip());
    }

    #[test]
    fn a_lack_of_descriptors_is_no_reason_to_stop() {
        let emfile = io::Error::from_raw_os_error(libc::EMFILE);
        let aborted = io::Error::from_raw_os_error(libc::ECONNABORTED);
        assert!(!is_about_one_connection(&emfile));
        assert!(is_about_one_connection(&aborted));
    }
}
