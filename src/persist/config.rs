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

/// How the log behaves. Holds only values that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds `appendonlydir/`. Created if missing; one
    /// process at a time.
    pub dir: PathBuf,
    /// When records are forced to disk.
    pub appendfsync: Fsync,
    /// Rewrite once the log has outgrown its size after the last rewrite by
    /// this many percent. 0 never rewrites by itself.
    pub auto_aof_rewrite_percentage: u32,
    /// Never rewrite a log of at most this many bytes by itself.
    pub auto_aof_rewrite_min_size: u64,
    /// Whether a torn tail is cut off at start. If not, it refuses the start.
    pub aof_load_truncated: bool,
    /// How long shutdown waits for the last write and sync.
    pub close_timeout: Duration,
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
    /// Cut a torn tail and start. Default: true.
    pub aof_load_truncated: bool,
    /// How long shutdown waits for the disk. Default: `5s`.
    pub close_timeout: Span,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        RawConfig {
            dir: PathBuf::from("data"),
            appendfsync: Fsync::EverySec,
            auto_aof_rewrite_percentage: 100,
            auto_aof_rewrite_min_size: ByteSize(64 << 20),
            aof_load_truncated: true,
            close_timeout: Span(Duration::from_secs(5)),
        }
    }
}

impl RawConfig {
    /// Checks the section, which stands at `path` in `file`. A relative `dir`
    /// is meant from the folder of `file`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(self, file: &Path, path: &str) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let mut problem = |key: &str, message: &str| {
            problems.add(Problem {
                file: file.display().to_string(),
                position: None,
                path: if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") },
                message: message.to_owned(),
                excerpt: String::new(),
            });
        };
        if self.dir.as_os_str().is_empty() {
            problem("dir", "must name a directory");
        }
        if self.close_timeout.0.is_zero() {
            problem("close_timeout", "must not be 0: the last records would be lost");
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        Ok(Config {
            dir: folder.join(self.dir),
            appendfsync: self.appendfsync,
            auto_aof_rewrite_percentage: self.auto_aof_rewrite_percentage,
            auto_aof_rewrite_min_size: self.auto_aof_rewrite_min_size.0,
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
        assert_eq!(config.appendfsync, Fsync::EverySec);
        assert_eq!(config.auto_aof_rewrite_percentage, 100);
        assert_eq!(config.auto_aof_rewrite_min_size, 64 << 20);
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
            "config/weir.yaml: store.embedded.dir: must name a directory\n\
             config/weir.yaml: store.embedded.close_timeout: must not be 0: \
             the last records would be lost"
        );
        assert!(load("{appendfsnyc: no}").unwrap_err().contains("appendfsnyc"));
        let small = load("{auto_aof_rewrite_min_size: 64mb}").unwrap_err();
        assert!(small.contains("`64mb` is not a size"), "{small}");
    }

    #[test]
    fn the_words_of_redis_are_read() {
        for (word, policy) in
            [("always", Fsync::Always), ("everysec", Fsync::EverySec), ("'no'", Fsync::No)]
        {
            assert_eq!(load(&format!("{{appendfsync: {word}}}")).unwrap().appendfsync, policy);
        }
    }
}
