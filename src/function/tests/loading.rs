//! Loading libraries: what is registered, what is refused, what stays.

use super::*;

/// Checks the error of a load, and the line it points to.
#[track_caller]
fn refused(code: &str, line: Option<u32>, expected: &str) {
    let mut world = World::new();
    let error = world.engine.load(code, false).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.line()), (expected, line), "{code}");
    assert_eq!(world.engine.functions(), Vec::<String>::new());
}

/// A library `t` with this top level on its second line.
fn library(body: &str) -> String {
    format!("#!lua name=t\n{body}")
}

#[test]
fn functions_are_registered_in_both_forms() {
    let mut world = World::new();
    let code = library(
        "redis.register_function('one', function() return 1 end)\n\
         redis.register_function{function_name = 'two', callback = function() return 2 end,\n\
           flags = {'no-writes', 'allow-stale'}, description = 'the second'}\n\
         redis.register_function(3, function() return 3 end)",
    );
    assert_eq!(world.engine.load(&code, false).as_deref(), Ok("t"));
    assert_eq!(world.engine.functions(), ["t.3", "t.one", "t.two"]);
    let library = world.engine.libraries().next().unwrap();
    assert_eq!((library.name.as_str(), &*library.code), ("t", code.as_str()));
    let two = &library.functions[1];
    assert_eq!((&*two.name, &*two.description), ("two", "the second"));
    assert_eq!(two.flags.names().collect::<Vec<_>>(), ["no-writes", "allow-stale"]);
    for (name, reply) in [("one", "1"), ("t.two", "2"), ("TWO", "2"), ("T.Two", "2"), ("3", "3")] {
        assert!(world.engine.has(name), "{name}");
        assert_eq!(world.call(name, &[], &[]), reply);
    }
    assert_eq!(world.call("four", &[], &[]), "-ERR Function not found");
    assert_eq!(world.call("x.one", &[], &[]), "-ERR Function not found");
}

#[test]
fn a_load_is_refused_in_the_words_of_redis() {
    refused("return 1", Some(1), "Missing library metadata");
    refused("#!js name=t\n", Some(1), "Engine 'js' not found");
    refused(&library(""), None, "No functions registered");
    refused(
        &library("x error"),
        Some(2),
        "Error compiling function: user_function:2: '=' expected near 'error'",
    );
    refused(
        &library("\x1bLJ"),
        Some(2),
        "Error compiling function: user_function:2: unexpected symbol near 'char(27)'",
    );
    refused(
        "#!lua name=t\n\n\x1bLJ",
        Some(3),
        "Error compiling function: user_function:3: unexpected symbol near 'char(27)'",
    );
    let registering = |body: &str, line: Option<u32>, text: &str| {
        refused(&library(body), line, &format!("Error registering functions: ERR {text}"));
    };
    let nil_arithmetic = "user_function:2: attempt to perform arithmetic on a nil value";
    registering("local t = nil + 1", Some(2), nil_arithmetic);
    for unknown in ["x", "string", "error", "ipairs", "_G", "pcall"] {
        let text = format!(
            "user_function:2: Script attempted to access nonexistent global variable '{unknown}'"
        );
        registering(&format!("local a = {unknown}"), Some(2), &text);
    }
    registering(
        "redis.call('get', 'k')",
        Some(2),
        "user_function:2: Script attempted to access nonexistent global variable 'call'",
    );
    registering("x = 1", Some(2), "user_function:2: Attempt to modify a readonly table");
    registering("redis.x = 1", Some(2), "user_function:2: Attempt to modify a readonly table");
}

