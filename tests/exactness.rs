//! Every decision is the oracle's: 200,000 mixed requests, judged one by one.
//! `cargo bench --bench oracle` does the same for ten million.

mod oracle;

#[test]
fn two_hundred_thousand_decisions_are_the_oracles() {
    for (count, key_count, seed) in [(20_000, 1, 1), (60_000, 20, 2), (120_000, 2_000, 3)] {
        let admitted = oracle::judge(count, key_count, seed);
        let share = admitted as f64 / count as f64;
        assert!((0.1..0.9).contains(&share), "{share} were admitted: nothing is shown");
    }
}
