//! Settings of the running server: what `CONFIG GET` reads and `CONFIG SET`
//! changes.
//!
//! A change is made on a [`Draft`] of everything that can be changed, and put in
//! force when all of it is fine: all or nothing. Some settings of Redis are only
//! shown, because clients ask for them before they do anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::keyspace::{Announced, EvictionPolicy, MemoryLimits, STRING_LEN_MAX};
use crate::persist::{self, Fsync, Log, SavePoint};

/// How the door behaves. Replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is longer than this is told when a client holds the keyspace: how long
    /// decisions wait for it.
    pub long_hold: Duration,
    /// What `AUTH` must know. `None` lets everybody in.
    pub password: Option<String>,
    /// Without a password, only clients of this machine are served.
    pub is_protected: bool,
    /// Connections at a time.
    pub client_count_max: u32,
    /// How long a connection may be silent; zero means for ever.
    pub idle_timeout: Duration,
    /// Silence after which the kernel asks if the other side lives; zero never.
    pub keepalive: Duration,
    /// Bytes of one argument.
    pub bulk_bytes_max: u64,
    /// Bytes of a command that has not come whole.
    pub query_bytes_max: u64,
    /// What clients may leave unread.
    pub normal_output: OutputLimit,
    /// The same, for those that listen to channels.
    pub subscriber_output: OutputLimit,
    /// Commands that took at least this many microseconds are noted; -1 none.
    pub slowlog_threshold_us: i64,
    /// How many of them are kept.
    pub slowlog_len_max: u64,
    /// Events that took at least this many milliseconds are noted; 0 none.
    pub latency_threshold_ms: u64,
    /// Milliseconds after which a script or a Function that a client called is ended
    /// and undone; 0 never. Redis answers `BUSY` to everybody from then on.
    pub busy_reply_threshold_ms: u64,
}

/// Bytes that may wait for a client that does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// At so many it is dropped; 0 means any number.
    pub hard_bytes: u64,
    /// With so many for so long it is dropped; 0 means any number.
    pub soft_bytes: u64,
    /// How long.
    pub soft_time: Duration,
}

impl OutputLimit {
    /// The ceiling as a number that can be compared.
    pub fn ceiling(self) -> u64 {
        if self.hard_bytes == 0 { u64::MAX } else { self.hard_bytes }
    }
}

/// Everything that can be changed, to be changed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The door's own.
    pub door: Settings,
    /// The keyspace's.
    pub memory: MemoryLimits,
    /// Which events are told.
    pub announced: Announced,
    /// The log's.
    pub log: LogDraft,
}

/// How the log behaves; without one, how it would.
#[derive(Clone, Debug)]
pub struct LogDraft {
    /// Whether there is one.
    pub is_open: bool,
    /// What can be changed of it.
    pub settings: persist::Settings,
    dir: PathBuf,
    cuts_torn_tail: bool,
}

