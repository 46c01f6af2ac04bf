//! What a decision tells is true, whatever policies come together: properties over
//! random policy files and random requests under them.
//!
//! The same request is looked at, which charges nobody, before it is decided, after it
//! was, and when it has waited as it was told. What the header fields and the refusal
//! say is held against that. Doors write both as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Decision, FailureMode};
use super::World;
use crate::policy::{Algorithm, Explained, ExplainedLimit, Made};

/// A limit as a policy file writes it. The windows are such that some end together,
/// and one cannot be told in whole seconds.
fn limit() -> impl Strategy<Value = String> {
    let algorithm = select(vec![
        "",
        ", algorithm: sliding_counter",
        ", algorithm: token_bucket",
        ", algorithm: token_bucket, burst: 2",
        ", algorithm: fixed_window",
        ", algorithm: fixed_window, begins: first_hit",
    ]);
    let window = select(vec!["1s", "1500ms", "4s", "60s"]);
    (1..6, window, algorithm).prop_map(|(quota, window, algorithm)| {
        format!("quota: {quota}, window: {window}{algorithm}")
    })
}

/// What a policy has beside its limits.
fn options() -> impl Strategy<Value = String> {
    let words = vec![
        "",
        "mode: shadow",
        "cost: header:x-cost",
        "on_deny: { delay: { wait_max: 5s } }",
        "penalty: { refusals: 2, window: 5s, ban: 7s }",
        "match: { path: /a }",
        "settle: { when_status: [401] }",
        "key_budget: { keys: 1, limits: [{ quota: 2, window: 3s }] }",
        "tiers: { by: header:x-plan, limits: { pro: [{ quota: 4, window: 2s }] } }",
        "overrides: [{ key: [a], limits: [{ quota: 3, window: 2s }] }, { key: [b], unlimited: true }]",
        "overrides: [{ when: { header:x-plan: pro }, deny: true }]",
    ];
    select(words).prop_map(str::to_owned)
}

/// A file of one to three policies.
fn files() -> impl Strategy<Value = String> {
    let limits =
        proptest::collection::vec((limit(), proptest::option::weighted(0.3, limit())), 1..3);
    let policy = (limits, proptest::collection::btree_set(options(), 0..4));
    proptest::collection::vec(policy, 1..4).prop_map(|policies| {
        let mut text = "policies:\n".to_owned();
        for (number, (limits, options)) in policies.into_iter().enumerate() {
            let candidate = |it: Option<String>| it.map(|it| format!(", candidate: {{ {it} }}"));
            let limits: Vec<String> = limits
                .into_iter()
                .map(|(limit, other)| {
                    format!("{{ {limit}{} }}", candidate(other).unwrap_or_default())
                })
                .collect();
            let limits = limits.join(", ");
            writeln!(text, "  - {{ name: p{number}, key: header:x-key, limits: [{limits}]")
                .unwrap();
            let named = |option: &String| option.split(':').next().unwrap().to_owned();
            let distinct: BTreeMap<String, &String> =
                options.iter().map(|it| (named(it), it)).collect();
            for option in distinct.values().filter(|it| !it.is_empty()) {
                writeln!(text, "    , {option}").unwrap();
            }
            text.push_str("    }\n");
        }
        text
    })
}

/// Milliseconds to wait, and the rest of a request's line.
fn requests() -> impl Strategy<Value = Vec<(u64, String)>> {
    let line = (select(vec!["/a", "/b"]), select(vec!["a", "b", "c", "d"]), 1..3, any::<bool>());
    let line = line.prop_map(|(path, key, cost, is_pro)| {
        let plan = if is_pro { " x-plan=pro" } else { "" };
        format!("GET {path} x-key={key} x-cost={cost}{plan}")
    });
    let wait = prop_oneof![2 => Just(0_u64), 1 => 0..3_000_u64];
    proptest::collection::vec((wait, line), 1..25)
}

/// The limits that may refuse, policy by policy; `None` when a policy denies unasked.
fn enforced(explained: &[Explained]) -> Option<Vec<&ExplainedLimit>> {
    let mut all = Vec::new();
    for policy in explained.iter().filter(|it| !it.shadow) {
        match &policy.made {
            Made::Denied { .. } => return None,
            Made::Limited { limits, .. } => all.extend(limits.iter().filter(|it| !it.candidate)),
            Made::Unmatched { .. } | Made::Unlimited { .. } => {}
        }
    }
    Some(all)
}

