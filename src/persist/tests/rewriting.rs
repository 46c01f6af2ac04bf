//! Rewrites: while records flow, when they fail, when the process dies.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Walks the snapshot as the store does: in slices, the lock let go between.
fn walk(opened: &Mutex<Opened>, feed: Feed) {
    loop {
        match feed.pace(false, Lsn::default()) {
            Pace::Gently | Pace::Briskly => {}
            Pace::Pause => std::thread::sleep(Duration::from_millis(1)),
            Pace::Abort => {
                opened.lock().unwrap().keyspace.abort_snapshot();
                return;
            }
        }
        let step = opened.lock().unwrap().keyspace.walk(16);
        match step {
            Walk::Done(sink) => return feed.finish(sink),
            Walk::More => std::thread::yield_now(),
            Walk::Idle => unreachable!("a snapshot is walking"),
        }
    }
}

#[test]
fn rewrites_under_load_lose_nothing_and_add_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Mutex::new(open_with(config(dir.path(), Fsync::EverySec)).unwrap());
    let (rewrite_count, done) = (6, AtomicBool::new(false));
    let mut crashed = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (opened, done) = (&opened, &done);
            scope.spawn(move || {
                let mut random = thread + 1;
                while !done.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (key, number) = (random >> 33 & 0x3FF, random >> 50);
                    let commands = match random >> 60 {
                        0..4 => format!("SET s:{key} {number}"),
                        4..12 => {
                            format!("ZADD z:{key} {number} m{}\nPEXPIRE z:{key} 90000", number % 50)
                        }
                        12..14 => format!("DEL z:{key} s:{number}"),
                        _ => format!("ZADD big {number} m{number}\nZREM z:{key} m1"),
                    };
                    opened.lock().unwrap().run(&commands);
                    if random >> 44 & 0xF == 0 {
                        // Or the walk would starve: this lock is not fair.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
        for round in 0..rewrite_count {
            std::thread::sleep(Duration::from_millis(60));
            let log = opened.lock().unwrap().log.clone();
            let pending = log.prepare_rewrite().unwrap();
            let (feed, writer) = {
                let keyspace = &mut opened.lock().unwrap().keyspace;
                pending.cut(keyspace, vec![format!("#!lua name=round{round}\n").into()]).unwrap()
            };
            assert!(matches!(log.prepare_rewrite(), Err(Error::RewriteRunning)));
            let writer = scope.spawn(move || writer.run());
            walk(&opened, feed);
            let copy = tempfile::tempdir().unwrap();
            copy_log(dir.path(), copy.path());
            crashed.push(copy);
            writer.join().unwrap().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    // A crash at any moment starts from what lies on disk.
    for copy in crashed {
        if let Err(error) = open(copy.path()) {
            // A copy is no snapshot: a file may be replaced while we copy.
            assert!(matches!(error, Error::Missing { .. }), "{error}");
        }
    }
    let opened = opened.into_inner().unwrap();
    opened.log.close().unwrap();
    let (written, last) = (opened.state(), rewrite_count + 1);
    let (base, incr) =
        (format!("appendonly.aof.{last}.base.rdb"), format!("appendonly.aof.{last}.incr.aof"));
    assert_eq!(file_names(dir.path()), [base.as_str(), incr.as_str(), manifest::FILE_NAME]);
    drop(opened);
    let again = open(dir.path()).unwrap();
    assert!(again.state() == written, "{} keys, {} before", again.keyspace.len(), written.len());
    assert_eq!(again.recovery.failed_records, 0);
    assert_eq!(again.recovery.libraries, [format!("#!lua name=round{}\n", rewrite_count - 1)]);
}

#[test]
fn what_is_dropped_or_aborted_leaves_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1");

    drop(opened.log.prepare_rewrite().unwrap());
    let (feed, writer) =
        opened.log.prepare_rewrite().unwrap().cut(&mut opened.keyspace, Vec::new()).unwrap();
    opened.run("SET a 2");
    drop(opened.keyspace.abort_snapshot());
    assert_eq!(feed.pace(false, Lsn::default()), Pace::Abort);
    assert!(matches!(writer.run(), Err(Error::SnapshotAbandoned { .. })));

    let (feed, writer) =
        opened.log.prepare_rewrite().unwrap().cut(&mut opened.keyspace, Vec::new()).unwrap();
    drop(writer);
    assert_eq!(feed.pace(false, Lsn::default()), Pace::Abort);
    opened.keyspace.abort_snapshot();
    opened.run("SET b 1");
    assert!(!opened.log.status().rewrite_running);

    let names = file_names(dir.path());
    assert!(!names.iter().any(|name| name.starts_with("temp-")), "{names:?}");
    let copy = tempfile::tempdir().unwrap();
    opened.log.close().unwrap();
    copy_log(dir.path(), copy.path());
    assert_eq!(open(copy.path()).unwrap().state(), opened.state());
}

#[test]
fn a_rewrite_after_failed_ones_cleans_up_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    drop(opened.log.prepare_rewrite().unwrap());
    drop(opened.log.prepare_rewrite().unwrap());
    opened.run("SET a 1");
    opened.rewrite(Vec::new()).unwrap();
    assert_eq!(
        manifest_text(dir.path()),
        "file appendonly.aof.4.base.rdb seq 4 type b\n\
         file appendonly.aof.4.incr.aof seq 4 type i\n"
    );
    assert_eq!(file_names(dir.path()).len(), 3);
}

#[test]
fn a_log_wants_a_rewrite_when_it_has_outgrown_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    assert!(!opened.log.wants_rewrite());
    let grow = |opened: &mut Opened| {
        for number in 0..100 {
            opened.run(&format!("SET key {number}"));
        }
        opened.flush();
    };
    grow(&mut opened);
    assert!(opened.log.wants_rewrite());
    let pending = opened.log.prepare_rewrite().unwrap();
    assert!(!opened.log.wants_rewrite(), "one is running");
    drop(pending);
    assert!(!opened.log.wants_rewrite(), "one has just failed");
    opened.rewrite(Vec::new()).unwrap();
    assert!(!opened.log.wants_rewrite(), "it is small now");
    grow(&mut opened);
    assert!(opened.log.wants_rewrite());
}

#[test]
fn a_crash_between_any_two_steps_loads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1\nZADD z 1 m");
    let same = |opened: &Opened, step: &str| {
        opened.flush();
        let copy = tempfile::tempdir().unwrap();
        copy_log(dir.path(), copy.path());
        assert_eq!(open(copy.path()).expect(step).state(), opened.state(), "{step}");
    };
    let pending = opened.log.prepare_rewrite().unwrap();
    same(&opened, "prepared");
    opened.run("SET a 2");
    same(&opened, "prepared, and written to");
    let (feed, writer) = pending.cut(&mut opened.keyspace, Vec::new()).unwrap();
    opened.run("ZADD z 2 n");
    same(&opened, "cut");
    feed.finish(walked(&mut opened.keyspace));
    same(&opened, "walked");
    writer.run().unwrap();
    opened.run("SET b 1");
    same(&opened, "committed");
}
