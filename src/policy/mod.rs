//! policy

pub mod client_address;
pub mod host;
pub mod path;
