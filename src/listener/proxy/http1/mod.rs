//! HTTP/1 as it is spoken to upstreams: from messages to bytes, and back. No I/O.
//!
//! | file | what |
//! |---|---|
//! | `request` | the head of a request, as an upstream gets it |
//! | `response` | the head of a response, as a downstream gets it |
//! | `body` | the body of a response, taken out of its framing |
//!
//! hyper speaks to downstreams, who send anything; its client serves any program, for
//! which each connection is a task behind two channels. A proxy waits for the response
//! where it has sent the request, and writes a head once instead of changing it, which
//! saves a sixth of what a request costs.
//!
//! # Invariants
//!
//! 1. The framing of what is sent is ours: one plain length, or one `chunked`, whatever
//!    the downstream wrote.
//! 2. What is read has one end. A response that could be read as having two is refused,
//!    and after anything odd the connection serves no other exchange.

pub mod body;
pub mod request;
pub mod response;
