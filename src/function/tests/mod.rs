//! What the engine promises, as tables and timelines.
//!
//! [`World`] is an engine over an empty keyspace with a clock that stands still;
//! it shows replies as text, one frame to a word.

mod attacks;
mod budget;
mod commands;
mod limiter;
mod loading;
mod memory;
mod replies;
mod sandbox;
mod timelines;
mod truths;

use std::fmt::Write;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::function::{CallError, Engine, Limits};
use crate::keyspace::{Effects, Execution, Keyspace};
use crate::resp::{Items, Reply, View};

/// 2023-11-14, and not a whole second.
const START: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

struct World {
    engine: Engine,
    keyspace: Keyspace,
    effects: Effects,
    reply: Reply,
    now: Timestamp,
}

impl World {
    fn new() -> World {
        World::with_limits(Limits::DEFAULT)
    }

    fn with_limits(limits: Limits) -> World {
        World {
            engine: Engine::new(limits).unwrap(),
            keyspace: Keyspace::new(),
            effects: Effects::new(),
            reply: Reply::new(),
            now: START,
        }
    }

    /// Calls a Function; the reply, or the error line after a dash.
    fn call(&mut self, function: &str, keys: &[&str], args: &[&str]) -> String {
        match self.try_call(function, keys, args) {
            Ok(()) => show(self.reply.view()),
            Err(error) => format!("-{error}"),
        }
    }

    fn try_call(&mut self, function: &str, keys: &[&str], args: &[&str]) -> Result<(), CallError> {
        let keys: Vec<&[u8]> = keys.iter().map(|it| it.as_bytes()).collect();
        let args: Vec<&[u8]> = args.iter().map(|it| it.as_bytes()).collect();
        let mut run = Execution::live(self.now, &mut self.effects, &mut self.reply);
        run.reply.clear();
        self.engine.call(function, &keys, &args, &mut self.keyspace, &mut run)
    }

    /// Loads a library `t` whose Function `f` has this body on its second line.
    fn define(&mut self, body: &str) {
        let code =
            format!("#!lua name=t\nredis.register_function('f', function(keys, args) {body}\nend)");
        self.engine.load(&code, true).unwrap();
    }

    /// What a Function with this body answers.
    fn run(&mut self, body: &str) -> String {
        self.define(body);
        self.call("f", &["k1", "k2"], &["a1"])
    }
}

/// Checks what Functions with these bodies answer, each in a world of its own.
#[track_caller]
fn check_all(cases: &[(&str, &str)]) {
    let mut differences = String::new();
    for (body, expected) in cases {
        let found = World::new().run(body);
        if found != *expected {
            writeln!(differences, "{body}\n  written:  {expected}\n  happened: {found}").unwrap();
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

fn show(view: View<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\'", "'");
    let list = |items: Items<'_>| items.map(show).collect::<Vec<_>>().join(" ");
    match view {
        View::Status(it) => format!("+{}", text(it)),
        View::Error(it) => format!("-{}", text(it)),
        View::Integer(it) => format!("{it}"),
        View::Double(it) => format!(",{it}"),
        View::Bulk(it) => format!("'{}'", text(it)),
        View::Verbatim(it) => format!("={}", text(it)),
        View::BigNumber(it) => format!("({}", text(it)),
        View::Null | View::NullArray => "null".to_owned(),
        View::Boolean(it) => format!("#{it}"),
        View::Array(items) => format!("[{}]", list(items)),
        View::Set(items) => format!("~[{}]", list(items)),
        View::Map(items) => format!("%[{}]", list(items)),
        View::Pairs(items) => format!("*[{}]", list(items)),
    }
}

#[test]
fn an_engine_may_move_to_another_thread() {
    let mut world = World::new();
    world.define("return {keys[1], keys[2], args[1], #keys, #args}");
    let mut engine = std::thread::scope(|scope| {
        scope
            .spawn(move || {
                assert_eq!(world.call("t.f", &["a"], &[]), "['a']");
                world.engine
            })
            .join()
            .unwrap()
    });
    assert!(engine.has("t.f") && engine.load("", false).is_err());
}
