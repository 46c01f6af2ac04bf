//! A disk for tests: it remembers what was synced, and loses the rest in every
//! way that a real one does.
//!
//! Each file and each folder has two faces: what a process sees, and what is on
//! the disk. In between stand the changes that were not synced. When the power
//! goes, any of them may have reached the disk and any may not, in any order; a
//! write may be torn at any byte, and where a later one was kept, zeros stand in
//! for an earlier one.
//!
//! A sync that fails loses for ever what it should have forced to the disk, though
//! the process goes on to see it, and a later sync succeeds: that is what Linux
//! does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Handle, How, Volume};

/// A generator of numbers that repeats for a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    on_disk: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(String, usize),
    Remove(String),
}

/// What a call that was told to fail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is broken.
    Broken,
    /// The disk is full; a write takes half of its bytes before.
    Full,
    /// The process dies here: no call succeeds from now on.
    Death,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    seen: BTreeMap<String, usize>,
    on_disk: BTreeMap<String, usize>,
    unsynced: Vec<NameChange>,
    /// Calls that may fail, so far.
    call_count: u64,
    /// The call that fails next, and how.
    fault: Option<(u64, Fault)>,
    /// Bytes that all files may hold.
    room: Option<usize>,
    /// Every call fails: the process is gone.
    is_dead: bool,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    /// A disk that holds these files in the log's folder, safely.
    pub fn holding<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Simulated {
        let disk = Simulated::default();
        for (name, bytes) in files {
            let mut state = disk.state();
            let file = state.files.len();
            state.files.push(Content {
                seen: bytes.to_vec(),
                on_disk: bytes.to_vec(),
                unsynced: Vec::new(),
            });
            let name = format!("{}/{name}", super::FOLDER);
            state.seen.insert(name.clone(), file);
            state.on_disk.insert(name, file);
        }
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Calls that could have failed, so far.
    pub fn call_count(&self) -> u64 {
        self.state().call_count
    }

    /// Lets the call of this number fail, once.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().fault = Some((call, fault));
    }

    /// Lets one of the next calls fail.
    pub fn fail_within(&self, calls: usize, fault: Fault, random: &mut Random) {
        let call = self.call_count() + 1 + random.below(calls) as u64;
        self.fail_at(call, fault);
    }

    /// Leaves so much room beyond what there is; `None`: any.
    pub fn set_room(&self, room: Option<usize>) {
        let mut state = self.state();
        let used = state.used();
        state.room = room.map(|room| used + room);
    }

    /// Every handle of before fails from now on: the process was killed.
    fn kill(&self) -> State {
        let mut state = self.state();
        state.is_dead = true;
        State {
            files: state.files.clone(),
            seen: state.seen.clone(),
            on_disk: state.on_disk.clone(),
            unsynced: state.unsynced.clone(),
            ..State::default()
        }
    }

    /// The process is killed; the kernel goes on. What the next one finds.
    pub fn killed(&self) -> Simulated {
        Simulated(Arc::new(Mutex::new(self.kill())))
    }

    /// The power goes. What is there when it is back.
    pub fn without_power(&self, random: &mut Random) -> Simulated {
        let mut state = self.kill();
        let mut names = state.on_disk;
        let keeps = random.below(state.unsynced.len() + 1);
        let in_order = random.one_in(2);
        for (index, change) in state.unsynced.into_iter().enumerate() {
            if if in_order { index >= keeps } else { random.one_in(2) } {
                continue;
            }
            match change {
                NameChange::Put(name, file) => {
                    names.retain(|_, other| *other != file);
                    names.insert(name, file);
                }
                NameChange::Remove(name) => drop(names.remove(&name)),
            }
        }
        for file in &mut state.files {
            file.lose(random);
        }
        let state =
            State { files: state.files, seen: names.clone(), on_disk: names, ..State::default() };
        Simulated(Arc::new(Mutex::new(state)))
    }
}

impl Content {
    /// Who reads `len` bytes from `from` on reads the disk from now on, where nothing is
    /// still to be written there.
    fn forget(&mut self, from: usize, len: usize) {
        let mut read = self.on_disk.clone();
        read.resize(self.seen.len(), 0);
        for change in &self.unsynced {
            if let Change::Write { at, bytes } = change {
                for (to, from) in read.iter_mut().skip(*at).zip(bytes) {
                    *to = *from;
                }
            }
        }
        let forgotten = from..from.saturating_add(len).min(read.len());
        self.seen[forgotten.clone()].copy_from_slice(&read[forgotten]);
    }

    /// Decides what of the unsynced changes is on the disk.
    fn lose(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { at, bytes } => {
                    let kept = match random.below(4) {
                        0 => 0,
                        1 => random.below(bytes.len() + 1),
                        _ => bytes.len(),
                    };
                    if kept == 0 {
                        continue;
                    }
                    if self.on_disk.len() < at + kept {
                        self.on_disk.resize(at + kept, 0);
                    }
                    self.on_disk[at..at + kept].copy_from_slice(&bytes[..kept]);
                }
                Change::Cut { len } if random.one_in(2) => self.on_disk.truncate(len),
                Change::Cut { .. } => {}
            }
        }
        self.seen = self.on_disk.clone();
    }
}