impl LogDraft {
    /// How this log stands now.
    pub fn of(log: Option<&Log>) -> LogDraft {
        match log {
            Some(log) => LogDraft {
                is_open: true,
                settings: persist::Settings::clone(&log.settings()),
                dir: log.dir().to_owned(),
                cuts_torn_tail: log.cuts_torn_tail(),
            },
            None => LogDraft {
                is_open: false,
                settings: persist::Settings::default(),
                dir: PathBuf::from("."),
                cuts_torn_tail: true,
            },
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// As Redis calls it.
    pub name: &'static str,
    access: Access,
}

#[derive(Debug)]
enum Access {
    /// Read and changed at any time.
    Live { read: fn(&Draft) -> String, write: fn(&mut Draft, &str) -> Result<(), String> },
    /// As the configuration has it, until the end.
    Shown(fn(&Draft) -> String),
    /// Always the same: clients ask, and nothing here depends on it.
    Fixed(&'static str),
}

impl Setting {
    /// How it stands.
    pub fn read(&self, draft: &Draft) -> String {
        match self.access {
            Access::Live { read, .. } | Access::Shown(read) => read(draft),
            Access::Fixed(value) => value.to_owned(),
        }
    }

    /// Changes it.
    ///
    /// # Errors
    /// Why not, in Redis' words.
    pub fn write(&self, draft: &mut Draft, text: &str) -> Result<(), String> {
        match self.access {
            Access::Live { write, .. } => write(draft, text),
            Access::Shown(_) | Access::Fixed(_) => Err("can't set immutable config".to_owned()),
        }
    }
}

/// Bytes of one argument, at most: no string is longer.
pub const BULK_BYTES_MAX: i64 = STRING_LEN_MAX as i64;

/// The setting of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Setting> {
    SETTINGS.iter().find(|it| it.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Every setting.
pub static SETTINGS: &[Setting] = &[
    fixed("activedefrag", "no"),
    shown("aof-load-truncated", |it| yes_or_no(it.log.cuts_torn_tail)),
    live(
        "aof-timestamp-enabled",
        |it| yes_or_no(it.log.settings.aof_timestamp_enabled),
        |it, text| flag(text).map(|value| it.log.settings.aof_timestamp_enabled = value),
    ),
    fixed("appenddirname", "appendonlydir"),
    fixed("appendfilename", "appendonly.aof"),
    live(
        "appendfsync",
        |it| it.log.settings.appendfsync.name().to_owned(),
        |it, text| {
            let named = Fsync::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(text));
            it.log.settings.appendfsync =
                named.ok_or_else(|| one_of(Fsync::ALL.map(Fsync::name)))?;
            Ok(())
        },
    ),
    shown("appendonly", |it| yes_or_no(it.log.is_open)),
    live(
        "auto-aof-rewrite-min-size",
        |it| it.log.settings.auto_aof_rewrite_min_size.to_string(),
        |it, text| bytes(text, 1).map(|value| it.log.settings.auto_aof_rewrite_min_size = value),
    ),
    live(
        "auto-aof-rewrite-percentage",
        |it| it.log.settings.auto_aof_rewrite_percentage.to_string(),
        |it, text| {
            number(text, 0, i64::from(i32::MAX))
                .map(|value| it.log.settings.auto_aof_rewrite_percentage = value as u32)
        },
    ),
    live(
        "busy-reply-threshold",
        |it| it.door.busy_reply_threshold_ms.to_string(),
        |it, text| number(text, 0, i64::MAX).map(|value| it.door.busy_reply_threshold_ms = value),
    ),
    live(
        "client-output-buffer-limit",
        |it| it.door.output_limits(),
        |it, text| it.door.set_output_limits(text),
    ),
    live(
        "client-query-buffer-limit",
        |it| it.door.query_bytes_max.to_string(),
        |it, text| bytes(text, 1 << 20).map(|value| it.door.query_bytes_max = value),
    ),
    fixed("cluster-enabled", "no"),
    fixed("databases", "1"),
    fixed("dbfilename", "dump.rdb"),
    shown("dir", |it| absolute(&it.log.dir)),
    fixed("hash-max-listpack-entries", "512"),
    fixed("hash-max-listpack-value", "64"),
    fixed("hz", "10"),
    fixed("io-threads", "1"),
    live(
        "latency-monitor-threshold",
        |it| it.door.latency_threshold_ms.to_string(),
        |it, text| number(text, 0, i64::MAX).map(|value| it.door.latency_threshold_ms = value),
    ),
    fixed("latency-tracking", "yes"),
    live(
        "lfu-decay-time",
        |it| it.memory.lfu_decay_minutes.to_string(),
        |it, text| {
            number(text, 0, i64::from(i32::MAX))
                .map(|value| it.memory.lfu_decay_minutes = value as u32)
        },
    ),
    live(
        "lfu-log-factor",
        |it| it.memory.lfu_log_factor.to_string(),
        |it, text| {
            number(text, 0, i64::from(i32::MAX))
                .map(|value| it.memory.lfu_log_factor = value as u32)
        },
    ),
    fixed("list-max-listpack-size", "-2"),
    live(
        "lua-time-limit",
        |it| it.door.busy_reply_threshold_ms.to_string(),
        |it, text| number(text, 0, i64::MAX).map(|value| it.door.busy_reply_threshold_ms = value),
    ),
    live(
        "maxclients",
        |it| it.door.client_count_max.to_string(),
        |it, text| {
            number(text, 1, i64::from(u32::MAX))
                .map(|value| it.door.client_count_max = value as u32)
        },
    ),
    live(
        "maxmemory",
        |it| it.memory.maxmemory.to_string(),
        |it, text| bytes(text, 0).map(|value| it.memory.maxmemory = value),
    ),
    live(
        "maxmemory-policy",
        |it| it.memory.policy.name().to_owned(),
        |it, text| {
            let policy = EvictionPolicy::named(text);
            it.memory.policy =
                policy.ok_or_else(|| one_of(EvictionPolicy::ALL.map(|it| it.name())))?;
            Ok(())
        },
    ),
    live(
        "maxmemory-samples",
        |it| it.memory.samples.to_string(),
        |it, text| {
            number(text, 1, i64::from(i32::MAX)).map(|value| it.memory.samples = value as u32)
        },
    ),
    live(
        "notify-keyspace-events",
        |it| it.announced.to_string(),
        |it, text| {
            let unknown = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
            it.announced = Announced::parse(text).ok_or(unknown)?;
            Ok(())
        },
    ),
    live(
        "protected-mode",
        |it| yes_or_no(it.door.is_protected),
        |it, text| {
            it.door.is_protected = flag(text)?;
            Ok(())
        },
    ),
    live(
        "proto-max-bulk-len",
        |it| it.door.bulk_bytes_max.to_string(),
        |it, text| {
            bytes_within(text, 1 << 20, BULK_BYTES_MAX).map(|value| it.door.bulk_bytes_max = value)
        },
    ),
    live(
        "requirepass",
        |it| it.door.password.clone().unwrap_or_default(),
        |it, text| {
            it.door.password = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    ),
    live(
        "save",
        |it| save_points(&it.log.settings.save),
        |it, text| {
            it.log.settings.save = SavePoint::parse_all(text).ok_or("Invalid save parameters")?;
            Ok(())
        },
    ),
    fixed("set-max-intset-entries", "512"),
    live(
        "slowlog-log-slower-than",
        |it| it.door.slowlog_threshold_us.to_string(),
        |it, text| integer(text, -1, i64::MAX).map(|value| it.door.slowlog_threshold_us = value),
    ),
    live(
        "slowlog-max-len",
        |it| it.door.slowlog_len_max.to_string(),
        |it, text| number(text, 0, i64::MAX).map(|value| it.door.slowlog_len_max = value),
    ),
    live(
        "stop-writes-on-bgsave-error",
        |it| yes_or_no(it.log.settings.stop_writes_on_bgsave_error),
        |it, text| flag(text).map(|value| it.log.settings.stop_writes_on_bgsave_error = value),
    ),
    live(
        "tcp-keepalive",
        |it| it.door.keepalive.as_secs().to_string(),
        |it, text| seconds(text).map(|value| it.door.keepalive = value),
    ),
    live(
        "timeout",
        |it| it.door.idle_timeout.as_secs().to_string(),
        |it, text| seconds(text).map(|value| it.door.idle_timeout = value),
    ),
    fixed("zset-max-listpack-entries", "128"),
    fixed("zset-max-listpack-value", "64"),
];

const fn live(
    name: &'static str,
    read: fn(&Draft) -> String,
    write: fn(&mut Draft, &str) -> Result<(), String>,
) -> Setting {
    Setting { name, access: Access::Live { read, write } }
}

const fn shown(name: &'static str, read: fn(&Draft) -> String) -> Setting {
    Setting { name, access: Access::Shown(read) }
}

const fn fixed(name: &'static str, value: &'static str) -> Setting {
    Setting { name, access: Access::Fixed(value) }
}

fn integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let value: i64 = text.parse().map_err(|_| "argument couldn't be parsed into an integer")?;
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// An integer that is not negative.
fn number(text: &str, min: i64, max: i64) -> Result<u64, String> {
    integer(text, min.max(0), max).map(i64::unsigned_abs)
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 0, i64::from(i32::MAX)).map(Duration::from_secs)
}

/// Bytes, with or without a unit: `100`, `1k` (1000), `1kb` (1024), `2mb`, `1gb`.
fn bytes(text: &str, min: i64) -> Result<u64, String> {
    bytes_within(text, min, i64::MAX)
}

fn bytes_within(text: &str, min: i64, max: i64) -> Result<u64, String> {
    let value = parse_bytes(text).ok_or("argument must be a memory value")?;
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    number(&value.to_string(), min, max)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let scale: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".to_owned()),
    }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// A folder as it is found from anywhere, if that can be told.
fn absolute(dir: &Path) -> String {
    std::path::absolute(dir).as_deref().unwrap_or(dir).display().to_string()
}

/// `3600 1 300 100`.
fn save_points(points: &[SavePoint]) -> String {
    let words: Vec<String> =
        points.iter().map(|it| format!("{} {}", it.after.as_secs(), it.changes)).collect();
    words.join(" ")
}

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    format!("argument(s) must be one of the following: {}", words.join(", "))
}

impl Settings {
    /// `client-output-buffer-limit`, as text. There are no replicas, so their
    /// limit is Redis' own.
    fn output_limits(&self) -> String {
        let mut text = String::new();
        for (kind, limit) in [
            ("normal", self.normal_output),
            ("slave", OutputLimit::REPLICA),
            ("pubsub", self.subscriber_output),
        ] {
            let OutputLimit { hard_bytes, soft_bytes, soft_time } = limit;
            let separator = if text.is_empty() { "" } else { " " };
            let _ =
                write!(text, "{separator}{kind} {hard_bytes} {soft_bytes} {}", soft_time.as_secs());
        }
        text
    }

    /// Reads `kind hard soft seconds`, once or several times.
    fn set_output_limits(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        for limit in words.chunks_exact(4) {
            let fault =
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            let hard_bytes = parse_bytes(limit[1]).ok_or(fault)?;
            let soft_bytes = parse_bytes(limit[2]).ok_or(fault)?;
            let soft_time = limit[3].parse().map(Duration::from_secs).map_err(|_| fault)?;
            let written = OutputLimit { hard_bytes, soft_bytes, soft_time };
            match limit[0].to_ascii_lowercase().as_str() {
                "normal" => self.normal_output = written,
                "pubsub" => self.subscriber_output = written,
                "slave" | "replica" => {}
                _ => {
                    return Err(
                        "Invalid client class specified in buffer limit configuration.".to_owned()
                    );
                }
            }
        }
        Ok(())
    }
}

impl OutputLimit {
    /// Redis' limit for replicas.
    const REPLICA: OutputLimit = OutputLimit {
        hard_bytes: 256 << 20,
        soft_bytes: 64 << 20,
        soft_time: Duration::from_secs(60),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::redis::config::RawConfig;

    fn draft() -> Draft {
        let door = RawConfig::default().check("redis").unwrap().settings;
        let log = LogDraft::of(None);
        Draft { door, memory: MemoryLimits::NONE, announced: Announced::default(), log }
    }

    #[track_caller]
    fn check(name: &str, text: &str, expected: Result<&str, &str>) {
        let mut draft = draft();
        let setting = find(name.as_bytes()).unwrap();
        let written = setting.write(&mut draft, text).map(|()| setting.read(&draft));
        assert_eq!(written.as_deref().map_err(String::as_str), expected, "{name} {text}");
    }

    #[test]
    fn settings_read_and_print_as_in_redis() {
        check("maxmemory", "1gb", Ok("1073741824"));
        check("maxmemory", "1k", Ok("1000"));
        check("maxmemory", "x", Err("argument must be a memory value"));
        check("MAXMEMORY-POLICY", "AllKeys-LRU", Ok("allkeys-lru"));
        check("maxmemory-samples", "0", Err("argument must be between 1 and 2147483647 inclusive"));
        check("timeout", "x", Err("argument couldn't be parsed into an integer"));
        check("slowlog-log-slower-than", "-1", Ok("-1"));
        check("protected-mode", "maybe", Err("argument must be 'yes' or 'no'"));
        check("proto-max-bulk-len", "1mb", Ok("1048576"));
        let range = "argument must be between 1048576 and 536870912 inclusive";
        check("proto-max-bulk-len", "513mb", Err(range));
        check("databases", "2", Err("can't set immutable config"));
        check("requirepass", "secret", Ok("secret"));
        check("requirepass", "", Ok(""));
        check(
            "client-output-buffer-limit",
            "normal 1mb 2 3",
            Ok("normal 1048576 2 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
        );
        check(
            "client-output-buffer-limit",
            "normal 1",
            Err("Wrong number of arguments in buffer limit configuration."),
        );
    }

    #[test]
    fn settings_of_the_log_read_and_print_as_in_redis() {
        check("appendfsync", "ALWAYS", Ok("always"));
        let words = "argument(s) must be one of the following: everysec, always, no";
        check("appendfsync", "never", Err(words));
        check("auto-aof-rewrite-min-size", "32mb", Ok("33554432"));
        check("auto-aof-rewrite-percentage", "0", Ok("0"));
        check("aof-timestamp-enabled", "yes", Ok("yes"));
        check("save", "3600 1  300 100", Ok("3600 1 300 100"));
        check("save", "", Ok(""));
        check("save", "0 1", Err("Invalid save parameters"));
        check("save", "60", Err("Invalid save parameters"));
        for name in ["appendonly", "aof-load-truncated", "dir"] {
            check(name, "yes", Err("can't set immutable config"));
        }
    }

    #[test]
    fn classes_of_events_print_in_the_order_of_redis() {
        for (written, printed) in [
            ("KEA", "AKE"),
            ("KEg$lshzxetd", "AKE"),
            ("mEn", "nEm"),
            ("Kx", "xK"),
            ("Kg", "gK"),
            ("", ""),
        ] {
            check("notify-keyspace-events", written, Ok(printed));
        }
        let unknown = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
        check("notify-keyspace-events", "Kq", Err(unknown));
    }

    #[test]
    fn settings_stand_once_and_in_order() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    }
}
