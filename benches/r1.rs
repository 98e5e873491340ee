//! The reference workload from files to exports: events a second, bytes a key, difference changes on the way.
//!
//! `cargo bench --bench r1 [-- --runs 5 --only orders --rows 1000000 --changes 1000000]`. Every answer is compared with the
//! truth. `-- --data DIR --export OUT` runs the contract's orders once on files made elsewhere and prints nothing else: an
//! entry for `../shared/bench/peers/run.py`.

#[global_allocator]
static ALLOCATOR: tieout::memory::Allocator = tieout::memory::Allocator;

mod generate;
mod harness;

use std::path::PathBuf;

use harness::{Job, Measured, argument, median, number};

fn main() {
    if harness::is_child() {
        return;
    }
    if let (Some(data), Some(export)) = (argument("data"), argument("export")) {
        return once(data.into(), export.into());
    }
    let runs = number("runs", 5);
    let size = generate::Size { rows: number("rows", 1_000_000), changes: number("changes", 1_000_000), ..generate::Size::default() };
    let workload = generate::workload(size);
    println!("{}; {runs} runs each, medians; {} deal events, {} order events, {} keys", harness::load(), workload.deals, workload.orders, workload.keys);
    println!(
        "{:<12} {:>7} {:>12} {:>12} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}   CPU s: decode, map, table, flow",
        "dataflow", "workers", "closed ev/s", "exports ev/s", "closed s", "export s", "CPU s", "B/key", "peak", "tables", "plan MB", "changes", "others"
    );
    let revenue_events = workload.deals + workload.orders + workload.accounts;
    let cases = [
        ("orders", harness::ORDERS, "orders_in_erp", workload.deals + workload.orders, &workload.orders_truth),
        ("revenue", harness::REVENUE, "revenue_by_region", revenue_events, &workload.revenue_truth),
    ];
    for (name, dataflow, comparison, events, truth) in cases {
        if argument("only").is_some_and(|only| only != name) {
            continue;
        }
        for workers in [1, 2] {
            let job = Job { dataflow: dataflow.into(), dir: workload.dir.clone(), out: harness::out("r1"), workers, tick: "50ms".into() };
            let all: Vec<Measured> = (0..runs)
                .map(|_| {
                    let measured = harness::measure(&job);
                    harness::check(&job.out, comparison, truth);
                    measured
                })
                .collect();
            let mid = |of: &dyn Fn(&Measured) -> f64| median(all.iter().map(of).collect());
            let keys = workload.keys as f64;
            println!(
                "{name:<12} {workers:>7} {:>12.0} {:>12.0} {:>9.2} {:>9.2} {:>7.2} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.0} {:>7.2}   {:.2} {:.2} {:.2} {:.2}",
                events as f64 / mid(&|m| m.closed),
                events as f64 / mid(&|m| m.exported),
                mid(&|m| m.closed),
                mid(&|m| m.exported - m.closed),
                mid(&|m| m.cpu),
                mid(&|m| m.held) / keys,
                mid(&|m| m.peak) / keys,
                mid(&|m| m.state) / keys,
                mid(&|m| m.planned) / 1e6,
                mid(&|m| m.difference_changes),
                mid(&|m| m.others),
                mid(&|m| m.stages[0]),
                mid(&|m| m.stages[1]),
                mid(&|m| m.stages[2]),
                mid(&|m| m.stages[3]),
            );
        }
    }
}

/// Reads the files of a folder once and writes the exports, and `diffs.csv` in the form of a truth file.
fn once(data: PathBuf, export: PathBuf) {
    let workers = number("workers", 2) as usize;
    let only = argument("only").unwrap_or("orders".into());
    let (dataflow, comparison) = if only == "revenue" { (harness::REVENUE, "revenue_by_region") } else { (harness::ORDERS, "orders_in_erp") };
    let options = tieout::pipeline::Options {
        until: tieout::log::Until::End,
        export: Some(export.clone()),
        serve: false,
        write: tieout::pipeline::Write::No,
        fresh: false,
    };
    tieout::pipeline::run(harness::plan(dataflow, &data, workers, "50ms"), &options, None, |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970").as_secs_f64();
    eprintln!("MARK end {end}");
    let lines: Vec<String> = harness::exported(&export, comparison).into_iter().collect();
    std::fs::write(export.join("diffs.csv"), format!("key,kind,field,expected,actual\n{}\n", lines.join("\n"))).expect("the folder can be written");
}
