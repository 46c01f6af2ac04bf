//! The process' configuration, `weir.yaml`: assembled from what the components
//! declare.
//!
//! Each component owns the written and the checked form of its section; this
//! module only puts them side by side, reads the file, and resolves paths,
//! which are relative to the file that holds them.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::base::chain::Chain;
use crate::base::files;
use crate::base::problems::{Problem, Problems};
use crate::base::units::Span;
use crate::base::yaml;
use crate::function;
use crate::keyspace::MemoryLimits;
use crate::limiter::{FailureMode, WAIT_MAX_DEFAULT};
use crate::listener::trust::RawTrust;
use crate::listener::{proxy, redis};
use crate::persist;
use crate::store;

/// More workers than this would not find cores.
const WORKER_COUNT_MAX: u32 = 1024;

/// A token is a word.
const TOKEN_SIZE_MAX_BYTES: usize = 4 << 10;

/// How the process runs. Holds only values that have been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What each door listens on.
    pub listen: Listen,
    /// Threads that serve the proxy, and as many, but two at the least, the redis door.
    pub worker_count: u32,
    /// How long requests under way may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// Upstreams, routes, timeouts.
    pub proxy: proxy::Config,
    /// The door for Redis clients.
    pub redis: redis::Config,
    /// What clients of the admin API must show; `None` if nothing.
    pub admin_token: Option<String>,
    /// The policy file.
    pub policies: PathBuf,
    /// The folder of Function libraries. Need not exist.
    pub functions: PathBuf,
    /// The verdict when the store cannot answer.
    pub failure_mode: FailureMode,
    /// How long a decision waits for the store before that verdict. Default: 250 ms.
    pub store_wait_max: Duration,
    /// The log of the embedded store.
    pub log: persist::Config,
    /// How much memory the embedded store may take.
    pub memory: MemoryLimits,
    /// What calls of Functions may take.
    pub function_limits: function::Limits,
    /// The file, for problems that are found when what it names is used.
    source: yaml::Source,
}

/// Addresses of the doors.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// HTTP, to be limited and forwarded.
    pub proxy: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// gRPC for Envoy; `None` leaves the door shut.
    pub envoy: Option<SocketAddr>,
    /// RESP, for Redis clients; `None` leaves the door shut.
    pub redis: Option<SocketAddr>,
}

/// `weir.yaml` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    listen: RawListen,
    /// Default: one for each core.
    workers: Option<u32>,
    drain_timeout: Span,
    upstreams: BTreeMap<String, proxy::RawUpstream>,
    routes: Vec<proxy::RawRoute>,
    client_address: RawTrust,
    proxy: proxy::RawProxy,
    redis: redis::RawConfig,
    admin: RawAdmin,
    policies: PathBuf,
    functions: PathBuf,
    failure_mode: FailureMode,
    store: RawStore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawListen {
    proxy: String,
    admin: String,
    envoy: Option<String>,
    redis: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAdmin {
    token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    wait_max: Span,
    embedded: persist::RawConfig,
    memory: store::RawMemory,
    functions: store::RawFunctions,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        RawConfig {
            listen: RawListen::default(),
            workers: None,
            drain_timeout: Span(Duration::from_secs(30)),
            upstreams: BTreeMap::new(),
            routes: Vec::new(),
            client_address: RawTrust::default(),
            proxy: proxy::RawProxy::default(),
            redis: redis::RawConfig::default(),
            admin: RawAdmin::default(),
            policies: PathBuf::from("policies.yaml"),
            functions: PathBuf::from("functions"),
            failure_mode: FailureMode::Open,
            store: RawStore::default(),
        }
    }
}

impl Default for RawStore {
    fn default() -> RawStore {
        RawStore {
            wait_max: Span(WAIT_MAX_DEFAULT),
            embedded: persist::RawConfig::default(),
            memory: store::RawMemory::default(),
            functions: store::RawFunctions::default(),
        }
    }
}

