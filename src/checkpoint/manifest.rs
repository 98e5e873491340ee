//! What a checkpoint is made of: one line of JSON, and a second line with its checksum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    engine::{
        Tick,
        render::layout::{self, Feed, TableOf},
    },
    ledger::LedgerSave,
    plan::{ConnectionKind, LogSpec, OutputOf, Plan, Source, TableRef, TargetId},
};

/// The format that this version writes. It reads this one and those before it.
pub const FORMAT: u32 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The version of tieout that wrote it.
    pub written_by: String,
    pub tick: Tick,
    /// In the order of the entries' numbers.
    pub tables: Vec<TableShape>,
    /// In the order of the plan.
    pub sources: Vec<SourceShape>,
    pub comparisons: Vec<String>,
    /// In the order of the plan.
    #[serde(default)]
    pub targets: Vec<TargetShape>,
    /// What was written where; lacking: not known.
    #[serde(default)]
    pub outputs: Option<Vec<String>>,
    pub ledger: LedgerSave,
    /// By Kafka connection that is written exactly once: the newest tick of its progress records when this was taken.
    #[serde(default)]
    pub progress: BTreeMap<String, Tick>,
    /// The clusters of those connections, by their names for themselves.
    #[serde(default)]
    pub clusters: BTreeMap<String, String>,
    /// By such a connection: those clusters' names for the topics of outputs.
    #[serde(default)]
    pub topics: BTreeMap<String, BTreeMap<String, String>>,
    /// By file that outputs are written to: how long it was.
    #[serde(default)]
    pub lengths: BTreeMap<String, u64>,
    /// Files of entries, the oldest first; the last one is this checkpoint's own.
    pub entries: Vec<EntriesFile>,
}

/// A table, so that it can be told whether it is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    pub name: String,
    /// Everything that its entries depend on.
    pub shape: String,
    /// The types of its key, and how its rows are packed.
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub packing: String,
    /// By side, what its rows follow from; none: not known.
    #[serde(default)]
    pub sides: Vec<String>,
    /// By side, whether its rows are computed from those of other tables.
    #[serde(default)]
    pub computed: Vec<bool>,
}

/// A target, and the table and side that hold its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetShape {
    pub name: String,
    pub table: usize,
    pub side: usize,
    /// The names of its columns; none: not known.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// A source's log, so that it can be told whether its positions still mean the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceShape {
    pub name: String,
    pub log: String,
    /// By partition: a fingerprint of what the log holds at its beginning, where that can be told.
    pub beginnings: Vec<(i32, String)>,
}

/// A file of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesFile {
    pub name: String,
    pub bytes: u64,
    /// xxh3-128 in hex.
    pub checksum: String,
}

impl Manifest {
    /// What a checkpoint of a plan says, but for what only its writer knows.
    pub fn of(plan: &Plan, ledger: LedgerSave, entries: Vec<EntriesFile>) -> Manifest {
        Manifest {
            format: FORMAT,
            written_by: env!("CARGO_PKG_VERSION").into(),
            tick: ledger.tick,
            tables: tables(plan),
            sources: sources(plan),
            comparisons: comparisons(plan),
            targets: targets(plan),
            outputs: Some(outputs(plan)),
            ledger,
            progress: BTreeMap::new(),
            clusters: BTreeMap::new(),
            topics: BTreeMap::new(),
            lengths: BTreeMap::new(),
            entries,
        }
    }

