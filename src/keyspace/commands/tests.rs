//! Commands as a person would type them: what they answer, what they record.
//!
//! ```text
//! @10s                            the time from here on
//! SET k v EX 5 -> OK | SET k v PXAT 15000
//! GET k        -> v
//! ```
//!
//! Behind `->` the reply, behind `|` the effects, joined by `;`. No `|` means that
//! nothing may be recorded.

use crate::base::clock::Timestamp;
use crate::keyspace::{Arg, Effects, EventClass, Execution, Keyspace, Mode, command};
use crate::resp::decode::{Decoded, Decoder, Limits};
use crate::resp::{Reply, View};

/// Runs a session and compares what happened, as text, with what is written.
#[track_caller]
pub(super) fn check(session: &str) {
    let mut space = Keyspace::new();
    let mut now = Timestamp::from_millis(0);
    let (mut happened, mut written) = (Vec::new(), Vec::new());
    for line in session.lines().map(str::trim).filter(|line| !line.is_empty()) {
        written.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
        if let Some(time) = line.strip_prefix('@') {
            now = Timestamp::from_millis(time.trim_end_matches("ms").parse().unwrap());
            happened.push(line.to_owned());
            continue;
        }
        let typed = line.split(" ->").next().unwrap().trim();
        let (reply, effects) = run(&mut space, now, Mode::Live, typed);
        let typed: Vec<_> = typed.split_whitespace().collect();
        let effects = if effects.is_empty() { String::new() } else { format!(" | {effects}") };
        let line = format!("{} -> {reply}{effects}", typed.join(" "));
        happened.push(line.trim_end().to_owned());
    }
    let (happened, written) = (happened.join("\n"), written.join("\n"));
    assert!(happened == written, "\nwritten:\n{written}\n\nhappened:\n{happened}\n");
}

/// What one line answers, at the moment 0.
pub(super) fn line(space: &mut Keyspace, typed: &str) -> String {
    run(space, Timestamp::from_millis(0), Mode::Live, typed).0
}

/// Runs lines in turn; beside the events that are expected of each, those that
/// listeners are told of.
pub(super) fn events<'a>(lines: &'a [(&str, &'a str)]) -> impl Iterator<Item = (&'a str, String)> {
    let mut space = Keyspace::new();
    lines.iter().map(move |(typed, expected)| {
        let words: Vec<String> =
            typed.split_whitespace().map(|it| it.replace("\"\"", "")).collect();
        let args: Vec<Arg<'_>> = words.iter().map(|word| Arg::Bytes(word.as_bytes())).collect();
        let (mut reply, mut effects) = (Reply::new(), Effects::new());
        effects.want_notices(EVERY_CLASS);
        let now = Timestamp::from_millis(1_000_000);
        let mut execution = Execution::live(now, &mut effects, &mut reply);
        let command = command(words[0].as_bytes()).expect("a command of the table");
        space.execute(command, &args, &mut execution).expect("no error");
        let told = |it: crate::keyspace::Notice<'_>| {
            format!("{} {}", it.event, String::from_utf8_lossy(it.key))
        };
        (*expected, effects.notices().map(told).collect::<Vec<_>>().join(", "))
    })
}

const EVERY_CLASS: EventClass = EventClass::GENERIC
    .and(EventClass::STRING)
    .and(EventClass::SORTED_SET)
    .and(EventClass::EXPIRED)
    .and(EventClass::MISSED)
    .and(EventClass::NEW);

fn run(space: &mut Keyspace, now: Timestamp, mode: Mode, typed: &str) -> (String, String) {
    let words: Vec<String> = typed.split_whitespace().map(|it| it.replace("\"\"", "")).collect();
    let args: Vec<Arg<'_>> = words.iter().map(|word| Arg::Bytes(word.as_bytes())).collect();
    let (mut reply, mut effects) = (Reply::new(), Effects::new());
    let command = command(words[0].as_bytes()).expect("a command of the table");
    let mut execution =
        Execution { now, mode, denied: None, effects: &mut effects, reply: &mut reply };
    let reply = match space.execute(command, &args, &mut execution) {
        Ok(()) => render(reply.view()),
        Err(error) => format!("-{error}"),
    };
    (reply, render_record(&effects))
}

