//! Hot reload: keeps the policies in force equal to the file, as long as the
//! file is right.
//!
//! The *folder* of the file is watched, not the file: editors replace a file by
//! renaming another onto it, and Kubernetes swaps a symlink, after which a
//! watch on the file itself hears nothing. Any event means "maybe": the file is
//! read 100 ms later, and what counts is whether its text differs from the text
//! read last. File systems without events are read every 30 s.
//!
//! A file that is missing, unreadable or wrong leaves the live set in force, is
//! said in the log and in a metric, and is tried again at the next change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::base::files;
use crate::base::problems::{Problem, Problems};
use crate::base::yaml;
use crate::policy::{self, Functions, PolicySet};

use super::Limiter;

/// How long after the first event of a burst the file is read: an editor
/// takes several steps to replace a file.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How often the file is read where the file system tells nothing.
const POLL: Duration = Duration::from_secs(30);

/// The policy file, and what it said when it was last read.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    last_read: Option<Result<Vec<u8>, String>>,
}

impl PolicyFile {
    /// The file at `path`, not read yet.
    pub fn new(path: PathBuf) -> PolicyFile {
        PolicyFile { path, last_read: None }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and compiles the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&mut self, functions: &Functions) -> Result<PolicySet, Problems> {
        let read = files::read(&self.path, yaml::SIZE_MAX_BYTES).map_err(|error| error.to_string());
        self.last_read = Some(read.clone());
        self.compile(read, functions)
    }

    /// Like [`PolicyFile::load`], but `None` when the file says what it said
    /// last time.
    pub fn load_if_changed(
        &mut self,
        functions: &Functions,
    ) -> Option<Result<PolicySet, Problems>> {
        let read = files::read(&self.path, yaml::SIZE_MAX_BYTES).map_err(|error| error.to_string());
        if self.last_read.as_ref() == Some(&read) {
            return None;
        }
        self.last_read = Some(read.clone());
        Some(self.compile(read, functions))
    }

    fn compile(
        &self,
        read: Result<Vec<u8>, String>,
        functions: &Functions,
    ) -> Result<PolicySet, Problems> {
        let file = self.path.display().to_string();
        match read {
            Ok(bytes) => policy::compile(&file, yaml::text(&file, &bytes)?, functions),
            Err(error) => {
                let problem = Problem::new("", format!("cannot be read: {error}"));
                Err(Problems::from(Problem { file, ..problem }))
            }
        }
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
    let (events, mut changed) = mpsc::channel(1);
    // Held for as long as this task lives; dropping it would end the watch.
    let _watcher = watch(&file, events)
        .inspect_err(|error| {
            tracing::warn!(%error, poll = ?POLL, "cannot watch the policy file's folder");
        })
        .ok();
    loop {
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
        reload(limiter, &mut file);
    }
}

fn watch(file: &PolicyFile, events: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Opening the file to read it is an event too, and must not cause another.
        let only_read = |kind: &EventKind| match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            kind => kind.is_access(),
        };
        if !event.is_ok_and(|event| only_read(&event.kind)) {
            // Full means that a look at the file is due anyway.
            let _ = events.try_send(());
        }
    })?;
    let folder = match file.path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn reload(limiter: &Limiter, file: &mut PolicyFile) {
    let functions = Functions::new(limiter.store().functions());
    match file.load_if_changed(&functions) {
        None => {}
        Some(Ok(policies)) => {
            let policy_count = policies.policies().len();
            let generation = limiter.swap(policies);
            tracing::info!(generation, policy_count, "policies reloaded");
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
