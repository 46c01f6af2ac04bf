//! Appending, syncing, closing, and a disk that fails.

use super::*;

#[test]
fn a_new_log_is_laid_out_as_redis_does() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    assert_eq!(
        manifest_text(dir.path()),
        "file appendonly.aof.1.base.rdb seq 1 type b\n\
         file appendonly.aof.1.incr.aof seq 1 type i\n"
    );
    assert_eq!(opened.recovery.keys, 0);
    assert_eq!(opened.log.status().failed, None);
    let base = std::fs::read(folder(dir.path()).join("appendonly.aof.1.base.rdb")).unwrap();
    assert!(base.starts_with(b"REDIS0010"));
    assert_eq!(opened.log.status().base_size, base.len() as u64);
}

#[test]
fn a_first_start_that_was_interrupted_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    std::fs::remove_file(folder(dir.path()).join(manifest::FILE_NAME)).unwrap();
    std::fs::write(folder(dir.path()).join("temp-appendonly.aof.manifest"), b"fi").unwrap();
    // The threads of a log that was dropped, not closed, end soon.
    wait_for(|| open(dir.path()).is_ok());
    assert_eq!(file_names(dir.path()).len(), 3);
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(&error, Error::InUse { pid, .. } if *pid == Some(std::process::id())));
    first.log.close().unwrap();
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn whatever_the_policy_a_closed_log_holds_everything() {
    for appendfsync in [Fsync::Always, Fsync::EverySec, Fsync::No] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open_with(config(dir.path(), appendfsync)).unwrap();
        for number in 0..2_000 {
            opened.run(&format!("SET key:{} {number}", number % 97));
        }
        opened.log.close().unwrap();
        opened.log.close().unwrap();
        assert_eq!(opened.log.status().unsynced_bytes, 0, "{appendfsync:?}");
        let written = opened.state();
        drop(opened);
        let again = open(dir.path()).unwrap();
        assert_eq!(again.state(), written, "{appendfsync:?}");
        assert_eq!(again.recovery.records, 2_000);
    }
}

#[test]
fn records_reach_the_operating_system_within_milliseconds() {
    for appendfsync in [Fsync::EverySec, Fsync::No] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open_with(config(dir.path(), appendfsync)).unwrap();
        for number in 0..20 {
            opened.run(&format!("SET a {number}"));
            opened.flush();
            let copy = tempfile::tempdir().unwrap();
            copy_log(dir.path(), copy.path());
            assert_eq!(open(copy.path()).unwrap().state(), opened.state());
        }
    }
}

#[test]
fn everysec_syncs_within_about_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::EverySec)).unwrap();
    opened.run("SET a 1");
    wait_for(|| opened.log.status().unsynced_bytes == 0);
    assert_eq!(opened.log.status().unsynced_age, None);
}

#[tokio::test]
async fn always_waits_for_the_sync_that_covers_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    let first = opened.run("SET a 1");
    let second = opened.run("SET a 2");
    assert!(first < second);
    opened.log.durable(second).await.unwrap();
    opened.log.durable(first).await.unwrap();
    assert_eq!(opened.log.status().unsynced_bytes, 0);
}

#[tokio::test]
async fn always_lets_one_sync_serve_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    let lsns: Vec<Lsn> = (0..1_000).map(|number| opened.run(&format!("SET a {number}"))).collect();
    for lsn in lsns {
        opened.log.durable(lsn).await.unwrap();
    }
    let syncs = opened.log.0.shared.metrics.sync_duration.get_sample_count();
    assert!((1..1_000).contains(&syncs), "{syncs} syncs");
}

#[tokio::test]
async fn other_policies_do_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::No)).unwrap();
    let lsn = opened.run("SET a 1");
    opened.log.durable(lsn).await.unwrap();
    assert!(opened.log.status().unsynced_bytes > 0);
}

/// Breaks the log as a failed write or sync does.
pub fn fail(log: &Log) {
    let source = std::io::Error::from_raw_os_error(libc::EIO);
    let path = PathBuf::from("appendonly.aof.1.incr.aof");
    log.0.shared.poison(&Error::Io { op: Op::Sync, path, source });
}

#[tokio::test]
async fn a_poisoned_log_acknowledges_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    let safe = opened.run("SET a 1");
    opened.log.durable(safe).await.unwrap();
    let before = opened.state();
    fail(&opened.log);
    let lost = opened.run("SET a 2");
    opened.log.durable(safe).await.expect("what was safe stays so");
    let error = opened.log.durable(lost).await.unwrap_err().to_string();
    assert!(error.contains("cannot sync appendonly.aof.1.incr.aof: Input/output error"), "{error}");
    assert!(opened.log.status().failed.is_some());
    assert!(opened.log.wants_rewrite(), "to heal it");
    assert!(matches!(opened.log.close(), Err(Error::Poisoned { .. })));
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().state(), before);
}

