//! Why the process could not start, or could not end well.

use std::io;

use crate::base::problems::{Problem, Problems};
use crate::config::Config;
use crate::listener::accept::BindError;
use crate::listener::proxy;
use crate::persist;
use crate::store::OpenError;

use super::{replay, trial};

/// Why the process could not start, or could not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that people write has something wrong with it.
    #[error("{0}")]
    Written(Problems),
    /// A request that is asked about has no single meaning.
    #[error("the request cannot be asked about")]
    Question(#[source] crate::policy::path::PathError),
    /// An access log cannot be replayed.
    #[error(transparent)]
    Replay(#[from] replay::FileError),
    /// A library on trial failed.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(OpenError),
    /// The admin door of a Weir that runs does not explain.
    #[error(transparent)]
    Door(#[from] super::explain::DoorError),
    /// The last records may not have reached the disk.
    #[error("cannot close the log")]
    Close(#[from] persist::Error),
    /// Two metrics have one name.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused a thread, a socket or a signal handler.
    #[error("the operating system refused")]
    Runtime(#[source] io::Error),
    /// The proxy cannot be set up.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// The thread that loads the state ended without a word: it panicked.
    #[error("loading the state failed")]
    Loader,
}

impl Error {
    /// Why a proxy cannot be set up: by what `config` says, if so.
    pub(super) fn of_proxy(error: proxy::Error, config: &Config) -> Error {
        match error {
            proxy::Error::AccessLog { .. } => config.problem("proxy.access_log", &error).into(),
            proxy::Error::Metrics(_) => Error::Proxy(error),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Error {
        Error::Written(problems)
    }
}

impl From<OpenError> for Error {
    /// A library that does not load is a problem of the file it stands in.
    fn from(error: OpenError) -> Error {
        let OpenError::Library { origin, line, source } = error else {
            return Error::Store(error);
        };
        let file = match line {
            Some(line) => format!("{origin}:{line}"),
            None => origin,
        };
        Error::Written(Problem { file, ..Problem::new("", source.to_string()) }.into())
    }
}
