//! The manifest: which files make up the log, and in which order.
//!
//! A log is at most one *base* file, a snapshot, then *incr* files, the records
//! since that snapshot. *History* files are replaced ones that are not deleted
//! yet. Only the manifest says so: a file it does not name is not part of the
//! log, whatever the directory holds. The form is that of Redis 7:
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.incr.aof seq 1 type h
//! file appendonly.aof.2.incr.aof seq 2 type i
//! #CRC:7ab3f2c9e1d40586
//! ```
//!
//! The last line is ours: the checksum of those before it. To Redis it is a
//! comment. Without it, one flipped bit can make history of an incr file.
//!
//! # Invariants
//!
//! 1. Sequences of incr files strictly increase. A gap is legal.
//! 2. No file is named twice: deleting history can never delete what counts.
//! 3. A manifest is never edited. The next one is built from it, made durable
//!    by [`disk`](super::disk), and only then becomes current.
//!
//! # Not here
//!
//! Any I/O, what is inside the files, and when to start a new one.

use crate::keyspace::rdb::crc64;

/// Name of the manifest inside the log's folder.
pub const FILE_NAME: &str = "appendonly.aof.manifest";
/// What the names of all files of the log start with.
pub const PREFIX: &str = "appendonly.aof.";
/// What the line of the checksum begins with.
const SUM_MARK: &[u8] = b"#CRC:";
/// Longest line, its line end included: what Redis reads.
const LINE_LEN_MAX: usize = 1024;

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bare name, no folder.
    pub name: String,
    /// Its number. Base and incr files count separately, from 1.
    pub seq: u64,
}

impl Entry {
    /// The base file numbered `seq`, in RDB form.
    pub fn base(seq: u64) -> Entry {
        Entry { name: format!("{PREFIX}{seq}.base.rdb"), seq }
    }

    /// The incr file numbered `seq`.
    pub fn incr(seq: u64) -> Entry {
        Entry { name: format!("{PREFIX}{seq}.incr.aof"), seq }
    }
}

/// The files of one log. Immutable: every change returns the next manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot the log starts from.
    pub base: Option<Entry>,
    /// Replaced files, newest first.
    pub history: Vec<Entry>,
    /// Records since the base, ascending; the last one is active.
    pub incrs: Vec<Entry>,
}

