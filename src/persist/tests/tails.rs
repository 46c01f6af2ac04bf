//! What a crash or a bad disk leaves: every cut, every flipped byte.

use super::*;

/// A small log with a group, an annotation and a sorted set, closed; its
/// directory and the state after each record.
fn small_log() -> (tempfile::TempDir, Vec<State>) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let mut states = vec![opened.state()];
    for record in [
        "SET a 1",
        "ZADD z 1.5 m 2 n\nPEXPIRE z 60000",
        "SET b 2",
        "SET a 3\nSET c 4\nDEL b",
        "ZREM z m",
    ] {
        opened.run(record);
        states.push(opened.state());
    }
    opened.close();
    (dir, states)
}

fn incr(dir: &Path) -> PathBuf {
    folder(dir).join("appendonly.aof.1.incr.aof")
}

#[test]
fn cut_at_any_byte_a_log_loads_the_records_before_it() {
    let (dir, states) = small_log();
    let whole = std::fs::read(incr(dir.path())).unwrap();
    let mut reached = 0;
    for len in 0..=whole.len() {
        std::fs::write(incr(dir.path()), &whole[..len]).unwrap();
        let mut opened = open(dir.path()).unwrap();
        let index = states.iter().position(|state| *state == opened.state());
        let index = index.expect("the state after some record");
        assert!(index >= reached, "cut to {len}: record {index} after {reached}");
        reached = index;
        if len % 5 != 0 {
            opened.close();
            continue; // The rest waits for the disk: a sample will do.
        }
        // What is written next is there at the next start.
        opened.run("SET next 1");
        let written = opened.close();
        let again = open(dir.path()).unwrap();
        assert_eq!(again.recovery.cut_tail, None);
        assert_eq!(again.close(), written, "cut to {len}");
    }
    assert_eq!(reached, states.len() - 1);
}

#[test]
fn a_torn_tail_refuses_the_start_when_it_may_not_be_cut() {
    let (dir, _) = small_log();
    let whole = std::fs::read(incr(dir.path())).unwrap();
    let torn = &whole[..whole.len() - 3];
    std::fs::write(incr(dir.path()), torn).unwrap();
    let strict = Config { aof_load_truncated: false, ..config(dir.path(), Fsync::No) };
    let error = open_with(strict).err().unwrap();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(std::fs::read(incr(dir.path())).unwrap(), torn, "untouched");
}

#[test]
fn a_torn_tail_before_a_file_that_holds_nothing_yet_is_cut() {
    let (dir, states) = small_log();
    let opened = open(dir.path()).unwrap();
    // Prepared, and never cut: what a crash in between leaves.
    drop(opened.log.prepare_rewrite().unwrap());
    opened.close();
    let whole = std::fs::read(incr(dir.path())).unwrap();
    std::fs::write(incr(dir.path()), &whole[..whole.len() - 3]).unwrap();
    let again = open(dir.path()).unwrap();
    assert_eq!(again.state(), states[states.len() - 2]);
    assert!(again.recovery.cut_tail.unwrap().path.ends_with("appendonly.aof.1.incr.aof"));
}

#[test]
fn a_flipped_bit_never_panics() {
    let (dir, _) = small_log();
    let mut opened = open(dir.path()).unwrap();
    opened.rewrite(vec!["#!lua name=l\nlocal x = 1".into()]).unwrap();
    opened.run("ZADD z 3 o 4 p\nSET a 5");
    opened.close();
    for name in ["appendonly.aof.2.incr.aof", "appendonly.aof.2.base.rdb", manifest::FILE_NAME] {
        let path = folder(dir.path()).join(name);
        let whole = std::fs::read(&path).unwrap();
        for index in 0..whole.len() {
            let copy = tempfile::tempdir().unwrap();
            copy_log(dir.path(), copy.path());
            let mut flipped = whole.clone();
            flipped[index] ^= 1 << (index % 8);
            std::fs::write(folder(copy.path()).join(name), flipped).unwrap();
            let opened = open(copy.path());
            // A base file is covered by its checksum, to the last byte.
            assert!(opened.is_err() || !name.ends_with(".rdb"), "{name}: byte {index}");
        }
    }
}

#[test]
fn a_base_file_cut_anywhere_is_refused() {
    let (dir, _) = small_log();
    let mut opened = open(dir.path()).unwrap();
    opened.rewrite(Vec::new()).unwrap();
    opened.close();
    let path = folder(dir.path()).join("appendonly.aof.2.base.rdb");
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(open(dir.path()).is_err(), "cut to {len}");
    }
}
