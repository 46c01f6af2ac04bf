//! Where the lines come from: a file, plain or gzip, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// A longer line is not understood; a log that is none must not fill the memory.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What a gzip file begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Lines, one after the other.
pub struct Lines {
    reader: Box<dyn BufRead>,
    bytes_read: Arc<AtomicU64>,
    /// Bytes of the file as it lies on disk; `None` for standard input.
    pub bytes_total: Option<u64>,
    line: Vec<u8>,
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.count.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path) -> io::Result<Lines> {
        if path == Path::new("-") {
            return Lines::of(io::stdin(), None);
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Lines::of(file, Some(len))
    }

    fn of(input: impl Read + 'static, bytes_total: Option<u64>) -> io::Result<Lines> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: input, count: Arc::clone(&bytes_read) };
        let mut reader = BufReader::with_capacity(256 << 10, counted);
        let is_gzip = reader.fill_buf()?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        Ok(Lines { reader, bytes_read, bytes_total, line: Vec::new() })
    }

    /// Bytes read so far, as they lie on disk.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The next line, without its end; bytes that are no UTF-8 are replaced. A
    /// line that is too long comes cut.
    ///
    /// # Errors
    /// The file cannot be read on, or its gzip form is damaged.
    pub fn next(&mut self) -> io::Result<Option<std::borrow::Cow<'_, str>>> {
        self.line.clear();
        let mut is_empty = true;
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            is_empty = false;
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok((!is_empty).then(|| String::from_utf8_lossy(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        let mut lines = Lines::of(io::Cursor::new(bytes), None).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(line.into_owned());
        }
        read
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_compressed_files_give_the_same_lines() {
        let text = "one\n\ntwo\nthree without an end";
        let expected = ["one", "", "two", "three without an end"];
        assert_eq!(lines(text.into()), expected);
        assert_eq!(lines(gzip(text)), expected);
        // Rotated logs are often joined as they are.
        assert_eq!(lines([gzip("one\n\ntwo\n"), gzip("three without an end")].concat()), expected);
        assert_eq!(lines(Vec::new()), [""; 0]);
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let read = lines([vec![b'x'; 1 << 20], b"\nnext".to_vec()].concat());
        assert_eq!((read[0].len(), read[1].as_str()), (LINE_BYTES_MAX, "next"));
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let mut bytes = gzip(&"line\n".repeat(1_000));
        bytes.truncate(bytes.len() - 12);
        let mut lines = Lines::of(io::Cursor::new(bytes), None).unwrap();
        let ended = std::iter::repeat_with(|| lines.next().map(|it| it.is_some()));
        assert!(ended.take(2_000).any(|it| it.is_err()));
    }
}