fn is_ban(limit: &ExplainedLimit) -> bool {
    limit.algorithm == Algorithm::Penalty.name()
}

/// The items of a field, as they must be for these limits.
fn items<'l>(
    limits: impl Iterator<Item = &'l &'l ExplainedLimit>,
    item: impl Fn(&ExplainedLimit) -> String,
) -> String {
    let shown = limits.filter(|limit| !is_ban(limit));
    shown.map(|limit| format!("\"{}\"{}", limit.name, item(limit))).collect::<Vec<_>>().join(", ")
}

/// Holds what was told of a decision against what the limits say after it.
fn check_fields(decision: &Decision, after: &[&ExplainedLimit]) -> Result<(), TestCaseError> {
    let told: BTreeMap<&str, &str> = decision
        .fields
        .iter()
        .flat_map(|fields| fields.iter())
        .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
        .collect();
    let policy = items(after.iter(), |limit| match limit.window_ms % 1_000 {
        0 => format!(";q={};w={}", limit.quota, limit.window_ms / 1_000),
        _ => format!(";q={}", limit.quota),
    });
    let state = items(after.iter(), |limit| {
        let left = limit.left.unwrap();
        format!(";r={};t={}", left.remaining, left.reset_after_ms.div_ceil(1_000))
    });
    prop_assert_eq!(told.get("ratelimit-policy").copied().unwrap_or_default(), policy);
    prop_assert_eq!(told.get("ratelimit").copied().unwrap_or_default(), state);
    Ok(())
}

/// The names that a refusal gives, and how long it says to wait.
fn told_of_refusal(decision: &Decision) -> (Vec<String>, Option<u64>) {
    let refusal = decision.refusal.as_ref().unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap();
    let names = serde_json::from_value(problem["violated-policies"].clone()).unwrap();
    (names, refusal.retry_after_seconds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn fields_and_refusals_say_what_is_so_and_what_will_be(
        file in files(),
        requests in requests(),
    ) {
        let mut world = World::new(&file, FailureMode::Open);
        let mut now_ms = 0;
        for (wait_ms, rest) in requests {
            now_ms += wait_ms;
            let line = format!("{now_ms}ms {rest}");
            let before = world.explain(&line);
            let decision = world.decide(&line);
            let explained = world.explain(&line);
            let (Some(before), Some(after)) = (enforced(&before), enforced(&explained)) else {
                prop_assert_eq!(decision.refusal.unwrap().status, 403);
                prop_assert!(decision.fields.is_none());
                continue;
            };
            // A key that finds its budget spent goes under one that explanations do not know.
            if file.contains("key_budget") {
                continue;
            }
            check_fields(&decision, &after)?;
            let refusing: Vec<_> = before.iter().filter(|it| !it.left.unwrap().admits).collect();
            prop_assert_eq!(decision.refusal.is_none(), refusing.is_empty());
            if refusing.is_empty() {
                continue;
            }
            let (names, retry_after) = told_of_refusal(&decision);
            // A ban may begin with the refusal.
            let refusing = after.iter().filter(|it| !it.left.unwrap().admits);
            prop_assert_eq!(names, refusing.map(|it| it.name.clone()).collect::<Vec<_>>());
            let Some(seconds) = retry_after else { continue };
            let would_pass = |world: &mut World, at_ms: u64| {
                let explained = world.explain(&format!("{at_ms}ms {rest}"));
                enforced(&explained).unwrap().iter().all(|it| it.left.unwrap().admits)
            };
            // Who is counted by one algorithm and then by another, under a window of another
            // length, may pass earlier than was told.
            let has_tiers = file.contains("tiers") || file.contains("overrides");
            if seconds > 1 && !(has_tiers && file.contains("algorithm")) {
                let too_early = now_ms + (seconds - 1) * 1_000;
                prop_assert!(!would_pass(&mut world, too_early), "{line}: a second too early");
            }
            now_ms += seconds * 1_000;
            prop_assert!(would_pass(&mut world, now_ms), "{line}: waited as told");
        }
    }
}
