//! What an embedded store promises: groups that stand or fall together, state
//! that outlives it, and errors that say where.

use std::path::Path;
use std::time::Duration;

use prometheus::Registry;

use crate::base::clock::Timestamp;
use crate::base::yaml;
use crate::keyspace::{self, Arg};
use crate::resp::View;

use super::housekeeping::{DEMAND_CALLS_MIN, Demand, TICK};
use super::*;

const LIBRARY: &str = "#!lua name=t
redis.register_function('set', function(keys, args)
  redis.call('SET', keys[1], args[1])
  return 1
end)
redis.register_function('get', function(keys, args)
  return redis.call('GET', keys[1]) or 'nothing'
end)
redis.register_function('refuse', function(keys, args)
  redis.call('SET', keys[1], 'written and refused')
  return 0
end)
redis.register_function('fail', function(keys, args)
  redis.call('SET', keys[1], 'written and failed')
  error('on purpose')
end)
redis.register_function('spin', function(keys, args)
  redis.call('SET', keys[1], 'written and spun')
  while true do pcall(function() while true do end end) end
end)
";

fn library(code: &str) -> Library {
    Library { origin: "t.lua".to_owned(), code: code.to_owned() }
}

fn log_in(dir: &Path, settings: &str) -> persist::Config {
    let text = format!("dir: {}\n{settings}", dir.display());
    let raw = yaml::read::<persist::RawConfig>("weir.yaml", &text).unwrap().value;
    raw.check(Path::new("weir.yaml"), "").unwrap()
}

fn open(log: Option<persist::Config>) -> Opened {
    let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Embedded::open(&[library(LIBRARY)], log, clock, metrics, &mut |_| {}).unwrap()
}

/// Calls `function key [arg]` for each line, as one group, and says what became
/// of it: `kept 2` or `undone 1`, or the error.
fn group(store: &Embedded, lines: &[&str]) -> String {
    let words: Vec<Vec<&[u8]>> =
        lines.iter().map(|line| line.split(' ').map(str::as_bytes).collect()).collect();
    let calls: Vec<Call<'_>> = words
        .iter()
        .map(|words| Call {
            function: std::str::from_utf8(words[0]).unwrap(),
            keys: &words[1..2],
            args: &words[2..],
        })
        .collect();
    let mut replies = vec![Reply::default(); calls.len()];
    let accept = |reply: &Reply| !matches!(reply.view(), View::Integer(0));
    let mut for_ever = Duration::MAX;
    let called = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(store.call(&mut for_ever, &calls, &mut replies, accept));
    match called {
        Ok(Asked { answered, kept: true }) => format!("kept {answered}"),
        Ok(Asked { answered, kept: false }) => format!("undone {answered}"),
        Err(error) => error.to_string(),
    }
}

