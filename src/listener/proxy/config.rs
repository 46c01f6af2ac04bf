//! How the proxy is set up: as written, and as checked.
//!
//! ```yaml
//! upstreams:
//!   app:  { endpoints: ["http://127.0.0.1:9000"] }
//!   echo: { endpoints: ["builtin:echo"] }
//! routes:                          # the first that matches
//!   - { path: /api/**, upstream: app }
//!   - { path: /**, upstream: echo }
//! proxy:
//!   access_log: off                # or stdout, or the path of a file
//!   timeouts: { connect: 1s, response: 15s }
//! ```
//!
//! `upstreams`, `routes` and `client_address` stand at the top of `weir.yaml`, `proxy`
//! beside them; the roof's configuration assembles them into [`RawConfig`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use ipnet::IpNet;
use serde::Deserialize;

use crate::base::problems::{Problem, Problems};
use crate::base::units::Span;
use crate::listener::trust::{self, RawTrust};
use crate::policy::PathPattern;
use crate::policy::client_address::Trust;

use super::routes::Routes;

/// The proxy's sections as written. Left out, all is answered by `builtin:echo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where requests may be forwarded to, by name.
    pub upstreams: BTreeMap<String, RawUpstream>,
    /// Which request goes where; the first whose path matches.
    pub routes: Vec<RawRoute>,
    /// Whose word about the client's address is believed.
    pub client_address: RawTrust,
    /// Everything else.
    pub proxy: RawProxy,
}

/// An upstream as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Its addresses: `http://host:port` or `builtin:echo`. Exactly one, until
    /// balancing comes.
    pub endpoints: Vec<String>,
}

/// A route as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// Pattern of normalised paths, as in policies. Default: `/**`.
    #[serde(default = "every_path")]
    pub path: String,
    /// Name of an upstream.
    pub upstream: String,
}

/// The `proxy` section as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProxy {
    /// `off`, `stdout`, or the path of a file to append to, relative to this
    /// file. Default: `off`.
    pub access_log: String,
    /// Networks and addresses of load balancers: connections from there must begin
    /// with a header of PROXY protocol, version 1 or 2, and others must not.
    /// Default: none.
    pub proxy_protocol: Vec<String>,
    /// Connections from downstreams, over all workers. Default: 10000.
    pub connection_count_max: u32,
    /// Idle connections that a worker keeps to an upstream. Default: 64.
    pub upstream_idle_count_max: u32,
    /// How long each phase may take.
    pub timeouts: RawTimeouts,
}

/// The `proxy.timeouts` section as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTimeouts {
    /// From accept to the first byte. Default: `5s`.
    pub first_byte: Span,
    /// From the first byte of a request to the end of its head. Default: `5s`.
    pub request_head: Span,
    /// A downstream connection without a request. Default: `60s`.
    pub idle: Span,
    /// A body, either way, that does not move. Default: `60s`.
    pub body_idle: Span,
    /// To connect to an upstream, its name looked up included. Default: `1s`.
    pub connect: Span,
    /// From a request sent to the head of its response. Default: `15s`.
    pub response: Span,
    /// A kept connection to an upstream that is not used; shorter than the
    /// upstream's own. Default: `30s`.
    pub upstream_idle: Span,
}

fn every_path() -> String {
    "/**".to_owned()
}

impl Default for RawProxy {
    fn default() -> RawProxy {
        RawProxy {
            access_log: "off".to_owned(),
            proxy_protocol: Vec::new(),
            connection_count_max: 10_000,
            upstream_idle_count_max: 64,
            timeouts: RawTimeouts::default(),
        }
    }
}

impl Default for RawTimeouts {
    fn default() -> RawTimeouts {
        let seconds = |count| Span(Duration::from_secs(count));
        RawTimeouts {
            first_byte: seconds(5),
            request_head: seconds(5),
            idle: seconds(60),
            body_idle: seconds(60),
            connect: seconds(1),
            response: seconds(15),
            upstream_idle: seconds(30),
        }
    }
}

/// How the proxy behaves. Holds only values that have been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests are forwarded to; routes name them by index.
    pub upstreams: Vec<UpstreamConfig>,
    /// Which request goes where.
    pub routes: Routes,
    /// Where access is logged.
    pub access_log: AccessLog,
    /// Whose word about the client's address is believed.
    pub trust: Trust,
    /// Whose connections begin with a header of PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    /// Connections from downstreams, over all workers.
    pub connection_count_max: u32,
    /// Idle connections that a worker keeps to an upstream.
    pub upstream_idle_count_max: u32,
    /// How long each phase may take.
    pub timeouts: Timeouts,
}

/// An upstream that can be forwarded to.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Its name in the file.
    pub name: String,
    /// Who answers.
    pub endpoint: Endpoint,
}

