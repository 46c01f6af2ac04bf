//! What a real redis-server wrote loads to what that server held.

use super::*;
use crate::keyspace::rdb;
use crate::persist::base::decode::{BaseReader, Part};
use crate::persist::source::Source;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn json(path: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(root().join(path)).expect(path);
    serde_json::from_str(&text).expect(path)
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Database 0 of a `.expect.json`, as [`State`].
fn expected_state(json: &serde_json::Value) -> State {
    let model = json.get("model").unwrap_or(json);
    let Some(keys) = model.pointer("/dbs/0").and_then(serde_json::Value::as_object) else {
        return State::new();
    };
    let entry = |(key, it): (&String, &serde_json::Value)| {
        let value = match it["type"].as_str().unwrap() {
            "string" => Value::String(unhex(it["value"].as_str().unwrap()).into()),
            "zset" => {
                let mut set = crate::keyspace::SortedSet::new();
                for pair in it["value"].as_array().unwrap() {
                    let score = pair[1].as_str().unwrap().parse().unwrap();
                    set.insert(&unhex(pair[0].as_str().unwrap()), score);
                }
                Value::SortedSet(set)
            }
            "hash" => {
                let mut hash = crate::keyspace::Hash::new();
                for (field, value) in it["value"].as_object().unwrap() {
                    hash.insert(&unhex(field), &unhex(value.as_str().unwrap()));
                }
                Value::Hash(hash)
            }
            "set" => {
                let mut set = crate::keyspace::Set::new();
                for member in it["value"].as_array().unwrap() {
                    set.add(&unhex(member.as_str().unwrap()));
                }
                Value::Set(set)
            }
            "list" => {
                let mut list = crate::keyspace::List::new();
                for element in it["value"].as_array().unwrap() {
                    list.push_back(&unhex(element.as_str().unwrap()));
                }
                Value::List(list)
            }
            other => unreachable!("{key} is a {other}"),
        };
        let deadline = match it["pexpiretime"].as_i64().unwrap() {
            -1 => String::new(),
            ms => format!(" until {ms}"),
        };
        (key.as_bytes().escape_ascii().to_string(), format!("{}{deadline}", text_of(&value)))
    };
    keys.iter().filter(|(_, it)| it["type"] != "stream").map(entry).collect()
}

/// A copy of the log in a fixture folder, in a place of its own.
fn copy_of(fixture: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_log(&root().join("redis-7.0.15").join(fixture), dir.path());
    dir
}

/// Loads a fixture that must load, twice, and compares.
#[track_caller]
fn loads(fixture: &str) -> Recovery {
    let dir = copy_of(fixture);
    let expected = expected_state(&json(&format!("redis-7.0.15/{fixture}.expect.json")));
    let first = open(dir.path()).map_err(|error| error.chain()).expect(fixture);
    let recovery = first.recovery.clone();
    assert_eq!(first.close(), expected, "{fixture}");
    let second = open(dir.path()).unwrap();
    assert_eq!(second.state(), expected, "{fixture}, again");
    assert_eq!(second.recovery.cut_tail, None, "{fixture}: cut once");
    recovery
}

/// Tries a fixture that must not load; what lies on disk stays as it was.
#[track_caller]
fn refuses(fixture: &str, expected: &str) {
    let dir = copy_of(fixture);
    let error = open(dir.path()).err().expect(fixture);
    let folder = format!("{}/", folder(dir.path()).display());
    let text =
        error.chain().replace(&folder, "").replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(text, expected, "{fixture}");
    for entry in std::fs::read_dir(root().join("redis-7.0.15").join(fixture).join("appendonlydir"))
        .into_iter()
        .flatten()
    {
        let entry = entry.unwrap();
        let copy = super::folder(dir.path()).join(entry.file_name());
        assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(entry.path()).unwrap(), "{fixture}");
    }
}

