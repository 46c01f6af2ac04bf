//! How the log behaves: as written in `store.embedded`, and as checked.
//!
//! The names are Redis' own, with underscores, so that what an operator knows
//! of Redis holds here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::base::problems::{Problem, Problems};
use crate::base::units::{ByteSize, Span};

/// When appended records are forced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before each decision is answered. Nothing acknowledged is ever lost.
    Always,
    /// Once a second. A power cut forgets about the last second.
    EverySec,
    /// When the kernel pleases.
    No,
}

impl Fsync {
    /// Every policy, in the order in which Redis names them.
    pub const ALL: [Fsync; 3] = [Fsync::EverySec, Fsync::Always, Fsync::No];

    /// As Redis calls it.
    pub fn name(self) -> &'static str {
        match self {
            Fsync::Always => "always",
            Fsync::EverySec => "everysec",
            Fsync::No => "no",
        }
    }
}

/// How the log behaves. Holds only values that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds `appendonlydir/`. Created if missing; one
    /// process at a time.
    pub dir: PathBuf,
    /// What may be changed while the log is open.
    pub settings: Settings,
    /// Whether a torn tail is cut off at start. If not, it refuses the start.
    pub aof_load_truncated: bool,
    /// How long shutdown waits for the last write and sync.
    pub close_timeout: Duration,
}

/// How a log behaves, as far as that may be changed while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When records are forced to disk.
    pub appendfsync: Fsync,
    /// Rewrite once the log has outgrown its size after the last rewrite by
    /// this many percent. 0 never rewrites by itself.
    pub auto_aof_rewrite_percentage: u32,
    /// Never rewrite a log of at most this many bytes by itself.
    pub auto_aof_rewrite_min_size: u64,
    /// Whether records are preceded by the time, once a second.
    pub aof_timestamp_enabled: bool,
    /// When a snapshot is written to `dump.rdb`, beside the log.
    pub save: Vec<SavePoint>,
    /// Whether clients may not write after a save has failed, where `save` has points.
    pub stop_writes_on_bgsave_error: bool,
    /// What becomes of writes while the log cannot remember them.
    pub on_log_error: OnLogError,
}

/// The documented ones.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            appendfsync: Fsync::EverySec,
            auto_aof_rewrite_percentage: 100,
            auto_aof_rewrite_min_size: 64 << 20,
            aof_timestamp_enabled: false,
            save: Vec::new(),
            stop_writes_on_bgsave_error: true,
            on_log_error: OnLogError::Continue,
        }
    }
}

/// A snapshot is written once so much time has passed since the last one, and so
/// much has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Time since the last snapshot, at least.
    pub after: Duration,
    /// Commands that changed something since, at least.
    pub changes: u64,
}

impl SavePoint {
    /// Reads points as Redis writes them: `3600 1 300 100`. Nothing is no point.
    pub fn parse_all(text: &str) -> Option<Vec<SavePoint>> {
        let numbers: Option<Vec<u64>> =
            text.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
        let numbers = numbers.filter(|numbers| numbers.len().is_multiple_of(2))?;
        let point = |pair: &[u64]| match *pair {
            [seconds, changes] if seconds > 0 => {
                Some(SavePoint { after: Duration::from_secs(seconds), changes })
            }
            _ => None,
        };
        numbers.chunks(2).map(point).collect()
    }
}

/// What becomes of writes while the log cannot remember them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLogError {
    /// They go on from memory, and are on disk again once the log has healed.
    Continue,
    /// They are refused until then.
    Refuse,
}

/// The section as written. Its defaults are the documented ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Directory of the log; relative to the file that names it. Default: `data`.
    pub dir: PathBuf,
    /// `always`, `everysec` or `no`. Default: `everysec`.
    pub appendfsync: Fsync,
    /// Growth in percent that starts a rewrite; 0 never. Default: 100.
    pub auto_aof_rewrite_percentage: u32,
    /// Size below which growth does not matter. Default: `64MiB`.
    pub auto_aof_rewrite_min_size: ByteSize,
    /// Put the time into the log, once a second. Default: false.
    pub aof_timestamp_enabled: bool,
    /// Snapshots to `dump.rdb`, as pairs of seconds and changes: `3600 1` is one
    /// an hour if anything has changed. Default: none.
    pub save: String,
    /// Where there are such points and the last snapshot failed, clients may not
    /// write until one succeeds. Requests are decided all the same. Default: true.
    pub stop_writes_on_bgsave_error: bool,
    /// While the disk fails: `continue` decides from memory, `refuse` refuses
    /// what writes. Default: `continue`.
    pub on_log_error: OnLogError,
    /// Cut a torn tail and start. Default: true.
    pub aof_load_truncated: bool,
    /// How long shutdown waits for the disk. Default: `5s`.
    pub close_timeout: Span,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        let settings = Settings::default();
        RawConfig {
            dir: PathBuf::from("data"),
            appendfsync: settings.appendfsync,
            auto_aof_rewrite_percentage: settings.auto_aof_rewrite_percentage,
            auto_aof_rewrite_min_size: ByteSize(settings.auto_aof_rewrite_min_size),
            aof_timestamp_enabled: settings.aof_timestamp_enabled,
            save: String::new(),
            stop_writes_on_bgsave_error: settings.stop_writes_on_bgsave_error,
            on_log_error: settings.on_log_error,
            aof_load_truncated: true,
            close_timeout: Span(Duration::from_secs(5)),
        }
    }
}

