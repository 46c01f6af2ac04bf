//! The files of a log at its start: makes what a new log lacks, opens the active
//! file, and puts away what a crash or an older rewrite left.

use std::sync::Arc;

use super::replay::Loaded;
use crate::base::clock::Timestamp;
use crate::persist::base::encode;
use crate::persist::base::file::BaseFile;
use crate::persist::disk::{AppendFile, Directory, Outgoing, TEMP_PREFIX};
use crate::persist::error::Error;
use crate::persist::manifest::{self, Entry, Manifest};
use crate::persist::seal::{Place, Sealer};
use crate::persist::writer::Files;

/// Longest file that a first start makes.
pub const FIRST_FILE_LEN_MAX: u64 = 256;

/// The files of a log that is open.
#[derive(Debug)]
pub struct Opened {
    /// Those that make it up.
    pub files: Files,
    /// The last of them.
    pub active: Arc<AppendFile>,
    /// Seals what is appended to it.
    pub sealer: Sealer,
}

/// Opens the files of `manifest`, which have been loaded and end at `place`.
pub fn open(
    directory: &Directory,
    mut manifest: Manifest,
    place: Place,
    loaded: &Loaded,
    now: Timestamp,
) -> Result<Opened, Error> {
    make_safe(directory, &manifest, loaded)?;
    let before = manifest.clone();
    if manifest.base.is_none() && manifest.incrs.is_empty() {
        let base = manifest.next_base();
        write_empty_base(directory, &base, place, now)?;
        manifest.base = Some(base);
    }
    let head = place.run.head();
    let (active, sealer) = match manifest.incrs.last() {
        Some(last) if loaded.ends_sealed => {
            let active = directory.open_to_append(&last.name)?;
            let holds_head_alone = active.len() <= head.len() as u64;
            if active.len() == 0 {
                active.append(&head)?;
                active.sync()?;
            }
            (active, Sealer::after(if holds_head_alone { &head } else { &[] }))
        }
        _ => {
            let incr = manifest.next_incr();
            let active = directory.create_incr(&incr.name, &head)?;
            manifest = manifest.with_incr(incr);
            (active, Sealer::after(&head))
        }
    };
    if manifest != before {
        directory.replace(manifest::FILE_NAME, manifest.encode().as_bytes())?;
    }
    let (base_len, earlier_incrs_len) = lengths(directory, &manifest)?;
    tidy(directory, &manifest)?;
    let active = Arc::new(active);
    let files = Files {
        last_base_seq: manifest.next_base().seq - 1,
        last_incr_seq: manifest.next_incr().seq - 1,
        base_len,
        earlier_incrs_len,
        size_after_rewrite: base_len,
        incrs: vec![active.clone()],
        manifest,
    };
    Ok(Opened { files, active, sealer })
}

/// What was loaded is taken for safe from now on, and may be in memory alone, file
/// and name: a killed process leaves that to the kernel.
fn make_safe(directory: &Directory, manifest: &Manifest, loaded: &Loaded) -> Result<(), Error> {
    for entry in manifest.load_order() {
        directory.open_to_append(&entry.name)?.sync()?;
    }
    if let Some(last) = manifest.incrs.last()
        && loaded.claimed < loaded.position
    {
        directory.refresh(&last.name, loaded.unclaimed_offset)?;
    }
    directory.sync()
}

/// Length of the base file, and of the incr files before the active one.
fn lengths(directory: &Directory, manifest: &Manifest) -> Result<(u64, u64), Error> {
    let len = |entry: &Entry| directory.open_to_read(&entry.name).map(|(_, len)| len);
    let base_len = manifest.base.as_ref().map_or(Ok(0), len)?;
    let earlier = &manifest.incrs[..manifest.incrs.len() - 1];
    let earlier_len = earlier.iter().map(len).sum::<Result<u64, Error>>()?;
    Ok((base_len, earlier_len))
}

/// The snapshot of a keyspace without keys.
fn write_empty_base(
    directory: &Directory,
    base: &Entry,
    place: Place,
    now: Timestamp,
) -> Result<(), Error> {
    let temp = format!("{TEMP_PREFIX}{}", base.name);
    let mut file = BaseFile::new(directory.create(&temp)?, Outgoing::default(), Arc::default());
    encode::head(&mut file.buffer, now, Some(place));
    file.seal()?;
    directory.rename(&temp, &base.name)
}

/// Removes unfinished files. A file of the log that the manifest does not name
/// is left alone and pointed out: it may be what somebody wants back.
fn tidy(directory: &Directory, manifest: &Manifest) -> Result<(), Error> {
    let unfinished = format!("{TEMP_PREFIX}{}", manifest::PREFIX);
    for name in directory.names()? {
        let known = name == manifest::FILE_NAME || manifest.entries().any(|it| it.name == name);
        if name.starts_with(&unfinished) {
            directory.remove(&name)?;
        } else if name.starts_with(manifest::PREFIX) && !known {
            let file = directory.path_of(&name);
            tracing::warn!(file = %file.display(), "not named by the manifest; ignored");
        }
    }
    Ok(())
}
