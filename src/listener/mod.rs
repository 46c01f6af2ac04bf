//! The doors: where requests come in, and where answers go out.
//!
//! Each door speaks one protocol and asks the same [`limiter`](crate::limiter).
//! Doors never import one another; what two of them need moves down, or is here:
//! [`accept`], the one way to bind sockets and take connections from them, [`trust`],
//! whose word about clients' addresses is believed, and [`problem`], what a door says
//! when nobody else is asked.

pub mod accept;
pub mod admin;
pub mod envoy;
pub mod problem;
pub mod proxy;
pub mod redis;
pub mod trust;
