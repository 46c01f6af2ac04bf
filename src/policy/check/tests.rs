//! What is wrong with policy files, as people are told.

use std::time::Duration;

use super::super::testing::no_files;
use super::super::{Algorithm, Limit, Policy, compile};
use super::*;

fn functions() -> Functions {
    let names = ["limiter.decide", "limiter.sliding_window", "mylimiter.allow"].map(str::to_owned);
    Functions::new(names)
}

#[track_caller]
fn refused(text: &str, written: &str) {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let told = compile("policies.yaml", text, &functions(), &no_files).unwrap_err().to_string();
    let written = written.trim_matches('\n');
    assert!(told == written, "\nwritten:\n{written}\n\ntold:\n{told}\n");
}

#[test]
fn the_shipped_file_limits_each_client_under_limited() {
    let text = include_str!("../../../config/policies.yaml");
    let set = compile("config/policies.yaml", text, &functions(), &no_files).unwrap();
    let lines: Vec<String> = set.policies().iter().map(Policy::describe).collect();
    assert_eq!(lines, ["limited-per-client: 5 per 10s by client_ip on /limited/**"]);
}

#[test]
fn a_policy_describes_itself_in_a_line() {
    let text = "
policies:
  - name: a
    match: { method: [GET, POST], host: '*.example.com', path: /api/*/x, header: { X-Plan: free, y: '*' } }
    key: [client_ip/56, header:X-Tenant]
    limits: [{ quota: 10, window: 1s }, { quota: 1000, window: 3600s, algorithm: mylimiter.allow, name: hourly }]
    mode: shadow
  - { name: b, limits: [{ quota: 1, window: 1500ms }] }
  - { name: c, match: { host: h.example, method: GET }, key: path, limits: [{ quota: 1, window: 7d }] }
";
    let set = compile("policies.yaml", text, &functions(), &no_files).unwrap();
    let lines: Vec<String> = set.policies().iter().map(Policy::describe).collect();
    assert_eq!(
        lines,
        [
            "a: 10 per 1s and 1000 per 1h (mylimiter.allow) by client_ip/56, header:x-tenant on \
                 GET, POST *.example.com/api/*/x with x-plan: free and y: * (shadow)",
            "b: 1 per 1500ms all together on every request",
            "c: 1 per 7d by path on GET h.example/**",
        ]
    );
}

#[test]
fn a_limit_is_shown_by_its_policy_or_by_a_name_of_its_own() {
    let text = "
policies:
  - name: one
    limits: [{ quota: 5, window: 10s, name: burst }]
  - name: more
    limits: [{ quota: 5, window: 10s }, { quota: 9, window: 1m, name: slow, algorithm: limiter.sliding_window }]
";
    let set = compile("policies.yaml", text, &functions(), &no_files).unwrap();
    let limits: Vec<&Limit> = set.policies().iter().flat_map(Policy::limits).collect();
    let names: Vec<&str> = limits.iter().map(|it| it.name()).collect();
    assert_eq!(names, ["one", "more.1", "more.slow"]);
    assert_eq!(limits[2].args(), [&b"sliding_window"[..], b"9", b"60000"]);
    assert_eq!(limits[2].algorithm(), &Algorithm::SlidingWindow);
    assert_eq!((limits[2].quota(), limits[2].window()), (9, Duration::from_secs(60)));
}

