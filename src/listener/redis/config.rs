//! How the door is set up: the section `redis` of the configuration, as written
//! and as checked. What of it can be changed while the door is open, is in
//! [`Settings`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::settings::{BULK_BYTES_MAX, OutputLimit, Settings};
use super::stream::TlsFiles;
use crate::base::problems::{Problem, Problems};
use crate::base::units::{ByteSize, Span};
use crate::limiter::WAIT_MAX_DEFAULT;

/// How the door is set up. Holds only values that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What can be changed while the door is open.
    pub settings: Settings,
    /// The files of TLS, if the door speaks it.
    pub tls: Option<TlsFiles>,
}

impl Config {
    /// The same, with paths meant from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Config {
        if let Some(TlsFiles { cert, key, client_ca }) = &mut self.tls {
            for path in [Some(cert), Some(key), client_ca.as_mut()].into_iter().flatten() {
                *path = folder.join(&*path);
            }
        }
        self
    }
}

/// The section as written. The names are Redis' own, with underscores.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// What `AUTH` must know; left out, everybody is let in. Default: none.
    requirepass: Option<String>,
    /// Without a password, serve clients of this machine only. Default: true.
    protected_mode: bool,
    /// Connections at a time. Default: 10000.
    maxclients: u32,
    /// How long a connection may be silent; `0s` means for ever. Default: `0s`.
    timeout: Span,
    /// Silence after which the kernel asks if the other side lives; `0s` never.
    /// Default: `5m`.
    tcp_keepalive: Span,
    /// Bytes of one argument; no string is longer than the default. Default: `512MiB`.
    proto_max_bulk_len: ByteSize,
    /// Bytes of a command that has not come whole. Default: `1GiB`.
    client_query_buffer_limit: ByteSize,
    /// Bytes of replies that a client may leave unread; it is then dropped.
    /// Default: `256MiB`.
    client_output_limit: ByteSize,
    /// Commands that took longer are noted in the slow log. Default: `10ms`.
    slowlog_log_slower_than: Span,
    /// How many of them are kept. Default: 128.
    slowlog_max_len: u64,
    /// Speak TLS, and nothing else. Default: plain TCP.
    tls: Option<RawTls>,
}

/// The files of TLS as written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    /// Our certificate, and those that lead to a root, as PEM.
    cert: PathBuf,
    /// Its private key, as PEM.
    key: PathBuf,
    /// Who signs the certificates that clients must show; left out, they need
    /// not show any.
    client_ca: Option<PathBuf>,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        RawConfig {
            requirepass: None,
            protected_mode: true,
            maxclients: 10_000,
            timeout: Span(Duration::ZERO),
            tcp_keepalive: Span(Duration::from_secs(300)),
            proto_max_bulk_len: ByteSize(512 << 20),
            client_query_buffer_limit: ByteSize(1 << 30),
            client_output_limit: ByteSize(256 << 20),
            slowlog_log_slower_than: Span(Duration::from_millis(10)),
            slowlog_max_len: 128,
            tls: None,
        }
    }
}

impl RawConfig {
    /// Checks the section, which stands at `path`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(self, path: &str) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let mut problem = |key: &str, message: String| {
            problems.add(Problem::new(format!("{path}.{key}"), message));
        };
        if self.requirepass.as_deref() == Some("") {
            let message = "must not be empty; leave it out to let everybody in";
            problem("requirepass", message.to_owned());
        }
        if self.maxclients == 0 {
            problem("maxclients", "must be at least 1".to_owned());
        }
        for (key, size) in [
            ("proto_max_bulk_len", self.proto_max_bulk_len),
            ("client_query_buffer_limit", self.client_query_buffer_limit),
            ("client_output_limit", self.client_output_limit),
        ] {
            if size.0 < 1 << 20 {
                problem(key, format!("must be at least 1MiB, not {size}"));
            }
        }
        if self.proto_max_bulk_len.0 > BULK_BYTES_MAX.unsigned_abs() {
            let message = format!("must be at most 512MiB, not {}", self.proto_max_bulk_len);
            problem("proto_max_bulk_len", message);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let normal_output = OutputLimit {
            hard_bytes: self.client_output_limit.0,
            soft_bytes: 0,
            soft_time: Duration::ZERO,
        };
        let settings = Settings {
            long_hold: WAIT_MAX_DEFAULT,
            password: self.requirepass,
            is_protected: self.protected_mode,
            client_count_max: self.maxclients,
            idle_timeout: self.timeout.0,
            keepalive: self.tcp_keepalive.0,
            bulk_bytes_max: self.proto_max_bulk_len.0,
            query_bytes_max: self.client_query_buffer_limit.0,
            normal_output,
            subscriber_output: OutputLimit {
                hard_bytes: 32 << 20,
                soft_bytes: 8 << 20,
                soft_time: Duration::from_secs(60),
            },
            slowlog_threshold_us: i64::try_from(self.slowlog_log_slower_than.0.as_micros())
                .unwrap_or(i64::MAX),
            slowlog_len_max: self.slowlog_max_len,
            latency_threshold_ms: 0,
            busy_reply_threshold_ms: 5_000,
        };
        let tls = self.tls.map(|RawTls { cert, key, client_ca }| TlsFiles { cert, key, client_ca });
        Ok(Config { settings, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml;

    fn load(yaml: &str) -> Result<Config, String> {
        let raw = yaml::read::<RawConfig>("weir.yaml", yaml).map_err(|it| it.to_string())?.value;
        raw.check("redis").map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_empty_section_is_the_documented_default() {
        let settings = load("{}").unwrap().settings;
        assert_eq!((settings.password, settings.is_protected), (None, true));
        assert_eq!(settings.client_count_max, 10_000);
        assert_eq!(settings.slowlog_threshold_us, 10_000);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let problems =
            load("{requirepass: '', maxclients: 0, proto_max_bulk_len: 1KiB}").unwrap_err();
        assert_eq!(
            problems,
            "redis.requirepass: must not be empty; leave it out to let everybody in\n\
             redis.maxclients: must be at least 1\n\
             redis.proto_max_bulk_len: must be at least 1MiB, not 1KiB"
        );
        assert!(load("{requirepas: x}").unwrap_err().contains("requirepass"));
    }
}
