//! The commands that the door runs itself, by kind. Each file gives its handlers
//! with their names.

pub mod clients;
pub mod connection;
pub mod transactions;

use super::directory::Handler;
use crate::keyspace::Arg;

/// Every handler, with the full name of its command.
pub fn handlers() -> impl Iterator<Item = (&'static str, Handler)> {
    [clients::HANDLERS, connection::HANDLERS, transactions::HANDLERS].into_iter().flatten().copied()
}

/// An argument that is to be an integer.
fn parse_integer(arg: &[u8]) -> Option<i64> {
    Arg::Bytes(arg).integer().ok()
}
