//! The disk: the one place that touches the log's files.
//!
//! Every step whose order matters for a crash is a method here, so that what a
//! power cut can leave behind is decided in one file:
//!
//! - a new file is synced, and its folder too, before anything names it;
//! - a file that is replaced is written beside, synced, renamed, and the folder
//!   synced: a reader sees the old one or the new one, whole;
//! - a file whose write or sync failed is never written or synced again: after
//!   a failed sync the kernel may have dropped the very pages it reports clean.
//!
//! # Not here
//!
//! What the bytes mean, and when any of this happens.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::{Error, Op};

/// The folder inside the data directory that holds the log, as Redis names it.
const FOLDER: &str = "appendonlydir";
/// Locked while a process owns the log. Redis ignores it.
const LOCK_FILE: &str = "weir.lock";
/// What names of unfinished files start with.
pub const TEMP_PREFIX: &str = "temp-";

/// The folder of the log, locked. The lock dies with the process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
}

impl Directory {
    /// Opens the log's folder in `dir`, both made if missing, and locks it.
    ///
    /// # Errors
    /// The operating system refuses, or another process has it.
    pub fn open(dir: &Path) -> Result<Directory, Error> {
        let path = dir.join(FOLDER);
        let dir_is_new = !dir.exists();
        std::fs::create_dir_all(&path).map_err(Error::io(Op::Create, &path))?;
        sync_folder(dir)?;
        if dir_is_new {
            sync_folder(dir.parent().unwrap_or(dir))?;
        }
        let lock = lock(dir, &path.join(LOCK_FILE))?;
        let handle = File::open(&path).map_err(Error::io(Op::Open, &path))?;
        Ok(Directory { path, handle, _lock: lock })
    }

    /// Where the file `name` is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a small file, at most `len_max` bytes of it; `None` if
    /// there is no such file.
    pub fn read_small(&self, name: &str, len_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path_of(name);
        let mut content = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened
                .and_then(|file| file.take(len_max).read_to_end(&mut content))
                .map_err(Error::io(Op::Read, &path))?,
        };
        Ok(Some(content))
    }

    /// Opens a file of the log for reading, with its length.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not there.
    pub fn open_to_read(&self, name: &str) -> Result<(File, u64), Error> {
        let path = self.path_of(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::Missing { path });
            }
            opened => opened.map_err(Error::io(Op::Open, &path))?,
        };
        let len = file.metadata().map_err(Error::io(Op::Read, &path))?.len();
        Ok((file, len))
    }

    /// Opens an incr file for appending at its end.
    pub fn open_to_append(&self, name: &str) -> Result<AppendFile, Error> {
        let path = self.path_of(name);
        let file =
            OpenOptions::new().append(true).open(&path).map_err(Error::io(Op::Open, &path))?;
        let len = file.metadata().map_err(Error::io(Op::Read, &path))?.len();
        Ok(AppendFile::new(file, path, len))
    }

    /// Makes an incr file that holds `head`, durable with its name.
    pub fn create_incr(&self, name: &str, head: &[u8]) -> Result<AppendFile, Error> {
        let file = self.create(name)?;
        file.append(head)?;
        file.sync()?;
        self.sync()?;
        Ok(file)
    }

    /// Makes an empty file, in the place of one that a crash left behind: never
    /// in its inode, which a failed disk may have spoiled and a thread may still
    /// hold. Durable only once the file and the folder are synced.
    pub fn create(&self, name: &str) -> Result<AppendFile, Error> {
        self.remove(name)?;
        let path = self.path_of(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        Ok(AppendFile::new(file.map_err(Error::io(Op::Create, &path))?, path, 0))
    }

    /// Puts a small file in the place of `name`, whole and durable, or not at all.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let temp = format!("{TEMP_PREFIX}{name}");
        let file = self.create(&temp)?;
        file.append(content)?;
        file.sync()?;
        self.rename(&temp, name)
    }

    /// Gives a synced file its final name, durably.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (self.path_of(from), self.path_of(to));
        std::fs::rename(&from, &to).map_err(Error::io(Op::Rename, &from))?;
        self.sync()
    }

    /// Deletes a file; one that is gone already is fine.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path_of(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io(Op::Remove, &path)),
        }
    }

    /// Cuts the tail off a file, durably.
    pub fn cut(&self, name: &str, len: u64) -> Result<(), Error> {
        let path = self.path_of(name);
        let file =
            OpenOptions::new().write(true).open(&path).map_err(Error::io(Op::Open, &path))?;
        file.set_len(len).map_err(Error::io(Op::Cut, &path))?;
        file.sync_all().map_err(Error::io(Op::Sync, &path))
    }

    /// The names in the folder, those that are UTF-8.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let listed = std::fs::read_dir(&self.path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
        });
        let names = listed.map_err(Error::io(Op::List, &self.path))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Makes the names of the folder durable.
    fn sync(&self) -> Result<(), Error> {
        self.handle.sync_all().map_err(Error::io(Op::Sync, &self.path))
    }
}

