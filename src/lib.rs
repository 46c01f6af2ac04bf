//! Weir, a rate-limiting gateway: the library behind the `weir` binary.
//!
//! The modules are floors of a house. A module imports from lower floors only;
//! `tests/tidy.rs` holds that, and `ARCHITECTURE.md` says what it buys.
//!
//! ```text
//!   roof   cli  app  config
//!    5     listener
//!    4     limiter
//!    3     store
//!    2     function  persist
//!    1     keyspace  policy
//!    0     base      resp
//! ```

pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod function;
pub mod keyspace;
pub mod limiter;
pub mod listener;
pub mod persist;
pub mod policy;
pub mod resp;
pub mod store;
