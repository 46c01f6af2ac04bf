//! What one call may use, and that the engine is fit for the next one.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::base::clock::WorkStopwatch;
use crate::function::{Callee, Overrun};

const LIMITS: Limits = Limits {
    call_time_max: Duration::from_millis(20),
    command_time_max: None,
    load_time_max: Duration::from_millis(50),
    memory_bytes_max: 16 << 20,
};

#[track_caller]
fn ended(body: &str, overrun: Overrun) {
    let mut world = World::with_limits(LIMITS);
    world.define(body);
    for _ in 0..2 {
        let work = WorkStopwatch::start();
        let error = world.try_call("f", &[], &[]).unwrap_err();
        // Generous: the build is not optimised.
        assert!(work.elapsed() < Duration::from_secs(2), "{body} took {:?}", work.elapsed());
        let expected = CallError::Budget { callee: Callee::Function("f".into()), overrun };
        assert_eq!(error, expected, "{body}");
    }
    assert_eq!(world.run("return 'fit'"), "'fit'", "after {body}");
}

#[test]
fn a_call_that_runs_too_long_is_ended_whatever_it_catches() {
    for body in [
        "while true do end",
        "local n = 0 while true do n = n + 1 end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, error) end",
        "local function f() while true do pcall(f) end end f()",
        "while true do xpcall(function() while true do end end, function(e) while true do end end) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return t.x",
        "return (('x'):rep(100)):gsub('x', function() while true do end end)",
        "while true do redis.call('time') end",
        "while true do redis.pcall('nope') end",
        "while true do pcall(redis.call, 'get') end",
        "while true do loadstring('return 1') end",
        "for i = 1, 1e12 do local s = 'x' .. i end",
        "local s = ('x'):rep(3e6) while true do local t = s:upper() end",
        "local s = ('x'):rep(3e6) while true do s:find('y') end",
        "local s = ('x'):rep(3e6) while true do local t = s .. 'y' end",
        "while true do local s = ('x'):rep(3e6) end",
        "local t = {} for i = 1, 1e5 do t[i] = 1e5 - i end while true do table.sort(t) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 0) t[#t] = nil end",
        "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() while true do end end)",
    ] {
        ended(body, Overrun::Time(LIMITS.call_time_max));
    }
}

#[test]
fn a_call_that_needs_too_much_memory_is_ended() {
    let limits = Limits { call_time_max: Duration::from_secs(20), ..LIMITS };
    for body in [
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "return ('x'):rep(1e9)",
        "return ('x'):rep(1e9 / 2):rep(1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
        "local t = {} while true do t = {t, ('x'):rep(1e4) .. #t} end",
    ] {
        let mut world = World::with_limits(limits);
        world.define(body);
        let error = world.try_call("f", &[], &[]).unwrap_err();
        let overrun = Overrun::Memory(limits.memory_bytes_max);
        assert_eq!(
            error,
            CallError::Budget { callee: Callee::Function("f".into()), overrun },
            "{body}"
        );
        assert_eq!(world.run("return #('x'):rep(1e6)"), "1000000", "after {body}");
    }
    let caught = "local ok, e = pcall(string.rep, 'x', 1e9) return {ok, e}";
    assert_eq!(World::with_limits(limits).run(caught), "[null 'not enough memory']");
}

#[test]
fn recursion_ends_in_an_error_not_in_a_crash() {
    let limits =
        Limits { call_time_max: Duration::from_secs(5), memory_bytes_max: 64 << 20, ..LIMITS };
    for body in [
        "local function f() return 1 + f() end return f()",
        "local function f() return (('x'):gsub('x', f)) end return f()",
        "local t = setmetatable({}, {__index = function(t, k) return (k:gsub('x', t)) end}) return t.x",
        "local function f() return table.sort({1, 2}, f) end return f()",
        "local m = {} m.__lt = function(a, b) table.sort{setmetatable({}, m), setmetatable({}, m)} end \
         return m.__lt()",
        "local m = {} m.__tostring = function(t) return tostring(t) end \
         return tostring(setmetatable({}, m))",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local function f() local ok, e = coroutine.resume(coroutine.create(f)) error(e, 0) end return f()",
        "local function f() return load(f) end return f()",
        "local t = {} t = setmetatable(t, {__index = function(t, k) return t[k .. 'x'] end}) return t.x",
        "local s = ('('):rep(1e5) return loadstring('return ' .. s)",
        "local t = setmetatable({}, {__concat = function(a, b) return a .. b end}) return t .. 'x'",
    ] {
        let mut world = World::with_limits(limits);
        let found = world.run(body);
        let is_fine = ["overflow", "null", "memory", "nesting", "longer than"];
        assert!(is_fine.iter().any(|it| found.contains(it)), "{body}\n{found}");
        assert_eq!(world.run("return 'fit'"), "'fit'", "after {body}");
    }
}

#[test]
fn callbacks_may_nest_as_deep_as_anyone_needs() {
    let body = "local function f(n) if n == 0 then return 'done' end \
                return (('x'):gsub('x', function() return f(n - 1) end)) end return f(20)";
    check_all(&[(body, "'done'")]);
}