#[test]
fn logs_of_redis_load() {
    assert_eq!(loads("aof-timestamps").records, 7);
    assert_eq!(loads("aof-two-incr").records, 52);
    loads("aof-history");
    loads("cases/man-seq-gap");
    loads("cases/trunc-zero-incr");
}

#[test]
fn history_files_are_removed_at_start() {
    let dir = copy_of("aof-history");
    open(dir.path()).unwrap().close();
    // The file of Redis is kept, and one of ours goes on behind it.
    let incrs = ["appendonly.aof.3.incr.aof", "appendonly.aof.4.incr.aof"];
    let left = ["appendonly.aof.3.base.rdb", incrs[0], incrs[1], manifest::FILE_NAME];
    assert_eq!(file_names(dir.path()), left);
    let manifest = json("redis-7.0.15/aof-history.expect.json");
    let manifest = &manifest["manifest_after"]["appendonlydir/appendonly.aof.manifest"];
    let ours = format!("file {} seq 4 type i\n", incrs[1]);
    assert_eq!(manifest_text(dir.path()), manifest.as_str().unwrap().to_owned() + &ours);
}

#[test]
fn names_that_need_quotes_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder(dir.path())).unwrap();
    let from = root().join("redis-7.0.15/aof-quoted-name/other dir");
    for name in
        ["2.base.rdb", "2.incr.aof", "manifest"].map(|end| format!("my \"aof\" file.aof.{end}"))
    {
        let to = name.replace("my \"aof\" file.aof.manifest", manifest::FILE_NAME);
        std::fs::copy(from.join(&name), folder(dir.path()).join(to)).unwrap();
    }
    let expected = expected_state(&json("redis-7.0.15/aof-quoted-name.expect.json"));
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.state(), expected);
    opened.rewrite(Vec::new()).unwrap();
    let ours = ["appendonly.aof.3.base.rdb", "appendonly.aof.4.incr.aof", manifest::FILE_NAME];
    assert_eq!(file_names(dir.path()), ours);
}

#[test]
fn torn_tails_are_cut_to_the_last_whole_record() {
    for (fixture, offset, bytes) in [
        ("cases/trunc-tail", 318, 29),
        ("cases/trunc-ts-line", 318, 6),
        ("cases/trunc-partial-first", 0, 11),
        // Redis cuts inside the group, and loses what is written next.
        ("cases/trunc-in-multi", 235, 63),
        ("cases/multi-no-exec", 235, 69),
    ] {
        let cut = loads(fixture).cut_tail.expect(fixture);
        assert_eq!((cut.offset, cut.bytes), (offset, bytes), "{fixture}");
    }
}

#[test]
fn a_tail_of_zeros_that_redis_refuses_is_a_torn_tail() {
    let dir = copy_of("cases/nul-tail");
    let opened = open(dir.path()).unwrap();
    assert_eq!(opened.state().len(), 7);
    assert_eq!(opened.recovery.cut_tail.as_ref().unwrap().bytes, 100);
}

#[test]
fn faults_are_refused_with_their_place() {
    let incr = "appendonly.aof.1.incr.aof";
    refuses(
        "cases/corrupt-middle",
        &format!("{incr}: damaged at byte 113: expected `$`, the start of an argument"),
    );
    refuses(
        "cases/corrupt-count",
        &format!("{incr}: damaged at byte 110: expected a number of arguments, at least 1"),
    );
    refuses(
        "cases/unknown-command",
        &format!("{incr}: byte 318: the command `NOCMD` (key \"x\") cannot be loaded here"),
    );
    refuses(
        "cases/wrong-arity-command",
        &format!("{incr}: byte 318: ERR wrong number of arguments for 'set' command"),
    );
    refuses(
        "cases/trunc-not-last",
        &format!("{incr}: ends in the middle of a record; whole up to byte 1501"),
    );
    // Redis reads this one: it skips the two bytes after an argument unread.
    refuses(
        "cases/lf-only-lines",
        &format!("{incr}: damaged at byte 327: expected CR LF after an argument"),
    );
    let missing = "is named by the manifest but missing";
    refuses("cases/base-missing", &format!("appendonly.aof.2.base.rdb {missing}"));
    refuses("cases/incr-missing", &format!("appendonly.aof.2.incr.aof {missing}"));
    refuses(
        "cases/manifest-missing",
        "appendonly.aof.manifest is missing, but appendonly.aof.2.base.rdb is there; \
         restore the manifest or move the files away",
    );
}

