//! Base files: what is written is what is read.

use proptest::prelude::*;

use super::*;
use crate::keyspace::SortedSet;

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
    prop_oneof![text.prop_map(|text| Value::String(text.into())), set.prop_map(Value::SortedSet),]
}

fn keyspaces() -> impl Strategy<Value = BTreeMap<Vec<u8>, Held>> {
    let deadline = proptest::option::of(0u64..1 << 62);
    proptest::collection::btree_map(any::<Vec<u8>>(), (values(), deadline), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
        prop_assert_eq!(again.recovery.libraries, ["#!lua name=a\n", "#!lua name=b\n"]);
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
