//! `weir function test`: a library on trial, over an empty keyspace, on a clock
//! that moves only when told to.
//!
//! ```text
//! allow user:1 , 2 10000 1     calls a Function: keys, a comma, arguments
//! +5s                          moves the clock
//! !ZCARD user:1                sends a command, to look at what is there
//! ```
//!
//! Each step is answered with the reply and with the effects: what the call wrote,
//! as the log would get it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::base::clock::Timestamp;
use crate::base::units::{self, Span};
use crate::function::{self, CallError, Engine, Limits, LoadError};
use crate::keyspace::{self, Arg, Effects, Execution, Keyspace, Run};
use crate::resp::decode::{self, Decoded, Decoder};
use crate::resp::request::{Found, RequestLimits, Requests};
use crate::resp::{Items, Reply, View};

use super::libraries;

/// Why a library could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no library.
    #[error("{place}: {source}")]
    Load {
        /// File and line.
        place: String,
        /// What is wrong there.
        source: LoadError,
    },
    /// The Lua engine could not be built.
    #[error(transparent)]
    Engine(#[from] function::Error),
    /// A step is no call, no span of time and no command.
    #[error("`{step}`: {problem}")]
    Step {
        /// The step as written.
        step: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A step failed, and was told of.
    #[error("a step failed")]
    Failed,
}

/// The clock at the first step: 2026-01-01, so that runs can be compared.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Runs `steps` in order and says what came of each.
///
/// # Errors
/// The library does not load, or a step makes no sense or failed; the later ones
/// are run all the same.
pub fn run(
    file: &Path,
    steps: impl IntoIterator<Item = String>,
    say: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let mut trial = Trial::load(file)?;
    let names: Vec<&str> =
        trial.engine.libraries().flat_map(|it| &it.functions).map(|it| &*it.name).collect();
    say(&format!("{}: {}", file.display(), names.join(" ")));
    let mut failed = false;
    for step in steps {
        let step = step.trim();
        if step.is_empty() || step.starts_with('#') {
            continue;
        }
        let outcome = trial.step(step)?;
        failed |= outcome.failed;
        say(outcome.text.trim_end());
    }
    if failed { Err(Error::Failed) } else { Ok(()) }
}

/// What a step came to.
struct Outcome {
    text: String,
    failed: bool,
}

struct Trial {
    engine: Engine,
    keyspace: Keyspace,
    effects: Effects,
    now: Timestamp,
}

impl Trial {
    fn load(file: &Path) -> Result<Trial, Error> {
        let name = file.display().to_string();
        let read = libraries::read(file);
        let code = read.map_err(|source| Error::Read { file: name.clone(), source })?;
        let mut engine = Engine::new(Limits::DEFAULT)?;
        engine.load(&code, false).map_err(|source| Error::Load {
            place: source.line().map_or(name.clone(), |line| format!("{name}:{line}")),
            source,
        })?;
        let keyspace = Keyspace::new();
        Ok(Trial { engine, keyspace, effects: Effects::new(), now: START })
    }

    fn step(&mut self, step: &str) -> Result<Outcome, Error> {
        let odd = |problem: String| Error::Step { step: step.to_owned(), problem };
        if let Some(span) = step.strip_prefix('+') {
            let Span(by) = span.parse().map_err(|error: units::Error| odd(error.to_string()))?;
            self.now = self.now.plus(by);
            let text = format!("+{:?}", self.now.since(START));
            return Ok(Outcome { text, failed: false });
        }
        let line = step.strip_prefix('!').unwrap_or(step);
        let words = words(line).map_err(odd)?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut reply = Reply::new();
        self.effects.clear();
        let failure = match step.starts_with('!') {
            true => self.send(&words, &mut reply).map_err(odd)?,
            false => self.call(&words, &mut reply).map_err(odd)?,
        };
        let mut text = format!("{step}\n  reply    ");
        match &failure {
            Some(line) => text.push_str(&format!("(error) {line}\n")),
            None => writeln!(text, "{}", show(reply.view())).unwrap_or_default(),
        }
        for effect in effects_of(&self.effects) {
            text.push_str(&format!("  effect   {effect}\n"));
        }
        Ok(Outcome { text, failed: failure.is_some() })
    }

    /// Calls a Function as a policy would. What a failed call wrote is undone.
    fn call(&mut self, words: &[&[u8]], reply: &mut Reply) -> Result<Option<String>, String> {
        let name = String::from_utf8_lossy(words[0]);
        let rest = &words[1..];
        let comma = rest.iter().position(|it| *it == b",").unwrap_or(rest.len());
        let (keys, args) = (&rest[..comma], rest.get(comma + 1..).unwrap_or_default());
        let mut run = Execution::live(self.now, &mut self.effects, reply);
        self.keyspace.begin();
        match self.engine.call(&name, keys, args, &mut self.keyspace, &mut run) {
            Ok(()) => {
                self.keyspace.commit();
                Ok(None)
            }
            Err(error) => {
                self.keyspace.rollback();
                self.effects.clear();
                match error {
                    CallError::NotFound => Err("no such Function".to_owned()),
                    error => Ok(Some(error.to_string())),
                }
            }
        }
    }

    fn send(&mut self, words: &[&[u8]], reply: &mut Reply) -> Result<Option<String>, String> {
        let command = keyspace::command(words[0]).ok_or("no such command")?;
        let args: Vec<Arg<'_>> = words.iter().map(|it| Arg::Bytes(it)).collect();
        let mut run = Execution::live(self.now, &mut self.effects, reply);
        if matches!(command.run, Run::Engine) {
            self.engine.run_command(command, &args, &mut self.keyspace, &mut run);
            return Ok(None);
        }
        let done = self.keyspace.execute(command, &args, &mut run);
        Ok(done.err().map(|error| error.to_string()))
    }
}

/// Words as a client writes them on a line: blanks part them, quotes join them.
fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let input = format!("{line}\r\n").into_bytes();
    let mut requests = Requests::new(RequestLimits::REDIS);
    match requests.next(&input) {
        Ok(Found::Command { .. }) => {
            Ok(requests.words().of(&input).iter().map(|it| it.to_vec()).collect())
        }
        Ok(_) => Err("no words".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The effects, a command each.
fn effects_of(effects: &Effects) -> Vec<String> {
    let mut rest = effects.record();
    let mut decoder = Decoder::new(decode::Limits::RECORDS);
    let mut lines = Vec::new();
    while let Ok(Decoded::Command { len }) = decoder.decode(rest) {
        let words = decoder.args().iter().map(|range| quoted(&rest[range.clone()]));
        lines.push(words.collect::<Vec<_>>().join(" "));
        rest = &rest[len..];
    }
    lines.retain(|line| line != "MULTI" && line != "EXEC");
    lines
}

fn quoted(bytes: &[u8]) -> String {
    let is_plain = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    match is_plain {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// A reply on one line.
fn show(view: View<'_>) -> String {
    let list = |items: Items<'_>| items.map(show).collect::<Vec<_>>().join(", ");
    match view {
        View::Status(text) => String::from_utf8_lossy(text).into_owned(),
        View::Error(text) => format!("(error) {}", String::from_utf8_lossy(text)),
        View::Integer(value) => value.to_string(),
        View::Double(value) => value.to_string(),
        View::Boolean(value) => value.to_string(),
        View::Bulk(bytes) | View::Verbatim(bytes) | View::BigNumber(bytes) => {
            format!("\"{}\"", bytes.escape_ascii())
        }
        View::Null | View::NullArray => "nil".to_owned(),
        View::Array(items) | View::Set(items) | View::Map(items) | View::Pairs(items) => {
            format!("[{}]", list(items))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(code: &str, steps: &[&str]) -> (String, Result<(), Error>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.lua");
        std::fs::write(&file, code).unwrap();
        let mut said = String::new();
        let steps = steps.iter().map(|it| (*it).to_owned());
        let result = run(&file, steps, &mut |text| {
            said.push_str(text);
            said.push('\n');
        });
        let path = file.display().to_string();
        (said.replace(&path, "t.lua"), result)
    }

    #[test]
    fn a_library_is_tried_step_by_step() {
        let code = include_str!("../../functions/mylimiter.lua");
        let steps = [
            "allow k , 1 10000 1",
            "allow k , 1 10000 1",
            "+11s",
            "allow k , 1 10000 1",
            "!ZCARD k",
        ];
        let (said, result) = tried(code, &steps);
        assert!(result.is_ok(), "{result:?}");
        let expected = "t.lua: allow
allow k , 1 10000 1
  reply    1
  effect   ZADD k 1767225600000000 1767225600000000
  effect   PEXPIREAT k 1767225610000
allow k , 1 10000 1
  reply    0
+11s
allow k , 1 10000 1
  reply    1
  effect   DEL k
  effect   ZADD k 1767225611000000 1767225611000000
  effect   PEXPIREAT k 1767225621000
!ZCARD k
  reply    1
";
        assert_eq!(said, expected);
    }

    #[test]
    fn what_fails_is_told_and_leaves_nothing() {
        let code = "#!lua name=t\nredis.register_function('f', function(keys)\n\
                    redis.call('SET', keys[1], 1) error('oops') end)";
        let (said, result) = tried(code, &["f k", "!EXISTS k"]);
        assert!(matches!(result, Err(Error::Failed)));
        assert!(said.contains("(error) ERR user_function:3: oops script: f"), "{said}");
        assert!(said.ends_with("!EXISTS k\n  reply    0\n"), "{said}");
        let (_, result) = tried("#!lua name=t\nx = 1", &[]);
        let told = result.unwrap_err().to_string();
        assert!(told.contains("t.lua:2: Error registering functions"), "{told}");
        let (_, result) = tried(code, &["nope"]);
        assert_eq!(result.unwrap_err().to_string(), "`nope`: no such Function");
    }
}