/// Who answers for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Weir itself: says what it was asked.
    Echo,
    /// A server that speaks HTTP/1.1.
    Http {
        /// `host:port` as written, for the `Host` of a request that has none.
        authority: Authority,
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 80 when left out.
        port: u16,
    },
}

/// Where access is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

/// How long each phase may take; see [`RawTimeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the written form documents each")]
pub struct Timeouts {
    pub first_byte: Duration,
    pub request_head: Duration,
    pub idle: Duration,
    pub body_idle: Duration,
    pub connect: Duration,
    pub response: Duration,
    pub upstream_idle: Duration,
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessLog::Off => f.write_str("off"),
            AccessLog::Stdout => f.write_str("stdout"),
            AccessLog::File(path) => path.display().fmt(f),
        }
    }
}

impl Config {
    /// Reads relative paths as relative to `folder`, that of the file they are
    /// written in.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Config {
        if let AccessLog::File(path) = &mut self.access_log {
            *path = folder.join(&*path);
        }
        self
    }
}

impl RawConfig {
    /// Checks the sections.
    ///
    /// # Errors
    /// Every problem, in the order of the file.
    pub fn check(mut self) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        if self.upstreams.is_empty() && self.routes.is_empty() {
            let echo = RawUpstream { endpoints: vec!["builtin:echo".to_owned()] };
            self.upstreams.insert("echo".to_owned(), echo);
            self.routes.push(RawRoute { path: every_path(), upstream: "echo".to_owned() });
        }
        let upstreams = check_upstreams(&self.upstreams, &mut problems);
        let names: Vec<&str> = self.upstreams.keys().map(String::as_str).collect();
        let routes = check_routes(&self.routes, &names, &mut problems);
        let trust = self.client_address.check("client_address").unwrap_or_else(|found| {
            problems.append(found);
            Trust::default()
        });
        let written = &self.proxy.proxy_protocol;
        let proxy_protocol = trust::networks("proxy.proxy_protocol", written, &mut problems);
        let timeouts = self.proxy.timeouts.check(&mut problems);
        for (key, count) in [
            ("connection_count_max", self.proxy.connection_count_max),
            ("upstream_idle_count_max", self.proxy.upstream_idle_count_max),
        ] {
            if count == 0 {
                problems.add(Problem::new(format!("proxy.{key}"), "must be at least 1"));
            }
        }
        let access_log = match self.proxy.access_log.as_str() {
            "" => {
                let message = "must be off, stdout or the path of a file";
                problems.add(Problem::new("proxy.access_log", message));
                AccessLog::Off
            }
            "off" => AccessLog::Off,
            "stdout" => AccessLog::Stdout,
            path => AccessLog::File(PathBuf::from(path)),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Config {
            upstreams,
            routes: Routes::new(routes),
            access_log,
            trust,
            proxy_protocol,
            connection_count_max: self.proxy.connection_count_max,
            upstream_idle_count_max: self.proxy.upstream_idle_count_max,
            timeouts,
        })
    }
}

fn check_upstreams(
    upstreams: &BTreeMap<String, RawUpstream>,
    problems: &mut Problems,
) -> Vec<UpstreamConfig> {
    let mut checked = Vec::new();
    for (name, upstream) in upstreams {
        let path = format!("upstreams.{name}.endpoints");
        let [endpoint] = upstream.endpoints.as_slice() else {
            let count = upstream.endpoints.len();
            let message = format!("must hold exactly one endpoint, not {count}");
            problems.add(Problem::new(path, message));
            continue;
        };
        match check_endpoint(endpoint) {
            Ok(endpoint) => checked.push(UpstreamConfig { name: name.clone(), endpoint }),
            Err(message) => problems.add(Problem::new(format!("{path}[0]"), message)),
        }
    }
    checked
}

fn check_endpoint(text: &str) -> Result<Endpoint, String> {
    if text == "builtin:echo" {
        return Ok(Endpoint::Echo);
    }
    let wrong = || format!("`{text}` is not an endpoint; write http://host:port or builtin:echo");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(format!("`{text}`: TLS to an upstream is not supported yet; write http://"));
    }
    let authority = match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if scheme == &Scheme::HTTP => authority.clone(),
        _ => return Err(wrong()),
    };
    let has_path = uri.path() != "/" || uri.query().is_some() || text.ends_with('/');
    if has_path || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(wrong());
    }
    // `port_u16` is `None` for a port that is not a number, too.
    let port = match (authority.port_u16(), authority.as_str().len() == authority.host().len()) {
        (Some(port), _) if port != 0 => port,
        (None, true) => 80,
        _ => return Err(wrong()),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint::Http { authority, host, port })
}

