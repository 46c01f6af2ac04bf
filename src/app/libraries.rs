//! The libraries to load: those that ship with the binary, and the files of the
//! `functions` folder.
//!
//! A file takes the place of the shipped library of the same file name, so a
//! released binary needs no folder, and a user edits a copy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::Library;

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
        let code = fs::read_to_string(&path).map_err(|source| {
            let path = path.clone();
            Error { path, source }
        })?;
        libraries.push(Library { origin: path.display().to_string(), code });
    }
    Ok(libraries)
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
