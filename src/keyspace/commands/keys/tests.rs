//! Keys: expectations are a real Redis 7.0.15's.

use crate::keyspace::Keyspace;
use crate::keyspace::commands::tests::{check, events, line};

#[test]
fn keys_are_copied_listed_and_drawn() {
    check(
        "
        @0ms
        SET a 1 -> OK | SET a 1
        COPY a b -> (1) | COPY a b
        COPY a b -> (0)
        COPY a c DB 0 -> (1) | COPY a c DB 0
        COPY a b REPLACE -> (1) | COPY a b REPLACE
        OBJECT REFCOUNT a -> (2147483647)
        OBJECT REFCOUNT b -> (1)
        COPY nosuch b -> (0)
        COPY a a -> -ERR source and destination objects are the same
        COPY a d DB 16 -> -ERR DB index is out of range
        COPY a d DB x -> -ERR value is not an integer or out of range
        COPY a d DB 99999999999 -> -ERR value is out of range, value must between -2147483648 and 2147483647
        COPY a d FOO -> -ERR syntax error
        COPY a d DB -> -ERR syntax error
        TOUCH a b nosuch a -> (3)
        DEL b c -> (2) | DEL b c
        SCAN 0 -> [0 [a]]
        SCAN 0 TYPE string -> [0 [a]]
        SCAN 0 TYPE zset -> [0 []]
        SCAN 0 MATCH b* -> [0 []]
        SCAN x -> -ERR invalid cursor
        SCAN 0 COUNT 0 -> -ERR syntax error
        SCAN 0 COUNT x -> -ERR value is not an integer or out of range
        SCAN 0 MATCH -> -ERR syntax error
        SCAN 99999999999999999999 -> -ERR invalid cursor
        KEYS ? -> [a]
        KEYS [^a] -> []
        RANDOMKEY -> a
        DEL a -> (1) | DEL a
        RANDOMKEY -> nil
        SCAN 0 -> [0 []]
        ZADD z 1 m -> (1) | ZADD z 1 m
        ZSCAN z 0 -> [0 [m 1]]
        ZSCAN z 0 MATCH x* -> [0 []]
        ZSCAN z 0 TYPE zset -> -ERR syntax error
        ZSCAN nosuch 0 COUNT 0 -> [0 []]
        ZRANDMEMBER z -> m
        ZRANDMEMBER z 5 WITHSCORES -> [m ,1]
        ZRANDMEMBER z -2 -> [m m]
        ZRANDMEMBER nosuch -> nil
        ZRANDMEMBER nosuch 1 -> []
        ZRANDMEMBER z x -> -ERR value is not an integer or out of range
        ZRANDMEMBER z 1 FOO -> -ERR syntax error
        ZRANDMEMBER z -9223372036854775808 -> -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        ZRANDMEMBER z 9223372036854775807 WITHSCORES -> -ERR value is out of range
        ",
    );
}

#[test]
fn listeners_learn_what_happened_to_which_key() {
    let happened = events(&[
        ("SET a 1", "new a, set a"),
        ("SET a 1 EX 100", "set a, expire a"),
        ("SET a 1 XX GET", "set a"),
        ("SET b 1 GET", "keymiss b, new b, set b"),
        ("GET nosuch", "keymiss nosuch"),
        ("GETDEL b", "del b"),
        ("GETEX a EX 10", "expire a"),
        ("GETEX a PERSIST", "persist a"),
        ("INCR a", "incrby a"),
        ("INCRBYFLOAT a 1", "incrbyfloat a"),
        ("APPEND a x", "append a"),
        ("SETRANGE a 1 x", "setrange a"),
        ("SETRANGE nosuch 1 \"\"", ""),
        ("MSET c 1 d 2", "new c, set c, new d, set d"),
        ("RENAME c d", "new d, rename_from c, rename_to d"),
        ("COPY d e", "new e, copy_to e"),
        ("EXPIRE d 10", "expire d"),
        ("EXPIRE d -1", "del d"),
        ("DEL a nosuch e", "del a, del e"),
        ("ZADD z 1 a 2 b", "new z, zadd z"),
        ("ZADD z 1 a", ""),
        ("ZINCRBY z 1 a", "zincr z"),
        ("ZPOPMIN z", "zpopmin z"),
        ("ZREM z b", "zrem z, del z"),
        ("ZADD z 1 a 2 b", "new z, zadd z"),
        ("ZUNIONSTORE u 1 z", "new u, zunionstore u"),
        ("ZRANGESTORE u z 5 6", "del u"),
        ("ZMPOP 1 z MAX COUNT 5", "zpopmax z, del z"),
    ]);
    happened.for_each(|(expected, happened)| assert_eq!(happened, expected));
}

#[test]
fn a_scan_shows_once_what_is_there_all_along_and_looks_at_few_slots_in_a_step() {
    let mut space = Keyspace::new();
    for key in 0..1_000 {
        line(&mut space, &format!("SET key:{key} v"));
    }
    // Holes, and new keys in some of them while the scan goes on.
    for key in (0..1_000).filter(|key| key % 10 != 0) {
        line(&mut space, &format!("DEL key:{key}"));
    }
    let (mut cursor, mut steps, mut seen) = ("0".to_owned(), 0, Vec::new());
    loop {
        let reply = line(&mut space, &format!("SCAN {cursor} COUNT 7"));
        let (next, keys) = reply[1..].split_once(' ').unwrap();
        let keys = keys.trim_matches(['[', ']']).split_whitespace();
        seen.extend(keys.filter(|key| key.starts_with("key:")).map(str::to_owned));
        (cursor, steps) = (next.to_owned(), steps + 1);
        line(&mut space, &format!("SET new:{steps} v"));
        line(&mut space, "RENAME key:0 key:0b");
        line(&mut space, "RENAME key:0b key:0");
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    let mut expected: Vec<_> = (0..100).map(|key| format!("key:{}", key * 10)).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert!(steps >= 1_000 / 70, "{steps} steps");
}
