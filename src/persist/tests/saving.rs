//! `dump.rdb`, and settings that change while the log is open.

use tokio::time;

use super::*;
use crate::persist::base::decode::{BaseReader, Part};
use crate::persist::source::Source;

/// What `dump.rdb` in `dir` holds.
fn saved(dir: &Path) -> State {
    let path = dir.join("dump.rdb");
    let file = std::fs::File::open(&path).unwrap();
    let mut base = BaseReader::new(Source::new(file, path)).unwrap();
    let mut keyspace = Keyspace::new();
    while let Some(part) = base.next().unwrap() {
        let Part::Entry { key, value, expires_at_ms } = part else { continue };
        keyspace.insert_loaded(&key, value, expires_at_ms).unwrap();
    }
    assert_eq!(base.place(), None, "it belongs to no log");
    state(&keyspace)
}

#[test]
fn a_save_is_the_keyspace_of_its_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1\nHSET h f v\nRPUSH l x y\nSADD s m\nZADD z 1 m");
    let before = opened.state();
    let (feed, writer) = opened.log.begin_save(&mut opened.keyspace, Vec::new()).unwrap();
    opened.run("SET a 2\nDEL h");
    feed.finish(walked(&mut opened.keyspace));
    writer.run().unwrap();
    assert_eq!(saved(dir.path()), before);
    opened.save().unwrap();
    assert_eq!(saved(dir.path()), opened.state());
}

#[test]
fn a_save_takes_the_place_of_whatever_stands_there_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1");
    let path = dir.path().join("dump.rdb");
    // Who opens one to read waits until somebody writes.
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    opened.save().unwrap();
    assert_eq!(saved(dir.path()), opened.state());
}

#[test]
fn a_save_that_is_given_up_leaves_the_one_before_and_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1");
    opened.save().unwrap();
    let before = opened.state();
    opened.run("SET a 2");
    let (_feed, writer) = opened.log.begin_save(&mut opened.keyspace, Vec::new()).unwrap();
    assert!(matches!(
        opened.log.begin_save(&mut opened.keyspace, Vec::new()),
        Err(Error::RewriteRunning)
    ));
    drop(opened.keyspace.abort_snapshot());
    assert!(writer.run().is_err());
    assert!(opened.log.status().last_save_succeeded);
    assert_eq!(saved(dir.path()), before);
    assert!(!dir.path().join("temp-dump.rdb").exists());
}

#[test]
fn a_save_that_failed_is_felt_by_clients_where_there_are_points_until_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let plain = Settings::clone(&opened.log.settings());
    let point = SavePoint { after: Duration::from_secs(3600), changes: 1 };
    let pointed = Settings { save: vec![point], ..plain.clone() };
    let tolerant = Settings { stop_writes_on_bgsave_error: false, ..pointed.clone() };
    opened.log.change(pointed.clone());
    // Something that cannot be replaced by a file.
    let in_the_way = dir.path().join("dump.rdb").join("x");
    std::fs::create_dir_all(&in_the_way).unwrap();
    assert!(opened.save().is_err());
    assert!(!opened.log.status().last_save_succeeded);
    for (settings, is_felt) in [(plain, false), (tolerant, false), (pointed, true)] {
        opened.log.change(settings);
        assert_eq!(opened.log.lacks_save(), is_felt);
    }
    std::fs::remove_dir_all(dir.path().join("dump.rdb")).unwrap();
    opened.save().unwrap();
    assert!(!opened.log.lacks_save());
}

#[test]
fn a_save_is_due_at_its_point_or_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1\nSET b 1");
    assert!(!opened.log.wants_save(), "no point is set");
    assert!(opened.log.request_save() && opened.log.wants_save());
    opened.save().unwrap();
    assert!(!opened.log.wants_save());
    let point = SavePoint { after: Duration::ZERO, changes: 2 };
    let settings = Settings::clone(&opened.log.settings());
    opened.log.change(Settings { save: vec![point], ..settings });
    opened.run("SET a 2");
    assert!(!opened.log.wants_save());
    opened.run("SET a 3");
    assert_eq!(opened.log.status().changes_since_save, 2);
    assert!(opened.log.wants_save());
}

