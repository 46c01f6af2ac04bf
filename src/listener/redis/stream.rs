//! The bytes of a connection: plain, or within TLS.
//!
//! What has come can be looked at from another thread, without being taken: see
//! `kill`. Of a plain socket the system shows it. Of TLS it has to be deciphered first,
//! so the session is shared, behind a lock that its own thread nearly always finds free.

use std::fmt;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The files that TLS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and those that lead to a root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("cannot read {}", path.display())]
    File {
        /// The key under which it is named.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// Certificate and key do not fit, or are not supported.
    #[error("cannot use the certificate and its key")]
    Keys(#[from] rustls::Error),
    /// The certificates that sign those of clients cannot be used.
    #[error("cannot use the certificates that sign those of clients")]
    ClientCa(#[from] VerifierBuilderError),
}

impl TlsError {
    /// Where in the configuration it lies.
    pub fn path(&self) -> String {
        match self {
            TlsError::File { key, .. } => format!("redis.tls.{key}"),
            TlsError::Keys(_) => "redis.tls".to_owned(),
            TlsError::ClientCa(_) => "redis.tls.client_ca".to_owned(),
        }
    }
}

/// How connections are taken: as they are, or by shaking hands first.
#[derive(Clone)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS.
    Tls(TlsAcceptor),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Plain => "Plain",
            Transport::Tls(_) => "Tls",
        })
    }
}

impl Transport {
    /// Reads the files of TLS, if it is wanted.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(files: Option<&TlsFiles>) -> Result<Transport, TlsError> {
        let Some(files) = files else { return Ok(Transport::Plain) };
        let provider = Arc::new(ring::default_provider());
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let clients = match &files.client_ca {
            None => versions.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca", path)? {
                    roots.add(certificate)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                versions.with_client_cert_verifier(verifier.build()?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|source| cannot_read("key", &files.key, source))?;
        let config = clients.with_single_cert(certificates("cert", &files.cert)?, key)?;
        Ok(Transport::Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// The client does not speak TLS, shows no certificate that it should, or
    /// takes too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        match self {
            Transport::Plain => Ok(Stream::Plain(stream)),
            Transport::Tls(acceptor) => {
                let shaken = time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                let stream = shaken.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
                Ok(Stream::Tls(Arc::new(Mutex::new(stream))))
            }
        }
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|source| cannot_read(key, path, source))
}

fn cannot_read(key: &'static str, path: &Path, source: pem::Error) -> TlsError {
    TlsError::File { key, path: path.to_owned(), source }
}

/// The bytes of a connection.
#[derive(Debug)]
pub enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Arc<Mutex<TlsStream<TcpStream>>>),
}

/// A connection within TLS, as another thread may look at it.
#[derive(Debug)]
pub struct Sealed(Weak<Mutex<TlsStream<TcpStream>>>);

/// What a look at a connection within TLS has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Bytes that were shown.
    pub len: usize,
    /// The socket has been read, so the system will not tell who waits for it.
    pub has_taken: bool,
}

impl Stream {
    /// The way to look at it from another thread; `None` where the socket will do.
    pub fn sealed(&self) -> Option<Sealed> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(Sealed(Arc::downgrade(stream))),
        }
    }
}

impl Sealed {
    /// Shows what has come and is still to be read, as far as it is at hand and fits.
    /// `None` while its own thread reads, or when the connection is gone.
    ///
    /// # Errors
    /// What has come is no TLS; whoever reads would wait for more.
    pub fn look(&self, room: &mut [u8]) -> Option<Result<Look, rustls::Error>> {
        let stream = self.0.upgrade()?;
        let mut stream = stream.try_lock()?;
        let (socket, session) = stream.get_mut();
        let socket = SockRef::from(&*socket);
        let mut has_taken = false;
        // An end is found again by who reads.
        while session.wants_read() && session.read_tls(&mut &*socket).is_ok_and(|len| len > 0) {
            has_taken = true;
            if let Err(error) = session.process_new_packets() {
                return Some(Err(error));
            }
        }
        let mut reader = session.reader();
        let come = reader.fill_buf().unwrap_or_default();
        let len = come.len().min(room.len());
        room[..len].copy_from_slice(&come[..len]);
        Some(Ok(Look { len, has_taken }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut *stream.lock()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut *stream.lock()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(&mut *stream.lock()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut *stream.lock()).poll_shutdown(cx),
        }
    }
}
