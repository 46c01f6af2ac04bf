//! The commands that the door runs itself, by kind. Each file gives its handlers
//! with their names.

pub mod catalog;
pub mod clients;
pub mod connection;
mod facts;
pub mod info;
pub mod records;
pub mod server;
pub mod settings;
pub mod subscriptions;
pub mod transactions;

use super::directory::Handler;
use crate::keyspace::Arg;

/// The version of Redis whose commands these are.
const REDIS_VERSION: &str = "7.0.15";

/// Every handler, with the full name of its command.
pub fn handlers() -> impl Iterator<Item = (&'static str, Handler)> {
    let kinds = [
        catalog::HANDLERS,
        clients::HANDLERS,
        connection::HANDLERS,
        info::HANDLERS,
        records::HANDLERS,
        server::HANDLERS,
        settings::HANDLERS,
        subscriptions::HANDLERS,
        transactions::HANDLERS,
    ];
    kinds.into_iter().flatten().copied()
}

/// An argument that is to be an integer.
fn parse_integer(arg: &[u8]) -> Option<i64> {
    Arg::Bytes(arg).integer().ok()
}