/// A line that is not one of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Manifest {
    /// Reads a manifest. As strict as Redis, and stricter where Redis would
    /// guess: a sequence must be a whole number, a file may be named once.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<Manifest, Malformed> {
        let mut manifest = Manifest::default();
        let mut line_count = 0;
        let mut offset = 0;
        let mut is_summed = false;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            line_count += 1;
            let read = if let Some(sum) = line.strip_prefix(SUM_MARK) {
                is_summed = true;
                check_sum(sum, &text[..offset])
            } else if is_summed {
                Err("a line stands behind the checksum")
            } else {
                manifest.read_line(line)
            };
            read.map_err(|reason| Malformed { line: line_count, reason })?;
            offset += line.len();
        }
        if line_count == 0 {
            return Err(Malformed { line: 1, reason: "the manifest is empty" });
        }
        Ok(manifest)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.starts_with(b"#") {
            return Ok(());
        }
        if line.len() > LINE_LEN_MAX {
            return Err("the line is longer than 1024 bytes");
        }
        if !line.ends_with(b"\n") {
            return Err("the last line has no line end");
        }
        let words = split_words(line)?;
        if words.is_empty() {
            return Err("the line is empty");
        }
        if words.len() < 6 || !words.len().is_multiple_of(2) {
            return Err("expected `file NAME seq NUMBER type b|h|i`");
        }
        let (mut name, mut seq, mut kind) = (None, None, None);
        for pair in words.chunks_exact(2) {
            let [key, value] = pair else { continue };
            match key.to_ascii_lowercase().as_slice() {
                b"file" => name = Some(file_name(value)?),
                b"seq" => seq = Some(sequence(value)?),
                b"type" => kind = value.first().copied(),
                _ => {} // A later version may say more; this one does not need it.
            }
        }
        let (Some(name), Some(seq), Some(kind)) = (name, seq, kind) else {
            return Err("expected `file NAME seq NUMBER type b|h|i`");
        };
        self.add(Entry { name, seq }, kind)
    }

    fn add(&mut self, entry: Entry, kind: u8) -> Result<(), &'static str> {
        if self.entries().any(|known| known.name == entry.name) {
            return Err("the file is named twice");
        }
        match kind {
            b'b' if self.base.is_some() => return Err("there is a base file already"),
            b'b' => self.base = Some(entry),
            b'h' => self.history.push(entry),
            b'i' if self.incrs.last().is_some_and(|last| last.seq >= entry.seq) => {
                return Err("the sequence of incr files does not rise");
            }
            b'i' => self.incrs.push(entry),
            _ => return Err("the type is none of b, h, i"),
        }
        Ok(())
    }

    /// Its text, with the checksum.
    pub fn encode(&self) -> String {
        let mut text = self.lines();
        let crc = crc64(0, text.as_bytes());
        text.push_str(&format!("#CRC:{crc:016x}\n"));
        text
    }

    /// A line for each file: the base, then history, then incr files.
    fn lines(&self) -> String {
        let mut text = String::new();
        let groups = [(self.base.as_slice(), 'b'), (&self.history, 'h'), (&self.incrs, 'i')];
        for (entries, kind) in groups {
            for Entry { name, seq } in entries {
                text.push_str("file ");
                push_name(&mut text, name);
                text.push_str(&format!(" seq {seq} type {kind}\n"));
            }
        }
        text
    }

    /// Every file it names.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.base.iter().chain(&self.history).chain(&self.incrs)
    }

    /// The files that must be there, in the order they are loaded.
    pub fn load_order(&self) -> impl Iterator<Item = &Entry> {
        self.base.iter().chain(&self.incrs)
    }

    /// The next base file: one number up.
    pub fn next_base(&self) -> Entry {
        Entry::base(self.base.as_ref().map_or(1, |base| base.seq.saturating_add(1)))
    }

    /// The next incr file: one number up.
    pub fn next_incr(&self) -> Entry {
        Entry::incr(self.incrs.last().map_or(1, |last| last.seq.saturating_add(1)))
    }

    /// This manifest with one more incr file, which becomes the active one.
    #[must_use]
    pub fn with_incr(&self, incr: Entry) -> Manifest {
        let mut next = self.clone();
        next.incrs.push(incr);
        debug_assert!(next.incrs.is_sorted_by_key(|incr| incr.seq));
        next
    }

    /// This manifest after a rewrite: `base` holds all up to `incr`, which
    /// holds what came since. All else becomes history.
    #[must_use]
    pub fn rewritten(&self, base: Entry, incr: Entry) -> Manifest {
        let replaced_incrs = self.incrs.iter().rev().filter(|old| **old != incr);
        let replaced = self.base.iter().filter(|old| **old != base).chain(replaced_incrs);
        let history = replaced.chain(&self.history).cloned().collect();
        Manifest { base: Some(base), history, incrs: vec![incr] }
    }

    /// This manifest once its history files are gone.
    #[must_use]
    pub fn without_history(&self) -> Manifest {
        Manifest { history: Vec::new(), ..self.clone() }
    }
}

/// Whether `sum`, the rest of its line, is the checksum of `text`.
fn check_sum(sum: &[u8], text: &[u8]) -> Result<(), &'static str> {
    if sum.trim_ascii_end() == format!("{:016x}", crc64(0, text)).as_bytes() {
        Ok(())
    } else {
        Err("the checksum does not fit; if the lines before it are what you want, remove it")
    }
}