fn check_routes(
    routes: &[RawRoute],
    names: &[&str],
    problems: &mut Problems,
) -> Vec<(PathPattern, usize)> {
    let mut checked = Vec::new();
    if routes.is_empty() {
        problems.add(Problem::new("routes", "must hold at least one route"));
    }
    for (index, route) in routes.iter().enumerate() {
        let upstream_index = names.iter().position(|name| *name == route.upstream);
        if upstream_index.is_none() {
            let known = names.join(", ");
            let message = format!("`{}` is not an upstream; known are: {known}", route.upstream);
            problems.add(Problem::new(format!("routes[{index}].upstream"), message));
        }
        match (PathPattern::parse(&route.path), upstream_index) {
            (Ok(pattern), Some(upstream_index)) => checked.push((pattern, upstream_index)),
            (Ok(_), None) => {}
            (Err(error), _) => {
                let message = format!("`{}` {error}", route.path);
                problems.add(Problem::new(format!("routes[{index}].path"), message));
            }
        }
    }
    checked
}

impl RawTimeouts {
    fn check(&self, problems: &mut Problems) -> Timeouts {
        let mut positive = |key: &str, span: Span| {
            if span.0.is_zero() {
                let message = "must be longer than 0; there is no way to wait for ever";
                problems.add(Problem::new(format!("proxy.timeouts.{key}"), message));
            }
            span.0
        };
        Timeouts {
            first_byte: positive("first_byte", self.first_byte),
            request_head: positive("request_head", self.request_head),
            idle: positive("idle", self.idle),
            body_idle: positive("body_idle", self.body_idle),
            connect: positive("connect", self.connect),
            response: positive("response", self.response),
            upstream_idle: positive("upstream_idle", self.upstream_idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::yaml;

    use super::*;

    fn load(yaml: &str) -> Result<Config, String> {
        let document =
            yaml::read::<RawConfig>("weir.yaml", yaml).map_err(|problems| problems.to_string())?;
        let raw = document.value;
        raw.check().map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_problem_is_reported_with_its_path() {
        let yaml = "
upstreams:
  a: { endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] }
  b: { endpoints: ['127.0.0.1:9000'] }
  c: { endpoints: ['https://x:1'] }
routes:
  - { path: 'api/**', upstream: a }
  - { upstream: d }
proxy: { timeouts: { connect: 0s }, connection_count_max: 0 }
";
        let written = "\
upstreams.a.endpoints: must hold exactly one endpoint, not 2
upstreams.b.endpoints[0]: `127.0.0.1:9000` is not an endpoint; write http://host:port or builtin:echo
upstreams.c.endpoints[0]: `https://x:1`: TLS to an upstream is not supported yet; write http://
routes[0].path: `api/**` must begin with `/`
routes[1].upstream: `d` is not an upstream; known are: a, b, c
proxy.timeouts.connect: must be longer than 0; there is no way to wait for ever
proxy.connection_count_max: must be at least 1";
        assert_eq!(load(yaml).unwrap_err(), written);
        assert!(load("proxy: { acces_log: off }").unwrap_err().contains("acces_log"));
        assert!(load("proxy: { timeouts: { idle: 5 } }").is_err());
    }

    #[test]
    fn endpoints_are_one_host_and_port() {
        let host_port = |text: &str| match check_endpoint(text) {
            Ok(Endpoint::Http { host, port, .. }) => Some((host, port)),
            _ => None,
        };
        assert_eq!(host_port("http://127.0.0.1:9000"), Some(("127.0.0.1".to_owned(), 9000)));
        assert_eq!(host_port("http://app"), Some(("app".to_owned(), 80)));
        assert_eq!(host_port("http://[::1]:81"), Some(("::1".to_owned(), 81)));
        for wrong in [
            "",
            "app",
            "app:80",
            "http://",
            "http://:80",
            "http://a:80/",
            "http://a/b",
            "http://a?b",
            "http://u@a:80",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "ftp://a:80",
            "builtin:nothing",
        ] {
            assert!(check_endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn with_nothing_written_weir_echoes() {
        let config = load("{}").unwrap();
        assert_eq!(config.upstreams[0].endpoint, Endpoint::Echo);
        assert_eq!(config.routes.find("/anything"), Some(0));
        assert_eq!(config.access_log, AccessLog::Off);
    }

    #[test]
    fn the_access_log_lies_where_the_file_that_names_it_says() {
        let log = |text: &str| {
            let yaml = format!("proxy: {{ access_log: '{text}' }}");
            load(&yaml).unwrap().relative_to(Path::new("/etc/weir")).access_log
        };
        assert_eq!(log("../access.log"), AccessLog::File("/etc/weir/../access.log".into()));
        assert_eq!(log("/var/log/x"), AccessLog::File("/var/log/x".into()));
        assert_eq!(log("stdout"), AccessLog::Stdout);
    }
}
