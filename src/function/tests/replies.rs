//! Values between Lua and replies, and what `redis.*` answers. Most of
//! the error texts were compared with redis-server 7.0.15 by hand.

use super::*;

#[test]
fn what_a_function_returns_becomes_a_reply() {
    check_all(&[
        ("return 'text'", "'text'"),
        ("return ''", "''"),
        ("return 'a\\0b'", "'a\\x00b'"),
        ("return 3.99", "3"),
        ("return -3.99", "-3"),
        ("return 2^53", "9007199254740992"),
        ("return 2^63", "-9223372036854775808"),
        ("return -2^63", "-9223372036854775808"),
        ("return 1/0", "-9223372036854775808"),
        ("return 0/0", "-9223372036854775808"),
        ("return true", "1"),
        ("return false", "null"),
        ("return", "null"),
        ("return nil", "null"),
        ("return function() end", "null"),
        ("return coroutine.create(function() end)", "null"),
        ("return 1, 2", "1"),
        ("return {}", "[]"),
        ("return {1, 'b', true, false, 5}", "[1 'b' 1 null 5]"),
        ("return {1, 2, nil, 4}", "[1 2]"),
        ("return {nil, 1}", "[]"),
        ("return {1, {2, {3}}}", "[1 [2 [3]]]"),
        ("return {1, x = 2}", "[1]"),
        ("return {x = 2}", "[]"),
        ("return {[2] = 1, [1] = 0}", "[0 1]"),
        ("return {[1.5] = 1}", "[]"),
        ("return {err = 'MY bad'}", "-MY bad"),
        ("return {err = 'a\\r\\nb'}", "-a  b"),
        ("return {err = 5}", "[]"),
        ("return {1, err = 'E first'}", "-E first"),
        ("return {ok = 'fine'}", "+fine"),
        ("return {ok = 1}", "[]"),
        ("return {double = 3.5}", ",3.5"),
        ("return {double = 'x'}", "[]"),
        ("return {big_number = '12345678901234567890'}", "(12345678901234567890"),
        ("return {map = {a = 1}}", "%['a' 1]"),
        ("return {set = {a = true}}", "~['a']"),
        ("return {verbatim_string = {format = 'txt', string = 'hi'}}", "=txt:hi"),
        ("return {verbatim_string = {format = 'txt'}}", "[]"),
        ("return {{err = 'E x'}, {ok = 'y'}}", "[-E x +y]"),
        ("return setmetatable({}, {__index = function() error('boo') end})", "[]"),
        ("redis.setresp(3) return true", "#true"),
        ("redis.setresp(3) return false", "#false"),
        ("local t = {} t[1] = t return t", "-ERR reached lua stack limit"),
        ("local t = {} t[1] = t t[2] = t return t", "-ERR reached lua stack limit"),
        ("local t = {} for i = 1, 5000 do t[i] = i end return #t", "5000"),
    ]);
}

#[test]
fn what_a_command_replies_becomes_a_value() {
    check_all(&[
        ("return redis.call('set', 'k', 'v')", "+OK"),
        ("return redis.call('set', 'k', 'v').ok", "'OK'"),
        ("return redis.call('get', 'none') == false", "1"),
        ("redis.call('set', 'k', 'v') return redis.call('GeT', 'k')", "'v'"),
        ("redis.setresp(3) return redis.call('get', 'none') == nil", "#true"),
        ("return redis.call('time')", "['1700000000' '123456']"),
        ("return type(redis.call('zcard', 'none'))", "'number'"),
        ("redis.call('zadd', 'z', 1.5, 'm') return redis.call('zscore', 'z', 'm')", "'1.5'"),
        (
            "redis.call('zadd', 'z', 1.5, 'm') redis.setresp(3) return redis.call('zscore', 'z', 'm')",
            ",1.5",
        ),
        (
            "redis.call('zadd', 'z', 2, 'm') return redis.call('zrange', 'z', 0, -1, 'withscores')",
            "['m' '2']",
        ),
        (
            "redis.setresp(3) redis.call('zadd', 'z', 2, 'm') \
             return redis.call('zrange', 'z', 0, -1, 'withscores')[1][2].double",
            "2",
        ),
    ]);
}

#[test]
fn numbers_reach_commands_as_redis_prints_them() {
    let body = "local texts = {} \
                for i, n in ipairs{1, -1, 0.1, 1e15, 1e100, -0.0, 1700000000123456, 2^53, 3.5} do \
                  redis.call('set', 'k', n) texts[i] = redis.call('get', 'k') \
                end return texts";
    let expected = "['1' '-1' '0.10000000000000001' '1000000000000000' '1e+100' '-0' \
                    '1700000000123456' '9007199254740992' '3.5']";
    check_all(&[(body, expected)]);
}