#[tokio::test]
async fn a_rewrite_heals_a_poisoned_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    opened.run("SET a 1");
    let before = opened.state();
    wait_for(|| opened.log.status().unsynced_bytes == 0);
    fail(&opened.log);
    let lost = opened.run("SET a 2\nSET b 1");

    let pending = opened.log.prepare_rewrite().unwrap();
    let (feed, writer) = pending.cut(&mut opened.keyspace, Vec::new()).unwrap();
    let pace = opened.log.pace(&feed, true);
    assert_eq!(pace, Pace::Briskly, "nothing is acknowledged until it is done");
    let later = opened.run("SET c 1");
    assert!(opened.log.durable(later).await.is_err(), "not before the commit");
    let copy = tempfile::tempdir().unwrap();
    copy_log(dir.path(), copy.path());
    assert_eq!(
        open(copy.path()).unwrap().state(),
        before,
        "a crash now goes back to what is known"
    );

    feed.finish(walked(&mut opened.keyspace));
    writer.run().unwrap();
    assert_eq!(opened.log.status().failed, None);
    opened.log.durable(lost).await.expect("it is in the new base file");
    opened.log.durable(later).await.unwrap();
    let last = opened.run("SET d 1");
    opened.log.durable(last).await.unwrap();
    let written = opened.close();
    assert_eq!(open(dir.path()).unwrap().state(), written);
}

#[test]
fn an_attempt_to_heal_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1");
    opened.flush();
    let (before, names) = (opened.state(), file_names(dir.path()));
    fail(&opened.log);
    drop(opened.log.prepare_rewrite().unwrap());
    assert_eq!(file_names(dir.path()), names);

    let pending = opened.log.prepare_rewrite().unwrap();
    let (_feed, writer) = pending.cut(&mut opened.keyspace, Vec::new()).unwrap();
    opened.run("SET b 1");
    drop(opened.keyspace.abort_snapshot());
    assert!(writer.run().is_err());
    assert_eq!(file_names(dir.path()), names);
    opened.run("SET c 1");
    assert!(opened.log.close().is_err(), "it is not healed");
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().state(), before);
}

#[test]
fn a_disk_that_takes_nothing_poisons_the_log_and_not_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let directory = disk::Directory::open(dir.path()).unwrap();
    let (config, mut keyspace) = (config(dir.path(), Fsync::EverySec), Keyspace::new());
    // Without its threads nobody takes what is appended.
    let (log, _pen, recovery) =
        Log::open_on(directory, config, &mut keyspace, NOW, &mut |_| {}).unwrap();
    let (effects, reply) = (Effects::new(), Reply::default());
    let mut opened = Opened { keyspace, log, recovery, effects, reply };
    let mut append = |len: usize| {
        opened.run(&format!("SET a {}", "x".repeat(len)));
        opened.log.status().failed
    };
    assert_eq!(append(100 << 20), None, "one record may be of any length");
    let failed = (0..65).find_map(|_| append(1 << 20)).expect("too much waits");
    assert!(failed.contains("wait for the disk"), "{failed}");
}

#[test]
fn a_record_of_any_length_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run(&format!("SET a {}", "x".repeat(65 << 20)));
    opened.run(&format!("RPUSH b {}", "x ".repeat((1 << 20) + 1)));
    opened.run("SET c 1");
    let state = opened.close();
    assert_eq!(open(dir.path()).unwrap().state(), state);
}

#[test]
fn prometheus_sees_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_with(config(dir.path(), Fsync::Always)).unwrap();
    let registry = prometheus::Registry::new();
    opened.log.register_metrics(&registry).unwrap();
    assert!(opened.log.register_metrics(&registry).is_err());
    opened.run("SET a 1");
    opened.rewrite(Vec::new()).unwrap();
    opened.save().unwrap();
    fail(&opened.log);
    let value = |family: &str| {
        let families = registry.gather();
        let found = families.iter().find(|it| it.name() == format!("weir_persist_{family}"));
        let metric = found.expect(family).get_metric().last().expect(family);
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    };
    assert_eq!(value("appended_bytes_total"), 27.0);
    assert_eq!(value("failures_total"), 1.0);
    assert_eq!(value("poisoned"), 1.0);
    assert_eq!(value("log_size_bytes"), opened.log.status().log_size as f64);
    assert_eq!(value("saves_total"), 1.0);
    assert_eq!(registry.gather().len(), 16);
    for family in registry.gather() {
        assert!(family.name().starts_with("weir_persist_"), "{}", family.name());
    }
}
