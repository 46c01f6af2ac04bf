//! Base files: what is written is what is read.

use proptest::prelude::*;

use super::*;
use crate::keyspace::rdb::payload;
use crate::keyspace::{Hash, List, Set, SortedSet};

/// A key's value and deadline.
type Held = (Value, Option<u64>);

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<Vec<u8>>(),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (0u8..255, 0usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let member = prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| bytes.to_vec()),
        any::<i32>().prop_map(|number| number.to_string().into_bytes()),
        any::<[u8; 32]>().prop_map(|bytes| [bytes, bytes, bytes].concat()),
    ];
    let score = prop_oneof![
        any::<f64>().prop_filter("a score is a number", |score| !score.is_nan()),
        any::<i32>().prop_map(f64::from),
        Just(f64::INFINITY),
        Just(1_795_400_000_000_001.0),
    ];
    let set = proptest::collection::vec((member, score), 1..200).prop_map(|members| {
        let mut set = SortedSet::new();
        for (member, score) in members {
            // -0.0 is written as 0, as Redis does: they compare equal.
            set.insert(&member, score + 0.0);
        }
        set
    });
    let texts = proptest::collection::vec(text.clone(), 1..40);
    let integers = proptest::collection::vec(any::<i32>(), 1..600);
    let members = prop_oneof![
        texts.clone(),
        integers.prop_map(|all| all.iter().map(|it| it.to_string().into_bytes()).collect()),
    ];
    let plain = members.prop_map(|members: Vec<Vec<u8>>| {
        let mut set = Set::new();
        for member in &members {
            set.add(member);
        }
        Value::Set(set)
    });
    let pairs = proptest::collection::vec((text.clone(), text.clone()), 1..600);
    let hash = pairs.prop_map(|pairs| {
        let mut hash = Hash::new();
        for (field, value) in &pairs {
            hash.insert(field, value);
        }
        Value::Hash(hash)
    });
    let list = texts.prop_map(|texts| {
        let mut list = List::new();
        texts.iter().for_each(|text| list.push_back(text));
        Value::List(list)
    });
    let long = (any::<u8>(), 60usize..2_000).prop_map(|(first, len)| {
        (0..len).map(|at| first.wrapping_add((at % 251) as u8)).collect::<Vec<_>>()
    });
    let text = prop_oneof![text, long].prop_map(|text| Value::String(text.into()));
    prop_oneof![text, set.prop_map(Value::SortedSet), plain, hash, list]
}

fn keyspaces() -> impl Strategy<Value = BTreeMap<Vec<u8>, Held>> {
    let deadline = proptest::option::of(0u64..1 << 62);
    proptest::collection::btree_map(any::<Vec<u8>>(), (values(), deadline), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_value_survives_a_dump(value in values()) {
        let dumped = payload::dump(&value);
        let restored = payload::restore(&dumped).unwrap();
        prop_assert_eq!(text_of(&restored), text_of(&value));
    }

    /// The trailer is made to fit, so that the value is looked at.
    #[test]
    fn no_payload_panics_or_makes_an_empty_value(
        value in values(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = payload::dump(&value);
        body.truncate(body.len() - 10);
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(body.len() - cut.index(body.len()) * usize::from(byte % 2));
        payload::seal(&mut body);
        if let Ok(value) = payload::restore(&body) {
            payload::dump(&value);
        }
    }

    #[test]
    fn any_keyspace_survives_a_rewrite(held in keyspaces()) {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path()).unwrap();
        for (key, (value, deadline)) in &held {
            opened.keyspace.insert_loaded(key, value.clone(), *deadline).unwrap();
        }
        let rewritten = opened.rewrite(vec!["#!lua name=a\n".into(), "#!lua name=b\n".into()]);
        let before = opened.state();
        prop_assert_eq!(before.len(), held.len());
        let base = folder(dir.path()).join("appendonly.aof.2.base.rdb");
        prop_assert_eq!(rewritten.unwrap().base_size, std::fs::metadata(base).unwrap().len());
        opened.close();
        let again = open(dir.path()).unwrap();
        prop_assert_eq!(again.state(), before);
        prop_assert_eq!(&again.recovery.libraries, &["#!lua name=a\n", "#!lua name=b\n"]);
    }
}

#[test]
fn a_sorted_set_too_big_for_the_lock_is_written_by_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let mut set = SortedSet::new();
    for number in 0..20_000 {
        set.insert(format!("member:{number}").as_bytes(), f64::from(number % 977));
    }
    opened.keyspace.insert_loaded(b"big", Value::SortedSet(set), Some(5)).unwrap();
    let pending = opened.log.prepare_rewrite().unwrap();
    let (feed, writer) = pending.cut(&mut opened.keyspace, Vec::new()).unwrap();
    let before = opened.state();
    // Changed after the cut, before it is written.
    let sink = walked(&mut opened.keyspace);
    opened.run("ZREM big member:5 member:6");
    feed.finish(sink);
    writer.run().unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_log(dir.path(), copy.path());
    // Without what came after the cut, it is as it was at the cut.
    std::fs::write(folder(copy.path()).join("appendonly.aof.2.incr.aof"), b"").unwrap();
    assert!(open(copy.path()).unwrap().state() == before);
}

#[test]
fn a_packed_value_that_lies_is_named_by_its_offset_among_thousands() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    for number in 0..5_000 {
        let mut set = SortedSet::new();
        set.insert(b"one", 1.0);
        set.insert(number.to_string().as_bytes(), 2.0);
        let key = format!("key:{number:04}");
        opened.keyspace.insert_loaded(key.as_bytes(), Value::SortedSet(set), None).unwrap();
    }
    opened.rewrite(Vec::new()).unwrap();
    let before = opened.state();
    opened.close();
    // Closed, or a thread of it may hold the folder when it is opened again.
    assert_eq!(open(dir.path()).unwrap().close(), before, "whole, all of it is loaded");
    let base = folder(dir.path()).join("appendonly.aof.2.base.rdb");
    let mut bytes = std::fs::read(&base).unwrap();
    let place = |key: &[u8]| bytes.windows(key.len()).position(|it| it == key).unwrap();
    let (liar, next) = (place(b"key:3333"), place(b"key:3334"));
    // Behind the key: the length of the string, its bytes, and how many elements it has.
    let count = liar + b"key:3333".len() + 1 + 4;
    assert_eq!(bytes[count], 4);
    bytes[count] = 5;
    std::fs::write(&base, bytes).unwrap();
    let refused = open(dir.path()).err();
    let Some(Error::Damaged { path, offset, expected }) = refused else {
        panic!("a lie is refused: {refused:?}");
    };
    // The next key begins two bytes before its text.
    assert_eq!((path, offset), (base, next as u64 - 2));
    assert_eq!(expected, "a packed sorted set");
}
