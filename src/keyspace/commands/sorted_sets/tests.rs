//! Sorted sets: expectations are a real Redis 7.0.15's.

use crate::keyspace::Keyspace;
use crate::keyspace::commands::tests::{check, line};

#[test]
fn scores_are_read_as_c_reads_them() {
    check(
        "
        @0ms
        ZADD z 1 a 2 b 3 c -> (3) | ZADD z 1 a 2 b 3 c
        ZMSCORE z a nosuch c -> [,1 nil ,3]
        ZMSCORE nosuch a b -> [nil nil]
        ZADD h 0x10 hex -> (1) | ZADD h 0x10 hex
        ZADD m -0 zero -> (1) | ZADD m -0 zero
        ZSCORE m zero -> ,0
        ZINCRBY z 1.5 b -> ,3.5 | ZINCRBY z 1.5 b
        ZINCRBY z NX b -> -ERR syntax error
        ZINCRBY z incr b -> -ERR syntax error
        ZLEXCOUNT z - + -> (3)
        ",
    );
}

#[test]
fn only_a_big_set_knows_minus_zero() {
    let long = "x".repeat(65);
    let mut space = Keyspace::new();
    let mut scores = |typed: &str| {
        line(&mut space, typed);
        line(&mut space, "ZSCORE to a")
    };
    assert_eq!(scores("ZADD to -0 a"), ",0");
    assert_eq!(scores(&format!("ZADD to 1 {long}")), ",0", "the sign is gone");
    scores(&format!("ZADD from 1 {long} -0 a"));
    // What is stored is small until the long member comes.
    assert_eq!(scores("ZRANGESTORE to from 0 -1"), ",0");
    assert_eq!(scores("ZRANGESTORE to from 0 -1 REV"), ",-0");
    assert_eq!(scores("ZUNIONSTORE to 1 from"), ",-0");
}

