//! The handlers of the commands, by kind of value.
//!
//! A handler reads its arguments, looks keys up, decides, and only then changes
//! anything: an error leaves everything as it was. What it changed it records as
//! an effect: the command as sent, unless Redis writes another to its log.

pub(super) mod administration;
mod collections;
pub(super) mod connection;
pub(super) mod hashes;
mod help;
pub(super) mod inspection;
pub(super) mod keys;
pub(super) mod lists;
pub(super) mod payloads;
pub(super) mod pubsub;
mod scan;
pub(super) mod scripting;
pub(super) mod server;
pub(super) mod sets;
pub(super) mod sorted_sets;
pub(super) mod strings;
#[cfg(test)]
mod tests;
pub(super) mod transactions;

use super::error::CommandError;
use super::space::Execution;

/// How often a command may show what it has shown before, as `SRANDMEMBER` does with a
/// negative count: else one command could ask for all memory.
const REPEATS_MAX: usize = 10_000_000;

/// What every handler returns: the reply is in [`Execution::reply`].
type Done = Result<(), CommandError>;

/// A unit in which commands take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeUnit {
    Seconds,
    Millis,
}

/// From when a command counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeBase {
    Now,
    Epoch,
}

/// A time argument as unix milliseconds. Negative means before 1970: long gone.
///
/// `None` when it overflows 63 bits, on the way or at the end.
fn unix_millis(amount: i64, unit: TimeUnit, base: TimeBase, run: &Execution<'_>) -> Option<i64> {
    let millis = match unit {
        TimeUnit::Seconds => amount.checked_mul(1_000)?,
        TimeUnit::Millis => amount,
    };
    match base {
        TimeBase::Now => millis.checked_add(i64::try_from(run.now.millis()).ok()?),
        TimeBase::Epoch => Some(millis),
    }
}
