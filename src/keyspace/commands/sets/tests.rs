//! Commands on sets as a person would type them.

use crate::keyspace::commands::tests::check;

#[test]
fn members_join_leave_and_move() {
    check(
        "
        SADD s 3 1 2 1 -> (3) | SADD s 3 1 2 1
        SADD s 2 -> (0)
        SMEMBERS s -> ~[1 2 3]
        SCARD s -> (3)
        SISMEMBER s 3 -> (1)
        SISMEMBER s 03 -> (0)
        SMISMEMBER s 1 x 2 -> [(1) (0) (1)]
        SMISMEMBER nosuch 1 -> [(0)]
        SREM s x -> (0)
        SREM s 1 x 1 -> (1) | SREM s 1 x 1
        SMOVE s t 2 -> (1) | SMOVE s t 2
        SMOVE s t 2 -> (0)
        SMOVE s s 3 -> (1)
        SMOVE nosuch t 2 -> (0)
        SMOVE s t 3 -> (1) | SMOVE s t 3
        EXISTS s -> (0)
        SMEMBERS t -> ~[2 3]
        RPUSH l x -> (1) | RPUSH l x
        SMOVE t l 2 -> -WRONGTYPE Operation against a key holding the wrong kind of value
        SADD l x -> -WRONGTYPE Operation against a key holding the wrong kind of value
        SREM t 2 3 -> (2) | SREM t 2 3
        EXISTS t -> (0)
        ",
    );
}

#[test]
fn sets_are_intersected_joined_and_subtracted() {
    check(
        "
        SADD a 1 2 3 4 -> (4) | SADD a 1 2 3 4
        SADD b 3 4 5 -> (3) | SADD b 3 4 5
        SINTER a b -> ~[3 4]
        SINTER a nosuch -> ~[]
        SUNION a b nosuch -> ~[1 2 3 4 5]
        SDIFF a b -> ~[1 2]
        SDIFF nosuch a -> ~[]
        SINTERCARD 2 a b -> (2)
        SINTERCARD 2 a b LIMIT 1 -> (1)
        SINTERCARD 2 a b LIMIT 0 -> (2)
        SINTERCARD 0 a -> -ERR numkeys should be greater than 0
        SINTERCARD 3 a b -> -ERR Number of keys can't be greater than number of args
        SINTERCARD 1 a LIMIT -1 -> -ERR LIMIT can't be negative
        SINTERCARD 1 a b -> -ERR syntax error
        SET c text PX 50 -> OK | SET c text PXAT 50
        SINTERSTORE c a b -> (2) | SINTERSTORE c a b
        SMEMBERS c -> ~[3 4]
        PTTL c -> (-1)
        SUNIONSTORE a a b -> (5) | SUNIONSTORE a a b
        SDIFFSTORE c b a -> (0) | SDIFFSTORE c b a
        SDIFFSTORE c b a -> (0)
        EXISTS c -> (0)
        SET text x -> OK | SET text x
        SINTER nosuch text -> -WRONGTYPE Operation against a key holding the wrong kind of value
        SUNIONSTORE c a text -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn what_chance_took_is_recorded() {
    check(
        "
        SPOP nosuch -> nil
        SPOP nosuch 2 -> ~[]
        SADD s m -> (1) | SADD s m
        SRANDMEMBER s -> m
        SRANDMEMBER s 2 -> [m]
        SRANDMEMBER s -2 -> [m m]
        SRANDMEMBER nosuch -> nil
        SRANDMEMBER nosuch 2 -> []
        SPOP s 0 -> ~[]
        SPOP s -1 -> -ERR value is out of range, must be positive
        SPOP s 1 2 -> -ERR syntax error
        SPOP s -> m | SREM s m
        EXISTS s -> (0)
        SADD s 1 2 3 -> (3) | SADD s 1 2 3
        SPOP s 5 -> ~[1 2 3] | DEL s
        EXISTS s -> (0)
        SSCAN s 0 -> [0 []]
        ",
    );
}

#[test]
fn sets_count_as_sorted_sets_whose_members_are_scored_1() {
    check(
        "
        SADD s a 7 -> (2) | SADD s a 7
        ZADD z 5 a 6 b -> (2) | ZADD z 5 a 6 b
        ZUNION 2 s z WITHSCORES -> [7 ,1 a ,6 b ,6]
        ZINTER 2 s z WEIGHTS 10 1 WITHSCORES -> [a ,15]
        ZDIFF 2 s z -> [7]
        ZINTERCARD 2 z s LIMIT 5 -> (1)
        RPUSH l a -> (1) | RPUSH l a
        ZUNION 2 z l -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}