fn render(view: View<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match view {
        View::Status(bytes) | View::Bulk(bytes) => text(bytes),
        View::Integer(value) => format!("({value})"),
        View::Double(value) => format!(",{value}"),
        View::Null => "nil".to_owned(),
        View::Array(items) | View::Pairs(items) => {
            format!("[{}]", items.map(render).collect::<Vec<_>>().join(" "))
        }
        View::Set(items) => format!("~[{}]", items.map(render).collect::<Vec<_>>().join(" ")),
        View::Map(items) => format!("%[{}]", items.map(render).collect::<Vec<_>>().join(" ")),
        other => format!("{other:?}"),
    }
}

fn render_record(effects: &Effects) -> String {
    let (mut record, mut commands) = (effects.record(), Vec::new());
    let mut decoder = Decoder::new(Limits::RECORDS);
    while !record.is_empty() {
        let Decoded::Command { len } = decoder.decode(record).unwrap() else { unreachable!("cut") };
        let args: Vec<_> =
            decoder.args().iter().map(|it| String::from_utf8_lossy(&record[it.clone()])).collect();
        commands.push(args.join(" "));
        record = &record[len..];
    }
    commands.join("; ")
}

#[test]
fn there_is_one_database() {
    check(
        "
        @0ms
        SELECT 0 -> OK
        SELECT 16 -> -ERR DB index is out of range
        SELECT 2147483648 -> -ERR value is out of range, value must between -2147483648 and 2147483647
        SELECT x -> -ERR value is not an integer or out of range
        ",
    );
}

#[test]
fn strings_are_set_and_read() {
    check(
        "
        @10000ms
        GET k -> nil
        SET k v -> OK | SET k v
        set k w XX -> OK | set k w XX
        SET k x NX -> nil
        SET k x NX GET -> w
        SET k x GET -> w | SET k x
        SET k y EX 5 -> OK | SET k y PXAT 15000
        SET k z KEEPTTL -> OK | SET k z KEEPTTL
        PTTL k -> (5000)
        SET k z PX 1 NX GET -> z
        SET k a PXAT 20000 GET -> z | SET k a PXAT 20000
        SET k a EXAT 30 -> OK | SET k a PXAT 30000
        SET k a -> OK | SET k a
        TTL k -> (-1)
        SETEX k 2 b -> OK | SET k b PXAT 12000
        PSETEX k 2 b -> OK | SET k b PXAT 10002
        SETNX k c -> (0)
        SETNX l c -> (1) | SETNX l c
        TYPE l -> string
        SET k v NX XX -> -ERR syntax error
        SET k v EX -> -ERR syntax error
        SET k v EX 1 PX 1 -> -ERR syntax error
        SET k v EX 1 KEEPTTL -> -ERR syntax error
        SET k v EX 0 -> -ERR invalid expire time in 'set' command
        SET k v EX -1 -> -ERR invalid expire time in 'set' command
        SET k v EX 9223372036854775807 -> -ERR invalid expire time in 'set' command
        SET k v PX 9223372036854775807 -> -ERR invalid expire time in 'set' command
        SET k v EX x -> -ERR value is not an integer or out of range
        SETEX k 0 v -> -ERR invalid expire time in 'setex' command
        SET k -> -ERR wrong number of arguments for 'set' command
        GET k l -> -ERR wrong number of arguments for 'get' command
        ",
    );
}

