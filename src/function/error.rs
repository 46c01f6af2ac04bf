//! Why an engine could not start, a library not load, a call not be answered.
//!
//! The texts of [`LoadError`] and [`CallError`] are Redis' own, because clients
//! and tests compare them.

use std::time::Duration;

/// Why no engine could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Lua did not start, or not within its memory. Holds Lua's text: its error
    /// itself cannot leave the thread.
    #[error("cannot start the Lua engine: {0}")]
    Start(String),
    /// The operating system refused the thread that watches calls.
    #[error("cannot start the watchdog of Functions")]
    Watchdog(#[source] std::io::Error),
}

/// Why a library was refused. What was loaded before is still in force.
///
/// `Display` is Redis' text without the code `ERR`, so that it also reads well
/// in a log; [`LoadError::line`] points into the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The first line does not say which library this is.
    #[error("{0}")]
    Metadata(String),
    /// A library of this name is loaded, and replacing was not asked for.
    #[error("Library '{0}' already exists")]
    LibraryExists(String),
    /// Another library has a Function of this name.
    #[error("Function {0} already exists")]
    FunctionExists(String),
    /// The text is no Lua.
    #[error("Error compiling function: {0}")]
    Compile(String),
    /// Running the library's top level raised an error.
    #[error("Error registering functions: {0}")]
    Register(String),
    /// It ran and registered nothing.
    #[error("No functions registered")]
    Empty,
}

impl LoadError {
    /// The line of the file where the fault lies, from 1, where it can be told.
    pub fn line(&self) -> Option<u32> {
        match self {
            LoadError::Metadata(_) => Some(1),
            LoadError::Compile(text) | LoadError::Register(text) => {
                let (_, rest) = text.split_once("user_function:")?;
                rest.split(':').next()?.parse().ok()
            }
            LoadError::LibraryExists(_) | LoadError::FunctionExists(_) | LoadError::Empty => None,
        }
    }
}

/// Why a call has no reply. `Display` is the error line as a client sees it,
/// code first, without a dash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No library registered a Function of this name.
    #[error("ERR Function not found")]
    NotFound,
    /// The Function raised an error.
    #[error("{line}")]
    Raised {
        /// The whole line, with Function and line of the library at its end.
        line: String,
    },
    /// The Function used up what one call may use. Nothing that it wrote may stay.
    #[error("ERR Function {function} was ended: {overrun}")]
    Budget {
        /// The Function's name.
        function: String,
        /// What it used up.
        overrun: Overrun,
    },
}

/// What a call can use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overrun {
    /// Time, of which it had this much.
    #[error("it ran longer than {0:?}")]
    Time(Duration),
    /// Memory of the engine, of which there are this many bytes.
    #[error("it needed more than {0} bytes of memory")]
    Memory(u64),
}
