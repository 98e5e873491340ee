//! What a run without consequences shows: what would be written, samples of what lies between, and where the time went.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::{
    engine::Payload,
    engine::StageTimes,
    format::{self, Batch, Message, Op},
    ledger::{Difference, TickOutput},
    log::{self, Until},
    plan::{OutputOf, Plan, SourceId},
    row,
    sink::encode::Encoder,
};

/// How long a log may take to show its first messages.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Everything that a dry run shows.
#[derive(Clone, Debug, Default)]
pub struct Dry {
    pub outputs: Vec<Output>,
    /// By target: the first rows, as lines of JSON.
    pub rows: Vec<Vec<String>>,
    /// By comparison: the first differences that stand.
    pub differences: Vec<Vec<Arc<Difference>>>,
    pub times: StageTimes,
    /// Nanoseconds of all readers together, and of the ledger.
    pub read_nanos: u64,
    pub ledger_nanos: u64,
}

/// What one output would have been written.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// `table expected_order to bus/tieout.expected_order`.
    pub title: String,
    pub records: u64,
    /// Records whose key is gone.
    pub gone: u64,
    /// The first records: key, and value if there is one.
    pub samples: Vec<(String, Option<String>)>,
}

/// Encoders without sinks.
pub(super) struct Outputs {
    outputs: Vec<(Encoder, Output)>,
    samples: usize,
}

impl Outputs {
    pub fn new(plan: &Arc<Plan>, samples: usize) -> Outputs {
        // What is shown is for people: as text, and without asking a registry.
        let mut shown = (**plan).clone();
        shown.outputs.iter_mut().for_each(|output| output.format = output.format.in_text());
        let shown = Arc::new(shown);
        let of = |(id, output): (usize, &crate::plan::Output)| {
            let connection = &plan.connections[output.connection].name;
            let what = match output.what {
                OutputOf::Table(target) => format!("table {}", plan.targets[target].name),
                OutputOf::Differences(id) => format!("differences {}", plan.comparisons[id].name),
            };
            let title = format!("{what} to {connection}/{} as {}", output.to, output.format.name());
            (Encoder::new(Arc::clone(&shown), id), Output { title, ..Output::default() })
        };
        Outputs { outputs: plan.outputs.iter().enumerate().map(of).collect(), samples }
    }

    pub fn take(&mut self, tick: &TickOutput) {
        for (encoder, output) in &mut self.outputs {
            for record in encoder.encode(tick).records {
                output.records += 1;
                output.gone += u64::from(record.value.is_none());
                if output.samples.len() < self.samples {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    output.samples.push((text(&record.key), record.value.as_deref().map(text)));
                }
            }
        }
    }

    pub fn finish(self) -> Vec<Output> {
        self.outputs.into_iter().map(|(_, output)| output).collect()
    }
}

/// The first records of a source's log as its decoder reads them: operation and row, or why it was rejected. Reads the log
/// once more from its start, so that a run need not keep what only this shows.
pub fn source_samples(plan: &Plan, source: SourceId, samples: usize) -> Vec<(String, String)> {
    let declared = &plan.sources[source];
    let mut decoder = format::decoder(declared, &vec![true; declared.columns.len()]);
    let mut batch = Batch::default();
    batch.clear(declared.columns.len());
    let Ok(log) = log::open(plan, source, Until::End, &log::At::default()) else { return Vec::new() };
    while batch.records.len() < samples {
        let Ok(chunk) = log.chunks.recv_timeout(PATIENCE) else { break };
        match &chunk.payload {
            Payload::Lines { bytes, offset } => {
                for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(samples) {
                    decoder.decode(Message { value: Some(line), offset: *offset, ..Message::default() }, &mut batch);
                }
            }
            Payload::Messages { bytes, index } => {
                for at in index.iter().take(samples) {
                    let (start, key) = (at.start as usize, at.key_len.unwrap_or(0) as usize);
                    let value = start + key;
                    let message = Message {
                        key: at.key_len.map(|_| &bytes[start..value]),
                        value: at.value_len.map(|len| &bytes[value..value + len as usize]),
                        offset: at.offset,
                        timestamp: at.timestamp,
                    };
                    decoder.decode(message, &mut batch);
                }
            }
            Payload::Heartbeat(_) => {}
        }
    }
    let shown = |(at, record): (usize, &format::Record)| {
        let op = match record.op {
            Op::Upsert => "upsert",
            Op::Delete => "delete",
            Op::Truncate => "truncate",
            Op::Skip => "skip",
            Op::Reject => "reject",
        };
        let reject = batch.rejects.iter().find(|r| r.record == at);
        let detail = reject.map_or_else(|| fields(plan, source, &batch, at), |r| format!("{}: {}", r.code, r.cause));
        (op.to_string(), detail)
    };
    batch.records.iter().enumerate().take(samples).map(shown).collect()
}

/// The columns of a decoded record that have a value (or NULL), as JSON.
fn fields(plan: &Plan, source: SourceId, batch: &Batch, record: usize) -> String {
    let columns = plan.sources[source].columns.iter().zip(batch.row(record));
    let sent = columns.filter(|(_, span)| !matches!(span.lack(), Some(format::Lack::Missing | format::Lack::Unknown)));
    let object: Map<String, Json> =
        sent.map(|(column, span)| (column.name.clone(), row::json_of(column.ty, &span.field(&batch.bytes).value(column.ty)))).collect();
    Json::Object(object).to_string()
}
