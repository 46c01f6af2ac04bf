//! What a library cannot reach, and what it cannot change.

use super::*;

#[test]
fn nothing_outside_of_redis_is_there() {
    let absent = "os io package debug require module dofile loadfile print getfenv setfenv newproxy \
                  jit ffi arg";
    let mut cases: Vec<(String, String)> = Vec::new();
    for name in absent.split_whitespace() {
        let expected = format!(
            "-ERR user_function:2: Script attempted to access nonexistent global variable '{name}' \
             script: f, on @user_function:2."
        );
        cases.push((format!("return {name}"), expected.clone()));
        cases.push((format!("return _G.{name}"), expected.clone()));
        cases.push((format!("return rawget(_G, '{name}')"), "null".to_owned()));
    }
    let borrowed: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    check_all(&borrowed);
}

#[test]
fn what_is_there_is_what_redis_has() {
    let names = |table: &str| {
        format!(
            "local t = {{}} for k in pairs({table}) do t[#t+1] = k end \
             table.sort(t) return table.concat(t, ' ')"
        )
    };
    check_all(&[
        (
            &names("_G"),
            "'_G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error gcinfo \
             getmetatable ipairs load loadstring math next pairs pcall rawequal rawget rawset redis \
             select setmetatable string struct table tonumber tostring type unpack xpcall'",
        ),
        (
            &names("redis"),
            "'LOG_DEBUG LOG_NOTICE LOG_VERBOSE LOG_WARNING REDIS_VERSION REDIS_VERSION_NUM REPL_ALL \
             REPL_AOF REPL_NONE REPL_REPLICA REPL_SLAVE acl_check_cmd call error_reply log pcall \
             set_repl setresp sha1hex status_reply'",
        ),
        (
            &names("string"),
            "'byte char find format gfind gmatch gsub len lower match rep reverse sub upper'",
        ),
        (&names("table"), "'concat foreach foreachi getn insert maxn remove setn sort'"),
        (&names("coroutine"), "'create resume running status wrap yield'"),
        (
            &names("math"),
            "'abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 \
             max min mod modf pi pow rad random randomseed sin sinh sqrt tan tanh'",
        ),
        (&names("bit"), "'arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex'"),
    ]);
}

#[test]
fn nothing_shared_can_be_changed() {
    let positioned = "-ERR user_function:2: Attempt to modify a readonly table \
                      script: f, on @user_function:2.";
    let bare = "-ERR Attempt to modify a readonly table script: f, on @user_function:2.";
    check_all(&[
        ("x = 1", positioned),
        ("_G.x = 1", positioned),
        ("string = 1", positioned),
        ("redis = nil", positioned),
        ("string.x = 1", positioned),
        ("string.rep = nil", positioned),
        ("redis.call = 1", positioned),
        ("math.pi = 3", positioned),
        ("getmetatable('').__index = 1", positioned),
        ("getmetatable('').__index.rep = 1", positioned),
        ("rawset(string, 'x', 1)", bare),
        ("rawset(_G, 'x', 1)", bare),
        ("rawset(getmetatable(''), '__index', 1)", bare),
        ("table.insert(string, 1)", bare),
        ("setmetatable(_G, {})", bare),
        ("setmetatable(string, nil)", bare),
        ("return getmetatable(_G)", "null"),
        ("return getmetatable(redis)", "null"),
        ("for k, v in pairs(_G) do if v == 0 then rawset(v, 1, 1) end end return 1", "1"),
        ("local t, k = next(redis) return rawget(redis, t) == k", "1"),
        ("return rawget(string, 'rep') == string.rep and #('x'):rep(3)", "3"),
        (
            "return x",
            "-ERR user_function:2: Script attempted to access nonexistent global variable 'x' \
             script: f, on @user_function:2.",
        ),
        ("return redis.nope == nil and string.nope == nil", "1"),
    ]);
}

#[test]
fn one_library_cannot_reach_another() {
    let mut world = World::new();
    let spoiler = "#!lua name=spoiler\nredis.register_function('spoil', function()
        pcall(function() _G.shared = 1 end)
        pcall(rawset, _G, 'shared', 1)
        pcall(rawset, string, 'rep', function() return 'spoiled' end)
        pcall(function() getmetatable('').__index = {} end)
        pcall(setmetatable, redis, {__index = function() return 'spoiled' end})
        for _, t in pairs{_G, string, table, math, bit, coroutine, redis} do
          pcall(table.insert, t, 'spoiled') pcall(rawset, t, 1, 'spoiled')
        end
        return 'done' end)";
    world.engine.load(spoiler, false).unwrap();
    assert_eq!(world.call("spoil", &[], &[]), "'done'");
    let clean =
        "return {rawget(_G, 'shared') == nil, ('a'):rep(2), redis.nope == nil, string[1] == nil}";
    assert_eq!(world.run(clean), "[1 'aa' 1 1]");
}

#[test]
fn no_bytecode_is_run() {
    check_all(&[
        ("return string.dump == nil", "1"),
        ("return (loadstring('\\27LJ\\2'))", "null"),
        ("return type(select(2, loadstring('\\27LJ\\2')))", "'string'"),
        ("return (loadstring('#x\\n\\27LJ\\2'))", "null"),
        ("return (loadstring('\\239\\187\\191\\27LJ\\2'))", "null"),
        (
            "local n = 0 return (load(function() n = n + 1 return ({'\\27', 'LJ\\2'})[n] end))",
            "null",
        ),
        (
            "local n = load('return 1')",
            "-ERR user_function:2: bad argument #1 to 'load' (function expected, got string) \
             script: f, on @user_function:2.",
        ),
        ("return loadstring('return 1 + 1')()", "2"),
        ("return (loadstring('x ='))", "null"),
        (
            "local n = loadstring('y = 1')()",
            "-ERR [string \"y = 1\"]:1: Attempt to modify a readonly table \
             script: f, on @user_function:2.",
        ),
        ("return pcall(loadstring('return os'))", "null"),
        ("local n = 0 return load(function() n = n + 1 return ({'return ', '7'})[n] end)()", "7"),
        ("return (loadstring(('x'):rep(2000000)))", "null"),
    ]);
}

#[test]
fn the_collector_is_not_steered() {
    check_all(&[
        ("return collectgarbage('count') > 0", "1"),
        (
            "return {collectgarbage(), collectgarbage('stop'), collectgarbage('setpause', 1)}",
            "[0 0 0]",
        ),
        ("return gcinfo() > 0", "1"),
    ]);
}

#[test]
fn old_escapes_do_not_work() {
    check_all(&[
        // CVE-2024-31449
        ("return bit.tohex(65535, -2147483648)", "'0000FFFF'"),
        // CVE-2025-46817
        (
            "local n = unpack({}, 0, 2147483647)",
            "-ERR user_function:2: too many results to unpack script: f, on @user_function:2.",
        ),
        ("return select('#', pcall(unpack, {}, -2147483648, 2147483647))", "2"),
        // CVE-2025-46818: metatables of basic types
        (
            "return getmetatable(1) == nil and getmetatable(nil) == nil and getmetatable(true) == nil",
            "1",
        ),
        // CVE-2025-46819: long brackets
        ("return (loadstring('return [' .. ('='):rep(100000) .. '[x'))", "null"),
        ("return (pcall(string.format, '%99999d', 1))", "null"),
        ("return coroutine.running() == nil", "1"),
        (
            "coroutine.yield()",
            "-ERR user_function:2: attempt to yield across C-call boundary script: f, on @user_function:2.",
        ),
    ]);
}
