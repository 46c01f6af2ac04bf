//! The libraries to load: those that ship with the binary, and the files of the
//! `functions` folder.
//!
//! A file takes the place of the shipped library of the same file name, so a
//! released binary needs no folder, and a user edits a copy.
//!
//! The folder is watched. A file that changes is loaded whole, in the place of
//! what it held before; one that does not load leaves that in force, and is told
//! of in the log, in a metric and on the admin door until it is mended. A file
//! that goes leaves its library loaded; from the next start on it is only a client's,
//! out of the log, and no policy may name it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::files;
use crate::base::watch::Watch;
use crate::listener::admin::State;
use crate::store::{Embedded, Library};

/// How long after the first event of a burst the files are read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How often they are read where the file system tells nothing.
const POLL: Duration = Duration::from_secs(30);

/// Longest text of a library.
const SIZE_MAX_BYTES: usize = 4 << 20;

/// What ships: file name and text.
const SHIPPED: [(&str, &str); 2] = [
    ("limiter.lua", include_str!("../../functions/limiter.lua")),
    ("mylimiter.lua", include_str!("../../functions/mylimiter.lua")),
];

/// The folder, or a file in it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Every library to load, the shipped ones first, then files by name. A folder
/// that does not exist holds no files.
///
/// # Errors
/// The folder exists but cannot be read, or a file in it cannot.
pub fn collect(folder: &Path) -> Result<Vec<Library>, Error> {
    let files = lua_files(folder)?;
    let shipped = SHIPPED.iter().filter(|(name, _)| {
        !files.iter().any(|file| file.file_name().is_some_and(|it| it == *name))
    });
    let mut libraries: Vec<Library> = shipped
        .map(|(name, code)| Library {
            origin: format!("built-in {name}"),
            code: (*code).to_owned(),
        })
        .collect();
    for path in files {
        let code = read(&path).map_err(|source| {
            let path = path.clone();
            Error { path, source }
        })?;
        libraries.push(Library { origin: path.display().to_string(), code });
    }
    Ok(libraries)
}

/// Reads the text of a library.
///
/// # Errors
/// It cannot be read, is too long, or no text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let bytes = files::read(path, SIZE_MAX_BYTES)?;
    let is_whole = bytes.len() <= SIZE_MAX_BYTES;
    let text = String::from_utf8(bytes).ok().filter(|_| is_whole);
    text.ok_or_else(|| {
        let what = if is_whole { "it is not UTF-8" } else { "it is larger than 4 MiB" };
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// The text of a file, or why it cannot be read.
type Read = Result<String, String>;

/// The files of the folder as they were last read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    read: BTreeMap<PathBuf, Read>,
    faults: Faults,
    metrics: Metrics,
}

/// What reloading tells Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    reloads: IntCounterVec,
    last_reload_success: IntGauge,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let reloads = IntCounterVec::new(
            Opts::new(
                "weir_function_reloads_total",
                "Files of the functions folder that changed, by what became of it",
            ),
            &["outcome"],
        )?;
        for outcome in ["loaded", "refused"] {
            reloads.with_label_values(&[outcome]);
        }
        let last_reload_success = IntGauge::new(
            "weir_function_last_reload_success",
            "1 unless the last file that changed did not load",
        )?;
        last_reload_success.set(1);
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(last_reload_success.clone()))?;
        Ok(Metrics { reloads, last_reload_success })
    }

    fn reloaded(&self, is_loaded: bool) {
        let outcome = if is_loaded { "loaded" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
        self.last_reload_success.set(i64::from(is_loaded));
    }
}

/// What is wrong with which file; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl Faults {
    /// What the condition `functions` on the admin door says. A refused file leaves
    /// the process ready: it goes on with the library it has.
    pub fn state(&self) -> State {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match faults.values().next() {
            None => State::Ok,
            Some(first) => {
                let more = faults.len() - 1;
                let others = if more > 0 { format!(", and {more} more") } else { String::new() };
                State::Degraded(format!("refused, what was loaded stays in force: {first}{others}"))
            }
        }
    }

    fn set(&self, path: &Path, fault: Option<String>) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => faults.insert(path.to_owned(), fault),
            None => faults.remove(path),
        };
    }
}

impl Folder {
    /// The folder at `path`, of whose files `libraries` were loaded.
    pub fn new(path: PathBuf, libraries: &[Library], metrics: Metrics) -> Folder {
        let read = libraries.iter().map(|it| (PathBuf::from(&it.origin), Ok(it.code.clone())));
        Folder { path, read: read.collect(), faults: Faults::default(), metrics }
    }