#[test]
fn ranges_are_shown_counted_and_stored() {
    check(
        "
        @0ms
        ZADD z 1 a 2 b 2 c 3 d inf e -> (5) | ZADD z 1 a 2 b 2 c 3 d inf e
        ZRANGE z 1 2 WITHSCORES REV -> [d ,3 c ,2]
        ZRANGE z -inf (3 BYSCORE LIMIT 1 2 WITHSCORES -> [b ,2 c ,2]
        ZRANGE z 0 -1 LIMIT 0 -1 -> [a b c d e]
        ZRANGE z 0 -1 LIMIT 0 1 -> -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
        ZRANGE z [a [c BYLEX WITHSCORES -> -ERR syntax error, WITHSCORES not supported in combination with BYLEX
        ZRANGE z 0 1 BYSCORE BYLEX -> -ERR syntax error
        ZRANGE z 0 1 REV REV -> -ERR syntax error
        ZRANGE z 0 1 BYSCORE LIMIT 1 -> -ERR syntax error
        ZRANGE z a c BYLEX -> -ERR min or max not valid string range item
        ZRANGEBYSCORE z 0 1 BYSCORE -> -ERR syntax error
        ZREVRANGEBYSCORE z 1 2 -> []
        ZREVRANGEBYSCORE z 2 1 LIMIT 1 1 -> [b]
        ZRANGEBYSCORE z 1 x -> -ERR min or max is not a float
        ZADD l 0 a 0 b 0 c 0 d 0 aa -> (5) | ZADD l 0 a 0 b 0 c 0 d 0 aa
        ZRANGEBYLEX l - + -> [a aa b c d]
        ZRANGEBYLEX l [aa (d -> [aa b c]
        ZRANGEBYLEX l + - -> []
        ZRANGEBYLEX l [c [a -> []
        ZRANGE l [d (a BYLEX REV -> [d c b aa]
        ZREVRANGEBYLEX l [c - LIMIT 1 2 -> [b aa]
        ZRANGEBYLEX l (a + LIMIT 0 -1 -> [aa b c d]
        ZLEXCOUNT l [b [c -> (2)
        ZLEXCOUNT l b c -> -ERR min or max not valid string range item
        ZLEXCOUNT nosuch - + -> (0)
        ZRANGESTORE t z 1 2 -> (2) | ZRANGESTORE t z 1 2
        ZRANGE t 0 -1 WITHSCORES -> [b ,2 c ,2]
        ZRANGESTORE t l [b + BYLEX LIMIT 0 2 -> (2) | ZRANGESTORE t l [b + BYLEX LIMIT 0 2
        ZRANGESTORE t z 3 2 BYSCORE REV -> (3) | ZRANGESTORE t z 3 2 BYSCORE REV
        ZRANGE t 0 -1 -> [b c d]
        ZRANGESTORE t z 0 1 WITHSCORES -> -ERR syntax error
        PEXPIRE t 100000000 -> (1) | PEXPIREAT t 100000000
        ZRANGESTORE t nosuch 0 1 -> (0) | ZRANGESTORE t nosuch 0 1
        ZRANGESTORE t nosuch 0 1 -> (0)
        EXISTS t -> (0)
        SET s text -> OK | SET s text
        ZRANGESTORE s z 0 0 -> (1) | ZRANGESTORE s z 0 0
        TYPE s -> zset
        ZRANGESTORE s t x 1 -> -ERR value is not an integer or out of range
        ",
    );
}

#[test]
fn members_are_taken_from_either_end() {
    check(
        "
        @0ms
        ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h -> (8) | ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h
        ZPOPMIN z -> [a ,1] | ZPOPMIN z
        ZPOPMAX z -> [h ,8] | ZPOPMAX z
        ZPOPMIN z 2 -> [b ,2 c ,3] | ZPOPMIN z 2
        ZPOPMAX z 0 -> []
        ZPOPMIN z -1 -> -ERR value is out of range, must be positive
        ZPOPMIN z x -> -ERR value is out of range, must be positive
        ZPOPMIN z 1 2 -> -ERR syntax error
        ZPOPMIN nosuch -> []
        ZPOPMAX nosuch 2 -> []
        ZMPOP 2 nosuch z MIN -> [z [[d ,4]]] | ZPOPMIN z 1
        ZMPOP 1 z MAX COUNT 2 -> [z [[g ,7] [f ,6]]] | ZPOPMAX z 2
        ZMPOP 1 nosuch MIN -> NullArray
        ZMPOP 0 z MIN -> -ERR numkeys should be greater than 0
        ZMPOP x z MIN -> -ERR numkeys should be greater than 0
        ZMPOP 1 z MIDDLE -> -ERR syntax error
        ZMPOP 1 z MIN COUNT 0 -> -ERR count should be greater than 0
        ZMPOP 1 z MIN COUNT 1 COUNT 1 -> -ERR syntax error
        ZMPOP 2 z MIN -> -ERR syntax error
        ZPOPMAX z 10 -> [e ,5] | ZPOPMAX z 10
        EXISTS z -> (0)
        ZADD l 0 a 0 b 0 c 0 d -> (4) | ZADD l 0 a 0 b 0 c 0 d
        ZREMRANGEBYLEX l [b (d -> (2) | ZREMRANGEBYLEX l [b (d
        ZREMRANGEBYLEX l x y -> -ERR min or max not valid string range item
        ZREMRANGEBYLEX l - + -> (2) | ZREMRANGEBYLEX l - +
        EXISTS l -> (0)
        SET s text -> OK | SET s text
        ZPOPMIN s -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ZMPOP 2 nosuch s MIN -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ZREM s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn sets_are_united_intersected_and_subtracted() {
    check(
        "
        @0ms
        ZADD a 1 x 2 y 3 z -> (3) | ZADD a 1 x 2 y 3 z
        ZADD b 10 y 20 z 30 w -> (3) | ZADD b 10 y 20 z 30 w
        ZUNION 2 a b WITHSCORES -> [x ,1 y ,12 z ,23 w ,30]
        ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES -> [x ,2 y ,9 w ,15 z ,16]
        ZUNION 2 a b AGGREGATE MAX WITHSCORES -> [x ,1 y ,10 z ,20 w ,30]
        ZUNION 2 a nosuch -> [x y z]
        ZINTER 2 a b WITHSCORES -> [y ,12 z ,23]
        ZINTER 2 a b WEIGHTS 1 -1 AGGREGATE MIN WITHSCORES -> [z ,-20 y ,-10]
        ZINTER 2 a nosuch -> []
        ZDIFF 2 a b WITHSCORES -> [x ,1]
        ZDIFF 1 nosuch -> []
        ZDIFF 2 a b WEIGHTS 1 1 -> -ERR syntax error
        ZINTERCARD 2 a b -> (2)
        ZINTERCARD 2 a b LIMIT 1 -> (1)
        ZINTERCARD 2 a b LIMIT 0 -> (2)
        ZINTERCARD 2 a b LIMIT -1 -> -ERR LIMIT can't be negative
        ZUNIONSTORE t 2 a b -> (4) | ZUNIONSTORE t 2 a b
        ZRANGE t 0 -1 WITHSCORES -> [x ,1 y ,12 z ,23 w ,30]
        PEXPIRE t 100000000 -> (1) | PEXPIREAT t 100000000
        ZINTERSTORE t 2 a b AGGREGATE MIN -> (2) | ZINTERSTORE t 2 a b AGGREGATE MIN
        PTTL t -> (-1)
        ZDIFFSTORE t 2 a b -> (1) | ZDIFFSTORE t 2 a b
        ZDIFFSTORE t 2 a a -> (0) | ZDIFFSTORE t 2 a a
        ZDIFFSTORE t 2 a a -> (0)
        ZUNIONSTORE a 2 a a -> (3) | ZUNIONSTORE a 2 a a
        ZADD i inf m -> (1) | ZADD i inf m
        ZADD j -inf m -> (1) | ZADD j -inf m
        ZUNION 2 i j WITHSCORES -> [m ,0]
        ZUNION 1 i WEIGHTS 0 WITHSCORES -> [m ,0]
        ZUNION 0 a -> -ERR at least 1 input key is needed for 'zunion' command
        ZUNIONSTORE t 0 a -> -ERR at least 1 input key is needed for 'zunionstore' command
        ZINTERCARD 0 a -> -ERR at least 1 input key is needed for 'zintercard' command
        ZUNION x a -> -ERR value is not an integer or out of range
        ZUNION 3 a b -> -ERR syntax error
        ZUNION 2 a b WEIGHTS 1 -> -ERR syntax error
        ZUNION 2 a b WEIGHTS 1 x -> -ERR weight value is not a float
        ZUNION 2 a b AGGREGATE AVG -> -ERR syntax error
        ZUNIONSTORE t 1 a WITHSCORES -> -ERR syntax error
        SET s text -> OK | SET s text
        ZUNION 2 a s -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ZINTERCARD 1 s -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn a_range_of_bytes_among_unequal_scores_is_the_one_that_redis_shows() {
    check(
        "
        ZADD z 3 a 1 b 2 c 4 d -> (4) | ZADD z 3 a 1 b 2 c 4 d
        ZRANGEBYLEX z [a [c -> [b c a]
        ZREVRANGEBYLEX z [c [a -> [a c b]
        ZRANGEBYLEX z [c [d -> [c a d]
        ZLEXCOUNT z [c [d -> (3)
        ZRANGEBYLEX z (d + -> []
        ",
    );
    let mut space = Keyspace::new();
    // Long enough for the big form.
    line(&mut space, &format!("ZADD z 1 field 2 ab 3 30 4 {}", "y".repeat(65)));
    for (range, shown) in [("[ [aa", "(0)"), ("[z +", "(0)"), ("[ [field", "(3)")] {
        assert_eq!(line(&mut space, &format!("ZLEXCOUNT z {range}")), shown, "{range}");
    }
}

#[test]
fn a_big_set_is_scanned_in_steps_and_drawn_from() {
    let mut space = Keyspace::new();
    for member in 0..2_000 {
        line(&mut space, &format!("ZADD z {} m{member}", member % 7));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let reply = line(&mut space, &format!("ZSCAN z {cursor} COUNT 50 MATCH m*"));
        let (next, entries) = reply[1..].split_once(' ').unwrap();
        let words = entries.trim_matches(['[', ']']).split_whitespace();
        seen.extend(words.step_by(2).map(str::to_owned));
        cursor = next.to_owned();
        // What is rescored between two steps is shown all the same.
        line(&mut space, &format!("ZINCRBY z -100 m{}", seen.len() % 2_000));
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    let mut expected: Vec<_> = (0..2_000).map(|member| format!("m{member}")).collect();
    expected.sort();
    assert!(seen == expected, "each member once");

    let drawn = line(&mut space, "ZRANDMEMBER z 1500");
    let mut drawn: Vec<_> = drawn.trim_matches(['[', ']']).split(' ').collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 1_500, "distinct");
    assert_eq!(line(&mut space, "ZRANDMEMBER z -5000").split(' ').count(), 5_000);
}