fn file_name(word: &[u8]) -> Result<String, &'static str> {
    let name = std::str::from_utf8(word).map_err(|_| "the file name is not UTF-8")?;
    match name {
        "" | "." | ".." => Err("the file name is empty or a folder"),
        _ if name.contains(['/', '\0']) => Err("a file is named by a path, not by a bare name"),
        _ => Ok(name.to_owned()),
    }
}

fn sequence(word: &[u8]) -> Result<u64, &'static str> {
    let number = std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'));
    match number.and_then(|text| text.parse().ok()) {
        None | Some(0) => Err("the sequence is not a whole number above 0"),
        Some(seq) => Ok(seq),
    }
}

/// Splits a line at blanks, heeding Redis' quotes: `"…"` with escapes, `'…'`
/// with `\'` alone.
fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            match byte {
                b'"' | b'\'' => rest = unquote(byte, after, &mut word)?,
                _ if byte.is_ascii_whitespace() => break,
                _ => {
                    word.push(byte);
                    rest = after;
                }
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing `quote`, which must end the word. What follows it.
fn unquote<'a>(
    quote: u8,
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], &'static str> {
    loop {
        rest = match *rest {
            [] => return Err("a quote is not closed"),
            [byte, ref after @ ..] if byte == quote => {
                return match after.first() {
                    Some(next) if !next.is_ascii_whitespace() => {
                        Err("a closing quote is not followed by a blank")
                    }
                    _ => Ok(after),
                };
            }
            [b'\\', b'\'', ref after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [b'\\', b'x', high, low, ref after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_digit(high) << 4 | hex_digit(low));
                after
            }
            [b'\\', escaped, ref after @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 0x07,
                    b'b' => 0x08,
                    other => other,
                });
                after
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                after
            }
        };
    }
}