#[test]
fn integers_are_counted_and_keep_their_deadline() {
    check(
        "
        @1000ms
        INCR n -> (1) | INCR n
        INCRBY n 41 -> (42) | INCRBY n 41
        DECR n -> (41) | DECR n
        DECRBY n 50 -> (-9) | DECRBY n 50
        PEXPIRE n 500 -> (1) | PEXPIREAT n 1500
        INCR n -> (-8) | INCR n
        PTTL n -> (500)
        SET n 9223372036854775807 -> OK | SET n 9223372036854775807
        INCR n -> -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 -> -ERR decrement would overflow
        INCRBY n 1.5 -> -ERR value is not an integer or out of range
        SET n 01 -> OK | SET n 01
        INCR n -> -ERR value is not an integer or out of range
        ZADD z 1 a -> (1) | ZADD z 1 a
        INCR z -> -WRONGTYPE Operation against a key holding the wrong kind of value
        GET z -> -WRONGTYPE Operation against a key holding the wrong kind of value
        SET z 1 GET -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ZADD n 1 a -> -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    );
}

#[test]
fn deadlines_are_set_under_conditions_and_recorded_as_moments() {
    check(
        "
        @10000ms
        EXPIRE k 10 -> (0)
        SET k v -> OK | SET k v
        EXPIRE k 10 -> (1) | PEXPIREAT k 20000
        TTL k -> (10)
        EXPIRETIME k -> (20)
        PEXPIRETIME k -> (20000)
        EXPIRE k 11 NX -> (0)
        EXPIRE k 5 GT -> (0)
        EXPIRE k 15 gt -> (1) | PEXPIREAT k 25000 gt
        EXPIRE k 16 LT -> (0)
        PEXPIREAT k 12499 LT XX -> (1) | PEXPIREAT k 12499 LT XX
        TTL k -> (2)
        PERSIST k -> (1) | PERSIST k
        PERSIST k -> (0)
        EXPIRE k 5 XX -> (0)
        EXPIRE k 5 GT -> (0)
        EXPIREAT k 12 LT -> (1) | PEXPIREAT k 12000 LT
        EXPIRE k 1 NX XX -> -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT -> -ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 AB -> -ERR Unsupported option AB
        EXPIRE k 1 A\0B -> -ERR Unsupported option A
        EXPIRE k 1x -> -ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 -> -ERR invalid expire time in 'expire' command
        EXPIRE k -9223372036854775807 -> -ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 -> -ERR invalid expire time in 'pexpire' command
        PEXPIRE k 0 -> (1) | DEL k
        EXISTS k -> (0)
        TTL k -> (-2)
        ",
    );
}

#[test]
fn an_expired_key_is_deleted_by_whoever_meets_it() {
    check(
        "
        @1000ms
        SET a 1 PX 5 -> OK | SET a 1 PXAT 1005
        SET b 1 PX 5 -> OK | SET b 1 PXAT 1005
        SET c 1 PX 5 -> OK | SET c 1 PXAT 1005
        @1005ms
        GET a -> 1
        PTTL a -> (0)
        @1006ms
        DBSIZE -> (3)
        GET a -> nil | DEL a
        INCR b -> (1) | MULTI; DEL b; INCR b; EXEC
        DEL c -> (0) | DEL c
        DBSIZE -> (1)
        PTTL b -> (-1)
        ",
    );
}

#[test]
fn keys_are_renamed_with_their_deadline() {
    check(
        "
        @0ms
        RENAME a b -> -ERR no such key
        SET a 1 PX 50 -> OK | SET a 1 PXAT 50
        SET b 2 -> OK | SET b 2
        RENAMENX a b -> (0)
        RENAME a a -> OK
        RENAME a b -> OK | RENAME a b
        PTTL b -> (50)
        EXISTS a b b -> (2)
        RENAMENX b c -> (1) | RENAMENX b c
        GET c -> 1
        DEL c nosuch c -> (1) | DEL c nosuch c
        ",
    );
}

