//! `weir log check` and `weir log dump`: an operator looks at a log.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::base::clock::Clock;
use crate::keyspace::Value;
use crate::persist::Error;
use crate::persist::examine::{self, Piece};

/// What to do with a log.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Load the log and say whether it is whole, and if not, where.
    Check(Check),
    /// Print what the log holds, as commands.
    Dump(Dump),
}

/// The options of `weir log check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Cut the log off where it is torn or damaged. What the files were is kept
    /// beside them, as NAME.damaged.
    #[arg(long)]
    fix: bool,
    /// The data directory: it holds `appendonlydir`, or what Redis left before there
    /// was a log.
    dir: PathBuf,
}

/// The options of `weir log dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// The data directory: it holds `appendonlydir`, or what Redis left before there
    /// was a log.
    dir: PathBuf,
}

/// Runs `weir log …`. True if all is well.
///
/// # Errors
/// The log cannot be read, or is damaged.
pub fn run(command: &Log) -> Result<bool, Error> {
    match command {
        Log::Check(options) => check(options),
        Log::Dump(options) => dump(options).map(|()| true),
    }
}

fn check(options: &Check) -> Result<bool, Error> {
    let bar = progress_bar("checking");
    let found = examine::check(&options.dir, options.fix, Clock::system().now(), &mut |at| {
        bar.set_length(at.bytes_total);
        bar.set_position(at.bytes_read);
    });
    bar.finish_and_clear();
    let found = found?;
    let mut out = io::stdout().lock();
    let recovery = &found.recovery;
    let told = (|| {
        for (path, len) in &found.files {
            writeln!(out, "{}  {}", path.display(), HumanBytes(*len))?;
        }
        if found.is_origin {
            writeln!(out, "no log yet: a start begins one with this file")?;
        }
        writeln!(
            out,
            "{}, {}, {}",
            counted(recovery.keys, "key", "keys"),
            counted(recovery.records, "record", "records"),
            counted(recovery.libraries.len() as u64, "library", "libraries"),
        )?;
        match &recovery.cut_tail {
            None => writeln!(out, "whole"),
            Some(tail) => {
                let (path, offset, bytes) = (tail.path.display(), tail.offset, tail.bytes);
                if options.fix {
                    writeln!(out, "{path}: cut at byte {offset}, {bytes} bytes behind it")
                } else {
                    writeln!(
                        out,
                        "{path}: torn tail, {bytes} bytes from byte {offset} on; a start cuts them"
                    )
                }
            }
        }
    })();
    // Nobody is left to tell when standard output is closed.
    drop::<io::Result<()>>(told);
    Ok(options.fix || recovery.cut_tail.is_none())
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn dump(options: &Dump) -> Result<(), Error> {
    let bar = progress_bar("reading");
    let mut out = BufWriter::new(io::stdout().lock());
    let mut files_read = 0;
    let mut file_len = 0;
    let read = examine::dump(&options.dir, &mut |piece| {
        match &piece {
            Piece::Log { len } => bar.set_length(*len),
            Piece::File { len, .. } => {
                files_read += file_len;
                file_len = *len;
            }
            Piece::Record { offset: at, .. } | Piece::Entry { end: at, .. } => {
                bar.set_position(files_read + at);
            }
            Piece::Library(_) | Piece::Torn { .. } => {}
        }
        write_piece(&mut out, &piece).is_ok()
    });
    bar.finish_and_clear();
    drop::<io::Result<()>>(out.flush());
    read
}

/// A bar on standard error; nothing where that is no terminal.
fn progress_bar(verb: &str) -> ProgressBar {
    let template = format!("  {verb} {{bar:32}} {{bytes}}/{{total_bytes}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn write_piece(out: &mut impl Write, piece: &Piece<'_>) -> io::Result<()> {
    match piece {
        Piece::Log { .. } => Ok(()),
        Piece::File { path, len } => writeln!(out, "# {}, {len} bytes", path.display()),
        Piece::Library(code) => write_command(out, &[b"FUNCTION", b"LOAD", code.as_bytes()]),
        Piece::Entry { key, value, expires_at_ms, .. } => {
            write_entry(out, key, value)?;
            match expires_at_ms {
                Some(deadline) => {
                    write_command(out, &[b"PEXPIREAT", key, deadline.to_string().as_bytes()])
                }
                None => Ok(()),
            }
        }
        Piece::Record { args, .. } => write_command(out, args),
        Piece::Torn { offset } => writeln!(out, "# torn at byte {offset}"),
    }
}

/// The command that makes a value.
fn write_entry(out: &mut impl Write, key: &[u8], value: &Value) -> io::Result<()> {
    let verb = match value {
        Value::String(_) => "SET",
        Value::SortedSet(_) => "ZADD",
        Value::Hash(_) => "HSET",
        Value::Set(_) => "SADD",
        Value::List(_) => "RPUSH",
    };
    write!(out, "{verb}")?;
    write_word(out, key)?;
    match value {
        Value::String(text) => write_word(out, &text.to_vec())?,
        Value::SortedSet(set) => {
            for (member, score) in set.iter() {
                write_word(out, score.to_string().as_bytes())?;
                write_word(out, &member)?;
            }
        }
        Value::Hash(hash) => {
            for (field, value) in hash.iter() {
                write_word(out, field)?;
                write_word(out, value)?;
            }
        }
        Value::Set(set) => {
            for member in set.iter() {
                write_word(out, &member)?;
            }
        }
        Value::List(list) => {
            for element in list.iter() {
                write_word(out, element)?;
            }
        }
    }
    writeln!(out)
}

fn write_command(out: &mut impl Write, args: &[&[u8]]) -> io::Result<()> {
    for (index, arg) in args.iter().enumerate() {
        match index {
            0 => write!(out, "{}", arg.escape_ascii())?,
            _ => write_word(out, arg)?,
        }
    }
    writeln!(out)
}

/// A word that `redis-cli` reads back: plain, or in quotes with escapes.
fn write_word(out: &mut impl Write, word: &[u8]) -> io::Result<()> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !word.is_empty() && word.iter().all(plain) {
        out.write_all(b" ")?;
        return out.write_all(word);
    }
    out.write_all(b" \"")?;
    for byte in word {
        match byte {
            b'"' | b'\\' => out.write_all(&[b'\\', *byte])?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            b' '..=b'~' => out.write_all(&[*byte])?,
            _ => write!(out, "\\x{byte:02x}")?,
        }
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(piece: &Piece<'_>, expected: &str) {
        let mut out = Vec::new();
        write_piece(&mut out, piece).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn pieces_are_printed_as_commands_that_redis_cli_reads() {
        let value = Value::String(b"two words\r\n\x01\"".to_vec().into());
        check(
            &Piece::Entry { end: 9, key: b"k", value: &value, expires_at_ms: Some(17) },
            "SET k \"two words\\r\\n\\x01\\\"\"\nPEXPIREAT k 17\n",
        );
        check(&Piece::Record { offset: 0, args: &[b"DEL", b"", b"a"] }, "DEL \"\" a\n");
        check(&Piece::Torn { offset: 9 }, "# torn at byte 9\n");
    }
}
