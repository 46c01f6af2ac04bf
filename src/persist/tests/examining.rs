//! `weir log check` and `weir log dump`.

use super::*;
use crate::persist::examine::{self, Piece};

/// A log of some records, each in a batch of its own.
fn some_log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET before 1");
    opened.rewrite(vec!["#!lua name=l\n".into()]).unwrap();
    for record in ["SET a 1", "SET b 2\nDEL a", "SET c 3", "SET d 4"] {
        opened.run(record);
        opened.flush();
    }
    opened.close();
    dir
}

fn incr(dir: &Path) -> PathBuf {
    folder(dir).join("appendonly.aof.2.incr.aof")
}

fn check(dir: &Path, fix: bool) -> Result<examine::Examined, Error> {
    examine::check(dir, fix, NOW, &mut |_| {})
}

#[test]
fn a_whole_log_is_found_whole_also_while_it_is_open() {
    let dir = some_log();
    let opened = open(dir.path()).unwrap();
    let found = check(dir.path(), false).unwrap();
    assert_eq!((found.recovery.keys, found.recovery.records), (4, 5));
    assert_eq!((found.files.len(), found.recovery.cut_tail), (2, None));
    assert!(matches!(check(dir.path(), true), Err(Error::InUse { .. })), "mending needs the lock");
    drop(opened);
}

#[test]
fn a_torn_tail_is_told_and_left_alone() {
    let dir = some_log();
    let whole = std::fs::read(incr(dir.path())).unwrap();
    std::fs::write(incr(dir.path()), &whole[..whole.len() - 60]).unwrap();
    let tail = check(dir.path(), false).unwrap().recovery.cut_tail.unwrap();
    assert_eq!(tail.offset + tail.bytes, whole.len() as u64 - 60);
    assert_eq!(std::fs::metadata(incr(dir.path())).unwrap().len(), whole.len() as u64 - 60);
    check(dir.path(), true).unwrap();
    assert_eq!(std::fs::metadata(incr(dir.path())).unwrap().len(), tail.offset);
}

#[test]
fn damage_is_mended_by_a_cut_and_what_was_there_is_kept() {
    let dir = some_log();
    let mut damaged = std::fs::read(incr(dir.path())).unwrap();
    let at = memchr::memmem::find(&damaged, b"$1\r\nc\r\n").unwrap();
    damaged[at + 4] = b'x';
    std::fs::write(incr(dir.path()), &damaged).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error.mendable(), Some(dir.path()), "{error}");
    assert!(matches!(check(dir.path(), false), Err(Error::Damaged { .. })));

    check(dir.path(), true).unwrap();
    let kept = folder(dir.path()).join("appendonly.aof.2.incr.aof.damaged");
    assert_eq!(std::fs::read(kept).unwrap(), damaged);
    let again = open(dir.path()).unwrap();
    let keys: Vec<String> = again.state().into_keys().collect();
    assert_eq!(keys, ["b", "before"], "what stood before the damage");
    assert_eq!(again.recovery.cut_tail, None);
}

#[test]
fn a_dump_shows_every_piece_in_order() {
    let dir = some_log();
    let mut shown = Vec::new();
    examine::dump(dir.path(), &mut |piece| {
        shown.push(match piece {
            Piece::Log { len } => format!("{len} bytes"),
            Piece::File { path, .. } => path.file_name().unwrap().to_str().unwrap().to_owned(),
            Piece::Library(code) => code.trim_end().to_owned(),
            Piece::Entry { key, value, .. } => {
                format!("{} is {}", key.escape_ascii(), text_of(value))
            }
            Piece::Record { args, .. } => {
                args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
            }
            Piece::Torn { offset } => format!("torn at {offset}"),
        });
        true
    })
    .unwrap();
    let lengths = ["base.rdb", "incr.aof"].map(|kind| {
        std::fs::metadata(folder(dir.path()).join(format!("appendonly.aof.2.{kind}")))
            .unwrap()
            .len()
    });
    let expected = [
        &*format!("{} bytes", lengths.iter().sum::<u64>()),
        "appendonly.aof.2.base.rdb",
        "#!lua name=l",
        "before is \"1\"",
        "appendonly.aof.2.incr.aof",
        "SELECT 0",
        "SET a 1",
        "MULTI",
        "SET b 2",
        "DEL a",
        "EXEC",
        "SET c 3",
        "SET d 4",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_redis_left_where_there_is_no_log_yet_is_looked_at_and_left_alone() {
    let log = some_log();
    let dump = std::fs::read(folder(log.path()).join("appendonly.aof.2.base.rdb")).unwrap();
    let commands = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n".as_slice();
    for (name, content, records) in
        [("dump.rdb", dump.as_slice(), 0), ("appendonly.aof", commands, 1)]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let found = check(dir.path(), false).unwrap();
        assert!(found.is_origin);
        assert_eq!(found.files, [(path.clone(), content.len() as u64)]);
        assert_eq!((found.recovery.keys, found.recovery.records), (1, records), "{name}");
        let mut pieces = 0;
        let mut count = |piece: Piece<'_>| {
            pieces += u64::from(matches!(piece, Piece::Entry { .. } | Piece::Record { .. }));
            true
        };
        examine::dump(dir.path(), &mut count).unwrap();
        assert_eq!(pieces, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");

        std::fs::write(&path, &content[..content.len() - 3]).unwrap();
        match check(dir.path(), false) {
            Ok(found) => assert_eq!(found.recovery.cut_tail.unwrap().path, path),
            Err(error) => assert!(matches!(error, Error::Truncated { .. }), "{error}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), content[..content.len() - 3]);
    }
}

#[test]
fn a_directory_without_a_log_is_said_to_have_none() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path(), &dir.path().join("missing")] {
        assert!(matches!(check(dir, false), Err(Error::NoLog { .. })));
        assert!(matches!(examine::dump(dir, &mut |_| true), Err(Error::NoLog { .. })));
    }
}
