//! The limiter: facts of a request in, one decision out.
//!
//! Every door asks here, so the proxy and Envoy share policies, keys and
//! counts. The limiter plans which limits apply, asks the store once, and folds
//! the answers. It cannot tell an embedded store from a remote one.
//!
//! Not here: what matches a request ([`crate::policy`]), where the counts live
//! ([`crate::store`]), and what a refusal looks like on a wire (the doors).

mod decision;
mod fields;

pub use decision::{Decision, Fields, Outcome, Refusal, Verdict};