#[test]
fn a_registration_is_refused_in_the_words_of_redis() {
    let cases = [
        ("", "wrong number of arguments to redis.register_function"),
        ("'a', 'b', 'c'", "wrong number of arguments to redis.register_function"),
        (
            "'a'",
            "calling redis.register_function with a single argument is only applicable to Lua \
             table (representing named arguments).",
        ),
        ("{}, f", "first argument to redis.register_function must be a string"),
        ("'a', 'b'", "second argument to redis.register_function must be a function"),
        ("{function_name = 'a'}", "redis.register_function must get a callback argument"),
        ("{callback = f}", "redis.register_function must get a function name argument"),
        ("{function_name = 'a', callback = f, flags = {'x'}}", "unknown flag given"),
        (
            "{function_name = 'a', callback = f, flags = 'no-writes'}",
            "flags argument to redis.register_function must be a table representing function flags",
        ),
        (
            "{function_name = 'a', callback = f, more = 1}",
            "unknown argument given to redis.register_function",
        ),
        (
            "{function_name = 'a', callback = 1}",
            "callback argument given to redis.register_function must be a function",
        ),
        (
            "'a-b', f",
            "Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        ),
        ("'a', f) redis.register_function('A', f", "Function already exists in the library"),
    ];
    for (arguments, text) in cases {
        let body = format!("local f = function() end redis.register_function({arguments})");
        refused(&library(&body), None, &format!("Error registering functions: ERR {text}"));
    }
}

#[test]
fn a_failing_replacement_keeps_what_was_there() {
    let mut world = World::new();
    let other = "#!lua name=other\nredis.register_function('taken', function() return 0 end)";
    world.engine.load(other, false).unwrap();
    world
        .engine
        .load(&library("redis.register_function('f', function() return 1 end)"), false)
        .unwrap();
    let again = library("redis.register_function('g', function() return 2 end)");
    let exists = "Library 't' already exists";
    assert_eq!(world.engine.load(&again, false).unwrap_err().to_string(), exists);
    for (bad, text) in [
        ("redis.register_function('g', function() end) redis.nope()", "nonexistent global"),
        ("redis.register_function('TAKEN', function() end)", "Function taken already exists"),
        ("redis.register_function('g', function() end", "Error compiling function"),
        ("local n = 0", "No functions registered"),
    ] {
        let error = world.engine.load(&library(bad), true).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(world.engine.functions(), ["other.taken", "t.f"]);
        assert_eq!(world.call("f", &[], &[]), "1");
    }
    world.engine.load(&again, true).unwrap();
    assert_eq!(world.engine.functions(), ["other.taken", "t.g"]);
    assert_eq!((world.call("g", &[], &[]).as_str(), world.engine.has("f")), ("2", false));
}

#[test]
fn a_library_keeps_its_upvalues_until_it_is_loaded_anew() {
    let mut world = World::new();
    let code = library(
        "local n = 0\nlocal function up() n = n + 1 return n end\n\
         redis.register_function('f', function() return up() end)",
    );
    world.engine.load(&code, false).unwrap();
    assert_eq!([1, 2, 3].map(|_| world.call("f", &[], &[])), ["1", "2", "3"]);
    world.engine.load(&code, true).unwrap();
    assert_eq!(world.call("f", &[], &[]), "1");
}

#[test]
fn what_redis_held_at_load_time_it_holds_later() {
    let mut world = World::new();
    let code = library(
        "local r = redis\nredis.register_function('f', function() return r.call('time') end)\n\
         redis.register_function('g', function() r.register_function('h', function() end) end)\n\
         redis.register_function('i', function() return redis.register_function == nil end)",
    );
    world.engine.load(&code, false).unwrap();
    assert_eq!(
        world.call("f", &[], &[]),
        "-ERR user_function:3: Script attempted to access nonexistent global variable 'call' \
         script: f, on @user_function:3."
    );
    assert_eq!(
        world.call("g", &[], &[]),
        "-ERR redis.register_function can only be called on FUNCTION LOAD command \
         script: g, on @user_function:4."
    );
    assert_eq!(world.call("i", &[], &[]), "1");
}

#[test]
fn the_shipped_libraries_load() {
    let mut world = World::new();
    world.engine.load(include_str!("../../../functions/limiter.lua"), false).unwrap();
    world.engine.load(include_str!("../../../functions/mylimiter.lua"), false).unwrap();
    let functions = world.engine.functions();
    for name in ["limiter.decide", "limiter.sliding_window", "mylimiter.allow"] {
        assert!(functions.iter().any(|it| it == name), "{name} is not in {functions:?}");
    }
}

/// What the Function `f` of a library `t` answers to a policy, and to a client.
fn answers(world: &mut World) -> (String, String) {
    (world.call("f", &[], &[]), world.send(&["fcall", "f", "0"]))
}

fn answering(value: &str) -> String {
    library(&format!("redis.register_function('f', function() return {value} end)"))
}

#[test]
fn policies_keep_the_library_of_a_file_whatever_clients_do_to_it() {
    let gone = "-ERR Function not found";
    for removal in [&["function", "flush"][..], &["function", "delete", "t"]] {
        let mut world = World::new();
        world.engine.load_file(&answering("1"), false).unwrap();
        assert_eq!(answers(&mut world), ("1".into(), "1".into()));
        assert_eq!(world.send(removal), "+OK");
        assert_eq!(answers(&mut world), ("1".into(), gone.into()), "{removal:?}");
        assert_eq!(world.send(&["function", "list"]), "[]");
        assert_eq!(world.send(&["function", "delete", "t"]), "-ERR Library not found");
        // A client may take the name now; the policy goes on with the file's.
        assert_eq!(world.send(&["function", "load", &answering("2")]), "'t'");
        assert_eq!(answers(&mut world), ("1".into(), "2".into()));
        assert_eq!(world.engine.functions(), ["t.f"]);
        world.send(&["function", "flush"]);
        assert_eq!(answers(&mut world), ("1".into(), gone.into()));
        // The file changes: everybody gets what it says now.
        world.engine.load_file(&answering("3"), true).unwrap();
        assert_eq!(answers(&mut world), ("3".into(), "3".into()));
    }
}

#[test]
fn a_client_that_replaces_the_library_of_a_file_replaces_it_for_clients() {
    let mut world = World::new();
    world.engine.load_file(&answering("1"), false).unwrap();
    let taken = "-ERR Library 't' already exists";
    assert_eq!(world.send(&["function", "load", &answering("2")]), taken);
    assert_eq!(world.send(&["function", "load", "replace", &answering("2")]), "'t'");
    assert_eq!(answers(&mut world), ("1".into(), "2".into()));
    assert_eq!(world.engine.libraries().count(), 1);
    world.engine.load_file(&answering("3"), true).unwrap();
    assert_eq!(answers(&mut world), ("3".into(), "3".into()));
    assert_eq!(world.engine.libraries().count(), 1);
}

#[test]
fn a_policy_may_name_what_a_client_loaded() {
    let mut world = World::new();
    world.send(&["function", "load", &answering("2")]);
    assert_eq!(answers(&mut world), ("2".into(), "2".into()));
    world.send(&["function", "flush"]);
    assert_eq!(world.call("f", &[], &[]), "-ERR Function not found");
}
