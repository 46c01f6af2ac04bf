//! Why an engine could not start, a library not load, a call not be answered.
//!
//! The texts of [`LoadError`] and [`CallError`] are Redis' own, because clients
//! and tests compare them.

use std::fmt;
use std::time::Duration;

use super::script::Sha;
use super::watchdog::NotKilled;
use crate::keyspace;
use crate::resp::Reply;

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

/// Why a script was not compiled. `Display` is the whole error line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The line that declares flags has no end, or a quote in it has none.
    #[error("ERR Invalid script shebang")]
    Shebang,
    /// It names another engine.
    #[error("ERR Unexpected engine in script shebang: {0}")]
    Engine(String),
    /// It has a word that means nothing.
    #[error("ERR Unknown lua shebang option: {0}")]
    Option(String),
    /// It names a flag that there is not.
    #[error("ERR Unexpected flag in script shebang: {0}")]
    Flag(String),
    /// The text is no Lua.
    #[error("ERR Error compiling script (new function): {0}")]
    Lua(String),
}

/// What was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A Function, by its name.
    Function(Box<str>),
    /// A script, by the SHA1 of its text.
    Script(Sha),
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Callee::Function(name) => f.write_str(name),
            Callee::Script(sha) => sha.fmt(f),
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
    /// It may write, and nothing may be written now.
    #[error(transparent)]
    Denied(keyspace::CommandError),
    /// An error was raised.
    #[error("{}", String::from_utf8_lossy(line))]
    Raised {
        /// The whole line as bytes, since Lua may raise any; callee and line of
        /// the text stand at its end.
        line: Vec<u8>,
    },
    /// Somebody ended the call. Nothing that it wrote may stay.
    #[error("{}", String::from_utf8_lossy(line))]
    Killed {
        /// The whole line.
        line: Vec<u8>,
    },
    /// The call used up what one call may use. Nothing that it wrote may stay.
    #[error("ERR {callee} was ended: {overrun}")]
    Budget {
        /// What was called.
        callee: Callee,
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

/// Why a command of a client was refused. `Display` is the error line without a
/// dash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    #[error("ERR unknown subcommand '{word}'. Try {container} HELP.")]
    UnknownSubcommand { container: String, word: String },
    #[error("ERR '{0}' cannot be run here")]
    Elsewhere(&'static str),
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    #[error("ERR Bad number of keys provided")]
    BadKeyCount,
    #[error("ERR Number of keys can't be negative")]
    KeysNegative,
    #[error("ERR Number of keys can't be greater than number of args")]
    TooManyKeys,
    #[error("NOSCRIPT No matching script. Please use EVAL.")]
    NoScript,
    #[error("ERR Can not execute a script with write flag using *_ro command.")]
    WritesUnderReadOnly,
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    #[error("{0}")]
    NotKilled(#[from] NotKilled),
    #[error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")]
    ScriptFlushOption,
    #[error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")]
    FunctionFlushOption,
    #[error("ERR Use SCRIPT DEBUG YES/SYNC/NO")]
    DebugOption,
    #[error("ERR there is no debugger of scripts here")]
    NoDebugger,
    #[error("ERR Function code is missing")]
    NoCode,
    #[error("ERR the code of a library must be UTF-8 here")]
    CodeNotText,
    #[error("ERR Unknown option given: {0}")]
    UnknownOption(String),
    #[error("ERR Unknown argument {0}")]
    UnknownArgument(String),
    #[error("ERR library name argument was not given")]
    NoLibraryName,
    #[error("ERR Library not found")]
    LibraryNotFound,
    #[error("ERR Library {0} already exists")]
    LibraryExists(String),
    #[error("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")]
    RestorePolicy,
    #[error(
        "ERR Unknown subcommand or wrong number of arguments for 'restore'. Try FUNCTION HELP."
    )]
    RestoreArguments,
    #[error("ERR DUMP payload version or checksum are wrong")]
    BadPayload,
    #[error("ERR given type is not a function")]
    NotFunctions,
    #[error("ERR {0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error("{0}")]
    Call(#[from] CallError),
}

impl CommandError {
    pub(super) fn unknown_subcommand(container: &str, word: &[u8]) -> CommandError {
        let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
        CommandError::UnknownSubcommand { container: container.to_uppercase(), word }
    }

    /// Writes the error line.
    pub(super) fn write(&self, reply: &mut Reply) {
        match self {
            CommandError::Call(CallError::Raised { line } | CallError::Killed { line }) => {
                reply.error_bytes(line);
            }
            other => reply.error(&other.to_string()),
        }
    }
}
