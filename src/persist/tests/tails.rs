//! What a crash or a bad disk leaves: every cut, every flipped byte.

use std::ops::Range;

use super::*;
use crate::persist::disk::Directory;
use crate::persist::disk::simulated::Simulated;

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
        opened.flush();
        states.push(opened.state());
    }
    opened.close();
    (dir, states)
}

fn incr(dir: &Path) -> PathBuf {
    folder(dir).join("appendonly.aof.1.incr.aof")
}

/// The incr file of `dir` without the seal that closing put at its end: what the
/// process would have left that was killed before.
fn killed_incr(dir: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(incr(dir)).unwrap();
    bytes.truncate(memchr::memmem::rfind(&bytes, seal::SEAL_MARK).unwrap());
    bytes
}

#[test]
fn cut_at_any_byte_a_log_loads_the_records_before_it() {
    let (dir, states) = small_log();
    let whole = std::fs::read(incr(dir.path())).unwrap();
    let mut reached = 0;
    let mut files = files(dir.path());
    for len in 0..=whole.len() {
        files.insert("appendonly.aof.1.incr.aof".to_owned(), whole[..len].to_vec());
        let loaded = load(&files).unwrap().0;
        let index = states.iter().position(|state| *state == loaded);
        let index = index.expect("the state after some record");
        assert!(index >= reached, "cut to {len}: record {index} after {reached}");
        reached = index;
        if len % 15 != 0 {
            continue; // The rest waits for the disk: a sample will do.
        }
        std::fs::write(incr(dir.path()), &whole[..len]).unwrap();
        let mut opened = open(dir.path()).unwrap();
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
    let whole = killed_incr(dir.path());
    std::fs::write(incr(dir.path()), &whole[..whole.len() - 3]).unwrap();
    let again = open(dir.path()).unwrap();
    assert_eq!(again.state(), states[states.len() - 2]);
    assert!(again.recovery.cut_tail.as_ref().unwrap().path.ends_with("appendonly.aof.1.incr.aof"));
}

/// The files of the log in `dir`, to be put on a disk in memory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let content = |name: String| (name.clone(), std::fs::read(folder(dir).join(name)).unwrap());
    file_names(dir).into_iter().map(content).collect()
}

/// What a log of these files loads as.
fn load(files: &BTreeMap<String, Vec<u8>>) -> Result<(State, Recovery), Error> {
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let disk = Simulated::holding(files);
    let mut keyspace = Keyspace::new();
    let config = config(Path::new("/disk"), Fsync::No);
    let directory = Directory::on(Arc::new(disk));
    let opened = Log::open_on(directory, config, &mut keyspace, NOW, &mut |_| {})?;
    Ok((state(&keyspace), opened.2))
}

/// Flips these bits of a file of the log in `dir`, one at a time, and loads each
/// copy: it must be refused, or hold what it held after some record, and say so if
/// that is not the last one. How many were refused, and how many cut.
fn flip(
    dir: &Path,
    name: &str,
    states: &[State],
    bits: impl Iterator<Item = usize>,
) -> (usize, usize) {
    let mut files = files(dir);
    let (mut refused, mut cut) = (0, 0);
    for bit in bits {
        let flipped = files.get_mut(name).unwrap();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match load(&files) {
            Err(_) => refused += 1,
            Ok((state, recovery)) => {
                let is_whole = Some(&state) == states.last();
                let is_cut = recovery.cut_tail.is_some();
                assert!(states.contains(&state), "{name}, bit {bit}: something else");
                assert!(is_whole || is_cut, "{name}, bit {bit}: not said");
                cut += usize::from(is_cut);
            }
        }
        files.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
    }
    (refused, cut)
}

/// Every bit of a file of the log in `dir`.
fn every_bit(dir: &Path, name: &str) -> Range<usize> {
    0..8 * files(dir)[name].len()
}