/// Makes the names in `folder` durable.
fn sync_folder(folder: &Path) -> Result<(), Error> {
    // An empty path is the working directory, which cannot be opened by it.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|handle| handle.sync_all()).map_err(Error::io(Op::Sync, folder))
}

/// Takes the lock and says in it who has it. The kernel lets go of it when the
/// process ends, however it ends, so a stale lock cannot exist.
fn lock(dir: &Path, path: &Path) -> Result<File, Error> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io(Op::Lock, path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Who it is helps, but not knowing is no reason to say less.
            let _ = file.take(32).read_to_string(&mut owner);
            return Err(Error::InUse { dir: dir.to_owned(), pid: owner.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => {
            return Err(Error::Io { op: Op::Lock, path: path.to_owned(), source });
        }
    }
    let owner = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(owner.as_bytes()))
        .map_err(Error::io(Op::Lock, path))?;
    Ok(file)
}

/// A file that only grows, written by one thread and synced by any.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
    path: PathBuf,
    len: AtomicU64,
    failed: AtomicBool,
}

impl AppendFile {
    fn new(file: File, path: PathBuf, len: u64) -> AppendFile {
        AppendFile { file, path, len: AtomicU64::new(len), failed: AtomicBool::new(false) }
    }

    /// Hands `bytes` to the operating system, all of them or none: what a full
    /// disk took is cut back, so that the file ends where a record ends.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        self.refuse_if_failed(Op::Write)?;
        let written = (&self.file).write_all(bytes);
        if written.is_ok() {
            self.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        } else {
            self.failed.store(true, Ordering::Relaxed);
            // If even this fails, the next start finds a torn tail and cuts it.
            let _ = self.file.set_len(self.len());
        }
        written.map_err(Error::io(Op::Write, &self.path))
    }

    /// Forces what was appended to the disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.refuse_if_failed(Op::Sync)?;
        let synced = self.file.sync_data();
        self.failed.fetch_or(synced.is_err(), Ordering::Relaxed);
        synced.map_err(Error::io(Op::Sync, &self.path))
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn refuse_if_failed(&self, op: Op) -> Result<(), Error> {
        if self.failed.load(Ordering::Relaxed) {
            let source = std::io::Error::other("an earlier write or sync of this file failed");
            return Err(Error::Io { op, path: self.path.clone(), source });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let refused = Directory::open(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "{} is in use by another process (pid {})",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(refused, expected);
        drop(first);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        for content in ["first", "second, longer", "3"] {
            directory.replace("manifest", content.as_bytes()).unwrap();
            let read = directory.read_small("manifest", 1024).unwrap().unwrap();
            assert_eq!(read, content.as_bytes());
        }
        let mut names = directory.names().unwrap();
        names.sort();
        assert_eq!(names, ["manifest", LOCK_FILE]);
    }

    #[test]
    fn a_file_that_failed_once_is_not_written_or_synced_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("read-only");
        std::fs::write(&path, "as it was").unwrap();
        let file = AppendFile::new(File::open(&path).unwrap(), path.clone(), 9);
        assert!(file.append(b"more").is_err());
        assert!(file.sync().unwrap_err().to_string().starts_with("cannot sync"));
        assert_eq!(std::fs::read(&path).unwrap(), b"as it was");
        assert_eq!(file.len(), 9);
    }
}