/// The value of an ASCII hex digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Writes a name as Redis does: raw if every byte is plain, else quoted.
fn push_name(text: &mut String, name: &str) {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'\'');
    if name.bytes().all(plain) {
        text.push_str(name);
        return;
    }
    text.push('"');
    for byte in name.bytes() {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, (usize, &str)>) {
        let read = Manifest::parse(text.as_bytes());
        let encoded = read.as_ref().map(Manifest::lines);
        let told = encoded.as_deref().map_err(|error| (error.line, error.reason));
        assert_eq!(told, expected, "{text:?}");
    }

    const WHOLE: &str = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                         file appendonly.aof.1.incr.aof seq 1 type h\n\
                         file appendonly.aof.2.incr.aof seq 2 type i\n\
                         file appendonly.aof.9.incr.aof seq 9 type i\n";

    #[test]
    fn what_redis_accepts_is_read() {
        check(WHOLE, Ok(WHOLE));
        check(&format!("# a comment\n{WHOLE}"), Ok(WHOLE));
        check(&format!("#{}\n{WHOLE}", "x".repeat(5000)), Ok(WHOLE));
        check(&WHOLE.replace('\n', "\r\n"), Ok(WHOLE));
        check(&WHOLE.replace(" seq", "\t seq"), Ok(WHOLE));
        let one = "file a.1.incr.aof seq 1 type i\n";
        check("seq 1 TYPE incr File a.1.incr.aof\n", Ok(one));
        check("file a.1.incr.aof seq 1 type i later thing\n", Ok(one));
        check("file \"\\x61.1.incr.aof\" seq '1' type i\n", Ok(one));
        check(
            "file a seq 3 type i\nfile b seq 1 type b\n",
            Ok("file b seq 1 type b\nfile a seq 3 type i\n"),
        );
    }

    #[test]
    fn what_redis_refuses_is_refused_with_its_line() {
        let syntax = "expected `file NAME seq NUMBER type b|h|i`";
        check("", Err((1, "the manifest is empty")));
        check("\n", Err((1, "the line is empty")));
        check(&format!("{WHOLE}  \n"), Err((5, "the line is empty")));
        check("file\n", Err((1, syntax)));
        check("file a seq 1 type\n", Err((1, syntax)));
        check("file a seq 1 other b\n", Err((1, syntax)));
        check("file a seq 1 type b", Err((1, "the last line has no line end")));
        let long = format!("file {} seq 1 type b\n", "x".repeat(1024));
        check(&long, Err((1, "the line is longer than 1024 bytes")));
        check("file a seq 1 type x\n", Err((1, "the type is none of b, h, i")));
        for seq in ["0", "x", "-1", "+1", "1.5", "99999999999999999999"] {
            let line = format!("file a seq {seq} type b\n");
            check(&line, Err((1, "the sequence is not a whole number above 0")));
        }
        let path = "a file is named by a path, not by a bare name";
        check("file ../a seq 1 type b\n", Err((1, path)));
        check("file .. seq 1 type b\n", Err((1, "the file name is empty or a folder")));
        check("file \"a seq 1 type b\n", Err((1, "a quote is not closed")));
        let glued = "a closing quote is not followed by a blank";
        check("file \"a\"b seq 1 type b\n", Err((1, glued)));
        check(
            "file a seq 1 type b\nfile b seq 2 type b\n",
            Err((2, "there is a base file already")),
        );
        let falls = "the sequence of incr files does not rise";
        check("file a seq 2 type i\nfile b seq 2 type i\n", Err((2, falls)));
        check("file a seq 2 type b\nfile a seq 2 type h\n", Err((2, "the file is named twice")));
    }

    #[test]
    fn a_checksum_is_believed_only_if_it_fits() {
        let whole = Manifest::parse(WHOLE.as_bytes()).unwrap().encode();
        check(&whole, Ok(WHOLE));
        let sum = "the checksum does not fit; if the lines before it are what you want, remove it";
        check(&whole.replace("9 type i", "9 type h"), Err((5, sum)));
        check(&(whole.clone() + "# a comment\n"), Err((6, "a line stands behind the checksum")));
    }

    #[test]
    fn names_are_quoted_as_redis_does() {
        let quoted = "file \"my \\\"aof\\\" file.aof.2.base.rdb\" seq 2 type b\n";
        check(quoted, Ok(quoted));
        let manifest = Manifest::parse(quoted.as_bytes()).unwrap();
        assert_eq!(manifest.base.unwrap().name, "my \"aof\" file.aof.2.base.rdb");
        check("file 'it\\'s' seq 1 type b\n", Ok("file \"it's\" seq 1 type b\n"));
        let all = "file \"\\n\\r\\t\\a\\b\\\\\\x01\\xc3\\xa9\" seq 1 type b\n";
        check(all, Ok(all));
    }

    #[test]
    fn a_rewrite_turns_what_it_replaces_into_history() {
        let before = Manifest::parse(WHOLE.as_bytes()).unwrap();
        let prepared = before.with_incr(before.next_incr());
        let after = prepared.rewritten(prepared.next_base(), before.next_incr());
        assert_eq!(
            after.lines(),
            "file appendonly.aof.3.base.rdb seq 3 type b\n\
             file appendonly.aof.2.base.rdb seq 2 type h\n\
             file appendonly.aof.9.incr.aof seq 9 type h\n\
             file appendonly.aof.2.incr.aof seq 2 type h\n\
             file appendonly.aof.1.incr.aof seq 1 type h\n\
             file appendonly.aof.10.incr.aof seq 10 type i\n"
        );
        assert_eq!(
            after.without_history().lines(),
            "file appendonly.aof.3.base.rdb seq 3 type b\n\
             file appendonly.aof.10.incr.aof seq 10 type i\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_name_survives(name in "[^/\0]{1,40}", seq in 1u64..) {
            proptest::prop_assume!(name != "." && name != "..");
            let manifest = Manifest { base: Some(Entry { name, seq }), ..Manifest::default() };
            proptest::prop_assert_eq!(Manifest::parse(manifest.encode().as_bytes()), Ok(manifest));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = Manifest::parse(&text);
        }
    }
}
