//! The disk: how the log's files are made, replaced and grown.
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
//! [`Volume`] is what the operating system gives: [`real`], or in tests one that
//! fails and loses power as it is told.
//!
//! # Not here
//!
//! What the bytes mean, and when any of this happens.

mod real;
#[cfg(test)]
pub mod simulated;

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::{Error, Op};
use real::Real;

/// The folder inside the data directory that holds the log, as Redis names it.
pub const FOLDER: &str = "appendonlydir";
/// What names of unfinished files start with.
pub const TEMP_PREFIX: &str = "temp-";

/// How much of a file is let go of in memory at once.
pub const FORGET_STEP: u64 = 256 << 10;

/// How much is written over itself at once.
const REFRESH_CHUNK_LEN: usize = 256 << 10;

/// What an operating system does for the log. Names are paths below the data
/// directory. The tests have one that loses power.
pub trait Volume: Debug + Send + Sync {
    /// Where `name` is, for messages.
    fn path_of(&self, name: &str) -> PathBuf;
    /// Opens a file.
    fn open(&self, name: &str, how: How) -> io::Result<Box<dyn Handle>>;
    /// Gives a file another name, in the place of one that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names in a folder.
    fn names(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// To be read.
    Read,
    /// To be appended to.
    Append,
    /// New, to be appended to.
    Create,
    /// To be cut, or written over.
    Change,
    /// For hints alone. Waits for nobody: what stands under the name may be a pipe.
    Hint,
}

/// An open file.
pub trait Handle: Debug + Send + Sync {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Reads on; 0 at the end.
    fn read(&self, out: &mut [u8]) -> io::Result<usize>;
    /// Appends the beginning of `bytes`; how much of it.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Writes the beginning of `bytes` over what stands at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Sets its length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Asks for its bytes from `from` on, `len` of them, to be on their way to the disk.
    /// Promises nothing and does not fail: the next [`sync`](Handle::sync) says how it went.
    fn begin_sync(&self, from: u64, len: u64);
    /// Says that its bytes from `from` on, `len` of them, will not be read soon, so that
    /// they need not be kept in memory. Promises nothing and does not fail.
    fn forget(&self, from: u64, len: u64);
    /// Forces its content to the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of a volume: the log's, or the data directory itself.
#[derive(Clone, Debug)]
pub struct Directory {
    volume: Arc<dyn Volume>,
    /// Below the data directory; empty for that itself.
    folder: &'static str,
}

impl Directory {
    /// Opens the log's folder in `dir`, both made if missing, and locks it. The
    /// lock dies with the process.
    ///
    /// # Errors
    /// The operating system refuses, or another process has it.
    pub fn open(dir: &Path) -> Result<Directory, Error> {
        Ok(Directory::on(Arc::new(Real::open(dir)?)))
    }

    /// Opens the log's folder in `dir` only to look at it. Makes nothing and
    /// locks nothing.
    pub fn open_to_look(dir: &Path) -> Directory {
        Directory::on(Arc::new(Real::open_to_look(dir)))
    }

    /// The log's folder of a volume.
    pub fn on(volume: Arc<dyn Volume>) -> Directory {
        Directory { volume, folder: FOLDER }
    }

    /// The data directory, in which the log's folder is.
    pub fn parent(&self) -> Directory {
        Directory { volume: self.volume.clone(), folder: "" }
    }

    /// The name of `name` on the volume.
    fn inner(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// Where the file `name` is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.volume.path_of(&self.inner(name))
    }

    fn open_file(&self, name: &str, how: How) -> io::Result<Box<dyn Handle>> {
        self.volume.open(&self.inner(name), how)
    }

    /// The content of a small file, at most `len_max` bytes of it; `None` if
    /// there is no such file.
    pub fn read_small(&self, name: &str, len_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.open_to_read(name) {
            Err(Error::Missing { .. }) => return Ok(None),
            opened => opened?.0,
        };
        let mut content = Vec::new();
        let read = file.take(len_max).read_to_end(&mut content);
        read.map_err(Error::io(Op::Read, &self.path_of(name)))?;
        Ok(Some(content))
    }

