//! The operating system's files: the one place that touches them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::{FOLDER, Handle, How, Volume};
use crate::persist::error::{Error, Op};

/// Locked while a process owns the log. Redis ignores it.
const LOCK_FILE: &str = "weir.lock";

/// A data directory.
#[derive(Debug)]
pub struct Real {
    dir: PathBuf,
    _lock: Option<File>,
}

impl Real {
    /// Opens a data directory with the log's folder in it, both made if missing,
    /// and locks it.
    pub fn open(dir: &Path) -> Result<Real, Error> {
        let folder = dir.join(FOLDER);
        let dir_is_new = !dir.exists();
        std::fs::create_dir_all(&folder).map_err(Error::io(Op::Create, &folder))?;
        sync_folder(dir).map_err(Error::io(Op::Sync, dir))?;
        if dir_is_new {
            let parent = dir.parent().unwrap_or(dir);
            sync_folder(parent).map_err(Error::io(Op::Sync, parent))?;
        }
        let lock = lock(dir, &folder.join(LOCK_FILE))?;
        Ok(Real { dir: dir.to_owned(), _lock: Some(lock) })
    }

    /// A data directory that somebody else may own.
    pub fn open_to_look(dir: &Path) -> Real {
        Real { dir: dir.to_owned(), _lock: None }
    }
}

impl Volume for Real {
    fn path_of(&self, name: &str) -> PathBuf {
        // Without a name the folder itself, and no slash behind it.
        if name.is_empty() { self.dir.clone() } else { self.dir.join(name) }
    }

    fn open(&self, name: &str, how: How) -> io::Result<Box<dyn Handle>> {
        let mut options = OpenOptions::new();
        match how {
            How::Read => options.read(true),
            How::Append => options.append(true),
            How::Create => options.append(true).create_new(true),
            How::Change => options.write(true),
            How::Hint => options.read(true).custom_flags(libc::O_NONBLOCK),
        };
        Ok(Box::new(options.open(self.path_of(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path_of(from), self.path_of(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path_of(name))
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path_of(folder))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_folder(&self.path_of(folder))
    }
}

impl Handle for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, out)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    #[cfg(target_os = "linux")]
    fn begin_sync(&self, from: u64, len: u64) {
        let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) else { return };
        // Without one of the flags that wait, it takes no error from the next sync.
        #[expect(unsafe_code, reason = "neither std nor rustix has the call")]
        // SAFETY: it takes numbers only, and the descriptor is open as long as `self`.
        let _ = unsafe {
            libc::sync_file_range(self.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE)
        };
    }

    #[cfg(not(target_os = "linux"))]
    fn begin_sync(&self, _from: u64, _len: u64) {}

    fn forget(&self, from: u64, len: u64) {
        // It is a hint.
        let _ = fadvise(self, from, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the names in `folder` durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // An empty path is the working directory, which cannot be opened by it.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|handle| handle.sync_all())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Real::open(dir.path()).unwrap();
        let refused = Real::open(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "{} is in use by another process (pid {})",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(refused, expected);
        drop(first);
        Real::open(dir.path()).unwrap();
    }
}