impl RawConfig {
    /// Checks the section, which stands at `path`. A relative `dir` is meant from the
    /// folder of `file`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(self, file: &Path, path: &str) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let mut problem = |key: &str, message: &str| {
            problems.add(Problem::new(format!("{path}.{key}"), message));
        };
        if self.dir.as_os_str().is_empty() {
            problem("dir", "must name a directory");
        }
        if self.close_timeout.0.is_zero() {
            problem("close_timeout", "must not be 0: the last records would be lost");
        }
        let save = SavePoint::parse_all(&self.save);
        if save.is_none() {
            problem("save", "must be pairs of seconds and changes, such as `3600 1`");
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        Ok(Config {
            dir: folder.join(self.dir),
            settings: Settings {
                appendfsync: self.appendfsync,
                auto_aof_rewrite_percentage: self.auto_aof_rewrite_percentage,
                auto_aof_rewrite_min_size: self.auto_aof_rewrite_min_size.0,
                aof_timestamp_enabled: self.aof_timestamp_enabled,
                save: save.unwrap_or_default(),
                stop_writes_on_bgsave_error: self.stop_writes_on_bgsave_error,
                on_log_error: self.on_log_error,
            },
            aof_load_truncated: self.aof_load_truncated,
            close_timeout: self.close_timeout.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::base::yaml;

    use super::*;

    fn load(yaml: &str) -> Result<Config, String> {
        let document = yaml::read::<RawConfig>("config/weir.yaml", yaml)
            .map_err(|problems| problems.to_string())?;
        let raw = document.value;
        raw.check(Path::new("config/weir.yaml"), "store.embedded")
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_empty_section_is_the_documented_default() {
        let config = load("{}").unwrap();
        assert_eq!(config.dir, Path::new("config/data"));
        let settings = config.settings;
        assert_eq!(settings.appendfsync, Fsync::EverySec);
        assert_eq!(settings.auto_aof_rewrite_percentage, 100);
        assert_eq!(settings.auto_aof_rewrite_min_size, 64 << 20);
        assert!(settings.save.is_empty() && !settings.aof_timestamp_enabled);
        assert!(settings.stop_writes_on_bgsave_error);
        assert_eq!(settings.on_log_error, OnLogError::Continue);
        assert!(config.aof_load_truncated);
    }

    #[test]
    fn paths_are_meant_from_the_file_that_holds_them() {
        assert_eq!(load("{dir: ../data}").unwrap().dir, Path::new("config/../data"));
        assert_eq!(load("{dir: /srv/weir}").unwrap().dir, Path::new("/srv/weir"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(
            load("{dir: '', close_timeout: 0s}").unwrap_err(),
            "store.embedded.dir: must name a directory\n\
             store.embedded.close_timeout: must not be 0: the last records would be lost"
        );
        assert!(load("{appendfsnyc: no}").unwrap_err().contains("appendfsnyc"));
        let small = load("{auto_aof_rewrite_min_size: 64mb}").unwrap_err();
        assert!(small.contains("`64mb` is not a size"), "{small}");
    }

    #[test]
    fn save_points_are_pairs_of_seconds_and_changes() {
        let hourly = SavePoint { after: Duration::from_secs(3600), changes: 1 };
        assert_eq!(load("{save: '3600 1'}").unwrap().settings.save, [hourly]);
        assert_eq!(load("{save: '3600 1 60 10000'}").unwrap().settings.save.len(), 2);
        for wrong in ["3600", "0 1", "x 1", "3600 -1"] {
            let told = load(&format!("{{save: '{wrong}'}}")).unwrap_err();
            assert!(told.contains("store.embedded.save: must be pairs"), "{told}");
        }
    }

    #[test]
    fn the_words_of_redis_are_read() {
        for (word, policy) in
            [("always", Fsync::Always), ("everysec", Fsync::EverySec), ("'no'", Fsync::No)]
        {
            assert_eq!(
                load(&format!("{{appendfsync: {word}}}")).unwrap().settings.appendfsync,
                policy
            );
        }
    }
}
