//! The doors: what the world speaks to Weir.
//!
//! A door turns its protocol into facts, asks the limiter, and turns the
//! decision back into its protocol. Doors never import one another.

pub mod admin;
