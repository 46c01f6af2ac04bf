//! A request on its way up: what is written, and what is still to come.
//!
//! ```text
//!   lead ── data ── tail          one write, as far as the socket takes it
//!   head                          first, and all there is of a request without a body
//!   5\r\n   hello   \r\n          each frame of a body, in chunks
//!           hello                 the same, where the length is known
//! ```

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;
use tokio::net::tcp::OwnedWriteHalf;

use super::body::{BodyError, RequestBody};
use super::http1::request::BodyLen;

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub enum SendError {
    /// The downstream's body.
    Body(BodyError),
    /// The upstream's connection.
    Connection(io::Error),
}

/// A request on its way up.
#[derive(Debug)]
pub struct Sending {
    lead: Vec<u8>,
    data: Bytes,
    tail: &'static [u8],
    /// Bytes of these three that are written.
    written: usize,
    /// `None` when nothing more will come.
    body: Option<RequestBody>,
    /// Bytes that are to come; unknown of chunks.
    left: BodyLen,
    has_begun: bool,
    has_moved: bool,
}

impl Sending {
    /// A request with this head, none of which is written.
    pub fn new(head: Vec<u8>, body: Option<RequestBody>, len: BodyLen) -> Sending {
        Sending {
            lead: head,
            data: Bytes::new(),
            tail: b"",
            written: 0,
            body,
            left: len,
            has_begun: false,
            has_moved: false,
        }
    }

    /// Not a byte has left: it can be sent to somebody else.
    pub fn is_unheard(&self) -> bool {
        !self.has_begun
    }

    /// All is written.
    pub fn is_done(&self) -> bool {
        self.body.is_none() && self.is_staged_written()
    }

    /// The downstream is being waited for, not the upstream.
    pub fn is_starved(&self) -> bool {
        self.body.is_some() && self.is_staged_written()
    }

    /// Whether a piece of the body has gone since this was asked last.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// It has no body, so that it can be sent again.
    pub fn is_whole(&self) -> bool {
        self.body.is_none()
    }

    /// Begins anew, over another connection: what [is whole](Sending::is_whole), or of
    /// which nothing has left.
    pub fn rewind(&mut self) {
        self.written = 0;
    }

    fn is_staged_written(&self) -> bool {
        self.written == self.lead.len() + self.data.len() + self.tail.len()
    }

    /// Writes as much as can be written now. Ready when all is.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut OwnedWriteHalf,
    ) -> Poll<Result<(), SendError>> {
        loop {
            while !self.is_staged_written() {
                let unwritten = unwritten([&self.lead, &self.data, self.tail], self.written);
                let len = ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &unwritten));
                self.written += len.map_err(SendError::Connection)?;
                self.has_begun = true;
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            let data = ready!(body.poll_data(cx)).transpose().map_err(SendError::Body)?;
            let is_last = data.is_none() || body.is_end_stream();
            self.stage(data.unwrap_or_default(), is_last).map_err(SendError::Body)?;
        }
    }

    fn stage(&mut self, data: Bytes, is_last: bool) -> Result<(), BodyError> {
        self.lead.clear();
        self.written = 0;
        self.has_moved = true;
        let len = data.len() as u64;
        self.data = data;
        if is_last {
            self.body = None;
        }
        match &mut self.left {
            BodyLen::Known(left) => {
                *left = left.checked_sub(len).ok_or(BodyError::Length)?;
                if is_last && *left > 0 {
                    return Err(BodyError::Length);
                }
            }
            BodyLen::Unknown => {
                // A chunk without data would be the last.
                if len > 0 {
                    self.lead.extend_from_slice(format!("{len:x}\r\n").as_bytes());
                }
                self.tail = match (len > 0, is_last) {
                    (true, true) => b"\r\n0\r\n\r\n",
                    (true, false) => b"\r\n",
                    (false, true) => b"0\r\n\r\n",
                    (false, false) => b"",
                };
            }
            BodyLen::None => {}
        }
        Ok(())
    }
}

fn unwritten(parts: [&[u8]; 3], mut written: usize) -> [IoSlice<'_>; 3] {
    parts.map(|part| {
        let skipped = written.min(part.len());
        written -= skipped;
        IoSlice::new(&part[skipped..])
    })
}