    /// Opens a file of the log for reading, with its length.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not there.
    pub fn open_to_read(&self, name: &str) -> Result<(ReadFile, u64), Error> {
        let path = self.path_of(name);
        let file = match self.open_file(name, How::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::Missing { path });
            }
            opened => opened.map_err(Error::io(Op::Open, &path))?,
        };
        let len = file.len().map_err(Error::io(Op::Read, &path))?;
        Ok((ReadFile(file), len))
    }

    /// Opens an incr file for appending at its end.
    pub fn open_to_append(&self, name: &str) -> Result<AppendFile, Error> {
        let path = self.path_of(name);
        let file = self.open_file(name, How::Append).map_err(Error::io(Op::Open, &path))?;
        let len = file.len().map_err(Error::io(Op::Read, &path))?;
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
        let file = self.open_file(name, How::Create).map_err(Error::io(Op::Create, &path))?;
        Ok(AppendFile::new(file, path, 0))
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
        let renamed = self.volume.rename(&self.inner(from), &self.inner(to));
        renamed.map_err(Error::io(Op::Rename, &self.path_of(from)))?;
        self.sync()
    }

    /// Deletes a file; one that is gone already is fine.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        match self.volume.remove(&self.inner(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io(Op::Remove, &self.path_of(name))),
        }
    }

    /// Files that are about to be deleted, those of `names` that can be opened.
    pub fn outgoing<'a>(&self, names: impl Iterator<Item = &'a str>) -> Outgoing {
        let open = |name| {
            let file = self.open_file(name, How::Hint).ok()?;
            let len = file.len().ok()?;
            Some((file, len))
        };
        Outgoing { files: names.filter_map(open).collect(), forgotten: 0 }
    }

    /// Cuts the tail off a file, durably.
    pub fn cut(&self, name: &str, len: u64) -> Result<(), Error> {
        let path = self.path_of(name);
        let file = self.open_file(name, How::Change).map_err(Error::io(Op::Open, &path))?;
        file.set_len(len).map_err(Error::io(Op::Cut, &path))?;
        file.sync().map_err(Error::io(Op::Sync, &path))
    }

    /// Copies a file to `NAME.damaged` beside it, durably.
    pub fn keep(&self, name: &str) -> Result<(), Error> {
        let from = self.open_to_read(name)?.0;
        let copy = self.create(&format!("{name}.damaged"))?;
        fill(&copy, from, &self.path_of(name))?;
        self.sync()
    }

    /// Moves a file of the data directory into the folder, durably.
    pub fn move_in(&self, name: &str) -> Result<(), Error> {
        let parent = self.parent();
        let moved = self.volume.rename(&parent.inner(name), &self.inner(name));
        moved.map_err(Error::io(Op::Rename, &parent.path_of(name)))?;
        self.sync()?;
        parent.sync()
    }

    /// Copies a file of the data directory into the folder under another name: it
    /// is there whole and durable, or not at all.
    pub fn copy_in(&self, name: &str, to: &str) -> Result<(), Error> {
        let parent = self.parent();
        let from = parent.open_to_read(name)?.0;
        let temp = format!("{TEMP_PREFIX}{to}");
        fill(&self.create(&temp)?, from, &parent.path_of(name))?;
        self.rename(&temp, to)
    }

    /// Writes what a file holds from `offset` on once more over itself, durably.
    ///
    /// Its last owner may have failed to sync it: the kernel then shows bytes that
    /// it holds to be on disk and that are not, and a sync alone would do nothing.
    pub fn refresh(&self, name: &str, mut offset: u64) -> Result<(), Error> {
        let path = self.path_of(name);
        let file = self.open_file(name, How::Change).map_err(Error::io(Op::Open, &path))?;
        let mut rest = self.open_to_read(name)?.0;
        let skipped = io::copy(&mut (&mut rest).take(offset), &mut io::sink());
        skipped.map_err(Error::io(Op::Read, &path))?;
        let mut chunk = vec![0; REFRESH_CHUNK_LEN];
        loop {
            let len = rest.read(&mut chunk).map_err(Error::io(Op::Read, &path))?;
            if len == 0 {
                return file.sync().map_err(Error::io(Op::Sync, &path));
            }
            let mut left = &chunk[..len];
            while !left.is_empty() {
                let count = file.write_at(left, offset).map_err(Error::io(Op::Write, &path))?;
                left = &left[count..];
                offset += count as u64;
            }
        }
    }

    /// The names in the folder, those that are UTF-8. None where there is no folder.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        match self.volume.names(self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(Error::io(Op::List, &self.path_of(""))),
        }
    }

    /// Makes the names of the folder durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.volume.sync_folder(self.folder).map_err(Error::io(Op::Sync, &self.path_of("")))
    }
}

