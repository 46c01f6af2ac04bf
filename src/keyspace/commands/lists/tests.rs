//! Commands on lists as a person would type them.

use crate::keyspace::commands::tests::check;

#[test]
fn elements_are_pushed_and_popped_at_both_ends() {
    check(
        "
        LPUSHX l a -> (0)
        LPUSH l a b -> (2) | LPUSH l a b
        RPUSH l c -> (3) | RPUSH l c
        RPUSHX l d e -> (5) | RPUSHX l d e
        LRANGE l 0 -1 -> [b a c d e]
        LRANGE l -2 100 -> [d e]
        LRANGE l 3 1 -> []
        LRANGE nosuch 0 -1 -> []
        LLEN l -> (5)
        LPOP l -> b | LPOP l
        RPOP l 2 -> [e d] | RPOP l 2
        LPOP l 0 -> []
        LPOP l -1 -> -ERR value is out of range, must be positive
        LPOP l 1 2 -> -ERR wrong number of arguments for 'lpop' command
        LPOP l 9 -> [a c] | LPOP l 9
        EXISTS l -> (0)
        LPOP l -> nil
        LPOP l 1 -> NullArray
        HSET h f v -> (1) | HSET h f v
        LPUSH h a -> -WRONGTYPE Operation against a key holding the wrong kind of value
        LLEN h -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn elements_are_found_and_changed_by_place_and_by_value() {
    check(
        "
        RPUSH l a b a c a -> (5) | RPUSH l a b a c a
        LINDEX l -1 -> a
        LINDEX l 5 -> nil
        LINDEX l x -> -ERR value is not an integer or out of range
        LINDEX nosuch x -> nil
        LPOS l a -> (0)
        LPOS l a RANK -1 -> (4)
        LPOS l a RANK 2 COUNT 0 -> [(2) (4)]
        LPOS l a COUNT 2 MAXLEN 2 -> [(0)]
        LPOS l x -> nil
        LPOS nosuch x COUNT 1 -> []
        LPOS l a COUNT -1 -> -ERR COUNT can't be negative
        LPOS l a MAXLEN -1 -> -ERR MAXLEN can't be negative
        LSET l -2 d -> OK | LSET l -2 d
        LSET l 5 d -> -ERR index out of range
        LSET nosuch 0 d -> -ERR no such key
        LINSERT l BEFORE b x -> (6) | LINSERT l BEFORE b x
        LINSERT l AFTER b y -> (7) | LINSERT l AFTER b y
        LINSERT l AFTER nosuch y -> (-1)
        LINSERT nosuch AFTER b y -> (0)
        LINSERT l BESIDE b y -> -ERR syntax error
        LRANGE l 0 -1 -> [a x b y a d a]
        LREM l -1 a -> (1) | LREM l -1 a
        LREM l 1 a -> (1) | LREM l 1 a
        LREM l 0 nosuch -> (0)
        LRANGE l 0 -1 -> [x b y a d]
        LTRIM l 0 -1 -> OK
        LTRIM l 1 -2 -> OK | LTRIM l 1 -2
        LRANGE l 0 -1 -> [b y a]
        LTRIM l 5 9 -> OK | LTRIM l 5 9
        EXISTS l -> (0)
        ",
    );
}

#[test]
fn elements_move_between_lists() {
    check(
        "
        RPUSH a 1 2 3 -> (3) | RPUSH a 1 2 3
        LMOVE a b LEFT RIGHT -> 1 | LMOVE a b LEFT RIGHT
        RPOPLPUSH a b -> 3 | RPOPLPUSH a b
        LRANGE b 0 -1 -> [3 1]
        LMOVE b b LEFT RIGHT -> 3 | LMOVE b b LEFT RIGHT
        LRANGE b 0 -1 -> [1 3]
        LMOVE a b UP DOWN -> -ERR syntax error
        RPOPLPUSH nosuch b -> nil
        RPOPLPUSH a a -> 2 | RPOPLPUSH a a
        LMOVE a b LEFT LEFT -> 2 | LMOVE a b LEFT LEFT
        EXISTS a -> (0)
        LMPOP 2 a b RIGHT COUNT 2 -> [b [3 1]] | RPOP b 2
        LMPOP 1 b LEFT COUNT 9 -> [b [2]] | LPOP b 1
        LMPOP 1 b LEFT -> NullArray
        LMPOP 0 b LEFT -> -ERR numkeys should be greater than 0
        LMPOP 1 b LEFT COUNT 0 -> -ERR count should be greater than 0
        LMPOP 3 a b LEFT -> -ERR syntax error
        LMPOP 1 b LEFT COUNT WEIGHTS 2 -> -ERR count should be greater than 0
        LMPOP 1 b LEFT COUNT 2 WEIGHTS -> -ERR syntax error
        SET s x -> OK | SET s x
        LMPOP 2 a s LEFT -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}