#[test]
fn everything_that_makes_no_sense_is_told_at_once() {
    refused(
        "
policies:
  - name: API per client
    match:
      path: api/**
      method: [get, GET]
      host: https://example.com
      header: { 'x plan': free, x-a: '' }
    key: [clinet_ip, client_ip/24, 'header: x']
    on_missing_key: share
    limits:
      - { quota: 0, window: 10 }
      - { quota: many, window: 400d, algorithm: mylimiter.alow }
    mode: shadwo
",
        "
policies.yaml:2:11: policies[0].name: `API per client` is not a name; write 1 to 64 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit
  2 |   - name: API per client
    |           ^
policies.yaml:4:13: policies[0].match.path: `api/**` must begin with `/`
  4 |       path: api/**
    |             ^
policies.yaml:5:16: policies[0].match.method[0]: `get` is not a method; methods are case-sensitive; write `GET`
  5 |       method: [get, GET]
    |                ^
policies.yaml:6:13: policies[0].match.host: `https://example.com` is not a host; write `api.example.com`, or `*.example.com` for every host below it; ports are not compared
  6 |       host: https://example.com
    |             ^
policies.yaml:7:27: policies[0].match.header.x plan: `x plan` is not the name of a header field
  7 |       header: { 'x plan': free, x-a: '' }
    |                           ^
policies.yaml:7:38: policies[0].match.header.x-a: has no value; write one, or `*` for any
  7 |       header: { 'x plan': free, x-a: '' }
    |                                      ^
policies.yaml:8:11: policies[0].key[0]: unknown key part `clinet_ip`; did you mean `client_ip`?
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |           ^
policies.yaml:8:22: policies[0].key[1]: `client_ip/24` is not a prefix of IPv6 addresses; write `client_ip/32` to `client_ip/128` (IPv4 addresses count whole)
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |                      ^
policies.yaml:8:36: policies[0].key[2]: `header: x` names no header field; write `header:x-api-key`, without a space
  8 |     key: [clinet_ip, client_ip/24, 'header: x']
    |                                    ^
policies.yaml:9:21: policies[0].on_missing_key: unknown word `share`; did you mean `shared`?
  9 |     on_missing_key: share
    |                     ^
policies.yaml:11:18: policies[0].limits[0].quota: must be at least 1; whom to allow nothing, name in `overrides` with `deny: true`
  11 |       - { quota: 0, window: 10 }
     |                  ^
policies.yaml:11:29: policies[0].limits[0].window: `10` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  11 |       - { quota: 0, window: 10 }
     |                             ^
policies.yaml:12:18: policies[0].limits[1].quota: `many` is not a quota; write a whole number, at least 1
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                  ^
policies.yaml:12:32: policies[0].limits[1].window: `400d` is out of range; write 1ms to 366d
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                                ^
policies.yaml:12:49: policies[0].limits[1].algorithm: unknown Function `mylimiter.alow`; did you mean `mylimiter.allow`?
  12 |       - { quota: many, window: 400d, algorithm: mylimiter.alow }
     |                                                 ^
policies.yaml:13:11: policies[0].mode: unknown word `shadwo`; did you mean `shadow`?
  13 |     mode: shadwo
     |           ^
",
    );
}

#[test]
fn what_is_missing_is_told() {
    refused(
        "policies:\n",
        "
policies.yaml:1:10: policies: holds nothing; write `policies: []` if nothing is to be limited
  1 | policies:
    |          ^
",
    );
    refused(
        "{}\n",
        "policies.yaml: policies: holds nothing; write `policies: []` if nothing is to be limited",
    );
    refused(
        "
policies:
  - key: client_ip
    limits:
      - name: x
",
        "
policies.yaml:2:5: policies[0]: the key `name` is missing; it stands for the policy in metrics, header fields and logs
  2 |   - key: client_ip
    |     ^
policies.yaml:4:9: policies[0].limits[0]: the key `quota` is missing; it says how many requests the window allows
  4 |       - name: x
    |         ^
policies.yaml:4:9: policies[0].limits[0]: the key `window` is missing; it says how long a request counts, such as `10s`
  4 |       - name: x
    |         ^
",
    );
    refused(
        "
policies:
  - name: a
    match: { method: [] }
    limits: []
",
        "
policies.yaml:3:14: policies[0].match.method: names no method; leave it out to match every method
  3 |     match: { method: [] }
    |              ^
policies.yaml:4:5: policies[0].limits: has no limits; write at least one, such as `- { quota: 5, window: 10s }`
  4 |     limits: []
    |     ^
",
    );
    assert!(
        compile("policies.yaml", "policies: []", &functions(), &no_files)
            .unwrap()
            .policies()
            .is_empty()
    );
}

#[test]
fn names_that_could_be_confused_are_refused() {
    refused("
policies:
  - { name: a, limits: [{ quota: 1, window: 1s }] }
  - { name: a, limits: [{ quota: 0, window: 1s }] }
  - { name: b.1, limits: [{ quota: 1, window: 1s }] }
  - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
  - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
", "
policies.yaml:3:13: policies[1].name: `a` is the name of policies[0] too; counts are kept under a policy's name
  3 |   - { name: a, limits: [{ quota: 0, window: 1s }] }
    |             ^
policies.yaml:3:34: policies[1].limits[0].quota: must be at least 1; whom to allow nothing, name in `overrides` with `deny: true`
  3 |   - { name: a, limits: [{ quota: 0, window: 1s }] }
    |                                  ^
policies.yaml:5:27: policies[3].limits[0]: is shown as `b.1` in header fields, as policies[2].limits[0] is; give it another name
  5 |   - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
    |                           ^
policies.yaml:5:90: policies[3].limits[2]: is shown as `b.3` in header fields, as policies[3].limits[1] is; give it another name
  5 |   - { name: b, limits: [{ quota: 1, window: 1s }, { quota: 1, window: 1s, name: '3' }, { quota: 1, window: 1s }] }
    |                                                                                          ^
policies.yaml:6:28: policies[4].key[1]: `path` is part of the key already
  6 |   - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
    |                            ^
policies.yaml:6:69: policies[4].match.header.x-a: `x-a` is written twice; names are compared without case
  6 |   - { name: c, key: [path, path], match: { header: { X-A: '1', x-a: '2' } }, limits: [{ quota: 1, window: 1s }] }
    |                                                                     ^
");
}

#[test]
fn quotas_and_windows_keep_within_bounds() {
    refused(
        "
policies:
  - name: a
    limits:
      - { quota: 1000001, window: 0s }
      - { quota: -1, window: 1ms }
      - { quota: 1e9, window: 99999999999999999999d }
      - { quota: 1.5, window: 1us }
      - { quota: .nan, window: forever }
      - { quota: 1000000000000000, window: 366d, algorithm: mylimiter.allow }
      - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
",
        "
policies.yaml:4:18: policies[0].limits[0].quota: `1000001` is too large; a sliding window remembers every hit, so at most 1000000
  4 |       - { quota: 1000001, window: 0s }
    |                  ^
policies.yaml:4:35: policies[0].limits[0].window: `0s` is out of range; write 1ms to 366d
  4 |       - { quota: 1000001, window: 0s }
    |                                   ^
policies.yaml:5:18: policies[0].limits[1].quota: `-1` is not a quota; write a whole number, at least 1
  5 |       - { quota: -1, window: 1ms }
    |                  ^
policies.yaml:6:18: policies[0].limits[2].quota: `1e9` is not a quota; write a whole number, at least 1
  6 |       - { quota: 1e9, window: 99999999999999999999d }
    |                  ^
policies.yaml:6:31: policies[0].limits[2].window: `99999999999999999999d` is too large
  6 |       - { quota: 1e9, window: 99999999999999999999d }
    |                               ^
policies.yaml:7:18: policies[0].limits[3].quota: `1.5` is not a quota; write a whole number, at least 1
  7 |       - { quota: 1.5, window: 1us }
    |                  ^
policies.yaml:7:31: policies[0].limits[3].window: `1us` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  7 |       - { quota: 1.5, window: 1us }
    |                               ^
policies.yaml:8:18: policies[0].limits[4].quota: `.nan` is not a quota; write a whole number, at least 1
  8 |       - { quota: .nan, window: forever }
    |                  ^
policies.yaml:8:32: policies[0].limits[4].window: `forever` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  8 |       - { quota: .nan, window: forever }
    |                                ^
policies.yaml:9:18: policies[0].limits[5].quota: `1000000000000000` is too large; at most 999999999999999
  9 |       - { quota: 1000000000000000, window: 366d, algorithm: mylimiter.allow }
    |                  ^
policies.yaml:10:18: policies[0].limits[6].quota: `99999999999999999999` is too large; at most 999999999999999
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                  ^
policies.yaml:10:48: policies[0].limits[6].window: `367d` is out of range; write 1ms to 366d
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                                                ^
policies.yaml:10:65: policies[0].limits[6].algorithm: `limiter.decide` decides many limits at once; write `sliding_window`, which uses it
  10 |       - { quota: 99999999999999999999, window: 367d, algorithm: limiter.decide }
     |                                                                 ^
",
    );
}

#[test]
fn an_unknown_function_lists_what_there_is() {
    refused(
        "
policies:
  - name: a
    limits: [{ quota: 1, window: 1s, algorithm: leaky_pail }]
",
        "
policies.yaml:3:49: policies[0].limits[0].algorithm: unknown Function `leaky_pail`; known here: sliding_window, sliding_counter, token_bucket, fixed_window, concurrency, mylimiter.allow
  3 |     limits: [{ quota: 1, window: 1s, algorithm: leaky_pail }]
    |                                                 ^
",
    );
}

#[test]
fn words_that_are_not_words_are_told() {
    refused(
        "
policies:
  - name: a
    key: { header: x }
    limits: [{ quota: 1, window: 1s }]
",
        "
policies.yaml:3:10: policies[0].key: expected a word or a list of words, found a mapping
  3 |     key: { header: x }
    |          ^
",
    );
    refused(
        "
policies:
  - name: a
    limits: { quota: 1, window: 1s }
",
        "
policies.yaml:3:13: policies[0].limits: expected a list, found a mapping
  3 |     limits: { quota: 1, window: 1s }
    |             ^
",
    );
    refused(
        "
policies:
  - name: a
    macth: { path: /x }
    limits: [{ quota: 1, windw: 1s }]
",
        "
policies.yaml:3:5: policies[0]: unknown key `macth`; did you mean `match`?
  3 |     macth: { path: /x }
    |     ^
policies.yaml:4:26: policies[0].limits[0]: unknown key `windw`; did you mean `window`?
  4 |     limits: [{ quota: 1, windw: 1s }]
    |                          ^
",
    );
}

#[test]
fn two_overrides_for_the_same_are_told() {
    refused(
        "
policies:
  - name: a
    key: client_ip
    limits: [{ quota: 1, window: 1s }]
    overrides:
      - { key: 192.0.2.1, deny: true }
      - { key: 192.0.2.0/24, deny: true }
      - { key: 192.0.2.1, unlimited: true }
      - { key: 192.0.2.9/24, unlimited: true }
      - { key: '*', unlimited: true }
",
        "
policies.yaml:8:16: policies[0].overrides[2].key: is for whom an entry above is for already; write one for both
  8 |       - { key: 192.0.2.1, unlimited: true }
    |                ^
policies.yaml:9:16: policies[0].overrides[3].key: is for whom an entry above is for already; write one for both
  9 |       - { key: 192.0.2.9/24, unlimited: true }
    |                ^
",
    );
}

#[test]
fn what_examples_expect_must_hold() {
    refused(
        "
policies:
  - name: api
    match: { path: /api/** }
    key: header:x-user
    limits: [{ quota: 1, window: 1s }]
    overrides: [{ key: [root], unlimited: true }, { key: [eve], deny: true }]
    examples:
      - { request: GET /api/x, expect: limited }
      - { request: GET /api/x, header: { X-User: ann }, expect: limited, key: bob }
      - { request: GET /api/x, header: { X-User: root }, expect: unlimited }
      - { request: GET /api/x, header: { X-User: eve }, expect: denied }
      - { request: GET /healthz, expect: limited }
      - { request: GET /healthz, expect: unmached }
",
        "
policies.yaml:9:79: policies[0].examples[1].key: does not hold: the request is counted under `ann`
  9 |       - { request: GET /api/x, header: { X-User: ann }, expect: limited, key: bob }
    |                                                                               ^
policies.yaml:12:42: policies[0].examples[4].expect: does not hold: the request is unmatched
  12 |       - { request: GET /healthz, expect: limited }
     |                                          ^
policies.yaml:13:42: policies[0].examples[5].expect: unknown word `unmached`; did you mean `unmatched`?
  13 |       - { request: GET /healthz, expect: unmached }
     |                                          ^
",
    );
}

#[test]
fn what_does_not_fit_together_is_told() {
    refused(
        "
jwt: { header: authorization }
headers: draft-9
policies:
  - name: a
    key: [path:0, 'jwt: x', 'header:a | clientip']
    limits:
      - { quota: 5, window: 1s, burst: 9 }
      - { quota: 5, window: 1s, algorithm: token_bucket, burst: none }
      - { quota: 5, window: 1s, begins: clock }
    overrides:
      - { key: [x], limits: [{ quota: 1, window: 1s }], deny: true }
      - { unlimited: true }
    allow: { file: nowhere.txt }
    cost: header
    settle: { from: nowhere }
",
        "
policies.yaml:1:1: jwt: needs either `keys`, a file with the keys that sign tokens, or `unverified: true` when something in front has checked them
  1 | jwt: { header: authorization }
    | ^
policies.yaml:2:10: headers: unknown word `draft-9`; did you mean `draft-03`?
  2 | headers: draft-9
    |          ^
policies.yaml:5:11: policies[0].key[0]: `path:0` is not a segment of a path; write `path:1` to `path:64`
  5 |     key: [path:0, 'jwt: x', 'header:a | clientip']
    |           ^
policies.yaml:5:19: policies[0].key[1]: `jwt: x` lacks a name after `jwt:`
  5 |     key: [path:0, 'jwt: x', 'header:a | clientip']
    |                   ^
policies.yaml:5:29: policies[0].key[2]: unknown key part `clientip`; did you mean `client_ip`?
  5 |     key: [path:0, 'jwt: x', 'header:a | clientip']
    |                             ^
policies.yaml:7:40: policies[0].limits[0].burst: is for `token_bucket`, and this is `sliding_window`
  7 |       - { quota: 5, window: 1s, burst: 9 }
    |                                        ^
policies.yaml:8:65: policies[0].limits[1].burst: `none` is not a burst; write how many units may be used at once, at least 1
  8 |       - { quota: 5, window: 1s, algorithm: token_bucket, burst: none }
    |                                                                 ^
policies.yaml:9:41: policies[0].limits[2].begins: is for `fixed_window`, and this is `sliding_window`
  9 |       - { quota: 5, window: 1s, begins: clock }
    |                                         ^
policies.yaml:11:11: policies[0].overrides[0]: needs one of `limits`, `unlimited: true` and `deny: true`
  11 |       - { key: [x], limits: [{ quota: 1, window: 1s }], deny: true }
     |           ^
policies.yaml:12:11: policies[0].overrides[1]: needs either `key` or `when`, to say whom it is for
  12 |       - { unlimited: true }
     |           ^
policies.yaml:13:20: policies[0].allow.file: `nowhere.txt` cannot be read: there are no files here
  13 |     allow: { file: nowhere.txt }
     |                    ^
policies.yaml:14:11: policies[0].cost: `header` is not a cost; write a number up to 100000, `header:NAME` or `body_bytes`
  14 |     cost: header
     |           ^
policies.yaml:15:21: policies[0].settle.from: `nowhere` is no place in a response; write `header:NAME`, `trailer:NAME`, `body_bytes` or `json:usage.total_tokens`
  15 |     settle: { from: nowhere }
     |                     ^
",
    );
}

#[test]
fn an_issuer_or_audience_that_nobody_could_have_is_told() {
    refused(
        "
jwt: { unverified: true, issuer: 'https://id', audience: [] }
policies: []
",
        "
policies.yaml:1:34: jwt.issuer: is believed of a token only where its signature is checked; it needs `keys`
  1 | jwt: { unverified: true, issuer: 'https://id', audience: [] }
    |                                  ^
policies.yaml:1:48: jwt.audience: is believed of a token only where its signature is checked; it needs `keys`
  1 | jwt: { unverified: true, issuer: 'https://id', audience: [] }
    |                                                ^
",
    );
    refused(
        "
jwt: { keys: nowhere, issuer: [''], audience: [] }
policies: []
",
        "
policies.yaml:1:14: jwt.keys: `nowhere` cannot be read: there are no files here
  1 | jwt: { keys: nowhere, issuer: [''], audience: [] }
    |              ^
policies.yaml:1:23: jwt.issuer: names nobody; leave it out to believe tokens of any issuer
  1 | jwt: { keys: nowhere, issuer: [''], audience: [] }
    |                       ^
policies.yaml:1:37: jwt.audience: names nobody; leave it out to believe tokens of any audience
  1 | jwt: { keys: nowhere, issuer: [''], audience: [] }
    |                                     ^
",
    );
}

#[test]
fn refusals_and_penalties_that_make_no_sense_are_told() {
    refused(
        "
policies:
  - name: a
    limits: [{ quota: 5, window: 1s }]
    on_deny: { status: 200, jitter: 5 }
    penalty: { refusals: 0, window: 1m, ban: 1m }
",
        "
policies.yaml:4:24: policies[0].on_deny.status: `200` is not a status of a refusal; write 400 to 599
  4 |     on_deny: { status: 200, jitter: 5 }
    |                        ^
policies.yaml:4:37: policies[0].on_deny.jitter: `5` is not a span of time; write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d
  4 |     on_deny: { status: 200, jitter: 5 }
    |                                     ^
policies.yaml:5:26: policies[0].penalty.refusals: must say how many refusals begin a ban, a whole number, at least 1
  5 |     penalty: { refusals: 0, window: 1m, ban: 1m }
    |                          ^
",
    );
}

#[test]
fn a_candidate_is_for_shipped_algorithms() {
    refused(
        "
policies:
  - name: a
    limits:
      - { quota: 5, window: 1s, algorithm: mylimiter.allow, candidate: { quota: 9, window: 1s } }
      - { quota: 5, window: 2s, candidate: { quota: 9, window: 2s, algorithm: mylimiter.allow } }
",
        "
policies.yaml:4:61: policies[0].limits[0].candidate: is decided with its limit, by the shipped library; try a Function of yours in a policy of `mode: shadow`
  4 |       - { quota: 5, window: 1s, algorithm: mylimiter.allow, candidate: { quota: 9, window: 1s } }
    |                                                             ^
policies.yaml:5:33: policies[0].limits[1].candidate: is decided with its limit, by the shipped library; try a Function of yours in a policy of `mode: shadow`
  5 |       - { quota: 5, window: 2s, candidate: { quota: 9, window: 2s, algorithm: mylimiter.allow } }
    |                                 ^
",
    );
}
