//! What clients are answered: the commands of the engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::function::NotKilled;
use crate::keyspace::{Arg, Command, MemoryLimits, command};

impl World {
    /// Sends one command.
    pub(super) fn send(&mut self, words: &[&str]) -> String {
        self.send_bytes(&words.iter().map(|it| it.as_bytes()).collect::<Vec<_>>())
    }

    fn send_bytes(&mut self, words: &[&[u8]]) -> String {
        let command: &'static Command = command(words[0]).unwrap();
        let args: Vec<Arg<'_>> = words.iter().map(|it| Arg::Bytes(it)).collect();
        self.reply.clear();
        let mut run = Execution::live(self.now, &mut self.effects, &mut self.reply);
        self.engine.run_command(command, &args, &mut self.keyspace, &mut run);
        show(self.reply.view())
    }

    /// What the log would get, one blank for a line end.
    fn effects(&mut self) -> String {
        let text = String::from_utf8_lossy(self.effects.record()).replace("\r\n", " ");
        self.effects.clear();
        text
    }
}

/// Sends command lines to one world and compares what it answers.
#[track_caller]
fn timeline(steps: &[(&[&str], &str)]) {
    let mut world = World::new();
    let mut differences = String::new();
    for (words, expected) in steps {
        let found = world.send(words);
        if found != *expected {
            writeln!(differences, "{words:?}\n  written:  {expected}\n  happened: {found}")
                .unwrap();
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn scripts_are_run_by_text_and_by_name() {
    timeline(&[
        (&["eval", "return {KEYS[1], ARGV[1], #KEYS, #ARGV}", "1", "k", "a"], "['k' 'a' 1 1]"),
        (&["EVAL", "return 1", "0"], "1"),
        (&["eval", "", "0"], "null"),
        (&["script", "load", "return 2"], "'7f923f79fe76194c868d7e1d0820de36700eb649'"),
        (&["evalsha", "7f923f79fe76194c868d7e1d0820de36700eb649", "0"], "2"),
        (&["evalsha", "7F923F79FE76194C868D7E1D0820DE36700EB649", "0"], "2"),
        (&["evalsha", "7f92", "0"], "-NOSCRIPT No matching script. Please use EVAL."),
        (&["script", "exists", "7F923F79FE76194C868D7E1D0820DE36700EB649", "x"], "[1 0]"),
        (&["script", "flush", "now"], "-ERR SCRIPT FLUSH only support SYNC|ASYNC option"),
        (&["script", "flush", "sync"], "+OK"),
        (
            &["evalsha", "7f923f79fe76194c868d7e1d0820de36700eb649", "0"],
            "-NOSCRIPT No matching script. Please use EVAL.",
        ),
        (&["script", "kill"], "-NOTBUSY No scripts in execution right now."),
        (&["script", "nope"], "-ERR unknown subcommand 'nope'. Try SCRIPT HELP."),
        (&["script", "load"], "-ERR wrong number of arguments for 'script|load' command"),
        (&["script", "debug", "x"], "-ERR Use SCRIPT DEBUG YES/SYNC/NO"),
        (&["eval", "return 1", "x"], "-ERR value is not an integer or out of range"),
        (&["eval", "return 1", "-1"], "-ERR Number of keys can't be negative"),
        (
            &["eval", "return 1", "2", "k"],
            "-ERR Number of keys can't be greater than number of args",
        ),
        (&["eval", "return 1"], "-ERR wrong number of arguments for 'eval' command"),
        (
            &["eval", "return =", "0"],
            "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '='",
        ),
    ]);
}

#[test]
fn errors_name_the_script_and_the_line() {
    timeline(&[(
        &["eval", "return redis.call('nope')", "0"],
        "-ERR Unknown Redis command called from script script: \
             f01f0776df71cc5b400c2268135aa7f30dce2e53, on @user_script:1.",
    )]);
}

#[test]
fn what_a_script_keeps_is_keys_and_argv_of_its_own_call() {
    timeline(&[
        (&["eval", "KEYS[1] = 'q' return KEYS[1]", "1", "k"], "'q'"),
        (&["eval", "return KEYS[1]", "0"], "null"),
        (&["eval", "local t = {} for k in pairs(redis) do t[#t+1] = k end return #t", "0"], "23"),
        (&["eval", "return {redis.breakpoint(), redis.replicate_commands()}", "0"], "[null 1]"),
        (&["eval", "return ...", "0"], "null"),
    ]);
}

#[test]
fn flags_and_the_ro_commands_forbid_writes() {
    let refused = "-ERR Can not execute a script with write flag using *_ro command.";
    timeline(&[
        (&["eval_ro", "return redis.call('get', 'k')", "0"], "null"),
        (
            &["eval_ro", "return redis.pcall('set', 'k', 'v')", "0"],
            "-ERR Write commands are not allowed from read-only scripts.",
        ),
        (&["eval_ro", "#!lua\nreturn 1", "0"], refused),
        (&["eval_ro", "#!lua flags=no-writes\nreturn 1", "0"], "1"),
        (
            &["eval", "#!lua flags=no-writes\nreturn redis.pcall('set', 'k', 'v')", "0"],
            "-ERR Write commands are not allowed from read-only scripts.",
        ),
        (&["function", "load", FLAGGED], "'l'"),
        (&["fcall_ro", "w", "0"], refused),
        (&["fcall_ro", "R", "0"], "'r'"),
    ]);
}

const FLAGGED: &str = "#!lua name=l\nredis.register_function('w', function() return 'w' end)\n\
    redis.register_function{function_name='r', flags={'no-writes'}, description='reads', \
    callback=function() return 'r' end}";

#[test]
fn libraries_are_loaded_listed_and_removed() {
    timeline(&[
        (&["function", "load", FLAGGED], "'l'"),
        (&["function", "load", FLAGGED], "-ERR Library 'l' already exists"),
        (&["function", "load", "REPLACE", FLAGGED], "'l'"),
        (&["function", "load", "x", FLAGGED], "-ERR Unknown option given: x"),
        (&["function", "load", "replace"], "-ERR Missing library metadata"),
        (
            &["function", "list"],
            "[%['library_name' 'l' 'engine' 'LUA' 'functions' \
             [%['name' 'w' 'description' null 'flags' ~[]] \
             %['name' 'r' 'description' 'reads' 'flags' ~[+no-writes]]]]]",
        ),
        (&["function", "list", "libraryname", "X*"], "[]"),
        (&["function", "list", "libraryname"], "-ERR library name argument was not given"),
        (&["function", "list", "what"], "-ERR Unknown argument what"),
        (
            &["function", "stats"],
            "%['running_script' null 'engines' %['LUA' %['libraries_count' 1 'functions_count' 2]]]",
        ),
        (&["fcall", "w", "0"], "'w'"),
        (&["fcall", "l.w", "0"], "'w'"),
        (&["fcall", "nope", "x"], "-ERR Function not found"),
        (&["fcall", "w", "x"], "-ERR Bad number of keys provided"),
        (&["fcall", "w", "-1"], "-ERR Number of keys can't be negative"),
        (&["function", "delete", "L"], "-ERR Library not found"),
        (&["function", "delete", "l"], "+OK"),
        (&["fcall", "w", "0"], "-ERR Function not found"),
        (&["function", "flush", "x"], "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option"),
        (&["function", "flush"], "+OK"),
    ]);
}

#[test]
fn libraries_travel_all_or_none() {
    let mut world = World::new();
    world.send(&["function", "load", FLAGGED]);
    world.send(&["function", "load", "#!lua name=m\nredis.register_function('x', redis.log)"]);
    world.send(&["function", "dump"]);
    let View::Bulk(packed) = world.reply.view() else { panic!("no payload") };
    let packed = packed.to_vec();
    let restore = |world: &mut World, rule: &[&[u8]]| {
        world.send_bytes(&[&[&b"function"[..], b"restore", &packed], rule].concat())
    };
    assert_eq!(restore(&mut world, &[]), "-ERR Library l already exists");
    assert_eq!(restore(&mut world, &[b"replace"]), "+OK");
    assert_eq!(restore(&mut world, &[b"flush"]), "+OK");
    assert_eq!(
        restore(&mut world, &[b"what"]),
        "-ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
    );
    assert_eq!(world.call("l.r", &[], &[]), "'r'");
    world.send(&["function", "delete", "l"]);
    let clash = "#!lua name=n\nredis.register_function('R', redis.log)";
    assert_eq!(world.send(&["function", "load", clash]), "'n'");
    let refused = "-ERR Function R already exists";
    assert_eq!(restore(&mut world, &[b"replace"]), refused);
    assert!(!world.engine.has("l.w"), "none of the payload was loaded");
}

#[test]
fn the_log_hears_of_effects_and_of_libraries() {
    let mut world = World::new();
    world.send(&["eval", "redis.call('set', 'a', 1) redis.call('set', 'b', 2)", "0"]);
    let both = "*1 $5 MULTI *3 $3 set $1 a $1 1 *3 $3 set $1 b $1 2 *1 $4 EXEC ";
    assert_eq!(world.effects(), both);
    world.send(&["eval", "redis.set_repl(redis.REPL_NONE) redis.call('set', 'a', 1)", "0"]);
    assert_eq!(world.effects(), "");
    world.send(&["script", "load", "return 1"]);
    assert_eq!(world.effects(), "");
    world.send(&["function", "load", FLAGGED]);
    assert!(world.effects().starts_with("*3 $8 function $4 load "));
    world.send(&["function", "flush"]);
    assert_eq!(world.effects(), "*2 $8 function $5 flush ");
}

#[test]
fn a_failing_script_keeps_what_it_wrote_and_an_overrun_does_not() {
    let limits = Limits { command_time_max: Some(Duration::from_millis(20)), ..Limits::DEFAULT };
    let mut world = World::with_limits(limits);
    assert!(world.send(&["eval", "redis.call('set', 'a', 1) error('x')", "0"]).starts_with("-ERR"));
    assert_eq!(world.effects(), "*3 $3 set $1 a $1 1 ");
    let ended = world.send(&["eval", "redis.call('set', 'b', 1) while true do end", "0"]);
    assert!(ended.contains("ran longer than 20ms"), "{ended}");
    assert_eq!(world.effects(), "");
    assert_eq!(
        world.send(&["eval", "return {redis.call('get', 'a'), redis.call('get', 'b')}", "0"]),
        "['1' null]"
    );
}

#[test]
fn many_scripts_stay_known_though_few_stay_compiled() {
    let mut world = World::new();
    for n in 0..600 {
        assert_eq!(world.send(&["eval", &format!("return {n}"), "0"]), n.to_string());
    }
    let first = crate::function::script::hex_sha1(b"return 0");
    let first = std::str::from_utf8(&first).unwrap();
    assert_eq!(world.send(&["evalsha", first, "0"]), "0");
}

#[test]
fn without_memory_a_script_may_not_begin_to_write() {
    let mut world = World::new();
    world.send(&["eval", "redis.call('set', 'k', ('x'):rep(100000))", "0"]);
    let limits = MemoryLimits { maxmemory: 1000, ..*world.keyspace.memory_limits() };
    world.keyspace.set_memory_limits(limits);
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(world.send(&["eval", "#!lua\nreturn 1", "0"]), oom);
    assert_eq!(
        world.send(&["eval", "#!lua flags=allow-oom\nreturn redis.call('set', 'a', 1)", "0"]),
        "+OK"
    );
    assert_eq!(
        world.send(&["eval", "#!lua flags=no-writes\nreturn redis.call('get', 'a')", "0"]),
        "'1'"
    );
    assert_eq!(world.send(&["eval", "return redis.pcall('set', 'b', 1)", "0"]), oom);
    let freed_first = "redis.call('del', 'a') return redis.call('set', 'b', 1)";
    assert_eq!(world.send(&["eval", freed_first, "0"]), "+OK");
}

#[test]
fn a_running_script_is_killed_from_another_thread_and_undone() {
    let mut world = World::new();
    let interrupter = world.engine.interrupter();
    assert_eq!(interrupter.kill_script(), Err(NotKilled::Idle));
    let script =
        "redis.call('set', 'k', 'v') while true do pcall(function() while true do end end) end";
    let (killed, answers) = std::thread::scope(|scope| {
        let killer = scope.spawn(move || {
            let busy = loop {
                match interrupter.kill_function() {
                    Err(NotKilled::Idle) => std::thread::yield_now(),
                    other => break other,
                }
            };
            // It runs; a moment later it is in its loop, where its line is known.
            std::thread::sleep(std::time::Duration::from_millis(20));
            (busy, interrupter.kill_script())
        });
        (world.send(&["eval", script, "0"]), killer.join().unwrap())
    });
    assert_eq!(answers, (Err(NotKilled::Script), Ok(())));
    assert!(
        killed.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "),
        "{killed}"
    );
    assert!(killed.ends_with(", on @user_script:1."), "{killed}");
    assert_eq!(world.effects(), "");
    assert_eq!(world.send(&["eval", "return redis.call('get', 'k')", "0"]), "null");
}

#[test]
fn a_script_that_is_killed_before_it_is_compiled_does_not_go_on() {
    let mut world = World::new();
    let interrupter = world.engine.interrupter();
    // Takes a while to compile.
    let script = "x=1 ".repeat(200_000).replacen("x=1 ", "local x ", 1) + "while true do end";
    let killed = std::thread::scope(|scope| {
        scope.spawn(move || {
            while interrupter.kill_script().is_err() {
                std::thread::yield_now();
            }
        });
        world.send(&["eval", &script, "0"])
    });
    assert!(killed.starts_with("-ERR Script killed by user with SCRIPT KILL..."), "{killed}");
}

#[test]
fn a_call_ends_as_killed_exactly_if_somebody_was_told_so() {
    let mut world = World::new();
    let interrupter = world.engine.interrupter();
    let (told, over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Some are heard in the loop, some behind the last instruction.
    let script = "redis.call('incr', 'k') for _ = 1, 300 do end";
    let (mut killed, mut done) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if interrupter.kill_script() == Ok(()) {
                    told.fetch_add(1, Ordering::Relaxed);
                    let call = interrupter.running();
                    while call.is_some() && interrupter.running() == call {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        while told.load(Ordering::Relaxed) < 1_000 {
            match &*world.send(&["eval", script, "0"]) {
                "null" => done += 1,
                other => {
                    assert!(other.starts_with("-ERR Script killed by user with SCRIPT KILL..."));
                    killed += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(killed, told.into_inner());
    assert_eq!(
        world.send(&["eval", "return tonumber(redis.call('get', 'k') or 0)", "0"]),
        done.to_string()
    );
}

#[test]
fn no_client_ends_a_call_of_a_policy() {
    let mut world = World::new();
    world.define("while true do end");
    let interrupter = world.engine.interrupter();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(interrupter.kill_function(), Err(NotKilled::Idle));
                assert_eq!(interrupter.kill_script(), Err(NotKilled::Idle));
            }
        });
        for _ in 0..5 {
            let ended = world.call("f", &[], &[]);
            assert!(ended.contains("it ran longer than 5ms"), "{ended}");
        }
        over.store(true, Ordering::Relaxed);
    });
}
