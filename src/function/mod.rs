//! The Lua engine: loads libraries of Functions and calls them over a keyspace.
//!
//! A library is a text that registers Functions, as Redis 7 defines it. A call
//! runs one Function from beginning to end; the commands that it calls execute
//! in the keyspace that the caller hands in, at the moment that the caller says.
//!
//! | file | what |
//! |---|---|
//! | `engine` | where a call goes, and what it may use |
//! | `vm` | one Lua state; how a text is loaded and a call is run in it |
//! | `library`, `metadata` | libraries and Functions by name |
//! | `script` | scripts by the SHA1 of their text |
//! | `commands`, `help` | what clients ask: `FCALL`, `EVAL`, `FUNCTION`, `SCRIPT` |
//! | `sandbox.lua` | the globals that a library sees, and how they are frozen |
//! | `api` | native functions behind those globals; driver, hook, error handler |
//! | `context` | what a running call knows and may still use |
//! | `faces`, `strings`, `pattern` | base and string functions, within sandbox and budget |
//! | `json`, `msgpack`, `packing` | `cjson`, `cmsgpack`, `struct` |
//! | `number`, `random` | numbers as C prints them; the numbers that Redis draws |
//! | `convert` | values between Lua and replies |
//! | `watchdog` | how a call that runs for long is interrupted |
//! | `metrics` | calls, how long they took, how they failed |
//! | `raw` | Lua's C API, and the discipline for using it |
//!
//! # Invariants
//!
//! 1. No handle to anything inside of Lua leaves the [`Engine`].
//! 2. A call ends: its time and its memory are bounded, and a library cannot
//!    catch the end of its time. What a library keeps is bounded with it, and
//!    takes nothing from others.
//! 3. A load changes everything or nothing.
//! 4. Libraries share the keyspace and nothing else.
//!
//! # Not here
//!
//! Undoing what an ended call wrote: the keyspace can, the store decides. Clocks,
//! files, the log.

mod api;
mod commands;
mod context;
mod convert;
mod engine;
mod error;
mod faces;
mod help;
mod json;
mod library;
mod metadata;
mod metrics;
mod msgpack;
mod number;
mod packing;
mod pattern;
mod random;
mod raw;
mod script;
mod strings;
#[cfg(test)]
mod tests;
mod vm;
mod watchdog;

pub use engine::{Engine, Limits};
pub use error::{CallError, Callee, CompileError, Error, LoadError, Overrun};
pub use library::{Flags, Function, Library, Rule};
pub use metrics::Metrics;
pub use script::Sha;
pub use watchdog::{Interrupter, NotKilled};