#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let error = open(copy_of("aof-rewritten").path()).err().unwrap().to_string();
    assert!(error.contains("database 5 (key \""), "{error}");
    let strings = std::fs::read(root().join("redis-7.0.15/strings.rdb")).unwrap();
    let (_, end) = read_base(&strings);
    assert_eq!(end, "Err(file: byte 1112: database 3 (key \"other-db\") cannot be loaded here)");
    let streams = std::fs::read(root().join("redis-7.0.15/collections.rdb")).unwrap();
    let (_, end) = read_base(&streams);
    assert!(end.ends_with("a stream (key \"st\") cannot be loaded here)"), "{end}");
}

/// Each folder that a real redis-server wrote: it loads as there, or is refused
/// for a database that we do not have.
#[test]
fn every_log_of_redis_loads_or_is_refused_for_what_it_holds() {
    let mut loaded = 0;
    for entry in std::fs::read_dir(root().join("redis-7.0.15/cases")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(case) = name.strip_suffix(".expect.json") else { continue };
        let expected = json(&format!("redis-7.0.15/cases/{name}"));
        let starts = expected["starts"].as_bool().unwrap();
        let single = expected["model"]["dbs"].as_object().is_none_or(|dbs| dbs.len() <= 1);
        // Where we differ on purpose, other tests say how.
        let differs = ["lf-only-lines", "manifest-missing", "nul-tail", "trunc-in-multi"];
        let has_log = root().join(format!("redis-7.0.15/cases/{case}/appendonlydir")).exists();
        if differs.contains(&case) || !has_log {
            continue;
        }
        let dir = copy_of(&format!("cases/{case}"));
        let opened = open_with(Config {
            aof_load_truncated: case != "trunc-tail-no",
            ..config(dir.path(), Fsync::No)
        });
        match opened {
            Ok(opened) => {
                assert!(starts && single, "{case} loads");
                assert_eq!(opened.state(), expected_state(&expected), "{case}");
                loaded += 1;
            }
            Err(Error::Unsupported { what, .. }) if !single => assert_eq!(what, "database 5"),
            Err(error) => assert!(!starts, "{case}: {error}"),
        }
    }
    assert!(loaded >= 5, "{loaded} loaded");
}

#[test]
fn a_damaged_base_file_is_refused() {
    for fixture in ["cases/base-trunc", "cases/base-badsum"] {
        let dir = copy_of(fixture);
        assert!(open(dir.path()).is_err(), "{fixture}");
    }
    let mut empty = std::fs::read(root().join("redis-7.0.15/empty.rdb")).unwrap();
    *empty.last_mut().unwrap() ^= 1;
    assert!(read_base(&empty).1.contains("checksum is"));
}

/// The keys and libraries of a base file, and how reading it ended.
fn read_base(bytes: &[u8]) -> (State, String) {
    let mut state = State::new();
    let mut read = || {
        let mut base = BaseReader::new(Source::new(bytes, PathBuf::from("file")))?;
        while let Some(part) = base.next()? {
            let (key, text) = match part {
                Part::Library(code) => (format!("library {}", state.len()), code),
                Part::Entry { key, value, expires_at_ms } => {
                    let deadline = expires_at_ms.map(|ms| format!(" until {ms}"));
                    let text = text_of(&value) + &deadline.unwrap_or_default();
                    (key.escape_ascii().to_string(), text)
                }
            };
            state.insert(key, text);
        }
        Ok(())
    };
    let end: Result<(), Error> = read();
    let end = match end {
        Ok(()) => "Ok".to_owned(),
        Err(error) => format!("Err({error})"),
    };
    (state, end)
}