#[test]
fn a_load_that_runs_too_long_is_ended() {
    let mut world = World::with_limits(LIMITS);
    let error = world.engine.load("#!lua name=t\nwhile true do end", false).unwrap_err();
    let text = "Error registering functions: ERR FUNCTION LOAD timeout";
    assert_eq!(error.to_string(), text);
    assert_eq!(world.run("return 'fit'"), "'fit'");
}

#[test]
fn short_calls_do_not_share_their_time() {
    let call_time_max = Duration::from_millis(200);
    let mut world = World::with_limits(Limits { call_time_max, ..LIMITS });
    world.define("local n = 0 for i = 1, 20000 do n = n + i end return n");
    let work = WorkStopwatch::start();
    while work.elapsed() < 2 * call_time_max {
        assert_eq!(world.call("f", &[], &[]), "200010000");
    }
}

#[test]
fn a_library_that_fills_its_memory_fails_alone() {
    let limits = Limits { call_time_max: Duration::from_secs(20), ..LIMITS };
    let mut world = World::with_limits(limits);
    let hoarder = "#!lua name=hoarder\nlocal kept = {}\nredis.register_function('hoard', \
                   function() kept[#kept + 1] = ('x'):rep(1e6) .. #kept return #kept end)";
    world.engine.load(hoarder, false).unwrap();
    world.define("return #('x'):rep(8e6)");
    let overrun = Overrun::Memory(limits.memory_bytes_max);
    let full =
        format!("-{}", CallError::Budget { callee: Callee::Function("hoard".into()), overrun });
    let mut kept = 0;
    while world.call("hoard", &[], &[]) != full {
        kept += 1;
        assert!(kept < 100, "it keeps more than it may");
    }
    for _ in 0..3 {
        assert_eq!(world.call("hoard", &[], &[]), full);
        assert_eq!(world.call("f", &[], &[]), "8000000");
        assert_eq!(world.send(&["eval", "return #('x'):rep(8e6)", "0"]), "8000000");
    }
    world.engine.load(&hoarder.replace("return #kept", "return 'anew'"), true).unwrap();
    assert_eq!(world.call("hoard", &[], &[]), "'anew'");
}

#[test]
fn long_scripts_of_one_client_leave_memory_for_the_next() {
    let mut world = World::with_limits(LIMITS);
    let long = "local t = {'y'} ".repeat(180);
    for n in 0..300 {
        let script = format!("{} return {n}", format!("do {long} end ").repeat(20));
        assert_eq!(world.send(&["eval", &script, "0"]), n.to_string());
    }
    assert_eq!(world.send(&["eval", "return #('x'):rep(4e6)", "0"]), "4000000");
}

#[test]
fn other_limits_hold_for_what_is_loaded_already() {
    let mut world = World::with_limits(LIMITS);
    world.define("return #('x'):rep(8e6)");
    assert_eq!(world.call("f", &[], &[]), "8000000");
    world.engine.set_limits(Limits { memory_bytes_max: 4 << 20, ..LIMITS });
    assert!(world.call("f", &[], &[]).contains("it needed more than 4194304 bytes"));
    world.engine.set_limits(Limits { command_time_max: Some(Duration::from_millis(30)), ..LIMITS });
    let ended = world.send(&["eval", "while true do end", "0"]);
    assert!(ended.contains("was ended: it ran longer than 30ms"), "{ended}");
}

#[test]
fn who_waits_for_a_long_call_is_told_of_each_once() {
    let command_time_max = Some(Duration::from_millis(200));
    let mut world = World::with_limits(Limits { command_time_max, ..LIMITS });
    let interrupter = world.engine.interrupter();
    let is_told = || {
        let mut waiting = pin!(interrupter.runs_long());
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(!is_told(), "nothing has run");
    for _ in 0..2 {
        world.send(&["eval", "while true do end", "0"]);
        assert!(is_told());
        assert!(!is_told(), "of one call");
    }
}

#[test]
fn calls_are_counted_by_how_they_ended() {
    let registry = prometheus::Registry::new();
    let mut world = World::with_limits(LIMITS);
    world.engine.measure(crate::function::Metrics::register(&registry).unwrap());
    world.define("if args[1] == 'loop' then while true do end end return redis.call(args[1])");
    for word in ["time", "nope", "loop", "time"] {
        world.call("t.f", &[], &[word]);
    }
    world.send(&["eval", "return 1", "0"]);
    world.engine.show_metrics();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"weir_function_call_duration_seconds_count{function="t.f"} 4"#,
        r#"weir_function_call_duration_seconds_count{function="script"} 1"#,
        r#"weir_function_call_errors_total{function="t.f",reason="raised"} 1"#,
        r#"weir_function_call_errors_total{function="t.f",reason="time"} 1"#,
        r#"weir_function_call_errors_total{function="t.f",reason="memory"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    world.engine.flush();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(!text.contains("t.f"), "{text}");
}