impl State {
    fn used(&self) -> usize {
        self.seen.values().map(|file| self.files[*file].seen.len()).sum()
    }

    /// Counts a call; fails if it was told to.
    fn call(&mut self) -> Result<(), (io::Error, Fault)> {
        self.call_count += 1;
        if self.is_dead {
            return Err((error(Fault::Broken), Fault::Broken));
        }
        match self.fault {
            Some((call, fault)) if call <= self.call_count => {
                self.fault = None;
                self.is_dead = fault == Fault::Death;
                Err((error(fault), fault))
            }
            _ => Ok(()),
        }
    }
}

fn error(fault: Fault) -> io::Error {
    io::Error::from(match fault {
        Fault::Broken | Fault::Death => ErrorKind::Other,
        Fault::Full => ErrorKind::StorageFull,
    })
}

fn told((error, _): (io::Error, Fault)) -> io::Error {
    error
}

impl Volume for Simulated {
    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("/disk").join(name)
    }

    fn open(&self, name: &str, how: How) -> io::Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.call().map_err(told)?;
        let file = match (state.seen.get(name), how) {
            (Some(_), How::Create) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(file), _) => *file,
            (None, How::Create) => {
                let file = state.files.len();
                state.files.push(Content::default());
                state.seen.insert(name.to_owned(), file);
                state.unsynced.push(NameChange::Put(name.to_owned(), file));
                file
            }
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Box::new(OpenFile { disk: self.clone(), file, position: Mutex::new(0) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call().map_err(told)?;
        let file = state.seen.remove(from).ok_or(ErrorKind::NotFound)?;
        state.seen.insert(to.to_owned(), file);
        state.unsynced.push(NameChange::Put(to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.seen.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.call().map_err(told)?;
        state.seen.remove(name);
        state.unsynced.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.call().map_err(told)?;
        let inside = |name: &String| match folder {
            "" => (!name.contains('/')).then(|| name.clone()),
            folder => name.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned),
        };
        Ok(state.seen.keys().filter_map(inside).collect())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call().map_err(told)?;
        state.on_disk = state.seen.clone();
        state.unsynced.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: Simulated,
    file: usize,
    position: Mutex<usize>,
}

impl Handle for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].seen.len() as u64)
    }

    fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let mut position = self.position.lock().unwrap();
        let rest = &state.files[self.file].seen[*position..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        *position += count;
        Ok(count)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let called = state.call();
        let fault = called.as_ref().err().map(|(_, fault)| *fault);
        let left = state.room.map_or(usize::MAX, |room| room.saturating_sub(state.used()));
        let count = match fault {
            Some(Fault::Broken) => 0,
            // Half of it, and the rest fails when it is tried.
            Some(Fault::Full | Fault::Death) => bytes.len() / 2,
            None => bytes.len().min(left),
        };
        let file = &mut state.files[self.file];
        let at = file.seen.len();
        file.seen.extend_from_slice(&bytes[..count]);
        file.unsynced.push(Change::Write { at, bytes: bytes[..count].to_vec() });
        match fault {
            Some(Fault::Full) if count > 0 => {
                state.fault = Some((state.call_count + 1, Fault::Full));
                Ok(count)
            }
            Some(fault) => Err(error(fault)),
            None if count == 0 && !bytes.is_empty() => Err(error(Fault::Full)),
            None => Ok(count),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.call().map_err(told)?;
        let at = offset as usize;
        let file = &mut state.files[self.file];
        file.seen[at..at + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push(Change::Write { at, bytes: bytes.to_vec() });
        Ok(bytes.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call().map_err(told)?;
        let file = &mut state.files[self.file];
        file.seen.resize(len as usize, 0);
        file.unsynced.push(Change::Cut { len: len as usize });
        Ok(())
    }

    fn begin_sync(&self, _from: u64, _len: u64) {
        // What is not synced may be on the disk or not, in any case.
    }

    fn forget(&self, from: u64, len: u64) {
        self.disk.state().files[self.file].forget(from as usize, len as usize);
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let called = state.call();
        let file = &mut state.files[self.file];
        if let Err((error, fault)) = called {
            if fault != Fault::Death {
                file.unsynced.clear();
            }
            return Err(error);
        }
        for change in std::mem::take(&mut file.unsynced) {
            match change {
                Change::Write { at, bytes } => {
                    let end = at + bytes.len();
                    if file.on_disk.len() < end {
                        file.on_disk.resize(end, 0);
                    }
                    file.on_disk[at..end].copy_from_slice(&bytes);
                }
                Change::Cut { len } => file.on_disk.truncate(len),
            }
        }
        Ok(())
    }
}