#[test]
fn base_files_of_redis_load() {
    for name in ["redis-7.0.15/empty", "redis-7.0.15/lru", "redis-7.0.15/lfu-nosum-nocompress"] {
        let bytes = std::fs::read(root().join(format!("{name}.rdb"))).unwrap();
        let expected = expected_state(&json(&format!("{name}.rdb.expect.json")));
        assert_eq!(read_base(&bytes), (expected, "Ok".to_owned()), "{name}");
    }
    for version in ["redis-7.0.15", "redis-7.2.6"] {
        let bytes = std::fs::read(root().join(version).join("strings.rdb")).unwrap();
        let expected = expected_state(&json(&format!("{version}/strings.rdb.expect.json")));
        assert_eq!(read_base(&bytes).0, expected, "{version}");
    }
}

#[test]
fn libraries_are_handed_over_with_their_code() {
    let bytes = std::fs::read(root().join("redis-7.0.15/functions.rdb")).unwrap();
    let (state, end) = read_base(&bytes);
    assert_eq!(end, "Ok");
    let expected = json("redis-7.0.15/functions.rdb.expect.json");
    for library in expected["functions"].as_array().unwrap() {
        let code = String::from_utf8(unhex(library["code_hex"].as_str().unwrap())).unwrap();
        assert!(state.values().any(|text| *text == code), "{}", library["name"]);
    }
    assert_eq!(state.len(), 3);
}

#[test]
fn base_files_with_every_kind_of_value_load() {
    for name in ["redis-7.0.15/expiries", "redis-7.0.15/list-plain"] {
        let bytes = std::fs::read(root().join(format!("{name}.rdb"))).unwrap();
        let (mut state, end) = read_base(&bytes);
        assert_eq!(end, "Ok", "{name}");
        let expected = expected_state(&json(&format!("{name}.rdb.expect.json")));
        // Not in the expectation: keys that were past their deadline.
        state.retain(|key, _| expected.contains_key(key));
        assert_eq!(state, expected, "{name}");
    }
    for version in ["redis-7.0.15", "redis-7.2.6"] {
        let bytes = std::fs::read(root().join(version).join("collections.rdb")).unwrap();
        let expected = expected_state(&json(&format!("{version}/collections.rdb.expect.json")));
        let (state, _) = read_base(&bytes);
        assert!(!state.is_empty(), "{version}: a stream ends it");
        for (key, text) in state {
            assert_eq!(Some(&text), expected.get(&key), "{version}: {key}");
        }
    }
}

/// `DUMP` gives the bytes of a value as they stand in a file: put one in a file.
#[test]
fn every_encoding_of_redis_is_read_and_ours_reads_back_the_same() {
    let mut expected = expected_state(&json("redis-7.0.15/sorted-sets.expect.json"));
    expected.extend(expected_state(&json("redis-7.0.15/strings.rdb.expect.json")));
    expected.extend(expected_state(&json("redis-7.0.15/collections.rdb.expect.json")));
    let mut checked = 0;
    for (key, payload) in json("redis-7.0.15/dump-payloads.json").as_object().unwrap() {
        let payload = unhex(payload.as_str().unwrap());
        let restored = rdb::payload::restore(&payload);
        let Some(text) = expected.get(key) else {
            assert!(key == "st" && restored.is_err(), "{key}");
            continue;
        };
        let value = restored.expect(key);
        assert_eq!(text_of(&value), *text, "{key}");
        let ours = rdb::payload::dump(&value);
        assert_eq!(ours[0], payload[0], "{key}: the same kind");
        assert_eq!(text_of(&rdb::payload::restore(&ours).unwrap()), *text, "{key}: ours");
        checked += 1;
    }
    assert!(checked >= 30, "{checked} payloads");
}

