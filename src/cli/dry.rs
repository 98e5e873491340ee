//! What `run --dry-run` prints: what would be written, and with `--verbose` what lies between and where the time went.

use std::io::{self, Write};

use super::{count, progress::grouped};
use crate::{
    ledger::difference_lines,
    pipeline::{Outcome, dry},
    plan::Plan,
};

/// Rows of each kind that are shown.
const SAMPLES: usize = 3;

pub fn print(plan: &Plan, outcome: &Outcome, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    if verbose {
        between(plan, outcome, out)?;
    }
    if outcome.dry.outputs.is_empty() {
        writeln!(out, "no outputs are declared, so nothing would be written")?;
    }
    for output in &outcome.dry.outputs {
        let gone = if output.gone > 0 { format!(", {} of them for keys that are gone", grouped(output.gone)) } else { String::new() };
        writeln!(out, "{}: {} records{gone}", output.title, grouped(output.records))?;
        for (key, value) in &output.samples {
            writeln!(out, "  {key}  {}", value.as_deref().unwrap_or("(gone)"))?;
        }
        if output.records > output.samples.len() as u64 {
            writeln!(out, "  …")?;
        }
    }
    writeln!(out, "nothing was written; {} would stand", count(outcome.differences as usize, "difference"))
}

fn between(plan: &Plan, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    for (id, source) in plan.sources.iter().enumerate() {
        writeln!(out, "source {}, as it is decoded", source.name)?;
        for (op, row) in dry::source_samples(plan, id, SAMPLES) {
            writeln!(out, "  {op:<7} {row}")?;
        }
    }
    for (target, rows) in plan.targets.iter().zip(&outcome.dry.rows) {
        writeln!(out, "target {}, as it is mapped", target.name)?;
        for row in rows.iter().take(SAMPLES) {
            writeln!(out, "  {row}")?;
        }
    }
    for (id, comparison) in plan.comparisons.iter().enumerate() {
        writeln!(out, "comparison {}: key, kind, state, field, expected, actual, since", comparison.name)?;
        for difference in outcome.dry.differences.get(id).into_iter().flatten().take(SAMPLES) {
            for line in difference_lines(plan, id, difference) {
                writeln!(out, "  {}", line.map(Option::unwrap_or_default).join("  "))?;
            }
        }
    }
    let times = outcome.dry.times;
    writeln!(out, "time of {}, in {} altogether", count(plan.workers, "worker"), seconds((outcome.seconds * 1e9) as u64))?;
    let stages = [
        ("read", outcome.dry.read_nanos),
        ("decode", times.decode),
        ("map", times.map),
        ("table", times.table),
        ("SQL and exchange", times.flow),
        ("ledger", outcome.dry.ledger_nanos),
    ];
    for (stage, nanos) in stages {
        writeln!(out, "  {stage:<17} {:>9}", seconds(nanos))?;
    }
    writeln!(out)
}

fn seconds(nanos: u64) -> String {
    format!("{:.3} s", nanos as f64 / 1e9)
}
