//! Strings: expectations are a real Redis 7.0.15's.

use crate::keyspace::commands::tests::check;

#[test]
fn several_strings_are_set_at_once_and_what_was_there_is_answered() {
    check(
        "
        @0ms
        MSET a 1 b two a 3 -> OK | MSET a 1 b two a 3
        MGET a b nosuch -> [3 two nil]
        MSETNX c 1 a 2 -> (0)
        MSETNX c 1 d 2 -> (1) | MSETNX c 1 d 2
        MSET a 1 b -> -ERR wrong number of arguments for 'mset' command
        MSETNX a 1 b -> -ERR wrong number of arguments for 'msetnx' command
        GETSET a x -> 3 | SET a x
        GETSET n y -> nil | SET n y
        GETDEL n -> y | DEL n
        GETDEL n -> nil
        ZADD z 1 m -> (1) | ZADD z 1 m
        MGET a z -> [x nil]
        GETSET z 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
        GETDEL z -> -WRONGTYPE Operation against a key holding the wrong kind of value
        GETEX z -> -WRONGTYPE Operation against a key holding the wrong kind of value
        APPEND z 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
        STRLEN z -> -WRONGTYPE Operation against a key holding the wrong kind of value
        GETRANGE z 0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
        SETRANGE z 0 x -> -WRONGTYPE Operation against a key holding the wrong kind of value
        INCRBYFLOAT z 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn parts_are_read_written_and_appended() {
    check(
        "
        @0ms
        APPEND s Hello -> (5) | APPEND s Hello
        APPEND s ,World -> (11) | APPEND s ,World
        STRLEN s -> (11)
        STRLEN nosuch -> (0)
        GETRANGE s 0 4 -> Hello
        GETRANGE s -5 -1 -> World
        GETRANGE s 5 3 -> 
        GETRANGE s -3 -5 -> 
        GETRANGE s 3 100 -> lo,World
        GETRANGE s -100 2 -> Hel
        GETRANGE s 100 200 -> 
        SUBSTR s 1 1 -> e
        GETRANGE nosuch 0 -1 -> 
        GETRANGE s x 1 -> -ERR value is not an integer or out of range
        SETRANGE s 6 there -> (11) | SETRANGE s 6 there
        SETRANGE s 12 ! -> (13) | SETRANGE s 12 !
        GETRANGE s 0 10 -> Hello,there
        SETRANGE s 3 \"\" -> (13)
        SETRANGE nosuch 3 \"\" -> (0)
        EXISTS nosuch -> (0)
        SETRANGE s -1 x -> -ERR offset is out of range
        SETRANGE s 536870911 xx -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE s 9223372036854775807 x -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE s x x -> -ERR value is not an integer or out of range
        ",
    );
}

#[test]
fn fractions_are_added_as_x86_adds_them() {
    check(
        "
        @0ms
        INCRBYFLOAT f 10.50 -> 10.5 | SET f 10.5 KEEPTTL
        INCRBYFLOAT f 0.1 -> 10.6 | SET f 10.6 KEEPTTL
        INCRBYFLOAT f -5 -> 5.6 | SET f 5.6 KEEPTTL
        INCRBYFLOAT f 5.0e3 -> 5005.60000000000000009 | SET f 5005.60000000000000009 KEEPTTL
        SET f 3 -> OK | SET f 3
        INCRBYFLOAT f 1.0 -> 4 | SET f 4 KEEPTTL
        INCRBYFLOAT f 0x1p-18 -> 4.00000381469726562 | SET f 4.00000381469726562 KEEPTTL
        SET f 123456789.123456789 -> OK | SET f 123456789.123456789
        INCRBYFLOAT f 0.000000001 -> 123456789.12345678999554366 | SET f 123456789.12345678999554366 KEEPTTL
        SET f 1e20 -> OK | SET f 1e20
        INCRBYFLOAT f 1 -> 100000000000000000000 | SET f 100000000000000000000 KEEPTTL
        INCRBYFLOAT f inf -> -ERR increment would produce NaN or Infinity
        INCRBYFLOAT f nan -> -ERR value is not a valid float
        INCRBYFLOAT f x -> -ERR value is not a valid float
        SET f text -> OK | SET f text
        INCRBYFLOAT f 1 -> -ERR value is not a valid float
        ",
    );
}

#[test]
fn a_string_is_read_and_its_deadline_changed() {
    check(
        "
        @10000ms
        GETEX k -> nil
        GETEX k EX 0 -> nil
        SET k v EX 5 EX 9 -> OK | SET k v PXAT 19000
        GETEX k -> v
        GETEX k PERSIST -> v | PERSIST k
        GETEX k PERSIST -> v
        GETEX k EX 7 -> v | PEXPIREAT k 17000
        GETEX k PX 7 -> v | PEXPIREAT k 10007
        GETEX k EXAT 30 -> v | PEXPIREAT k 30000
        GETEX k EX 1 PX 1 -> -ERR syntax error
        GETEX k PERSIST EX 1 -> -ERR syntax error
        GETEX k KEEPTTL -> -ERR syntax error
        GETEX k EX -> -ERR syntax error
        GETEX k EX 0 -> -ERR invalid expire time in 'getex' command
        GETEX k EX 9223372036854775807 -> -ERR invalid expire time in 'getex' command
        GETEX k EX x -> -ERR value is not an integer or out of range
        PTTL k -> (20000)
        GETEX k PXAT 9999 -> v | DEL k
        EXISTS k -> (0)
        ",
    );
}
