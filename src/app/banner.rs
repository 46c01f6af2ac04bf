//! What is printed at the start: what listens, which policies are in force,
//! where data lies, and a line to try.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use crate::config::Config;
use crate::limiter::Limiter;
use crate::persist::Recovery;
use crate::policy::{Policy, PolicySet};

use super::doors::Open;

/// The lines of a process that serves.
pub fn serving(
    config: &Config,
    open: &Open,
    limiter: &Limiter,
    recovery: Option<&Recovery>,
) -> String {
    let live = limiter.live();
    let mut text = format!("weir {}\n", env!("CARGO_PKG_VERSION"));
    line(&mut text, "proxy", &format!("http://{}", open.proxy));
    line(&mut text, "admin", &format!("http://{}  /metrics /livez /readyz /policies", open.admin));
    if let Some(envoy) = open.envoy {
        line(&mut text, "envoy", &format!("{envoy}  gRPC, ext_authz v3"));
    }
    if let Some(redis) = open.redis {
        line(&mut text, "redis", &format!("redis-cli -p {}", redis.port()));
    }
    policies(&mut text, &config.policies, live.policies());
    let mut data = tidy(&config.log.dir).display().to_string();
    if let Some(recovery) = recovery {
        let keys = if recovery.keys == 1 { "key" } else { "keys" };
        let _ = write!(data, ", {} {keys} loaded in {:.1?}", recovery.keys, recovery.duration);
    }
    line(&mut text, "data", &data);
    let path = live.policies().policies().first().map_or("/".to_owned(), Policy::example_path);
    line(&mut text, "try", &format!("curl -i http://{}{path}", open.proxy));
    text
}

/// The lines of `weir check`.
pub fn checked(config: &Config, function_names: &[String], set: &PolicySet) -> String {
    let mut text = "all is well\n".to_owned();
    policies(&mut text, &config.policies, set);
    lines(&mut text, "memory", &set.memory());
    lines(&mut text, "advice", &set.advice());
    line(&mut text, "functions", &function_names.join(" "));
    text
}

fn policies(text: &mut String, file: &Path, set: &PolicySet) {
    line(text, "policies", &tidy(file).display().to_string());
    if set.policies().is_empty() {
        line(text, "", "none: every request is admitted");
    }
    for policy in set.policies() {
        line(text, "", &policy.describe());
    }
}

/// Lines under one label; none where there are none.
fn lines(text: &mut String, label: &str, contents: &[String]) {
    for (index, content) in contents.iter().enumerate() {
        line(text, if index == 0 { label } else { "" }, content);
    }
}

fn line(text: &mut String, label: &str, content: &str) {
    let _ = writeln!(text, "  {label:<10}{content}");
}

/// `config/../data` is `data`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        let folder = tidied.components().next_back();
        match (component, folder) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                tidied.pop();
            }
            (Component::CurDir, _) => {}
            (component, _) => tidied.push(component),
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_without_detours() {
        for (path, tidied) in [
            ("config/../data", "data"),
            ("./config/policies.yaml", "config/policies.yaml"),
            ("../data", "../data"),
            ("/a/b/../../c", "/c"),
        ] {
            assert_eq!(tidy(Path::new(path)), Path::new(tidied), "{path}");
        }
    }
}
