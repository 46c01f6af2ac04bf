//! The store: where Functions run. The seam between deciding and keeping.
//!
//! The whole contract is one verb, [`Store::call_within`]: same library text, same
//! keys, same arguments, same replies. The limiter cannot tell one kind of
//! store from another, latency and failure aside. There is no mock: an embedded
//! store without a log *is* the test double.

mod config;
mod embedded;
mod metrics;

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::resp::Reply;

pub use config::{RawFunctions, RawMemory};
pub use embedded::{Commands, Embedded, Held, Library, OpenError, Opened};
pub use metrics::Metrics;

/// One run of a Function.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name, with or without its library: `limiter.decide`.
    pub function: &'a str,
    /// Every key the Function reads or writes.
    pub keys: &'a [&'a [u8]],
    /// Arguments, as text.
    pub args: &'a [&'a [u8]],
}

/// What became of a group of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Calls that were run; each has filled its reply.
    pub answered: usize,
    /// Everything the calls wrote is kept. False when a reply was not accepted
    /// in a group of several: then nothing any of them wrote remains.
    pub kept: bool,
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot remember, and the configuration says to refuse then.
    #[error("writes are refused while the log fails: {reason}")]
    LogFailed {
        /// Why the log fails.
        reason: String,
    },
    /// A client's call runs for longer than was to be waited. Nothing was run.
    #[error("a client's call has held the store for too long")]
    Busy,
    /// The keys take all the memory that they may, and none may be evicted.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// A Function failed, overran its budget, or does not exist. Nothing that
    /// the group wrote remains.
    #[error("the Function {function} failed")]
    Call {
        /// The Function that was called.
        function: String,
        /// Its error.
        #[source]
        source: crate::function::CallError,
    },
}

impl Error {
    /// True when it is known that nothing remains of what was called.
    pub fn is_undone(&self) -> bool {
        match self {
            Error::Busy | Error::OutOfMemory | Error::Call { .. } => true,
            Error::LogFailed { .. } => false,
        }
    }
}

/// Where Functions run.
#[derive(Debug)]
pub enum Store {
    /// In this process: one keyspace, its Functions, and the log.
    Embedded(Embedded),
}

impl Store {
    /// Runs `calls` in order as one atomic step and fills `replies`, one each.
    ///
    /// Stops after the first reply that `accept` refuses. A group of several
    /// stands or falls together: when one is refused or fails, nothing that any
    /// of them wrote remains. A single refused call keeps what it wrote, since
    /// a Function that refuses charges nothing.
    ///
    /// Waits for its turn, however long that takes. Returns once the effects are as
    /// durable as the log's policy promises.
    ///
    /// # Errors
    /// A Function failed; see [`Error`].
    pub async fn call(
        &self,
        calls: &[Call<'_>],
        replies: &mut Vec<Reply>,
        accept: impl Fn(&Reply) -> bool + Send,
    ) -> Result<Asked, Error> {
        let mut for_ever = Duration::MAX;
        self.call_within(&mut for_ever, calls, replies, accept).await
    }

    /// As [`Store::call`], and does not wait for its turn for longer than is left, which
    /// becomes less by what it waited.
    ///
    /// # Errors
    /// [`Error::Busy`], and as above.
    pub async fn call_within(
        &self,
        wait_left: &mut Duration,
        calls: &[Call<'_>],
        replies: &mut Vec<Reply>,
        accept: impl Fn(&Reply) -> bool + Send,
    ) -> Result<Asked, Error> {
        debug_assert!(calls.iter().all(|call| !call.keys.is_empty()), "a call without keys");
        if replies.len() < calls.len() {
            replies.resize_with(calls.len(), Reply::default);
        }
        match self {
            Store::Embedded(embedded) => embedded.call(wait_left, calls, replies, accept).await,
        }
    }

    /// The present moment on the store's clock.
    pub fn now(&self) -> Timestamp {
        match self {
            Store::Embedded(embedded) => embedded.now(),
        }
    }

    /// Names of the Functions that can be called, with their libraries.
    pub fn functions(&self) -> Vec<String> {
        match self {
            Store::Embedded(embedded) => embedded.functions(),
        }
    }
}