#[tokio::test]
async fn a_save_that_somebody_waits_for_is_made_briskly() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let log = opened.log.clone();
    let (feed, writer) = opened.log.begin_save(&mut opened.keyspace, Vec::new()).unwrap();
    assert_eq!(log.pace(&feed, true), Pace::Gently, "nobody waits for it");
    feed.finish(walked(&mut opened.keyspace));
    writer.run().unwrap();
    let (saved, ()) = tokio::join!(log.save(), async {
        let (feed, writer) = opened.log.begin_save(&mut opened.keyspace, Vec::new()).unwrap();
        assert_eq!(log.pace(&feed, true), Pace::Briskly);
        feed.finish(walked(&mut opened.keyspace));
        writer.run().unwrap();
    });
    assert!(saved);
}

#[tokio::test]
async fn a_snapshot_goes_briskly_as_soon_as_another_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let log = opened.log.clone();
    let pending = log.prepare_rewrite().unwrap();
    let (feed, writer) = pending.cut(&mut opened.keyspace, Vec::new()).unwrap();
    let (saved, ()) = tokio::join!(log.save(), async {
        assert_eq!(log.pace(&feed, true), Pace::Briskly, "the save comes after it");
        feed.finish(walked(&mut opened.keyspace));
        writer.run().unwrap();
        opened.save().unwrap();
    });
    assert!(saved);
    let (feed, _writer) = opened.log.begin_save(&mut opened.keyspace, Vec::new()).unwrap();
    assert_eq!(log.pace(&feed, true), Pace::Gently, "nobody waits any more");
    writing::fail(&log);
    assert_eq!(log.pace(&feed, true), Pace::Briskly, "the log is healed after it");
}

#[tokio::test]
async fn a_change_of_policy_forgets_nobody_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    let settings = Settings::clone(&opened.log.settings());
    for appendfsync in [Fsync::No, Fsync::Always, Fsync::EverySec, Fsync::Always] {
        let lsn = opened.run("SET a 1");
        let durable = opened.log.durable(lsn);
        opened.log.change(Settings { appendfsync, ..settings.clone() });
        // Under `no` the next sync that nobody wants is a minute away.
        let durable = time::timeout(Duration::from_secs(40), durable).await;
        durable.expect("it is synced for who waits").unwrap();
        assert_eq!(opened.log.status().appendfsync, appendfsync);
    }
    let lsn = opened.run("SET a 2");
    opened.log.durable(lsn).await.unwrap();
    assert_eq!(opened.log.status().unsynced_bytes, 0);
}

#[test]
fn records_tell_the_time_where_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let settings = Settings::clone(&opened.log.settings());
    opened.log.change(Settings { aof_timestamp_enabled: true, ..settings });
    opened.run("SET a 1");
    opened.run("SET a 2");
    let written = opened.close();
    let incr = std::fs::read(folder(dir.path()).join("appendonly.aof.1.incr.aof")).unwrap();
    assert!(memchr::memmem::find(&incr, b"#TS:17954000").is_some());
    assert_eq!(open(dir.path()).unwrap().state(), written);
}

#[test]
fn writes_are_refused_only_while_the_log_fails_and_only_where_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let source = std::io::Error::from_raw_os_error(libc::EIO);
    let error = Error::Io { op: Op::Sync, path: PathBuf::from("incr"), source };
    let settings = Settings::clone(&opened.log.settings());
    opened.log.change(Settings { on_log_error: OnLogError::Refuse, ..settings.clone() });
    assert_eq!(opened.log.refuses_writes(), None);
    opened.log.0.shared.poison(&error);
    assert!(opened.log.refuses_writes().unwrap().contains("cannot sync incr"));
    opened.log.change(Settings { on_log_error: OnLogError::Continue, ..settings });
    assert_eq!(opened.log.refuses_writes(), None);
}