#[test]
fn no_flipped_bit_is_loaded_silently() {
    let (dir, mut states) = small_log();
    let incr = "appendonly.aof.1.incr.aof";
    let (refused, cut) = flip(dir.path(), incr, &states, every_bit(dir.path(), incr));
    // Closed, the log ends with a seal by which everything was on disk. In that
    // one a flipped bit is a torn tail, and nothing is missing.
    assert!(cut <= 8 * seal::SEAL_LEN_MAX && refused > 10 * cut, "{refused} refused, {cut} cut");

    let mut opened = open(dir.path()).unwrap();
    opened.rewrite(vec!["#!lua name=l\nlocal x = 1".into()]).unwrap();
    states = vec![opened.state()];
    opened.run("ZADD z 3 o 4 p\nSET a 5");
    states.push(opened.state());
    opened.close();
    let base = "appendonly.aof.2.base.rdb";
    let bits = every_bit(dir.path(), base);
    let (refused, _) = flip(dir.path(), base, &states, bits.clone());
    assert_eq!(refused, bits.len(), "covered to its last byte");
    let bits = every_bit(dir.path(), manifest::FILE_NAME);
    flip(dir.path(), manifest::FILE_NAME, &states, bits);
}

/// A record of a limiter, or of a client with any kind of value.
fn some_record(chance: &mut fastrand::Rng) -> String {
    let (key, n) = (chance.u8(..30), chance.u32(..));
    match chance.u8(..8) {
        0..3 => format!(
            "ZREMRANGEBYSCORE hits:{key} -inf {0}\nZADD hits:{key} {1} {1}\nPEXPIRE hits:{key} 60000",
            u64::from(n / 2),
            1_795_400_000_000_000 + u64::from(n),
        ),
        3 => format!("HSET h{key} field{} {n} f {}", n % 700, "x".repeat(1 + n as usize % 90)),
        4 => format!("SADD s{key} {n} member{n}\nSADD i{key} {n} {}", n / 3),
        5 => format!("RPUSH l{key} {n} {}\nLPUSH l{key} {n}", "y".repeat(1 + n as usize % 200)),
        6 => format!("SET t{key} {} PX 100000", "z".repeat(1 + n as usize % 300)),
        _ => format!("DEL {}{key}", ["hits:", "h", "s", "l", "t"][n as usize % 5]),
    }
}

/// A log as a gateway leaves it: a base file with all kinds of values, an incr file
/// and another after a rewrite that failed. The states that a start may find.
fn grown_log() -> (tempfile::TempDir, Vec<State>) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let mut chance = fastrand::Rng::with_seed(7);
    for _ in 0..1_500 {
        opened.run(&some_record(&mut chance));
    }
    opened.rewrite(vec!["#!lua name=l\nlocal x = 1".into()]).unwrap();
    let mut states = vec![opened.state()];
    for number in 0..160 {
        if number == 80 {
            let pending = opened.log.prepare_rewrite().unwrap();
            drop(pending.cut(&mut opened.keyspace, Vec::new()).unwrap());
            opened.keyspace.abort_snapshot();
        }
        opened.run(&some_record(&mut chance));
        opened.flush();
        states.push(opened.state());
    }
    opened.close();
    (dir, states)
}

#[test]
fn a_thousand_flips_in_a_grown_log_are_refused_or_told() {
    let (dir, states) = grown_log();
    let mut chance = fastrand::Rng::with_seed(11);
    let mut flips = |name: &str, count: usize| {
        let bits = every_bit(dir.path(), name);
        let chosen: Vec<usize> = (0..count).map(|_| chance.usize(bits.clone())).collect();
        flip(dir.path(), name, &states, chosen.into_iter())
    };
    assert_eq!(flips("appendonly.aof.2.base.rdb", 1_000), (1_000, 0), "covered by its checksum");
    for incr in ["appendonly.aof.2.incr.aof", "appendonly.aof.3.incr.aof"] {
        let (refused, cut) = flips(incr, 500);
        assert!(refused > 400 && refused + cut > 490, "{incr}: {refused} refused, {cut} cut");
    }
    flips(manifest::FILE_NAME, 200);
}

#[test]
fn damage_with_records_behind_it_is_refused_with_its_place() {
    let (dir, _) = small_log();
    let mut whole = std::fs::read(incr(dir.path())).unwrap();
    let at = memchr::memmem::find(&whole, b"60000").unwrap();
    whole[at] ^= 1;
    std::fs::write(incr(dir.path()), &whole).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    let expected = "expected a seal that fits what stands before it";
    assert!(error.contains("1.incr.aof: damaged at byte") && error.ends_with(expected), "{error}");
    assert_eq!(std::fs::read(incr(dir.path())).unwrap(), whole, "untouched");
}

