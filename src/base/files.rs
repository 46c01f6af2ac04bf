//! Files that people write, read whole: bounded, and never waiting.
//!
//! Such a file may be replaced while it is read, may be a log someone named by
//! mistake, or no file at all.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a file of at most `size_max` bytes; one byte more is read of a larger
/// one, so that the caller can tell.
///
/// # Errors
/// It cannot be read, or is not a regular file: opening a FIFO would wait for a
/// writer, for ever.
pub fn read(path: &Path, size_max: usize) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(size_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_byte_over_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 3).unwrap(), b"1234");
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), 1).is_err());
        assert!(read(&folder.path().join("missing"), 1).is_err());
    }
}
