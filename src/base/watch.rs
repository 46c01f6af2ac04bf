//! A watch over folders: tells when something in them may have changed.
//!
//! *Folders* are watched, not files: editors replace a file by renaming another onto
//! it, and Kubernetes swaps a symlink, after which a watch on the file itself hears
//! nothing. What is told means "maybe": whoever hears it reads the files and compares.
//! Some file systems tell nothing, so he does that now and then in any case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// A watch over folders, which lasts until it is dropped.
#[derive(Debug)]
pub struct Watch {
    /// `None` where the system has no watches to give.
    watcher: Option<RecommendedWatcher>,
    /// Those that could not be watched included.
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// A watch over no folder yet, and where it tells of changes: of several that
    /// nobody has heard of yet, once.
    pub fn new() -> (Watch, mpsc::Receiver<()>) {
        let (events, changed) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !event.is_ok_and(|event| is_only_read(event.kind)) {
                // Full means that a look at the files is due anyway.
                let _ = events.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "folders cannot be watched; files are read now and then");
        });
        (Watch { watcher: watcher.ok(), folders: BTreeSet::new() }, changed)
    }

    /// Watches this folder too, if it does not yet. One that cannot be watched is not
    /// tried again.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn add(&mut self, folder: &Path) -> notify::Result<()> {
        match &mut self.watcher {
            Some(watcher) if self.folders.insert(folder.to_owned()) => {
                watcher.watch(folder, RecursiveMode::NonRecursive)
            }
            _ => Ok(()),
        }
    }
}

/// Opening a file to read it is an event too, and must not cause another.
fn is_only_read(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        kind => kind.is_access(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time;

    use super::*;

    /// Longer than any event takes to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_is_written_renamed_or_removed_is_told_and_what_is_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&file, "1").unwrap();
        let (mut watch, mut changed) = Watch::new();
        watch.add(folder.path()).unwrap();
        watch.add(folder.path()).unwrap();
        let changes: [&dyn Fn(); 3] =
            [&|| fs::write(&file, "2").unwrap(), &|| fs::rename(&file, &other).unwrap(), &|| {
                fs::remove_file(&other).unwrap()
            }];
        for change in changes {
            change();
            time::timeout(PATIENCE, changed.recv()).await.unwrap().unwrap();
        }
        for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read)] {
            assert!(is_only_read(EventKind::Access(kind)), "{kind:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_once() {
        let (mut watch, _changed) = Watch::new();
        let folder = Path::new("/nonexistent/folder");
        assert!(watch.add(folder).is_err());
        assert!(watch.add(folder).is_ok());
    }
}
