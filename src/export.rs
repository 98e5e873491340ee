//! The exports of `run --once --export DIR`: what stands when the last tick is closed, as files.
//!
//! Rows come from the workers as sorted runs of lines and are merged by key; differences, rejects and the summary come
//! from the ledger.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender};
use serde_json::{Map, Value as Json, json};

use crate::{
    engine::{Command, ExportBlock, TotalValue, render::export::merge, workers::Workers},
    ledger::{Ledger, write_csv},
    plan::Plan,
    row,
};

/// Files of rows and totals, straight from the workers; call when every sealed tick is closed.
///
/// # Errors
/// A file that can't be written.
pub fn from_workers(plan: &Plan, workers: &Workers, dir: &Path) -> io::Result<()> {
    folder(&dir.join("targets"))?;
    folder(&dir.join("totals"))?;
    let (to, blocks): (Vec<_>, Vec<_>) = (0..workers.count_all()).map(|worker| channel(worker < workers.count())).unzip();
    workers.all(&Command::Export { to: Arc::from(to) });
    for target in &plan.targets {
        let mut file = BufWriter::with_capacity(1 << 20, create(&dir.join("targets").join(format!("{}.ndjson", target.name)))?);
        let mut runs = blocks.iter().map(Run::new).collect::<io::Result<Vec<_>>>()?;
        while let Some(first) = (0..runs.len()).filter(|r| runs[*r].key().is_some()).min_by(|a, b| runs[*a].key().cmp(&runs[*b].key())) {
            file.write_all(runs[first].line())?;
            runs[first].advance()?;
        }
        file.flush()?;
    }
    let mut totals: Vec<BTreeMap<(Option<String>, String), TotalValue>> = vec![BTreeMap::new(); plan.comparisons.len()];
    for blocks in &blocks {
        for _ in &plan.comparisons {
            if let ExportBlock::Totals { comparison, totals: part } = receive(blocks)? {
                merge(&mut totals[comparison], part);
            }
        }
    }
    for (comparison, totals) in plan.comparisons.iter().zip(&totals) {
        write_totals(create(&dir.join("totals").join(format!("{}.csv", comparison.name)))?, totals)?;
    }
    Ok(())
}

/// Where a worker's blocks come from. Those of other processes come over one connection, and none of them may be in the way of
/// another.
fn channel(own: bool) -> (Sender<ExportBlock>, Receiver<ExportBlock>) {
    if own { crossbeam_channel::bounded(2) } else { crossbeam_channel::unbounded() }
}

/// The first rows of each target, as lines of JSON: by target.
///
/// # Errors
/// A worker has ended.
pub fn samples(plan: &Plan, workers: &Workers, limit: usize) -> io::Result<Vec<Vec<String>>> {
    let (to, blocks): (Vec<_>, Vec<_>) = (0..workers.count_all()).map(|worker| channel(worker < workers.count())).unzip();
    workers.all(&Command::Export { to: Arc::from(to) });
    let mut samples = Vec::new();
    for _ in &plan.targets {
        let (mut lines, mut runs) = (Vec::new(), blocks.iter().map(Run::new).collect::<io::Result<Vec<_>>>()?);
        while let Some(first) = (0..runs.len()).filter(|r| runs[*r].key().is_some()).min_by(|a, b| runs[*a].key().cmp(&runs[*b].key())) {
            if lines.len() < limit {
                lines.push(String::from_utf8_lossy(runs[first].line()).trim_end().to_string());
            }
            runs[first].advance()?;
        }
        samples.push(lines);
    }
    // What follows are totals; nobody waits for them.
    Ok(samples)
}

/// A sorted run of one worker's lines of one target.
struct Run<'a> {
    blocks: &'a Receiver<ExportBlock>,
    bytes: Vec<u8>,
    rows: Vec<(u32, u32)>,
    at: usize,
    last: bool,
}

impl<'a> Run<'a> {
    fn new(blocks: &'a Receiver<ExportBlock>) -> io::Result<Run<'a>> {
        let mut run = Run { blocks, bytes: Vec::new(), rows: Vec::new(), at: 0, last: false };
        run.fill()?;
        Ok(run)
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.at == self.rows.len() && !self.last {
            if let ExportBlock::Rows { bytes, rows, last, .. } = receive(self.blocks)? {
                (self.bytes, self.rows, self.last, self.at) = (bytes, rows, last, 0);
            }
        }
        Ok(())
    }

    fn start(&self) -> usize {
        if self.at == 0 { 0 } else { self.rows[self.at - 1].1 as usize }
    }

    fn key(&self) -> Option<&[u8]> {
        self.rows.get(self.at).map(|(key_end, _)| &self.bytes[self.start()..*key_end as usize])
    }

    fn line(&self) -> &[u8] {
        let (key_end, line_end) = self.rows[self.at];
        &self.bytes[key_end as usize..line_end as usize]
    }

    fn advance(&mut self) -> io::Result<()> {
        self.at += 1;
        self.fill()
    }
}

fn receive(blocks: &Receiver<ExportBlock>) -> io::Result<ExportBlock> {
    blocks.recv().map_err(|_| io::Error::other("a worker ended before it had exported everything"))
}

fn folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|e| io::Error::new(e.kind(), format!("the folder {} can't be made: {e}", path.display())))
}

fn create(path: &Path) -> io::Result<File> {
    File::create(path).map_err(|e| io::Error::new(e.kind(), format!("{} can't be written: {e}", path.display())))
}

fn write_totals(file: File, totals: &BTreeMap<(Option<String>, String), TotalValue>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    write_csv(&mut out, ["group", "measure", "expected", "actual", "difference"].map(Some))?;
    for ((group, measure), value) in totals {
        let [expected, actual, difference] = match value {
            TotalValue::Count(e, a) => [e.to_string(), a.to_string(), (e - a).to_string()],
            TotalValue::Sum(e, a, scale) => [*e, *a, e - a].map(|n| row::decimal_text(n, *scale)),
            TotalValue::Double(e, a) => [e.to_string(), a.to_string(), (e - a).to_string()],
            TotalValue::Checksum(e, a) => [*e, *a, e.wrapping_sub(*a)].map(|n| format!("{n:032x}")),
        };
        write_csv(&mut out, [group.as_deref().unwrap_or("*"), measure, &expected, &actual, &difference].map(Some))?;
    }
    out.flush()
}

/// Files of differences and rejects, and the summary; `extra` goes into the summary as it is.
///
/// # Errors
/// A file that can't be written.
pub fn from_ledger(ledger: &Ledger, dir: &Path, extra: Map<String, Json>) -> io::Result<()> {
    folder(&dir.join("differences"))?;
    for (id, comparison) in ledger.plan().comparisons.iter().enumerate() {
        ledger.export_differences(id, BufWriter::new(create(&dir.join("differences").join(format!("{}.csv", comparison.name)))?))?;
    }
    ledger.export_rejects(BufWriter::new(create(&dir.join("rejects.csv"))?))?;
    let mut summary = ledger.summary();
    summary.extend(extra);
    let mut file = create(&dir.join("summary.json"))?;
    serde_json::to_writer_pretty(&mut file, &json!(summary))?;
    file.write_all(b"\n")
}
