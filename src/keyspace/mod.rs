//! The keyspace: keys with values and deadlines, and the commands on them.
//!
//! One owner at a time runs one command after another; nothing here locks, does
//! I/O or reads a clock. Time comes with each call as [`Execution::now`], and what
//! a call changed leaves it as [`Effects`], plain commands that repeat the change.
//!
//! | file | what |
//! |---|---|
//! | `slots` | where values live; the one way to change them; snapshot and undo |
//! | `index` | from key to slot |
//! | `sorted_set` | members by score, small and big |
//! | `hash`, `set`, `list` | the other collections; `pack`, `table` are what they are made of |
//! | `glob` | patterns of names |
//! | `string` | text, integers, and strings that grow |
//! | `digest` | what two servers with the same data answer |
//! | `eviction` | which keys go when memory is short |
//! | `watches` | who watches which keys, and whether they changed |
//! | `sizes` | what an allocation really takes |
//! | `command`, `commands` | the table of commands, and their handlers |
//! | `rdb` | values as bytes: what base files hold and `DUMP` gives |
//! | `channels` | who listens to what |
//! | `arg`, `effects`, `notices`, `error`, `value` | what goes in and comes out |
//!
//! # Invariants
//!
//! 1. A value, a key, a deadline changes only through [`slots`]: the running
//!    snapshot and the open transaction hook in there and nowhere else.
//! 2. The index names exactly the live slots.
//! 3. A collection in the keyspace is never empty: the key goes with its last
//!    member.
//! 4. A command that fails has changed nothing and recorded nothing.
//!
//! # Not here
//!
//! Connections, transactions as clients see them (`MULTI`), Functions, the log.

mod arg;
mod channels;
mod command;
mod commands;
mod digest;
mod effects;
mod error;
mod eviction;
pub mod glob;
mod hash;
mod index;
mod list;
mod long_double;
#[cfg(test)]
mod memory_tests;
mod notices;
mod pack;
mod random;
pub mod rdb;
mod set;
mod sizes;
mod slots;
mod sorted_set;
mod space;
mod string;
mod table;
mod value;
mod watches;

pub use arg::{Arg, Text};
pub use channels::{Announced, Channels, Ear, Listener};
pub use command::{Command, Docs, Flags, Handler, KeyPositions, Run, Table, command, commands};
pub use effects::{Effects, EffectsMark};
pub use error::CommandError;
pub use eviction::{Asker, EvictionPolicy, MemoryLimits, Room, SAMPLES_MAX};
pub use glob::matches as glob_matches;
pub use hash::{Fields, Hash};
pub use list::{Elements, List};
pub use notices::{EventClass, Notice};
pub use set::{Members, Set};
pub use slots::{Remains, SnapshotRunning, SnapshotSink, Walk};
pub use sorted_set::{Entries, FrozenSortedSet, Inserted, SortedSet};
pub use space::{DuplicateKey, Execution, Keyspace, KeyspaceStats, Mode, Swept};
pub use string::{STRING_LEN_MAX, StringValue};
pub use value::Value;