    /// What is wrong with its files.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Files that say something else than when they were last read.
    fn changed(&mut self) -> Vec<(PathBuf, Read)> {
        let files = lua_files(&self.path).unwrap_or_default();
        self.read.retain(|path, _| files.contains(path));
        let mut changed = Vec::new();
        for path in files {
            let read = read(&path).map_err(|error| error.to_string());
            if self.read.get(&path) != Some(&read) {
                self.read.insert(path.clone(), read.clone());
                changed.push((path, read));
            }
        }
        changed
    }

    /// Loads what changed.
    async fn reload(&mut self, store: &Embedded) {
        for (path, read) in self.changed() {
            let file = path.display().to_string();
            let loaded = match read {
                Ok(code) => store.load_library(&code).await.map_err(|error| match error.line() {
                    Some(line) => format!("{file}:{line}: {error}"),
                    None => format!("{file}: {error}"),
                }),
                Err(error) => Err(format!("{file}: cannot be read: {error}")),
            };
            match &loaded {
                Ok(library) => tracing::info!(file, library, "library reloaded"),
                Err(fault) => {
                    tracing::error!("library not reloaded, the loaded one stays in force\n{fault}");
                }
            }
            self.metrics.reloaded(loaded.is_ok());
            self.faults.set(&path, loaded.err());
        }
    }
}

/// Reloads libraries whenever their files change, until shutdown. Cancel safe: the
/// `select!` waits and does no work.
pub async fn keep_current(store: &Embedded, mut folder: Folder, shutdown: CancellationToken) {
    let (mut watch, mut changed) = Watch::new();
    if let Err(error) = watch.add(&folder.path) {
        // It need not exist.
        tracing::debug!(%error, poll = ?POLL, "cannot watch the functions folder");
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = changed.recv() => time::sleep(DEBOUNCE).await,
            () = time::sleep(POLL) => {}
        }
        while changed.try_recv().is_ok() {}
        folder.reload(store).await;
    }
}

fn lua_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|it| it == "lua") && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_the_shipped_library_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("limiter.lua"), "mine").unwrap();
        fs::write(folder.path().join("extra.lua"), "more").unwrap();
        fs::write(folder.path().join("notes.txt"), "not a library").unwrap();
        let libraries = collect(folder.path()).unwrap();
        let origins: Vec<&str> =
            libraries.iter().map(|it| it.origin.rsplit('/').next().unwrap()).collect();
        assert_eq!(origins, ["built-in mylimiter.lua", "extra.lua", "limiter.lua"]);
        assert_eq!(libraries[2].code, "mine");
    }

    #[tokio::test]
    async fn a_file_that_changes_is_loaded_and_a_wrong_one_leaves_the_loaded_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.lua");
        let write = |body: &str| {
            let code =
                format!("#!lua name=mine\nredis.register_function('f', function() {body} end)");
            fs::write(&file, code).unwrap();
        };
        write("return 1");
        let libraries = collect(folder.path()).unwrap();
        let metrics = crate::store::Metrics::register(&prometheus::Registry::new()).unwrap();
        let clock = crate::base::clock::Clock::system();
        let store = Embedded::open(&libraries, None, clock, metrics, &mut |_| {}).unwrap().store;
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let mut watched = Folder::new(folder.path().to_owned(), &libraries, metrics);
        assert!(watched.changed().is_empty());
        write("return =");
        watched.reload(&store).await;
        let State::Degraded(told) = watched.faults().state() else { panic!("nothing is told") };
        assert!(told.contains("mine.lua:2: Error compiling function: user_function:2:"), "{told}");
        assert!(store.functions().contains(&"mine.f".to_owned()));
        write("return 2");
        watched.reload(&store).await;
        assert_eq!(watched.faults().state(), State::Ok);
        fs::write(
            folder.path().join("more.lua"),
            "#!lua name=more\nredis.register_function('g', redis.log)",
        )
        .unwrap();
        watched.reload(&store).await;
        assert!(store.functions().contains(&"more.g".to_owned()));
    }

    #[test]
    fn what_is_no_text_of_a_library_is_an_error_that_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.lua");
        for (bytes, why) in
            [(vec![b' '; SIZE_MAX_BYTES + 1], "larger than 4 MiB"), (vec![0xff], "not UTF-8")]
        {
            fs::write(&file, bytes).unwrap();
            let error = collect(folder.path()).unwrap_err();
            let told = crate::base::chain::Chain(&error).to_string();
            assert!(told.contains("mine.lua") && told.contains(why), "{told}");
        }
    }

    #[test]
    fn without_a_folder_the_shipped_libraries_are_there() {
        let libraries = collect(Path::new("/nonexistent/functions")).unwrap();
        assert_eq!(libraries.len(), SHIPPED.len());
        assert!(libraries.iter().all(|it| it.code.starts_with("#!lua name=")));
    }

    #[test]
    fn a_folder_that_is_a_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions");
        fs::write(&file, "").unwrap();
        let message = collect(&file).unwrap_err().to_string();
        assert_eq!(message, format!("cannot read {}", file.display()));
    }
}