fn get(store: &Embedded, key: &str) -> String {
    let call = Call { function: "t.get", keys: &[key.as_bytes()], args: &[] };
    let mut replies = [Reply::default()];
    store.shared.run(store.shared.lock(), &[call], &mut replies, |_| true).unwrap();
    match replies[0].view() {
        View::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_is_kept_whole_or_leaves_nothing() {
    let store = open(None).store;
    assert_eq!(group(&store, &["t.set a 1", "t.set b 1"]), "kept 2");
    assert_eq!(group(&store, &["t.set a 2", "t.refuse b", "t.set c 2"]), "undone 2");
    assert_eq!(group(&store, &["t.set a 3", "t.fail b"]), "the Function t.fail failed");
    assert_eq!(group(&store, &["t.set a 4", "t.spin b"]), "the Function t.spin failed");
    assert_eq!(group(&store, &["t.set a 5", "t.missing b"]), "the Function t.missing failed");
    assert_eq!(["a", "b", "c"].map(|key| get(&store, key)), ["1", "1", "nothing"]);
}

#[test]
fn sixty_four_threads_charge_all_the_limits_of_a_request_or_none() {
    const THREADS: usize = 64;
    const ASKED_BY_EACH: usize = 20;
    let code = include_str!("../../../functions/limiter.lua");
    let limiter = Library { origin: "limiter.lua".to_owned(), code: code.to_owned() };
    let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let store = Embedded::open(&[limiter], None, clock, metrics, &mut |_| {}).unwrap().store;
    // One limit for all, and one for each of eight groups: some of those refuse first,
    // and in the end that for all does.
    let key = |group: usize| format!("group-{group}");
    let ask = |function: &str, group: usize, cost: &[u8]| -> Vec<(i64, i64)> {
        let (own, quota) = (key(group), (10 * (group + 1)).to_string());
        let limit =
            |quota| -> [&[u8]; 6] { [b"sliding_window", quota, b"60000", cost, b"-", b"0"] };
        let args = [limit(b"300"), limit(quota.as_bytes())].concat();
        let call = Call { function, keys: &[b"all", own.as_bytes()], args: &args };
        let mut replies = [Reply::default()];
        store.shared.run(store.shared.lock(), &[call], &mut replies, |_| true).unwrap();
        let View::Array(said) = replies[0].view() else { panic!("{:?}", replies[0]) };
        said.map(|outcome| {
            let View::Array(mut numbers) = outcome else { panic!("{outcome:?}") };
            match [numbers.next(), numbers.next()] {
                [Some(View::Integer(admitted)), Some(View::Integer(left))] => (admitted, left),
                other => panic!("{other:?}"),
            }
        })
        .collect()
    };
    let admitted: Vec<std::sync::atomic::AtomicI64> = (0..8).map(|_| 0.into()).collect();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (ask, admitted) = (&ask, &admitted);
            threads.spawn(move || {
                for _ in 0..ASKED_BY_EACH {
                    let said = ask("limiter.decide", thread % 8, b"1");
                    let passed = said.iter().all(|(admitted, _)| *admitted == 1);
                    admitted[thread % 8]
                        .fetch_add(passed.into(), std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let admitted: Vec<i64> = admitted.into_iter().map(|it| it.into_inner()).collect();
    assert_eq!(
        admitted.iter().sum::<i64>(),
        300,
        "the quota for all, and it was enough: {admitted:?}"
    );
    for (group, admitted) in admitted.iter().enumerate() {
        let quota = 10 * (group as i64 + 1);
        let left = [(0, 0), (i64::from(*admitted < quota), quota - admitted)];
        let said = ask("limiter.peek", group, b"1");
        assert_eq!(said, left, "group {group}: charged for what was admitted, and nothing else");
    }
}

#[test]
fn a_single_refused_call_keeps_what_it_wrote() {
    let store = open(None).store;
    assert_eq!(group(&store, &["t.refuse a"]), "kept 1");
    assert_eq!(get(&store, "a"), "written and refused");
}

#[test]
fn state_outlives_the_store_and_what_was_undone_does_not_come_back() {
    for appendfsync in ["always", "everysec", "no"] {
        let dir = tempfile::tempdir().unwrap();
        let config = || Some(log_in(dir.path(), &format!("appendfsync: {appendfsync}\n")));
        let store = open(config()).store;
        assert_eq!(group(&store, &["t.set a 1", "t.set b 1"]), "kept 2");
        assert_eq!(group(&store, &["t.set a 2", "t.refuse b"]), "undone 2");
        store.close().unwrap();
        drop(store);

        let opened = open(config());
        assert_eq!(opened.recovery.unwrap().keys, 2, "{appendfsync}");
        assert_eq!(["a", "b"].map(|key| get(&opened.store, key)), ["1", "1"]);
        opened.store.close().unwrap();
    }
}

#[test]
fn a_grown_log_is_rewritten_while_calls_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "appendfsync: 'no'\nauto_aof_rewrite_min_size: 64KiB\n";
    let store = open(Some(log_in(dir.path(), settings))).store;
    let base_size = || store.log().unwrap().status().base_size;
    let first = base_size();
    let mut round = 0;
    while base_size() == first {
        round += 1;
        assert!(round < 1_000, "the log was not rewritten");
        for key in 0..100 {
            assert_eq!(group(&store, &[&format!("t.set key{key} {round}")]), "kept 1");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    store.close().unwrap();
    drop(store);

    let store = open(Some(log_in(dir.path(), settings))).store;
    for key in 0..100 {
        assert_eq!(get(&store, &format!("key{key}")), round.to_string());
    }
    store.close().unwrap();
}

#[test]
fn one_process_at_a_time_has_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(Some(log_in(dir.path(), ""))).store;
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let log = Some(log_in(dir.path(), ""));
    let second = Embedded::open(&[], log, Clock::system(), metrics, &mut |_| {});
    assert!(matches!(second, Err(OpenError::Log(_))), "{second:?}");
    first.close().unwrap();
}

#[test]
fn a_library_that_does_not_load_says_where() {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let broken = library("#!lua name=t\nlocal x = = 1\n");
    let opened = Embedded::open(&[broken], None, Clock::system(), metrics, &mut |_| {});
    assert_eq!(opened.unwrap_err().to_string(), "t.lua:2");
}

/// Sends one command of a client, and says what it was answered.
fn send(store: &Embedded, words: &[&str]) -> String {
    let args: Vec<Arg<'_>> = words.iter().map(|it| Arg::Bytes(it.as_bytes())).collect();
    let command = keyspace::command(words[0].as_bytes()).unwrap();
    let mut reply = Reply::default();
    let commands = store.commands();
    let mut held = commands.hold_soon().unwrap();
    held.run(command, &args, &mut reply);
    let _ = held.release();
    match reply.view() {
        View::Bulk(it) | View::Status(it) | View::Error(it) => {
            String::from_utf8_lossy(it).into_owned()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_snapshot_sees_whether_calls_come() {
    let store = open(None).store;
    let mut demand = Demand::new(&store.shared);
    let mut sees = |calls| {
        (0..calls).for_each(|_| assert_eq!(send(&store, &["echo", "x"]), "x"));
        std::thread::sleep(TICK);
        demand.look(&store.shared)
    };
    assert!(!sees(0), "the store's own work is no call");
    assert!(sees(DEMAND_CALLS_MIN));
    assert!(!sees(DEMAND_CALLS_MIN - 1));
}

#[test]
fn libraries_of_clients_outlive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let log = || Some(log_in(dir.path(), "appendfsync: always"));
    let mine = |answer: &str| {
        format!("#!lua name=mine\nredis.register_function('f', function() return '{answer}' end)")
    };
    let store = open(log()).store;
    assert_eq!(send(&store, &["function", "load", &mine("old")]), "mine");
    assert_eq!(send(&store, &["function", "load", "replace", &mine("new")]), "mine");
    let gone = "#!lua name=gone\nredis.register_function('g', redis.log)";
    assert_eq!(send(&store, &["function", "load", gone]), "gone");
    assert_eq!(send(&store, &["function", "delete", "gone"]), "OK");
    store.close().unwrap();
    drop(store);
    let store = open(log()).store;
    assert_eq!(send(&store, &["fcall", "f", "0"]), "new");
    assert_eq!(send(&store, &["fcall", "g", "0"]), "ERR Function not found");
    assert_eq!(group(&store, &["t.set a 1"]), "kept 1", "the files' libraries are there too");
    assert_eq!(send(&store, &["function", "flush"]), "OK");
    store.close().unwrap();
    drop(store);
    let store = open(log()).store;
    assert_eq!(send(&store, &["fcall", "f", "0"]), "ERR Function not found");
}

#[tokio::test]
async fn the_log_holds_the_libraries_of_files_each_text_once() {
    let dir = tempfile::tempdir().unwrap();
    let code = |answer: u32| {
        format!("#!lua name=file\nredis.register_function('f', function() return '{answer}' end)")
    };
    let start = |files: &[Library]| {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let log = Some(log_in(dir.path(), "appendfsync: always"));
        Embedded::open(files, log, Clock::system(), metrics, &mut |_| {}).unwrap()
    };
    // What the file says; how many records that makes in all, of which the last holds.
    for (answer, records, held) in
        [(Some(1), 0, None), (Some(1), 1, Some(1)), (Some(2), 1, Some(1)), (None, 2, Some(2))]
    {
        let files: Vec<Library> = answer.map(|it| library(&code(it))).into_iter().collect();
        let Opened { store, recovery } = start(&files);
        let recovery = recovery.unwrap();
        assert_eq!(recovery.records, records);
        assert_eq!(recovery.libraries, Vec::from_iter(held.map(code)));
        let answers = answer.or(held).unwrap().to_string();
        assert_eq!(send(&store, &["fcall", "f", "0"]), answers, "also when the file has gone");
        store.close().unwrap();
    }
    let store = start(&[library(&code(2))]).store;
    for answer in [2, 3, 3] {
        store.load_library(&code(answer)).await.unwrap();
    }
    store.close().unwrap();
    drop(store);
    let recovery = start(&[]).recovery.unwrap();
    assert_eq!((recovery.records, recovery.libraries), (3, vec![code(3)]));
}