#[test]
fn members_are_added_under_conditions() {
    check(
        "
        ZADD z 1 a 2 b -> (2) | ZADD z 1 a 2 b
        ZADD z 1 a -> (0)
        ZADD z 3 a -> (0) | ZADD z 3 a
        ZADD z CH 4 a 5 c -> (2) | ZADD z CH 4 a 5 c
        ZADD z NX 9 a 9 d -> (1) | ZADD z NX 9 a 9 d
        ZADD z XX 8 a 8 e -> (0) | ZADD z XX 8 a 8 e
        ZADD z GT CH 7 a -> (0)
        ZADD z LT CH 7 a -> (1) | ZADD z LT CH 7 a
        ZADD z GT 1 f -> (1) | ZADD z GT 1 f
        ZADD z INCR 2 a -> ,9 | ZADD z INCR 2 a
        ZADD z INCR 0 a -> ,9
        ZADD z NX INCR 2 a -> nil
        ZADD z XX INCR 2 nosuch -> nil
        ZADD nosuch XX 1 a -> (0)
        ZADD nosuch XX INCR 1 a -> nil
        EXISTS nosuch -> (0)
        ZINCRBY z 0.5 a -> ,9.5 | ZINCRBY z 0.5 a
        ZADD i inf m -> (1) | ZADD i inf m
        ZINCRBY i -inf m -> -ERR resulting score is not a number (NaN)
        ZADD z NX XX 1 a -> -ERR XX and NX options at the same time are not compatible
        ZADD z NX GT 1 a -> -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z GT LT 1 a -> -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z INCR 1 a 2 b -> -ERR INCR option supports a single increment-element pair
        ZADD z 1 a 2 -> -ERR syntax error
        ZADD z CH 1 -> -ERR syntax error
        ZADD z 1 g x h -> -ERR value is not a valid float
        ZADD z nan g -> -ERR value is not a valid float
        ZSCORE z g -> nil
        ZSCORE z a -> ,9.5
        ZCARD z -> (5)
        ",
    );
}