#[test]
fn zeros_behind_any_cut_are_a_torn_tail() {
    let (dir, states) = small_log();
    let mut files = files(dir.path());
    let whole = files["appendonly.aof.1.incr.aof"].clone();
    for (len, zeros) in (0..whole.len()).zip([1, 16, 4096, 65_536].into_iter().cycle()) {
        let torn = [&whole[..len], &vec![0; zeros]].concat();
        files.insert("appendonly.aof.1.incr.aof".to_owned(), torn);
        let (state, recovery) = load(&files).unwrap();
        assert!(states.contains(&state), "cut to {len}");
        assert!(recovery.cut_tail.is_some(), "cut to {len}");
    }
}

/// The log of [`small_log`] with a second incr file behind the first, whose one
/// record says that the log was on disk up to `synced(position of its start)`;
/// and then the power went, and the first file lost its last byte.
fn torn_before_another_file(synced: impl Fn(u64) -> u64) -> (tempfile::TempDir, Vec<State>) {
    let (dir, states) = small_log();
    let first = killed_incr(dir.path());
    std::fs::write(incr(dir.path()), &first).unwrap();
    let at = memchr::memmem::rfind(&first, seal::SEAL_MARK).unwrap();
    let (last, _) = seal::Seal::parse(&first[at..]).unwrap();
    let mut second = seal::parse_run(&first[..seal::RUN_LINE_LEN]).unwrap().head();
    let mut record = b"*3\r\n$3\r\nSET\r\n$5\r\nlater\r\n$1\r\n1\r\n".to_vec();
    let end = last.position + record.len() as u64;
    seal::Sealer::after(&second).seal(&mut record, end, synced(last.position));
    second.extend(record);
    std::fs::write(folder(dir.path()).join("appendonly.aof.2.incr.aof"), second).unwrap();
    let manifest = manifest_text(dir.path()) + "file appendonly.aof.2.incr.aof seq 2 type i\n";
    std::fs::write(folder(dir.path()).join(manifest::FILE_NAME), manifest).unwrap();
    assert_eq!(load(&files(dir.path())).unwrap().0.len(), 4, "whole so far");
    std::fs::write(incr(dir.path()), &first[..first.len() - 1]).unwrap();
    (dir, states)
}

#[test]
fn what_was_never_promised_is_cut_over_two_files() {
    let (dir, states) = torn_before_another_file(|_start| 0);
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.state(), states[states.len() - 2], "a prefix, without what came later");
    let cut = opened.recovery.cut_tail.clone().unwrap();
    assert!(cut.path.ends_with("appendonly.aof.1.incr.aof"));
    opened.run("SET next 1");
    let written = opened.close();
    let again = open(dir.path()).unwrap();
    assert_eq!((again.state(), again.recovery.cut_tail.is_none()), (written, true));
}

#[test]
fn what_was_on_disk_and_is_missing_is_damage() {
    let (dir, _) = torn_before_another_file(|start| start);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (dir, _) = small_log();
    let early = tempfile::tempdir().unwrap();
    copy_log(dir.path(), early.path());
    let mut opened = open(dir.path()).unwrap();
    opened.rewrite(Vec::new()).unwrap();
    opened.run("SET a 7");
    opened.close();
    let name = |dir: &Path, name: &str| folder(dir).join(name);
    // The incr file of an earlier moment behind the base file of a later one.
    let (base, incr) = ("appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof");
    let mixed = tempfile::tempdir().unwrap();
    copy_log(dir.path(), mixed.path());
    std::fs::copy(self::incr(early.path()), name(mixed.path(), incr)).unwrap();
    let error = open(mixed.path()).err().unwrap();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
    // The base file of another log.
    let (other, _) = small_log();
    let mut opened = open(other.path()).unwrap();
    opened.rewrite(Vec::new()).unwrap();
    opened.close();
    std::fs::copy(name(other.path(), base), name(dir.path(), base)).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
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
