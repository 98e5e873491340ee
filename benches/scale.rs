//! Cost per event by the number of keys, and what a second worker brings.
//!
//! `cargo bench --bench scale [-- --runs 3 --max 1000000]`; `--max 10000000` (or `TIEOUT_BENCH_MAX`) goes to ten million
//! keys: 8 GB of files and a quarter of an hour. Every answer is compared with the truth. Changes are a million at each
//! size, so that small tables are not measured by the start of the process.

#[global_allocator]
static ALLOCATOR: tieout::memory::Allocator = tieout::memory::Allocator;

mod generate;
mod harness;

use harness::{Job, Measured, median, number};

fn main() {
    if harness::is_child() {
        return;
    }
    let (runs, max) = (number("runs", 3), number("max", 1_000_000));
    println!("{}; {runs} runs each, medians; tables are read and closed, nothing is exported yet", harness::load());
    println!(
        "{:>10} {:>7} {:>10} {:>9} {:>12} {:>12} {:>10} {:>9} {:>9} {:>9} {:>7}",
        "rows", "workers", "events", "closed s", "ev/s", "wall us/ev", "CPU us/ev", "speed-up", "B/key", "tables", "others"
    );
    for rows in [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|rows| *rows <= max) {
        let workload = generate::workload(generate::Size { rows, ..generate::Size::default() });
        let events = (workload.deals + workload.orders) as f64;
        let mut one = 0.0;
        for workers in [1, 2] {
            let job = Job { dataflow: harness::ORDERS.into(), dir: workload.dir.clone(), out: harness::out("scale"), workers, tick: "50ms".into() };
            let all: Vec<Measured> = (0..runs)
                .map(|_| {
                    let measured = harness::measure(&job);
                    harness::check(&job.out, "orders_in_erp", &workload.orders_truth);
                    measured
                })
                .collect();
            let mid = |of: &dyn Fn(&Measured) -> f64| median(all.iter().map(of).collect());
            let (closed, keys) = (mid(&|m| m.closed), workload.keys as f64);
            if workers == 1 {
                one = closed;
            }
            println!(
                "{rows:>10} {workers:>7} {events:>10.0} {closed:>9.2} {:>12.0} {:>12.3} {:>10.3} {:>8.2}x {:>9.1} {:>9.1} {:>7.2}",
                events / closed,
                closed * 1e6 / events,
                mid(&|m| m.cpu_closed) * 1e6 / events,
                one / closed,
                mid(&|m| m.held) / keys,
                mid(&|m| m.state) / keys,
                mid(&|m| m.others),
            );
        }
    }
}
