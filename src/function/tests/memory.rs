//! The estimates of `weir check`, beside what the keyspace accounts for.

use super::*;
use crate::policy::{Functions, compile};

/// Accounted bytes of one key whose quota is used up, its name and all.
fn bytes_of_a_full_key(algorithm: &str, quota: u64) -> u64 {
    // What all keys share is divided by them, so they are many; but for time's sake not
    // where each takes much.
    let is_constant = !matches!(algorithm, "sliding_window" | "concurrency");
    let keys = if is_constant { 1_000 } else { (20_000 / quota).clamp(2, 1_000) };
    let mut world = World::with_libraries();
    let before = world.keyspace.used_bytes();
    for number in 0..keys {
        let key = format!("weir:policy:0:{{203.0.113.{number:04}}}");
        let step = if is_constant { quota } else { 1 };
        for unit in (0..quota).step_by(step as usize) {
            // Evenly over the hour.
            let gap = 3_599_999_999 / quota;
            world.now = Timestamp::from_micros(world.now.micros() + gap);
            let option = match algorithm {
                "token_bucket" => quota.to_string(),
                "concurrency" => format!("9f3a6c5d01b2e47{number:x}-{unit:x}"),
                _ => "-".to_owned(),
            };
            let (quota, step) = (quota.to_string(), step.to_string());
            let args = [algorithm, &quota, "3600000", &step, &option, "0"];
            world.try_call("limiter.decide", &[&key], &args).unwrap();
        }
    }
    (world.keyspace.used_bytes() - before) as u64 / keys
}

fn estimate(algorithm: &str, quota: u64) -> u64 {
    let limit = format!("{{ quota: {quota}, window: 1h, algorithm: {algorithm} }}");
    let text = format!("policies: [{{ name: policy, key: client_ip, limits: [{limit}] }}]");
    let files = |_: &str| Err("no files".to_owned());
    let set = compile("p.yaml", &text, &Functions::default(), &files).unwrap();
    set.policies()[0].limits()[0].state_bytes_max().unwrap()
}

#[test]
fn what_a_full_key_takes_is_within_a_quarter_of_the_estimate() {
    let mut rows = String::new();
    let mut are_near = true;
    for (algorithm, quotas) in [
        ("sliding_window", &[1, 10, 50, 1_000][..]),
        ("concurrency", &[1, 10, 50, 1_000]),
        ("sliding_counter", &[1, 1_000]),
        ("token_bucket", &[1, 1_000]),
        ("fixed_window", &[1, 1_000]),
    ] {
        for &quota in quotas {
            let (real, said) = (bytes_of_a_full_key(algorithm, quota), estimate(algorithm, quota));
            are_near &= said.abs_diff(real) * 4 <= real;
            rows.push_str(&format!("{algorithm} {quota}: {real} accounted, {said} estimated\n"));
        }
    }
    assert!(are_near, "\n{rows}");
}