    /// The bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a manifest is plain data");
        let sum = format!("\n{:032x}\n", xxh3_128(&bytes));
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }

    /// Reads the bytes of its file.
    ///
    /// # Errors
    /// Why they are not a manifest that this version reads.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, Unread> {
        let text = bytes.strip_suffix(b"\n").ok_or("it does not end as a checkpoint does")?;
        let at = text.iter().rposition(|byte| *byte == b'\n').ok_or("its checksum is lacking")?;
        let (json, sum) = (&text[..at], &text[at + 1..]);
        if format!("{:032x}", xxh3_128(json)).as_bytes() != sum {
            return Err("it does not have its checksum".into());
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
            written_by: String,
        }
        let of: Format = serde_json::from_slice(json).map_err(|e| Unread::Damaged(e.to_string()))?;
        if of.format > FORMAT {
            let why = format!("it was written by tieout {}, in format {}; this version reads up to {FORMAT}", of.written_by, of.format);
            return Err(Unread::Newer(why));
        }
        serde_json::from_slice(json).map_err(|e| Unread::Damaged(e.to_string()))
    }
}

/// Why bytes are not read as a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    Damaged(String),
    /// A later version of tieout wrote it, and it is what was written.
    Newer(String),
}

impl From<&str> for Unread {
    fn from(why: &str) -> Unread {
        Unread::Damaged(why.into())
    }
}

/// The tables of a plan as a checkpoint names them, by their number.
pub fn tables(plan: &Plan) -> Vec<TableShape> {
    let name = |of: TableOf| match of {
        TableOf::Comparison(id) => format!("comparison {}", plan.comparisons[id].name),
        TableOf::Target(id) => format!("target {}", plan.targets[id].name),
        TableOf::Source(id) => format!("source {}", plan.sources[id].name),
    };
    let side = |feed: &Feed| match feed {
        Feed::Records { source, mapping, key, values, .. } => {
            let declared = &plan.sources[*source];
            let version = mapping.map(|target| plan.targets[target].version.as_str());
            format!("{} {:?} {:?} {:?} {version:?} {key:?} {values:?}", declared.name, declared.format, declared.columns, declared.key)
        }
        // Computed again: what it was does not matter, only that nothing is kept of it.
        Feed::Rows { .. } => "rows".to_string(),
    };
    let layout = layout::layout(plan);
    let wanted = layout::wanted(plan, &layout);
    let shape = |spec: &layout::TableSpec| TableShape {
        name: name(spec.of),
        shape: format!("{:?} {:?}: {}", spec.key, spec.values, spec.sides.iter().map(side).collect::<Vec<_>>().join(" | ")),
        key: format!("{:?}", spec.key),
        packing: {
            let missing = matches!(spec.of, TableOf::Source(source) if layout::tells_missing(plan, source));
            format!("{:032x}", xxh3_128(format!("{:?} {:?} {missing}", spec.key, spec.values).as_bytes()))
        },
        sides: spec.sides.iter().map(|feed| follows_from(plan, feed, &wanted)).collect(),
        computed: spec.sides.iter().map(|feed| matches!(feed, Feed::Rows { .. })).collect(),
    };
    layout.tables.iter().map(shape).collect()
}

/// Everything that the rows of a side follow from, as a hash; `wanted` are the columns of each source that are decoded, since a
/// record is rejected whole.
fn follows_from(plan: &Plan, feed: &Feed, wanted: &[Vec<bool>]) -> String {
    let logs = sources(plan);
    let source = |id: crate::plan::SourceId| {
        let declared = &plan.sources[id];
        let Source { name, format, columns, key, wire, .. } = declared;
        format!("{name} {} {format:?} {columns:?} {key:?} {wire:?} {:?}", logs[id].log, wanted[id])
    };
    let target = |id: crate::plan::TargetId| {
        let declared = &plan.targets[id];
        format!("{} {} {:?} {:?}", declared.name, declared.version, declared.columns, declared.key)
    };
    let what = match feed {
        Feed::Records { source: id, mapping, key, values, reports } => {
            format!("records {} {:?} {key:?} {values:?} {reports:?}", source(*id), mapping.map(target))
        }
        Feed::Rows { table, key, values } => {
            let of = match table {
                TableRef::Source(id) => source(*id),
                TableRef::Target(id) => target(*id),
            };
            format!("rows {of} {key:?} {values:?} {:?}", plan.sources_of(*table).into_iter().map(source).collect::<Vec<_>>())
        }
    };
    format!("{:032x}", xxh3_128(what.as_bytes()))
}