/// Fills an empty file with what `from`, which lies at `path`, holds, and syncs it.
fn fill(copy: &AppendFile, mut from: ReadFile, path: &Path) -> Result<(), Error> {
    let mut chunk = vec![0; REFRESH_CHUNK_LEN];
    loop {
        let len = from.read(&mut chunk).map_err(Error::io(Op::Read, path))?;
        if len == 0 {
            return copy.sync();
        }
        copy.append(&chunk[..len])?;
    }
}

/// Files that are about to be deleted, and what of them is kept in memory.
///
/// To delete a file of gigabytes is to free all that memory at once, which takes a core for
/// milliseconds at a time. So it is let go before, piece by piece; what is written
/// meanwhile finds it free. Whoever copies such a file goes on reading it, from the disk.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// With their lengths.
    files: Vec<(Box<dyn Handle>, u64)>,
    /// How much of the last of them is let go.
    forgotten: u64,
}

impl Outgoing {
    /// Lets go of the next piece of `len` bytes. False when there is nothing left.
    pub fn forget(&mut self, len: u64) -> bool {
        let Some((file, file_len)) = self.files.last() else { return false };
        file.forget(self.forgotten, len);
        self.forgotten += len;
        if self.forgotten >= *file_len {
            self.files.pop();
            self.forgotten = 0;
        }
        true
    }
}

/// A file that is read from front to back.
#[derive(Debug)]
pub struct ReadFile(Box<dyn Handle>);

impl Read for ReadFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

/// A file that only grows, written by one thread and synced by any.
#[derive(Debug)]
pub struct AppendFile {
    file: Box<dyn Handle>,
    path: PathBuf,
    len: AtomicU64,
    failed: AtomicBool,
}

impl AppendFile {
    fn new(file: Box<dyn Handle>, path: PathBuf, len: u64) -> AppendFile {
        AppendFile { file, path, len: AtomicU64::new(len), failed: AtomicBool::new(false) }
    }

    /// Hands `bytes` to the operating system, all of them or none: what a full
    /// disk took is cut back, so that the file ends where a record ends.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        self.refuse_if_failed(Op::Write)?;
        let written = self.write_all(bytes);
        if written.is_ok() {
            self.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        } else {
            self.failed.store(true, Ordering::Relaxed);
            // If even this fails, the next start finds a torn tail and cuts it.
            let _ = self.file.set_len(self.len());
        }
        written.map_err(Error::io(Op::Write, &self.path))
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has the disk begin with what was appended from `from` on, so that the next
    /// [`sync`](AppendFile::sync) finds little left to do. Does not wait until it is there.
    pub fn begin_sync(&self, from: u64) {
        if !self.failed.load(Ordering::Relaxed) {
            self.file.begin_sync(from, self.len().saturating_sub(from));
        }
    }

    /// Forces what was appended to the disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.refuse_if_failed(Op::Sync)?;
        let synced = self.file.sync();
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
        assert_eq!(names, ["manifest", "weir.lock"]);
    }

    #[test]
    fn a_file_that_failed_once_is_not_written_or_synced_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let path = directory.path_of("read-only");
        std::fs::write(&path, "as it was").unwrap();
        let read_only = directory.open_file("read-only", How::Read).unwrap();
        let file = AppendFile::new(read_only, path.clone(), 9);
        assert!(file.append(b"more").is_err());
        assert!(file.sync().unwrap_err().to_string().starts_with("cannot sync"));
        assert_eq!(std::fs::read(&path).unwrap(), b"as it was");
        assert_eq!(file.len(), 9);
    }
}