#[test]
fn refused_commands_read_as_in_redis() {
    check_all(&[
        (
            "redis.call()",
            "-ERR Please specify at least one argument for this redis lib call \
             script: f, on @user_function:2.",
        ),
        (
            "redis.call('nope')",
            "-ERR Unknown Redis command called from script script: f, on @user_function:2.",
        ),
        (
            "redis.call('get')",
            "-ERR Wrong number of args calling Redis command from script \
             script: f, on @user_function:2.",
        ),
        (
            "redis.call('subscribe', 'x')",
            "-ERR This Redis command is not allowed from script script: f, on @user_function:2.",
        ),
        (
            "redis.call('set', {}, 'x')",
            "-ERR Lua redis lib command arguments must be strings or integers \
             script: f, on @user_function:2.",
        ),
        (
            "return redis.pcall('set', {}, 'x')",
            "-ERR Lua redis lib command arguments must be strings or integers",
        ),
        ("return redis.pcall('get').ignore_error_stats_update", "1"),
        ("local ok, e = pcall(redis.call, 'get') return type(e)", "'string'"),
        (
            "return {pcall(redis.call, 'get')}",
            "[null 'ERR Wrong number of args calling Redis command from script']",
        ),
        (
            "redis.call('set', 'k', 'v') redis.call('zadd', 'k', 1, 'm')",
            "-WRONGTYPE Operation against a key holding the wrong kind of value \
             script: f, on @user_function:2.",
        ),
        (
            "return redis.call('nope')",
            "-ERR Unknown Redis command called from script script: f, on @user_function:2.",
        ),
    ]);
}

#[test]
fn raised_errors_read_as_in_redis() {
    check_all(&[
        ("error('x')", "-ERR user_function:2: x script: f, on @user_function:2."),
        ("error('x', 0)", "-ERR x script: f, on @user_function:2."),
        ("error({err = 'MY x'})", "-MY x script: f, on @user_function:2."),
        ("error({err = 'MY a\\nb'})", "-MY a b script: f, on @user_function:2."),
        ("error()", "-ERR nil script: f, on @user_function:2."),
        ("error(12)", "-ERR user_function:2: 12 script: f, on @user_function:2."),
        // Redis 7.0.15 crashes on this one.
        ("error({})", "-ERR unknown error script: f, on @user_function:2."),
        (
            "local function g() error('deep') end\n g()",
            "-ERR user_function:2: deep script: f, on @user_function:2.",
        ),
        (
            "local t\n t.x = 1",
            "-ERR user_function:3: attempt to index local 't' (a nil value) \
             script: f, on @user_function:3.",
        ),
        ("return redis.error_reply('-no code')", "-no code"),
        ("return redis.error_reply('no code')", "-no code"),
        ("return redis.error_reply('')", "-ERR "),
        ("return redis.error_reply(1)", "-ERR wrong number or type of arguments"),
        ("return redis.status_reply('fine')", "+fine"),
        ("return redis.status_reply()", "-ERR wrong number or type of arguments"),
        ("return redis.sha1hex('')", "'da39a3ee5e6b4b0d3255bfef95601890afd80709'"),
        ("return redis.sha1hex(12)", "'7b52009b64fd0a2a49e6d8a939753077792b0554'"),
        ("redis.sha1hex()", "-ERR wrong number of arguments script: f, on @user_function:2."),
        (
            "redis.log(1)",
            "-ERR redis.log() requires two arguments or more. script: f, on @user_function:2.",
        ),
        ("redis.log(9, 'a')", "-ERR Invalid debug level. script: f, on @user_function:2."),
        ("redis.log(redis.LOG_WARNING, 'a', 1)", "null"),
        ("redis.setresp(9)", "-ERR RESP version must be 2 or 3. script: f, on @user_function:2."),
        (
            "redis.setresp()",
            "-ERR redis.setresp() requires one argument. script: f, on @user_function:2.",
        ),
    ]);
}

#[test]
fn a_function_without_writes_may_only_read() {
    let mut world = World::new();
    let code = "#!lua name=t\nredis.register_function{function_name='f', flags={'no-writes'}, \
                callback=function(keys, args) redis.call('get', 'k') \
                return redis.pcall('set', 'k', 'v') end}";
    world.engine.load(code, false).unwrap();
    let refused = "-ERR Write commands are not allowed from read-only scripts.";
    assert_eq!(world.call("f", &[], &[]), refused);
}

#[test]
fn random_numbers_are_those_of_redis() {
    check_all(&[
        ("return tostring(math.random())", "'0.39646477363839'"),
        ("math.randomseed(5) return tostring(math.random())", "'0.52483957937213'"),
        ("math.randomseed(5) return {math.random(10), math.random(5, 6)}", "[6 5]"),
        (
            "return {pcall(math.random, 0)}",
            "[null 'bad argument #1 to 'random' (interval is empty)']",
        ),
    ]);
}
