//! `DUMP` and `RESTORE`: values as payloads that can travel.

use super::{Done, TimeBase, TimeUnit, unix_millis};
use crate::base::clock::Timestamp;
use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{GROW, ONE_KEY, READ};
use crate::keyspace::command::{Table, docs, entry};
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::rdb::payload::{self, Refused};
use crate::keyspace::slots::SlotId;
use crate::keyspace::space::{Execution, Keyspace, Mode};
use crate::resp::number::NumberText;

/// The commands of this file.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "generic",
    commands: &[
        entry(
            "dump",
            2,
            READ,
            ONE_KEY,
            dump,
            docs("2.6.0", "O(N) in the bytes of the value", "Gives a value as a payload."),
        ),
        entry(
            "restore",
            -4,
            GROW,
            ONE_KEY,
            restore,
            docs(
                "2.6.0",
                "O(N log N) in the elements of a sorted set, else O(N)",
                "Sets a key to the value in a payload.",
            ),
        ),
    ],
};

/// `DUMP key`
fn dump(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    match space.value(&args[1].text(), run) {
        Some(value) => run.reply.bulk(&payload::dump(value)),
        None => run.reply.null(),
    }
    Ok(())
}

/// The options of `RESTORE`.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<i64>,
}

impl Options {
    fn parse(mut rest: &[Arg<'_>]) -> Result<Options, CommandError> {
        let mut options = Options::default();
        while let [option, after @ ..] = rest {
            rest = after;
            if option.is_word("replace") {
                options.replaces = true;
            } else if option.is_word("absttl") {
                options.is_absolute = true;
            } else if let [amount, after @ ..] = rest
                && option.is_word("idletime")
                && options.frequency.is_none()
            {
                let seconds = amount.integer()?;
                if seconds < 0 {
                    return Err(CommandError::InvalidIdleTime);
                }
                options.idle_seconds = Some(seconds);
                rest = after;
            } else if let [amount, after @ ..] = rest
                && option.is_word("freq")
                && options.idle_seconds.is_none()
            {
                let frequency = amount.integer()?;
                if !(0..=255).contains(&frequency) {
                    return Err(CommandError::InvalidFrequency);
                }
                options.frequency = Some(frequency);
                rest = after;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// Says how the key was used before, if that is what eviction goes by.
    fn tell_usage(self, space: &mut Keyspace, id: SlotId, now: Timestamp) {
        let is_lfu = space.memory_limits().policy.is_lfu();
        let usage = space.slots.usage_mut(id);
        match (self.idle_seconds, self.frequency) {
            (Some(seconds), _) if !is_lfu => usage.set_idle(now, seconds.unsigned_abs()),
            (_, Some(count)) if is_lfu => usage.set_frequency(now, count as u8),
            _ => {}
        }
    }
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ count]`
fn restore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let options = Options::parse(&args[4..])?;
    let key = args[1].text();
    if !options.replaces && space.find(&key, run).is_ok() {
        return Err(CommandError::BusyKey);
    }
    let ttl = args[2].integer()?;
    if ttl < 0 {
        return Err(CommandError::InvalidTtl);
    }
    let value = payload::restore(&args[3].text()).map_err(|refused| match refused {
        Refused::VersionOrChecksum => CommandError::PayloadChecksum,
        Refused::Format => CommandError::PayloadFormat,
    })?;
    let base = if options.is_absolute { TimeBase::Epoch } else { TimeBase::Now };
    let deadline = unix_millis(ttl, TimeUnit::Millis, base, run).unwrap_or(i64::MAX);
    let deadline = (ttl != 0).then(|| u64::try_from(deadline).unwrap_or(0));
    run.reply.status("OK");
    // Redis removes what is there, expired or not.
    let replaced = space.slots.find(&key);
    if let Ok(id) = replaced {
        space.slots.free(id);
    }
    if run.mode == Mode::Live && deadline.is_some_and(|deadline| deadline <= run.now.millis()) {
        if replaced.is_ok() {
            run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(&key)]);
            run.notify(EventClass::GENERIC, "del", &key);
        }
        return Ok(());
    }
    let Err(vacant) = space.peek(&key, run) else { return Err(CommandError::BusyKey) };
    let id = space.create(vacant, &key, value, run);
    space.slots.set_deadline(id, deadline);
    options.tell_usage(space, id, run.now);
    record_restored(run, args, options, deadline);
    run.notify(EventClass::GENERIC, "restore", &key);
    Ok(())
}

/// `RESTORE` as sent, but for its deadline, which does not depend on when it
/// is replayed.
fn record_restored(
    run: &mut Execution<'_>,
    args: &[Arg<'_>],
    options: Options,
    deadline: Option<u64>,
) {
    match deadline.and_then(|deadline| i64::try_from(deadline).ok()) {
        Some(deadline) if !options.is_absolute => {
            let deadline = NumberText::integer(deadline);
            let mut absolute = args.to_vec();
            absolute[2] = Arg::Bytes(&deadline);
            absolute.push(Arg::Bytes(b"ABSTTL"));
            run.record(&absolute);
        }
        _ => run.record(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::keyspace::rdb::crc64;
    use crate::keyspace::{Effects, command};
    use crate::resp::{Reply, View};

    const NOW_MS: u64 = 1_000_000;

    /// Runs a command. What it answers, and what it records.
    fn run(space: &mut Keyspace, args: &[&[u8]]) -> (Result<Vec<u8>, String>, String) {
        let args: Vec<Arg<'_>> = args.iter().map(|arg| Arg::Bytes(arg)).collect();
        let (mut effects, mut reply) = (Effects::new(), Reply::new());
        let mut execution =
            Execution::live(Timestamp::from_millis(NOW_MS), &mut effects, &mut reply);
        let command = command(&args[0].text()).unwrap();
        let ran = space.execute(command, &args, &mut execution);
        let answer = ran.map_err(|error| error.to_string()).map(|()| match reply.view() {
            View::Status(bytes) | View::Bulk(bytes) => bytes.to_vec(),
            other => format!("{other:?}").into_bytes(),
        });
        (answer, effects.record().escape_ascii().to_string())
    }

    fn payload(space: &mut Keyspace, key: &str) -> Vec<u8> {
        run(space, &[b"DUMP", key.as_bytes()]).0.unwrap()
    }

    #[test]
    fn a_dump_of_10_is_that_of_redis() {
        let mut space = Keyspace::new();
        run(&mut space, &[b"SET", b"i", b"10"]).0.unwrap();
        assert_eq!(
            payload(&mut space, "i"),
            [0x00, 0xc0, 0x0a, 0x0a, 0x00, 0x6e, 0x9f, 0x57, 0x45, 0x0e, 0xae, 0x63, 0xbb],
        );
        assert_eq!(run(&mut space, &[b"DUMP", b"none"]).0.unwrap(), b"Null");
    }

    #[test]
    fn what_was_dumped_is_restored_with_its_deadline() {
        let mut space = Keyspace::new();
        run(&mut space, &[b"ZADD", b"z", b"1", b"a", b"inf", b"b", b"0.1", b"c"]).0.unwrap();
        let sent = payload(&mut space, "z");
        for (ttl, options, deadline) in [
            ("0", "", None),
            ("500", "REPLACE", Some(NOW_MS + 500)),
            ("1000001", "REPLACE ABSTTL", Some(1_000_001)),
            ("0", "replace idletime 7", None),
            ("0", "REPLACE FREQ 255", None),
        ] {
            let options: Vec<&[u8]> = options.split_whitespace().map(str::as_bytes).collect();
            let args = [&[b"RESTORE" as &[u8], b"k", ttl.as_bytes(), &sent], &options[..]].concat();
            assert_eq!(run(&mut space, &args).0, Ok(b"OK".to_vec()), "{ttl} {options:?}");
            assert_eq!(payload(&mut space, "k"), sent);
            let found = space.entries().find(|(key, ..)| *key == b"k").unwrap().2;
            assert_eq!(found, deadline, "{ttl} {options:?}");
        }
    }

    #[test]
    fn a_set_that_is_big_keeps_the_sign_of_a_zero() {
        let mut space = Keyspace::new();
        let long = [b'x'; 65];
        for (member, expected) in [(&b"b"[..], "Double(0.0)"), (&long[..], "Double(-0.0)")] {
            run(&mut space, &[b"ZADD", b"z", b"1", member, b"-0", b"a"]).0.unwrap();
            let sent = payload(&mut space, "z");
            run(&mut space, &[b"RESTORE", b"k", b"0", &sent, b"REPLACE"]).0.unwrap();
            let score = run(&mut space, &[b"ZSCORE", b"k", b"a"]).0.unwrap();
            assert_eq!(String::from_utf8(score).unwrap(), expected);
            run(&mut space, &[b"DEL", b"z"]).0.unwrap();
        }
    }

    #[test]
    fn the_log_gets_a_deadline_that_does_not_depend_on_when_it_is_replayed() {
        let mut space = Keyspace::new();
        run(&mut space, &[b"SET", b"i", b"10"]).0.unwrap();
        let sent = payload(&mut space, "i");
        let (_, record) = run(&mut space, &[b"RESTORE", b"k", b"500", &sent]);
        assert!(record.contains("1000500") && record.ends_with("ABSTTL\\r\\n"), "{record}");
        let past: [&[u8]; 6] = [b"RESTORE", b"k", b"1", &sent, b"ABSTTL", b"REPLACE"];
        let (answer, record) = run(&mut space, &past);
        assert_eq!(answer, Ok(b"OK".to_vec()));
        assert_eq!(record, "*2\\r\\n$3\\r\\nDEL\\r\\n$1\\r\\nk\\r\\n");
        assert_eq!(run(&mut space, &past).1, "", "nothing was there to delete");
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_redis() {
        let mut space = Keyspace::new();
        run(&mut space, &[b"SET", b"i", b"10"]).0.unwrap();
        let sent = payload(&mut space, "i");
        let mut flipped = sent.clone();
        flipped[2] ^= 1;
        let mut later = vec![0, 0xC0, 10, 11, 0];
        later.extend(crc64(0, &later).to_le_bytes());
        let mut no_value = vec![0x80];
        payload::seal(&mut no_value);
        for (args, expected) in [
            (&[b"i", b"0", &sent[..]][..], "BUSYKEY Target key name already exists."),
            (&[b"k", b"-1", &sent], "ERR Invalid TTL value, must be >= 0"),
            (&[b"k", b"x", &sent], "ERR value is not an integer or out of range"),
            (&[b"k", b"0", &flipped], "ERR DUMP payload version or checksum are wrong"),
            (&[b"k", b"0", &later], "ERR DUMP payload version or checksum are wrong"),
            (&[b"k", b"0", b""], "ERR DUMP payload version or checksum are wrong"),
            (&[b"k", b"0", &no_value], "ERR Bad data format"),
            (&[b"k", b"0", &sent, b"NOW"], "ERR syntax error"),
            (&[b"k", b"0", &sent, b"IDLETIME"], "ERR syntax error"),
            (&[b"k", b"0", &sent, b"IDLETIME", b"1", b"FREQ", b"1"], "ERR syntax error"),
            (&[b"k", b"0", &sent, b"IDLETIME", b"-1"], "ERR Invalid IDLETIME value, must be >= 0"),
            (
                &[b"k", b"0", &sent, b"FREQ", b"256"],
                "ERR Invalid FREQ value, must be >= 0 and <= 255",
            ),
        ] {
            let args = [&[&b"RESTORE"[..]], args].concat();
            assert_eq!(run(&mut space, &args), (Err(expected.to_owned()), String::new()));
        }
    }
}
