//! The house rules of `ARCHITECTURE.md`, held by a test that reads the source.
//!
//! A breach is reported as `file:line: what is wrong`. The rules: imports go
//! down the floors only, doors do not import one another, every file has a
//! header, no file holds over 600 lines of code and no function over 70, the
//! log's files are touched in one place, and every file belongs to the crate.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Rooms by floor. The roof may import everything below it and its own rooms.
const FLOORS: [&[&str]; 7] = [
    &["base", "resp"],
    &["keyspace", "policy"],
    &["function", "persist"],
    &["store"],
    &["limiter"],
    &["listener"],
    &["config", "app", "cli"],
];
const ROOF: usize = 6;

/// What opens, names or syncs a file. Holding one that was opened is no breach.
const DISK_CALLS: [&str; 8] = [
    "fs::read",
    "fs::write",
    "fs::rename",
    "fs::remove",
    "File::open",
    "File::create",
    "OpenOptions",
    "libc::",
];

const DOORS: [&str; 4] = ["proxy", "envoy", "redis", "admin"];

struct Source {
    /// Path below `src`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn door(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("listener/")?;
        let name = rest.split('/').next()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        DOORS.contains(&name).then_some(name)
    }

    /// Lines of code with their 1-based numbers: no blanks, no comments, and
    /// nothing from the first `#[cfg(test)]` module on.
    fn code(&self) -> Vec<(usize, &str)> {
        let before_tests = match self.text.find("\n#[cfg(test)]\nmod tests") {
            Some(end) => &self.text[..end],
            None => &self.text,
        };
        before_tests
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with("//"))
            .collect()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "the source is not where this test looks for it");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"),
            text: fs::read_to_string(&file).unwrap(),
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The modules that a line names through `crate::`, braces included.
fn crate_imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            found.push(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    found
}

fn report(breaches: &[String]) {
    let mut text = String::new();
    for breach in breaches {
        let _ = write!(text, "\n  src/{breach}");
    }
    assert!(breaches.is_empty(), "{text}\n");
}

#[test]
fn imports_go_down_the_floors_only() {
    let mut breaches = Vec::new();
    for source in sources() {
        let room = source.room();
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let Some(own) = floor(room) else {
            breaches.push(format!("{}:1: `{room}` stands on no floor", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for import in crate_imports(line) {
                let allowed = import == room
                    || match floor(&import) {
                        Some(other) => other < own || own == ROOF,
                        None => false,
                    };
                if !allowed {
                    let place = format!("{}:{number}", source.path);
                    breaches.push(format!("{place}: `{room}` imports `{import}`, not below it"));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn doors_do_not_import_one_another() {
    let mut breaches = Vec::new();
    for source in sources() {
        let Some(door) = source.door() else { continue };
        for (number, line) in source.code() {
            for other in DOORS.iter().filter(|other| **other != door) {
                let absolute = format!("listener::{other}");
                let relative = format!("super::{other}");
                if line.contains(&absolute) || line.contains(&relative) {
                    let place = format!("{}:{number}", source.path);
                    breaches.push(format!("{place}: door `{door}` imports door `{other}`"));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn every_file_says_what_it_is() {
    let headless = sources().into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        !first.starts_with("//! ") || first.len() < 12
    });
    report(&headless.map(|it| format!("{}:1: has no `//!` header", it.path)).collect::<Vec<_>>());
}

#[test]
fn files_and_functions_stay_readable() {
    let mut breaches = Vec::new();
    for source in sources() {
        let code = source.code();
        if code.len() > FILE_LINES_MAX {
            let count = code.len();
            breaches.push(format!("{}:1: {count} lines of code, over 600", source.path));
        }
        for (index, (number, line)) in code.iter().enumerate() {
            let Some(length) = function_length(&code[index..], line) else { continue };
            if length > FUNCTION_LINES_MAX {
                let place = format!("{}:{number}", source.path);
                breaches.push(format!("{place}: a function of {length} lines, over 70"));
            }
        }
    }
    report(&breaches);
}

/// Lines of the function that starts at `first`; `None` if none starts there.
/// Relies on rustfmt: a body ends with a brace at the indentation of its head.
fn function_length(code: &[(usize, &str)], first: &str) -> Option<usize> {
    let indent = first.len() - first.trim_start().len();
    let words = first.trim_start().split(['(', '<']).next()?;
    if !words.split(' ').any(|word| word == "fn") || first.trim_end().ends_with(';') {
        return None;
    }
    let end = format!("{}}}", " ".repeat(indent));
    if first.trim_end().ends_with('}') {
        return Some(1);
    }
    code.iter().position(|(_, line)| line.trim_end() == end).map(|last| last + 1)
}

#[test]
fn the_log_touches_its_files_in_one_place() {
    let mut breaches = Vec::new();
    for source in sources() {
        let is_test = source.path.contains("/tests/");
        if source.room() != "persist" || source.path == "persist/disk/real.rs" || is_test {
            continue;
        }
        for (number, line) in source.code() {
            if DISK_CALLS.iter().any(|it| line.contains(it)) {
                let place = format!("{}:{number}", source.path);
                breaches.push(format!("{place}: only persist/disk/real.rs touches files"));
            }
        }
    }
    report(&breaches);
}

#[test]
fn one_place_reads_yaml() {
    let elsewhere = sources().into_iter().filter(|it| !it.path.starts_with("base/yaml"));
    let breaches = elsewhere.flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let calls = lines.filter(|(_, line)| line.contains("serde_yaml::"));
        let report =
            |(index, _)| format!("{}:{}: only base/yaml reads YAML", source.path, index + 1);
        calls.map(report).collect::<Vec<_>>()
    });
    report(&breaches.collect::<Vec<_>>());
}

#[test]
fn every_file_belongs_to_the_crate() {
    let all = sources();
    let mut breaches = Vec::new();
    for source in &all {
        let path = source.path.strip_suffix(".rs").unwrap();
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if ["lib", "main"].contains(&path) {
            continue;
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let candidates = match parent {
            "" => vec!["lib.rs".to_owned(), "main.rs".to_owned()],
            _ => vec![format!("{parent}/mod.rs"), format!("{parent}.rs")],
        };
        let declared = all
            .iter()
            .filter(|it| candidates.contains(&it.path))
            .any(|it| it.text.lines().any(|line| line.trim().ends_with(&format!("mod {name};"))));
        if !declared {
            breaches.push(format!("{}:1: no `mod {name};` names this file", source.path));
        }
    }
    report(&breaches);
}
