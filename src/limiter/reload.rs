//! Hot reload: keeps the policies in force equal to the file, as long as the
//! file is right.
//!
//! Its folder is watched ([`watch`](crate::base::watch)). After an event the file is
//! read 100 ms later, and what counts is whether its text differs from the text read
//! last. File systems without events are read every 30 s.
//!
//! A file that is missing, unreadable or wrong leaves the live set in force, is
//! said in the log and in a metric, and is tried again at the next change.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::files;
use crate::base::problems::{Problem, Problems};
use crate::base::watch::Watch;
use crate::base::yaml;
use crate::policy::{self, Functions, PolicySet};

use super::Limiter;

/// How long after the first event of a burst the file is read: an editor
/// takes several steps to replace a file.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How often the file is read where the file system tells nothing.
const POLL: Duration = Duration::from_secs(30);

/// A file that a policy file may name, such as a list of addresses, is no larger.
const OTHER_SIZE_MAX_BYTES: usize = 64 << 20;

type Read = Result<Vec<u8>, String>;

/// The policy file and the files it names, and what they said when last read.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    last_read: Option<Read>,
    /// Files that it named: lists, keys.
    others: Vec<(PathBuf, Read)>,
}

impl PolicyFile {
    /// The file at `path`, not read yet.
    pub fn new(path: PathBuf) -> PolicyFile {
        PolicyFile { path, last_read: None, others: Vec::new() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folders that hold what is read.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let files = std::iter::once(&self.path).chain(self.others.iter().map(|(path, _)| path));
        files.map(|path| folder_of(path).to_owned()).collect()
    }

    /// Reads and compiles the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&mut self, functions: &Functions) -> Result<PolicySet, Problems> {
        let read = read(&self.path, yaml::SIZE_MAX_BYTES);
        self.last_read = Some(read.clone());
        self.compile(read, functions)
    }

    /// Like [`PolicyFile::load`], but `None` when the file and those it names say
    /// what they said last time.
    pub fn load_if_changed(
        &mut self,
        functions: &Functions,
    ) -> Option<Result<PolicySet, Problems>> {
        let again = read(&self.path, yaml::SIZE_MAX_BYTES);
        let others_say_the_same =
            || self.others.iter().all(|(path, said)| read(path, OTHER_SIZE_MAX_BYTES) == *said);
        if self.last_read.as_ref() == Some(&again) && others_say_the_same() {
            return None;
        }
        self.last_read = Some(again.clone());
        Some(self.compile(again, functions))
    }

    fn compile(&mut self, read_text: Read, functions: &Functions) -> Result<PolicySet, Problems> {
        let file = self.path.display().to_string();
        let bytes = read_text.map_err(|error| {
            let problem = Problem::new("", format!("cannot be read: {error}"));
            Problems::from(Problem { file: file.clone(), ..problem })
        })?;
        let others = RefCell::new(Vec::new());
        let read_other = |name: &str| {
            let path = folder_of(&self.path).join(name);
            let said = read(&path, OTHER_SIZE_MAX_BYTES);
            others.borrow_mut().push((path, said.clone()));
            said
        };
        let compiled = policy::compile(&file, yaml::text(&file, &bytes)?, functions, &read_other);
        self.others = others.into_inner();
        compiled
    }
}

fn read(path: &Path, size_max_bytes: usize) -> Read {
    files::read(path, size_max_bytes).map_err(|error| error.to_string())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reloads the policies whenever their file changes or `nudges` says so, until
/// shutdown. Cancel safe: the `select!` waits and does no work.
pub async fn keep_current(
    limiter: &Limiter,
    mut file: PolicyFile,
    mut nudges: mpsc::Receiver<()>,
    shutdown: CancellationToken,
) {
    let (mut watch, mut changed) = Watch::new();
    loop {
        for folder in file.folders() {
            if let Err(error) = watch.add(&folder) {
                let folder = folder.display();
                tracing::warn!(%error, %folder, poll = ?POLL, "cannot watch a folder");
            }
        }
        let forced = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = changed.recv() => false,
            Some(()) = nudges.recv() => true,
            () = time::sleep(POLL) => false,
        };
        if !forced {
            tokio::select! {
                () = time::sleep(DEBOUNCE) => {}
                Some(()) = nudges.recv() => {}
            }
        }
        while changed.try_recv().is_ok() {}
        reload(limiter, &mut file, forced);
    }
}

/// Puts in force what the file says, if that is something else. Who `asked` is told
/// also if it is not.
fn reload(limiter: &Limiter, file: &mut PolicyFile, asked: bool) {
    let functions = Functions::new(limiter.store().functions());
    match file.load_if_changed(&functions) {
        None if asked => tracing::info!("policies not reloaded: the file says what it said"),
        None => {}
        Some(Ok(policies)) => {
            let policy_count = policies.policies().len();
            let changes = policies.changes_since(limiter.live().policies());
            let generation = limiter.swap(policies);
            tracing::info!(generation, policy_count, "policies reloaded");
            for change in changes {
                tracing::info!(generation, %change, "a policy changed");
            }
        }
        Some(Err(problems)) => {
            limiter.refuse();
            let generation = limiter.live().generation();
            tracing::error!(
                generation,
                problem_count = problems.len(),
                "policies not reloaded, the live set stays in force\n{problems}"
            );
        }
    }
}