#[test]
fn libraries_that_redis_dumped_are_restored() {
    let dumped = std::fs::read(root().join("redis-7.0.15/functions.dump")).unwrap();
    let codes = rdb::payload::restore_libraries(&dumped).unwrap();
    assert!(!codes.is_empty() && codes.iter().all(|code| code.starts_with("#!lua")));
    assert_eq!(
        rdb::payload::restore_libraries(&rdb::payload::dump_libraries(
            codes.iter().map(String::as_str)
        )),
        Ok(codes)
    );
    let empty = unhex("0a005d9b5c400f7fa2da");
    assert_eq!(rdb::payload::dump_libraries([]), empty);
}

/// Starts from one file in a data directory without a log, and again from what that
/// left.
fn takes_over(bytes: &[u8], name: &str, expected: &State) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), bytes).unwrap();
    for start in 0..2 {
        let opened = open(dir.path()).unwrap();
        assert!(opened.state() == *expected, "{name}, start {start}");
        opened.close();
    }
    dir
}

/// A snapshot of a Redis, and what it holds.
fn snapshot() -> (Vec<u8>, State) {
    let bytes = std::fs::read(root().join("redis-7.0.15/lru.rdb")).unwrap();
    (bytes, expected_state(&json("redis-7.0.15/lru.rdb.expect.json")))
}

#[test]
fn a_log_older_than_redis_7_is_upgraded_as_redis_7_does() {
    let case = "redis-7.0.15/cases/upgrade-old-truncated";
    let torn = std::fs::read(root().join(case).join("appendonly.aof")).unwrap();
    let torn_state = expected_state(&json(&format!("{case}.expect.json")));
    let (snapshot, mut state) = snapshot();
    let with_preamble = [&snapshot[..], b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"].concat();
    state.insert("a".to_owned(), "\"1\"".to_owned());
    for (bytes, expected) in [(torn, torn_state), (with_preamble, state)] {
        let dir = takes_over(&bytes, "appendonly.aof", &expected);
        let incr = "appendonly.aof.1.incr.aof";
        assert_eq!(file_names(dir.path()), ["appendonly.aof", incr, manifest::FILE_NAME]);
        assert!(!dir.path().join("appendonly.aof").exists(), "moved");
    }
}

#[test]
fn a_snapshot_without_a_log_is_where_a_new_log_begins() {
    let (snapshot, state) = snapshot();
    let dir = takes_over(&snapshot, "dump.rdb", &state);
    assert!(dir.path().join("dump.rdb").exists(), "left there");
}

#[test]
fn a_snapshot_beside_a_log_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.run("SET a 1");
    opened.save().unwrap();
    opened.run("SET a 2");
    let held = opened.close();
    assert_eq!(open(dir.path()).unwrap().state(), held);
}

#[test]
fn what_cannot_be_taken_over_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = snapshot().0;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.path().join("dump.rdb"), &bytes).unwrap();
    for _ in 0..2 {
        let error = open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("dump.rdb"), "{error}");
        assert!(file_names(dir.path()).is_empty(), "{:?}", file_names(dir.path()));
    }
}

#[test]
fn a_take_over_that_was_interrupted_is_done_again() {
    let (snapshot, state) = snapshot();
    for (name, base) in
        [("dump.rdb", "appendonly.aof.1.base.rdb"), ("appendonly.aof", "appendonly.aof")]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), &snapshot).unwrap();
        std::fs::create_dir(folder(dir.path())).unwrap();
        let manifest = format!("file {base} seq 1 type b\n");
        std::fs::write(folder(dir.path()).join(manifest::FILE_NAME), manifest).unwrap();
        assert!(open(dir.path()).unwrap().state() == state, "{name}");
        assert!(folder(dir.path()).join(base).exists(), "{name}");
    }
}