impl Default for RawListen {
    fn default() -> RawListen {
        RawListen {
            proxy: "127.0.0.1:8080".to_owned(),
            admin: "127.0.0.1:9900".to_owned(),
            envoy: None,
            redis: None,
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let file = path.display().to_string();
        let bytes = files::read(path, yaml::SIZE_MAX_BYTES).map_err(|error| {
            let problem = Problem::new("", format!("cannot be read: {error}"));
            Problem { file: file.clone(), ..problem }
        })?;
        Config::parse(path, yaml::text(&file, &bytes)?)
    }

    /// A problem with what stands at `path`, found when it was used.
    pub fn problem(&self, path: &str, error: &(dyn Error + 'static)) -> Problems {
        self.source.locate(Problem::new(path, Chain(error).to_string()).into())
    }

    fn parse(path: &Path, text: &str) -> Result<Config, Problems> {
        let document = yaml::read::<RawConfig>(&path.display().to_string(), text)?;
        let (raw, places) = document.into_parts();
        let mut problems = Problems::default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let listen = raw.listen.check(&mut problems);
        let worker_count = check_workers(raw.workers, &mut problems);
        let sections = proxy::RawConfig {
            upstreams: raw.upstreams,
            routes: raw.routes,
            client_address: raw.client_address,
            proxy: raw.proxy,
        };
        let mut note = |found: Problems| problems.append(found);
        let proxy = sections.check().map_err(&mut note);
        let log = raw.store.embedded.check(path, "store.embedded").map_err(&mut note);
        let memory = raw.store.memory.check("store.memory").map_err(&mut note);
        let functions = raw.store.functions.check("store.functions").map_err(&mut note);
        let redis = raw.redis.check("redis").map_err(&mut note);
        let token = raw.admin.token(folder).map_err(|problem| problems.add(problem));
        match (listen, worker_count, proxy, redis, log, memory, functions, token) {
            (
                Some(listen),
                Some(worker_count),
                Ok(proxy),
                Ok(redis),
                Ok(log),
                Ok(memory),
                Ok(function_limits),
                Ok(token),
            ) => Ok(Config {
                listen,
                worker_count,
                drain_timeout: raw.drain_timeout.0,
                proxy: proxy.relative_to(folder),
                redis: redis.relative_to(folder),
                admin_token: token,
                policies: folder.join(raw.policies),
                functions: folder.join(raw.functions),
                failure_mode: raw.failure_mode,
                store_wait_max: raw.store.wait_max.0,
                log,
                memory,
                function_limits,
                source: places,
            }),
            _ => Err(places.locate(problems)),
        }
    }
}

fn check_workers(written: Option<u32>, problems: &mut Problems) -> Option<u32> {
    match written {
        None => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            Some(u32::try_from(cores).unwrap_or(WORKER_COUNT_MAX))
        }
        Some(count @ 1..=WORKER_COUNT_MAX) => Some(count),
        Some(count) => {
            let message = format!("must be 1 to {WORKER_COUNT_MAX}, not {count}");
            problems.add(Problem::new("workers", message));
            None
        }
    }
}

impl RawAdmin {
    /// The token, read from its file.
    fn token(&self, folder: &Path) -> Result<Option<String>, Problem> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let wrong = |message: String| {
            Problem::new("admin.token_file", format!("`{}` {message}", file.display()))
        };
        let bytes = files::read(&folder.join(file), TOKEN_SIZE_MAX_BYTES)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let token = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
        let is_word =
            |text: &String| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
        match token.filter(is_word) {
            Some(token) => Ok(Some(token)),
            None => Err(wrong("must hold one word of visible ASCII, the token".to_owned())),
        }
    }
}

impl RawListen {
    fn check(&self, problems: &mut Problems) -> Option<Listen> {
        let mut address = |key: &str, text: &str| {
            let parsed = text.parse::<SocketAddr>().ok();
            if parsed.is_none() {
                let message = format!(
                    "`{text}` is not an address and a port, such as 127.0.0.1:8080 or [::1]:8080"
                );
                problems.add(Problem::new(format!("listen.{key}"), message));
            }
            parsed
        };
        let proxy = address("proxy", &self.proxy);
        let admin = address("admin", &self.admin);
        let envoy = self.envoy.as_ref().map(|text| address("envoy", text));
        let redis = self.redis.as_ref().map(|text| address("redis", text));
        // A door that is left out is shut; one that cannot be read is a problem.
        let optional = |parsed: Option<Option<SocketAddr>>| match parsed {
            None => Some(None),
            Some(parsed) => parsed.map(Some),
        };
        let (envoy, redis) = (optional(envoy)?, optional(redis)?);
        Some(Listen { proxy: proxy?, admin: admin?, envoy, redis })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("etc/weir.yaml"), text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_empty_file_is_the_documented_default() {
        let config = parse("{}").unwrap();
        assert_eq!(config.listen.proxy.to_string(), "127.0.0.1:8080");
        assert_eq!(config.listen.admin.to_string(), "127.0.0.1:9900");
        assert!(config.listen.envoy.is_none() && config.listen.redis.is_none());
        assert!(config.worker_count >= 1);
        assert_eq!(config.failure_mode, FailureMode::Open);
        assert_eq!(config.store_wait_max, Duration::from_millis(250));
        let config = parse("store: { wait_max: 1s }").unwrap();
        assert_eq!(config.store_wait_max, Duration::from_secs(1));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = parse("policies: p.yaml\nfunctions: ../functions\n").unwrap();
        assert_eq!(config.policies, Path::new("etc/p.yaml"));
        assert_eq!(config.functions, Path::new("etc/../functions"));
        assert_eq!(config.log.dir, Path::new("etc/data"));
    }

    #[test]
    fn every_section_reports_its_problems_with_their_places() {
        let text = "\
listen: { proxy: here }
workers: 0
routes:
  - { path: /**, upstream: app }
";
        let message = parse(text).unwrap_err();
        for expected in [
            "etc/weir.yaml:1:18: listen.proxy: `here` is not an address and a port",
            "etc/weir.yaml:2:10: workers: must be 1 to 1024, not 0",
            "etc/weir.yaml:4:28: routes[0].upstream: `app` is not an upstream",
        ] {
            assert!(message.contains(expected), "{expected}\n\nis not in\n\n{message}");
        }
        let message = parse("lisen: {}\n").unwrap_err();
        assert!(message.contains("etc/weir.yaml:1:1") && message.contains("listen"), "{message}");
    }
}