/// The targets of a plan as a checkpoint names them.
pub fn targets(plan: &Plan) -> Vec<TargetShape> {
    let homes = layout::layout(plan).homes;
    let shape = |(id, home): (TargetId, layout::Home)| TargetShape {
        name: plan.targets[id].name.clone(),
        table: home.table,
        side: home.side,
        columns: columns(plan, id),
    };
    homes.into_iter().enumerate().map(shape).collect()
}

/// The names of a target's columns.
pub fn columns(plan: &Plan, target: TargetId) -> Vec<String> {
    plan.targets[target].columns.iter().map(|column| column.name.clone()).collect()
}

/// The outputs of a plan, as a checkpoint names them.
pub fn outputs(plan: &Plan) -> Vec<String> {
    let output = |output: &crate::plan::Output| {
        let what = match output.what {
            OutputOf::Table(id) => format!("table {}", plan.targets[id].name),
            OutputOf::Differences(id) => format!("differences of {}", plan.comparisons[id].name),
        };
        // Records that another encoding of keys has left would stay for ever.
        let how = if plan.base64_of(output).is_empty() { "" } else { ", with bytes in base64" };
        format!("the output of {what} to {} of {} as {}{how}", output.to, plan.connections[output.connection].name, output.format.name())
    };
    plan.outputs.iter().map(output).collect()
}

/// Is this, of [`outputs`], an output of this target's rows?
pub fn is_of_table(output: &str, target: &str) -> bool {
    output.strip_prefix("the output of table ").and_then(|rest| rest.strip_prefix(target)).is_some_and(|rest| rest.starts_with(" to "))
}

/// The sources of a plan as a checkpoint names them, without what their logs hold.
pub fn sources(plan: &Plan) -> Vec<SourceShape> {
    let log = |source: &crate::plan::Source| match (&source.log, &plan.connections[source.connection].kind) {
        (LogSpec::Topic { topic, .. }, _) => format!("topic {topic} of {}", plan.connections[source.connection].name),
        (LogSpec::Files(files), ConnectionKind::File { dir }) => {
            format!("files {}", files.iter().map(|f| dir.join(f).display().to_string()).collect::<Vec<_>>().join(", "))
        }
        (other, _) => format!("{other:?}"),
    };
    plan.sources.iter().map(|source| SourceShape { name: source.name.clone(), log: log(source), beginnings: Vec::new() }).collect()
}

/// The same for plans of which one can go on from what another one left.
pub fn fingerprint(plan: &Plan) -> String {
    let sources: Vec<_> = sources(plan).into_iter().map(|source| (source.name, source.log)).collect();
    // When differences are shown as what goes to outputs, too.
    let bounds: Vec<_> = plan.comparisons.iter().map(|comparison| (comparison.grace, comparison.stale_after)).collect();
    format!("{:032x}", xxh3_128(format!("{:?} {sources:?} {:?} {bounds:?} {:?}", tables(plan), comparisons(plan), outputs(plan)).as_bytes()))
}

/// What all processes that run a plan together must have in common: what their tables follow from, and when they show what.
pub fn alike(plan: &Plan) -> String {
    let all = format!("{} {} {:?} {:?} {:?}", fingerprint(plan), plan.name, plan.tick, plan.comparisons, plan.transactions);
    format!("{:032x}", xxh3_128(all.as_bytes()))
}

/// What each comparison compares, in the plan's order.
pub fn comparisons(plan: &Plan) -> Vec<String> {
    let table = |table: TableRef| plan.table_name(table).to_string();
    let one = |c: &crate::plan::Comparison| format!("{}: {} = {} by {:?}, {:?}", c.name, table(c.expected), table(c.actual), c.key, c.fields);
    plan.comparisons.iter().map(one).collect()
}
