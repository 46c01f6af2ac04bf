//! Tests of the log as a whole: from a directory to a keyspace and back.
//!
//! The parts have their own tests, beside their code.

mod base;
mod examining;
mod fixtures;
mod rewriting;
mod saving;
mod simulation;
mod tails;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::keyspace::{Arg, Effects, Execution, SnapshotSink, Value, Walk, command};
use crate::resp::Reply;

/// The moment of every test: November 2026.
pub const NOW: Timestamp = Timestamp::from_millis(1_795_400_000_000);

pub fn config(dir: &Path, appendfsync: Fsync) -> Config {
    Config {
        dir: dir.to_owned(),
        settings: Settings {
            appendfsync,
            auto_aof_rewrite_percentage: 100,
            auto_aof_rewrite_min_size: 1 << 10,
            aof_timestamp_enabled: false,
            save: Vec::new(),
            stop_writes_on_bgsave_error: true,
            on_log_error: OnLogError::Continue,
        },
        aof_load_truncated: true,
        close_timeout: Duration::from_secs(5),
    }
}

/// A keyspace, its log, and what was found when it was opened.
pub struct Opened {
    pub keyspace: Keyspace,
    pub log: Log,
    pub recovery: Recovery,
    effects: Effects,
    reply: Reply,
}

/// Opens the log of `dir`.
pub fn open(dir: &Path) -> Result<Opened, Error> {
    open_with(config(dir, Fsync::No))
}

pub fn open_with(config: Config) -> Result<Opened, Error> {
    let mut keyspace = Keyspace::new();
    let (log, recovery) = Log::open(config, &mut keyspace, NOW, &mut |_| {})?;
    Ok(Opened { keyspace, log, recovery, effects: Effects::new(), reply: Reply::default() })
}

impl Drop for Opened {
    /// Waits until its threads have let go of the directory, which may be opened again.
    fn drop(&mut self) {
        // Tests of a disk that fails see the error elsewhere.
        let _ = self.log.close();
    }
}

impl Opened {
    /// Runs commands, each a line of words, as one call: one record.
    pub fn run(&mut self, commands: &str) -> Lsn {
        self.effects.clear();
        for line in commands.lines() {
            let args: Vec<Arg<'_>> =
                line.split_whitespace().map(|word| Arg::Bytes(word.as_bytes())).collect();
            let name = line.split_whitespace().next().unwrap();
            let command = command(name.as_bytes()).expect("a command we have");
            let mut run = Execution::live(NOW, &mut self.effects, &mut self.reply);
            self.keyspace.execute(command, &args, &mut run).expect(line);
        }
        self.log.append(&self.effects)
    }

    /// Waits until the operating system has all records: what comes next is
    /// another batch, with a seal of its own.
    pub fn flush(&self) {
        wait_for(|| self.log.status().unwritten_bytes == 0);
    }

    pub fn state(&self) -> State {
        state(&self.keyspace)
    }

    /// Closes the log and lets go of its directory. What the keyspace held.
    pub fn close(self) -> State {
        self.log.close().expect("the disk is well");
        self.state()
    }

    /// Saves `dump.rdb`, with nothing else going on.
    pub fn save(&mut self) -> Result<u64, Error> {
        let (feed, writer) = self.log.begin_save(&mut self.keyspace, Vec::new())?;
        feed.finish(walked(&mut self.keyspace));
        writer.run()
    }

    /// Rewrites, with nothing else going on.
    pub fn rewrite(&mut self, libraries: Vec<Arc<str>>) -> Result<Rewritten, Error> {
        let pending = self.log.prepare_rewrite()?;
        let (feed, writer) = pending.cut(&mut self.keyspace, libraries)?;
        feed.finish(walked(&mut self.keyspace));
        writer.run()
    }
}

#[track_caller]
pub fn wait_for(mut reached: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if reached() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!("not within 5 s");
}

/// Walks the running snapshot to its end.
pub fn walked(keyspace: &mut Keyspace) -> Box<dyn SnapshotSink> {
    loop {
        match keyspace.walk(100) {
            Walk::Done(sink) => return sink,
            Walk::More => {}
            Walk::Idle => unreachable!("a snapshot is walking"),
        }
    }
}

/// What a keyspace holds, as text: key to value and deadline.
pub type State = BTreeMap<String, String>;

pub fn state(keyspace: &Keyspace) -> State {
    keyspace
        .entries()
        .map(|(key, value, deadline)| {
            let deadline = deadline.map(|ms| format!(" until {ms}")).unwrap_or_default();
            (key.escape_ascii().to_string(), format!("{}{deadline}", text_of(value)))
        })
        .collect()
}

pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(string) => format!("\"{}\"", string.to_vec().escape_ascii()),
        Value::SortedSet(set) => {
            let members: Vec<String> = set
                .iter()
                .map(|(member, score)| format!("{}={score:?}", member.escape_ascii()))
                .collect();
            format!("{{{}}}", members.join(" "))
        }
        Value::Hash(hash) => {
            let mut fields: Vec<String> = hash
                .iter()
                .map(|(field, value)| format!("{}:{}", field.escape_ascii(), value.escape_ascii()))
                .collect();
            fields.sort();
            format!("hash {}", fields.join(" "))
        }
        Value::Set(set) => {
            let mut members: Vec<String> =
                set.iter().map(|it| it.escape_ascii().to_string()).collect();
            members.sort();
            format!("set {}", members.join(" "))
        }
        Value::List(list) => {
            let elements: Vec<String> =
                list.iter().map(|it| it.escape_ascii().to_string()).collect();
            format!("list {}", elements.join(" "))
        }
    }
}

/// The folder of the log in `dir`.
pub fn folder(dir: &Path) -> PathBuf {
    dir.join("appendonlydir")
}

/// Copies the log of `from` as it is now, as a crash would leave it.
pub fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir_all(folder(to)).unwrap();
    for entry in std::fs::read_dir(folder(from)).unwrap() {
        let entry = entry.unwrap();
        // What is renamed or deleted while we look is of no concern.
        let _ = std::fs::copy(entry.path(), folder(to).join(entry.file_name()));
    }
}

/// The manifest of `dir`, without comments.
pub fn manifest_text(dir: &Path) -> String {
    let text = std::fs::read_to_string(folder(dir).join(manifest::FILE_NAME)).unwrap();
    text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}

/// The log's files in `dir`, sorted, without the lock.
pub fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder(dir)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "weir.lock").collect();
    names.sort();
    names
}