#[test]
fn members_are_counted_and_shown_by_index_and_by_score() {
    check(
        "
        ZADD z 1 a 2 b 2 c 3 d inf e -> (5) | ZADD z 1 a 2 b 2 c 3 d inf e
        ZRANGE z 0 -1 -> [a b c d e]
        ZRANGE z 1 2 WITHSCORES -> [b ,2 c ,2]
        ZRANGE z -2 100 -> [d e]
        ZRANGE z 3 1 -> []
        ZRANGE z 0 1 REV -> [e d]
        ZREVRANGE z 3 9 WITHSCORES -> [b ,2 a ,1]
        ZRANGE z (1 3 BYSCORE -> [b c d]
        ZRANGE z 3 (1 BYSCORE REV LIMIT 1 1 -> [c]
        ZRANGEBYSCORE z -inf +inf LIMIT 1 2 -> [b c]
        ZRANGEBYSCORE z -inf +inf LIMIT 1 -1 WITHSCORES -> [b ,2 c ,2 d ,3 e ,inf]
        ZRANGEBYSCORE z -inf +inf LIMIT -1 2 -> []
        ZRANGEBYSCORE z 3 1 -> []
        ZREVRANGEBYSCORE z (inf 2 -> [d c b]
        ZCOUNT z 2 (3 -> (2)
        ZCOUNT z (inf inf -> (0)
        ZCOUNT z x 3 -> -ERR min or max is not a float
        ZRANGE z 0 -1 LIMIT 0 1 -> -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
        ZRANGEBYSCORE z 0 1 REV -> -ERR syntax error
        ZRANGE nosuch x 1 -> -ERR value is not an integer or out of range
        ZRANGE nosuch 0 1 -> []
        ZRANK z c -> (2)
        ZREVRANK z c -> (2)
        ZREVRANK z e -> (0)
        ZRANK z nosuch -> nil
        ",
    );
}

#[test]
fn a_set_goes_with_its_last_member() {
    check(
        "
        ZADD z 1 a 2 b 3 c 4 d 5 e -> (5) | ZADD z 1 a 2 b 3 c 4 d 5 e
        ZREM z a nosuch -> (1) | ZREM z a nosuch
        ZREM z nosuch -> (0)
        ZREMRANGEBYSCORE z -inf (3 -> (1) | ZREMRANGEBYSCORE z -inf (3
        ZREMRANGEBYSCORE z -inf (3 -> (0)
        ZREMRANGEBYRANK z 0 0 -> (1) | ZREMRANGEBYRANK z 0 0
        ZRANGE z 0 -1 -> [d e]
        ZREM z d e d -> (2) | ZREM z d e d
        EXISTS z -> (0)
        ZADD z 1 a -> (1) | ZADD z 1 a
        ZREMRANGEBYSCORE z 0 5 -> (1) | ZREMRANGEBYSCORE z 0 5
        TYPE z -> none
        ",
    );
}

#[test]
fn the_server_answers_for_itself() {
    check(
        "
        @1234567ms
        PING -> PONG
        PING hello -> hello
        PING a b -> -ERR wrong number of arguments for 'ping' command
        ECHO hi -> hi
        TIME -> [1234 567000]
        SELECT 0 -> OK
        SELECT 1 -> -ERR DB index is out of range
        SELECT x -> -ERR value is not an integer or out of range
        SET a 1 -> OK | SET a 1
        DBSIZE -> (1)
        FLUSHALL ASYNC -> OK | FLUSHALL ASYNC
        DBSIZE -> (0)
        FLUSHDB now -> -ERR syntax error
        GET a -> nil
        ",
    );
}

#[test]
fn a_replay_neither_expires_nor_records() {
    let (mut space, late) = (Keyspace::new(), Timestamp::from_millis(1_000_000));
    let mut replay = |typed: &str| run(&mut space, late, Mode::Replay, typed);
    assert_eq!(replay("SET k v PXAT 5"), ("OK".to_owned(), String::new()));
    assert_eq!(replay("PEXPIREAT k 7"), ("(1)".to_owned(), String::new()));
    assert_eq!(replay("GET k"), ("v".to_owned(), String::new()));
    assert_eq!(replay("PEXPIRETIME k"), ("(7)".to_owned(), String::new()));
    assert_eq!(run(&mut space, late, Mode::Live, "GET k"), ("nil".to_owned(), "DEL k".to_owned()));
}

#[test]
fn numbers_from_lua_reach_scores_and_effects_without_detours() {
    let mut space = Keyspace::new();
    let (mut reply, mut effects) = (Reply::new(), Effects::new());
    let mut run = Execution::live(Timestamp::from_millis(0), &mut effects, &mut reply);
    let zadd = command(b"zadd").unwrap();
    let args = [
        Arg::Bytes(b"zadd"),
        Arg::Number(7.0),
        Arg::Number(0.1),
        Arg::Number(1_700_000_000_000_001.0),
    ];
    space.execute(zadd, &args, &mut run).unwrap();
    assert_eq!(render_record(&effects), "zadd 7 0.10000000000000001 1700000000000001");
    let (key, value, _) = space.entries().next().unwrap();
    assert_eq!(key, b"7");
    let crate::keyspace::Value::SortedSet(set) = value else { unreachable!("{value:?}") };
    assert_eq!(set.score(b"1700000000000001"), Some(0.1));
}

#[test]
fn a_sweep_removes_what_has_expired_in_steps() {
    let mut space = Keyspace::new();
    for key in 0..10 {
        let (deadline, now) = (key % 2 * 100_000 + 1, Timestamp::from_millis(0));
        run(&mut space, now, Mode::Live, &format!("SET k{key} v PXAT {deadline}"));
    }
    let (mut reply, mut effects) = (Reply::new(), Effects::new());
    let mut execution = Execution::live(Timestamp::from_millis(50_000), &mut effects, &mut reply);
    let first = space.sweep(4, &mut execution);
    assert_eq!((first.expired, first.finished), (4, false));
    let second = space.sweep(100, &mut execution);
    assert_eq!((second.expired, second.finished), (1, true));
    assert_eq!((space.len(), effects.len()), (5, 5));
}
