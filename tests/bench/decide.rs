//! What it costs to choose among 100,000 wanted pages. Run it with `cargo bench --bench decide`.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the machine's clock and prints what it found"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use contacts_gateway::upstream::allowance::ledger::Ledger;

const PAGES: u64 = 100_000;
const ROUNDS: u32 = 2_000;
const MOST: Duration = Duration::from_micros(100);

fn main() {
    // Test runners start benchmarks too, without this flag.
    if !std::env::args().any(|flag| flag == "--bench") {
        return;
    }
    let mut ledger = Ledger::default();
    let debts: Vec<_> = (0..PAGES).map(|_| ledger.open()).collect();
    for (n, debt) in (0..PAGES).zip(&debts) {
        debt.add(Duration::from_millis(n * 7_919 % 3_600_000), 1);
        debt.want();
    }
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            black_box(black_box(&ledger).greatest());
            began.elapsed()
        })
        .collect();
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!(
        "the greatest of {PAGES} debts: median {:?}, 99 of 100 within {:?}; at most {MOST:?} are meant",
        at(50),
        at(99)
    );
}
