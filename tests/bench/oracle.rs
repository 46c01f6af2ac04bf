//! Ten million mixed requests over 10,000 keys, each answer judged by an oracle.
//!
//! ```text
//! cargo bench --bench oracle             # two to three minutes of one core
//! cargo bench --bench oracle -- 100000   # or as many as you like
//! ```
//!
//! Ends at the first wrong answer, and says how many were right.

#![allow(clippy::print_stdout, reason = "it reports to whoever runs it")]

#[path = "../oracle/mod.rs"]
mod oracle;

use weir::base::clock::Stopwatch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Cargo adds `--bench` to what it is given.
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let (count, key_count) = (wanted.unwrap_or(10_000_000), 10_000);
    let watch = Stopwatch::start();
    let admitted = oracle::judge(count, key_count, 7);
    let seconds = watch.elapsed().as_secs_f64();
    println!(
        "{count} decisions over {key_count} keys, {admitted} admitted: 0 wrong\n\
         {seconds:.1} s, {:.2} us each with the oracle's own",
        seconds * 1e6 / count as f64
    );
}
