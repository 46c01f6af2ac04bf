//! PROXY protocol: what a load balancer says about a connection before HTTP begins.
//!
//! ```text
//!   v1   PROXY TCP4 203.0.113.7 10.0.0.9 51234 443\r\n         at most 107 bytes
//!   v2   signature (12) · version and command · family · length (2)
//!        addresses · TLVs                                      length bytes
//! ```
//!
//! Whether a connection begins so is decided by the network that it comes from,
//! never by its bytes: whoever is in it must begin so, and nobody else may. Else a
//! client could say what it likes. TLVs are skipped. `LOCAL`, `UNKNOWN` and families
//! that are not the internet's leave the peer as it is: the balancer speaks for
//! itself then.
//!
//! # Invariants
//!
//! 1. Not a byte behind the header is read.
//! 2. A header takes memory only up to [`SIZE_MAX_BYTES`].
//!
//! # Not here
//!
//! How long the header may take: its caller's `first_byte` covers it.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Bytes of a header of version 2; nginx has the same limit.
const SIZE_MAX_BYTES: usize = 4 << 10;

/// Bytes of a header of version 1, by its specification.
const V1_SIZE_MAX_BYTES: usize = 107;

/// What version 2 begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2, whose last two bytes say how long the rest is.
const V2_FIXED_BYTES: usize = 16;

/// Why a connection that must begin with a header is closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It ended, or broke.
    #[error("the connection ended within its PROXY header")]
    Ended(#[from] io::Error),
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It is longer than it may be.
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// It cannot be read.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads the header of a connection; the client's address, or `None` when the peer
/// speaks for itself.
///
/// # Errors
/// There is no header, or none that can be read. The connection must be closed.
pub async fn read(stream: &mut TcpStream) -> Result<Option<IpAddr>, Error> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(Error::Missing);
    }
    let (parsed, len) =
        ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_error| Error::Malformed)?;
    if len != header.len() {
        return Err(Error::Malformed);
    }
    Ok(parsed.proxied_address().map(|told| told.source.ip().to_canonical()))
}

async fn read_v2(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), Error> {
    header.resize(V2_FIXED_BYTES, 0);
    stream.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
    let len = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if V2_FIXED_BYTES + len > SIZE_MAX_BYTES {
        return Err(Error::TooLong(SIZE_MAX_BYTES));
    }
    header.resize(V2_FIXED_BYTES + len, 0);
    stream.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
    Ok(())
}

/// The rest of the line. What has come is looked at before it is taken, so that
/// nothing behind the line is.
async fn read_v1(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), Error> {
    while header.last() != Some(&b'\n') {
        let mut next = [0; V1_SIZE_MAX_BYTES];
        let room = V1_SIZE_MAX_BYTES.saturating_sub(header.len());
        if room == 0 {
            return Err(Error::TooLong(V1_SIZE_MAX_BYTES));
        }
        let seen = stream.peek(&mut next[..room]).await?;
        let line_end = next[..seen].iter().position(|byte| *byte == b'\n');
        let taken = line_end.map_or(seen, |at| at + 1);
        if taken == 0 {
            return Err(Error::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
        stream.read_exact(&mut next[..taken]).await?;
        header.extend_from_slice(&next[..taken]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[0x20 | command, family], &len, rest].concat()
    }

    /// 203.0.113.7:1 to 10.0.0.9:443, with `tlvs` behind.
    fn v2_ipv4(tlvs: &[u8]) -> Vec<u8> {
        let addresses = [203, 0, 113, 7, 10, 0, 0, 9, 0, 1, 1, 187];
        v2(1, 0x11, &[&addresses[..], tlvs].concat())
    }

    fn v2_ipv6(source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        v2(1, 0x21, &[&source.octets()[..], &[0; 16], &[0, 1, 0, 2]].concat())
    }

    /// What `read` makes of `sent`, in pieces of `piece` bytes, and what is left.
    async fn outcome(sent: &[u8], piece: usize) -> (String, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let send = async {
            for piece in sent.chunks(piece) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&mut stream), send);
        let told = match read {
            Ok(address) => address.map_or("the peer".to_owned(), |it| it.to_string()),
            Err(error) => return (error.to_string(), Vec::new()),
        };
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (told, left)
    }

    #[tokio::test]
    async fn the_client_is_whom_the_balancer_names_and_http_is_left_untouched() {
        let cases = [
            (b"PROXY TCP4 203.0.113.7 10.0.0.9 1 443\r\n".to_vec(), "203.0.113.7"),
            (b"PROXY TCP6 2001:db8::7 ::1 1 443\r\n".to_vec(), "2001:db8::7"),
            (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 443\r\n".to_vec(), "203.0.113.7"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "the peer"),
            (b"PROXY UNKNOWN 1.2.3.4 whatever\r\n".to_vec(), "the peer"),
            (v2_ipv4(&[]), "203.0.113.7"),
            (v2_ipv4(&[4, 0, 1, 0]), "203.0.113.7"),
            (v2_ipv4(&[0xEA; SIZE_MAX_BYTES - 28]), "203.0.113.7"),
            (v2_ipv6("2001:db8::7"), "2001:db8::7"),
            (v2_ipv6("::ffff:203.0.113.7"), "203.0.113.7"),
            // LOCAL: a health check of the balancer's own.
            (v2(0, 0x00, &[]), "the peer"),
            (v2(0, 0x11, &[203, 0, 113, 7, 10, 0, 0, 9, 0, 1, 1, 187]), "the peer"),
            (v2(1, 0x00, &[1, 2, 3]), "the peer"),
            (v2(1, 0x31, &[0; 216]), "the peer"),
        ];
        for (header, client) in cases {
            for piece in [1, 7, 8192] {
                let sent = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
                let (told, left) = outcome(&sent, piece).await;
                assert_eq!(told, client, "{}", header.escape_ascii());
                assert_eq!(left, b"GET / HTTP/1.1\r\n", "{}", header.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_or_a_broken_one_is_refused() {
        let (missing, malformed) = ("does not begin with", "is malformed");
        let mut bad_version = v2_ipv4(&[]);
        bad_version[12] = 0x11;
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), missing),
            (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), missing),
            (b"PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), missing),
            (b"PROXY".to_vec(), "ended within"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2".to_vec(), "ended within"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n".to_vec(), malformed),
            (b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed),
            (b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec(), malformed),
            (b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(), malformed),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(), malformed),
            (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), malformed),
            (format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).into_bytes(), "longer than 107"),
            (bad_version, malformed),
            (v2(2, 0x11, &[0; 12]), malformed),
            (v2(1, 0x41, &[0; 12]), malformed),
            (v2(1, 0x11, &[0; 11]), malformed),
            (v2_ipv4(&[])[..20].to_vec(), "ended within"),
            (v2_ipv4(&vec![0; SIZE_MAX_BYTES]), "longer than 4096"),
            (v2_ipv4(&vec![0; 65_000]), "longer than 4096"),
        ];
        for (sent, expected) in cases {
            let (told, _) = outcome(&sent, 8192).await;
            assert!(
                told.contains(expected),
                "{}: {told}",
                sent[..20.min(sent.len())].escape_ascii()
            );
        }
    }
}
