//! The shapes of answers, and how they are made from the ledger. Times are ISO 8601 in UTC; ticks are numbers.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::{
    ToSchema,
    openapi::schema::{ObjectBuilder, Schema, SchemaType, Type},
};

use crate::{
    engine::{Side, Sides, Tick},
    format::{evolution::SchemaChange, fields::Retyped},
    ledger::{Cause, ComparisonStatus, Counts, Difference, Kind, Ledger, SideStatus, State, Unclear, show},
    plan::{Comparison, ComparisonId, Format, LogSpec, Plan, SourceId, TableRef},
    row::source_time_text,
};

/// The wall clock, in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A time, unless it is the one that stands for none.
fn time_text(ms: i64) -> Option<String> {
    (ms != i64::MIN).then(|| source_time_text(ms))
}

/// Of which tick an answer is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AsOf {
    /// The newest closed tick; the answer is right for it.
    pub as_of: Tick,
    /// The wall clock when that tick was sealed.
    pub as_of_time: String,
    /// False while the backlog that existed at the start is being read: no difference is shown until that is done.
    pub hydrated: bool,
}

impl AsOf {
    pub fn of(ledger: &Ledger) -> AsOf {
        AsOf { as_of: ledger.as_of(), as_of_time: source_time_text(ledger.wall_ms()), hydrated: ledger.hydrated() }
    }
}

/// A comparison without its differences.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ComparisonInfo {
    pub name: String,
    /// The dataflow that declares it.
    pub dataflow: String,
    pub owner: Option<String>,
    pub comment: Option<String>,
    /// `hydrating`, `tied_out`, `in_flight`, `open` or `stale`.
    pub state: &'static str,
    /// What makes it stale: `schema` (the schema of a source changed, and that is not accepted), `trouble` (a source can't be read) or
    /// `still` (a side's source time stands still).
    pub cause: Option<&'static str>,
    /// Why it is stale.
    pub reason: Option<String>,
    pub differences: CountsInfo,
    pub expected: SideInfo,
    pub actual: SideInfo,
    pub grace_seconds: f64,
    pub stale_after_seconds: f64,
    pub key: Vec<String>,
    pub fields: Vec<String>,
    /// Rejects that stand and may have touched any key; while there are some, nothing new is confirmed.
    pub doubtful_rejects: u64,
    /// Upstream transactions of which rows are lacking, and which may have touched any key: the same holds for them.
    pub incomplete_transactions: u64,
    /// What holds back the differences of which `held_back_by` is `comparison`, as a sentence; null where none is undetermined.
    pub held_back: Option<String>,
    /// The newest tick that changed one of its differences.
    pub changed: Tick,
}

/// Counts of differences.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CountsInfo {
    pub total: u64,
    pub undetermined: u64,
    pub in_flight: u64,
    pub confirmed: u64,
    /// By kind, then state.
    pub kinds: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

impl CountsInfo {
    fn of(counts: &Counts) -> CountsInfo {
        let states = |kind| State::ALL.map(|state| (state.name(), counts.of(kind, state))).into();
        CountsInfo {
            total: counts.total(),
            undetermined: counts.of_state(State::Undetermined),
            in_flight: counts.of_state(State::InFlight),
            confirmed: counts.of_state(State::Confirmed),
            kinds: Kind::ALL.map(|kind| (kind.name(), states(kind))).into(),
        }
    }
}

/// One side of a comparison.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SideInfo {
    pub table: String,
    pub rows: u64,
    /// The side is closed up to this source time; null before its inputs were read.
    pub source_time: Option<String>,
    /// Seconds between that and now.
    pub lag_seconds: Option<f64>,
    /// The input that is furthest behind.
    pub held_by: Option<String>,
    /// The wall clock when the source time last moved.
    pub moved: Option<String>,
}

impl SideInfo {
    fn of(plan: &Plan, table: TableRef, side: &SideStatus, now_ms: i64) -> SideInfo {
        SideInfo {
            table: plan.table_name(table).to_string(),
            rows: side.rows,
            source_time: time_text(side.time),
            lag_seconds: (side.time != i64::MIN).then(|| (now_ms - side.time) as f64 / 1000.0),
            held_by: side.held_by.map(|source| plan.sources[source].name.clone()),
            moved: time_text(side.moved_ms),
        }
    }
}

impl ComparisonInfo {
    pub fn of(ledger: &Ledger, id: ComparisonId, now_ms: i64) -> ComparisonInfo {
        let (plan, status) = (ledger.plan(), ledger.status(id));
        let comparison = &plan.comparisons[id];
        ComparisonInfo {
            name: comparison.name.clone(),
            dataflow: comparison.dataflow.clone(),
            owner: comparison.owner.clone(),
            comment: comparison.comment.clone(),
            state: status.state.name(),
            cause: status.state.cause().map(Cause::name),
            reason: status.state.reason().map(str::to_string),
            differences: CountsInfo::of(&status.counts),
            expected: SideInfo::of(plan, comparison.expected, &status.expected, now_ms),
            actual: SideInfo::of(plan, comparison.actual, &status.actual, now_ms),
            grace_seconds: comparison.grace.as_secs_f64(),
            stale_after_seconds: comparison.stale_after.as_secs_f64(),
            key: comparison.key.iter().map(|k| k.name.clone()).collect(),
            fields: comparison.fields.iter().map(|f| f.name.clone()).collect(),
            doubtful_rejects: status.doubts,
            incomplete_transactions: status.incomplete,
            held_back: held_back(plan, &status),
            changed: status.changed,
        }
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ComparisonsAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub comparisons: Vec<ComparisonInfo>,
}

impl ComparisonsAnswer {
    pub fn of(ledger: &Ledger) -> ComparisonsAnswer {
        let now = now_ms();
        let comparisons = (0..ledger.plan().comparisons.len()).map(|id| ComparisonInfo::of(ledger, id, now)).collect();
        ComparisonsAnswer { as_of: AsOf::of(ledger), comparisons }
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ComparisonAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    #[serde(flatten)]
    pub comparison: ComparisonInfo,
}

/// A difference.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DifferenceInfo {
    /// The key as text: the value of its one column, or a JSON array of several.
    pub key: String,
    /// The key by column.
    #[schema(value_type = Object)]
    pub key_columns: Map<String, Json>,
    /// `missing`, `unexpected`, `mismatched` or `duplicate`.
    pub kind: &'static str,
    /// `undetermined`, `in_flight` or `confirmed`.
    pub state: &'static str,
    /// The fields that differ: name → `{ expected, actual }`.
    #[schema(value_type = Object)]
    pub fields: Json,
    /// The compared fields of the expected row; null where there is none, an array where several claim the key.
    #[schema(schema_with = rows_schema)]
    pub expected: Json,
    /// The same of the actual row.
    #[schema(schema_with = rows_schema)]
    pub actual: Json,
    /// The source time at which it opened.
    pub since: String,
    /// The tick at which it opened.
    pub since_tick: Tick,
    /// While `in_flight`: it is confirmed when the actual side's source time reaches this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// What confirmed it: `deadline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<&'static str>,
    /// While `undetermined`: what holds it back. `rejected_side`: see `rejected`; `unknown_field`: a connector did not send
    /// the value of a compared field; `incomplete_transaction`: see `transaction`; `comparison`: see `held_back` of the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_by: Option<&'static str>,
    /// The upstream transaction that changed this key, and of which other rows are lacking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The sides, `expected` or `actual`, of which the key's newest record is a reject: nobody knows that side's row, so a
    /// difference that is `mismatched` has no fields then. `/api/v1/targets/{name}/rows/{key}` and `/api/v1/rejects` say why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<&'static str>,
}

/// A row's columns, null, or an array of several rows.
fn rows_schema() -> Schema {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Object, Type::Array, Type::Null])).into()
}

/// What is needed to show differences of one comparison away from the ledger.
///
/// It knows nothing that changes without the difference: what was told of a difference holds until the difference changes.
#[derive(Clone, Copy)]
pub struct Shower<'a> {
    pub plan: &'a Plan,
    pub id: ComparisonId,
}

impl<'a> Shower<'a> {
    pub fn comparison(&self) -> &'a Comparison {
        &self.plan.comparisons[self.id]
    }

    pub fn key(&self, key: &[u8]) -> String {
        show::key_text(self.plan, self.comparison(), key)
    }

    pub fn difference(&self, difference: &Difference) -> DifferenceInfo {
        let comparison = self.comparison();
        let mut object = show::difference_object(self.plan, comparison, difference);
        let mut take = |name| object.remove(name).unwrap_or_default();
        let state = difference.state;
        let grace = i64::try_from(comparison.grace.as_millis()).unwrap_or(i64::MAX);
        DifferenceInfo {
            key: self.key(&difference.key),
            key_columns: show::key_object(self.plan, comparison, &difference.key),
            kind: difference.kind.name(),
            state: state.name(),
            fields: take("fields"),
            expected: take("expected"),
            actual: take("actual"),
            since: source_time_text(difference.since.source_time),
            since_tick: difference.since.tick,
            due: (state == State::InFlight).then(|| source_time_text(difference.base.saturating_add(grace))),
            evidence: (state == State::Confirmed).then_some("deadline"),
            held_back_by: (state == State::Undetermined).then(|| held_back_by(difference)),
            transaction: match &difference.unclear {
                Some(Unclear::IncompleteTransaction(name)) if state == State::Undetermined => Some(name.to_string()),
                _ => None,
            },
            rejected: rejected(&difference.sides),
        }
    }
}

/// What about the difference itself, or the comparison, holds it back.
fn held_back_by(difference: &Difference) -> &'static str {
    match &difference.unclear {
        Some(Unclear::Rejected { .. }) => "rejected_side",
        Some(Unclear::UnknownField) => "unknown_field",
        Some(Unclear::IncompleteTransaction(_)) => "incomplete_transaction",
        None => "comparison",
    }
}

/// What holds back differences that are clear in themselves.
pub fn held_back(plan: &Plan, status: &ComparisonStatus) -> Option<String> {
    if let Some(reason) = status.state.reason() {
        return Some(format!("the comparison is stale: {reason}"));
    }
    if status.counts.of_state(State::Undetermined) == 0 {
        return None;
    }
    let source = status.expected.held_by.map_or("an input", |source| plan.sources[source].name.as_str());
    let known = match time_text(status.expected.time) {
        None => format!("source {source} of the expected side has not been read yet"),
        Some(time) => format!("the expected side is known up to {time} only, by its source {source}; what is newer waits"),
    };
    let one_or_many = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}, and which keys it touches can't be told")),
        n => Some(format!("{n} {many}, and which keys they touch can't be told")),
    };
    let rejects = one_or_many(
        status.doubts,
        "reject stands among the rows that the expected side is made of (see /api/v1/rejects)",
        "rejects stand among the rows that the expected side is made of (see /api/v1/rejects)",
    );
    let incomplete = one_or_many(status.incomplete, "upstream transaction is without all its rows", "upstream transactions are without all their rows");
    let doubts: Vec<String> = [rejects, incomplete].into_iter().flatten().collect();
    Some(if doubts.is_empty() { known } else { format!("{}, so nothing new is confirmed; {known}", doubts.join("; ")) })
}

/// The sides of which the newest record is a reject.
fn rejected(sides: &Sides) -> Vec<&'static str> {
    let both = [("expected", &sides.expected), ("actual", &sides.actual)];
    both.into_iter().filter(|(_, side)| **side == Side::Rejected).map(|(name, _)| name).collect()
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DifferencesAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub comparison: String,
    /// In the order of keys.
    pub differences: Vec<DifferenceInfo>,
    /// All that match, on this page and others; null where only a look at each would tell (`key_prefix`, `field`).
    pub total: Option<u64>,
    /// The comparison's `held_back`.
    pub held_back: Option<String>,
    /// Pass it as `cursor` for the next page; null on the last one. It stays valid over later ticks.
    pub next: Option<String>,
}

/// How far a source is read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceInfo {
    pub name: String,
    pub dataflow: String,
    pub owner: Option<String>,
    pub connection: String,
    /// The topic, or the files.
    pub log: String,
    pub format: &'static str,
    pub read: u64,
    pub applied: u64,
    pub filtered: u64,
    pub rejected: u64,
    /// Passed over because they had come before. 0 as yet: what comes again is applied again, which changes nothing.
    pub suppressed: u64,
    /// The greatest source time that its messages had.
    pub source_time: Option<String>,
    /// It is known up to this source time: further than its own messages if it is quiet and its connection is not.
    pub known_to: Option<String>,
    /// Seconds between `known_to` and now.
    pub lag_seconds: Option<f64>,
    /// Everything that the log held when it was last asked is read.
    pub caught_up: bool,
    pub behind_bytes: u64,
    /// Its connector sends a range again, which is held until it is over.
    pub replaying: Option<ReplayingInfo>,
    /// Why it is not read now.
    pub trouble: Option<String>,
    /// What happens when the schema of its messages changes: `exception`, `evolve`, `lenient` or `ignore`.
    pub schema_policy: &'static str,
    /// The newest changes of its schema, the last one last.
    pub schema_changes: Vec<SchemaChangeInfo>,
    /// The next position to read, by partition.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub positions: BTreeMap<i32, i64>,
}

impl SourceInfo {
    pub fn of(ledger: &Ledger, id: SourceId, now_ms: i64) -> SourceInfo {
        let (plan, source) = (ledger.plan(), &ledger.sources()[id]);
        let declared = &plan.sources[id];
        let counts = source.counts();
        SourceInfo {
            name: declared.name.clone(),
            dataflow: declared.dataflow.clone(),
            owner: declared.owner.clone(),
            connection: plan.connections[declared.connection].name.clone(),
            log: log_text(&declared.log),
            format: Format::name(declared.format),
            read: counts.read,
            applied: counts.applied,
            filtered: counts.filtered,
            rejected: counts.rejected,
            suppressed: counts.suppressed,
            source_time: source.time.map(source_time_text),
            known_to: source.known_to.map(source_time_text),
            lag_seconds: source.known_to.map(|time| (now_ms - time) as f64 / 1000.0),
            caught_up: source.caught_up,
            behind_bytes: source.behind_bytes,
            replaying: source.replaying.map(|of| ReplayingInfo { since: source_time_text(of.since_ms), records: of.records, bytes: of.bytes }),
            trouble: source.trouble.clone(),
            schema_policy: declared.schema_policy().name(),
            schema_changes: source.schema.iter().flat_map(|schema| &schema.changes).map(SchemaChangeInfo::of).collect(),
            positions: source.positions.iter().copied().collect(),
        }
    }
}

/// A range that a connector sends again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayingInfo {
    /// When it began.
    pub since: String,
    /// Messages and bytes that are held.
    pub records: u64,
    pub bytes: u64,
}

/// A change of the schema of a source's messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SchemaChangeInfo {
    /// The first message that has it.
    pub partition: i32,
    pub offset: i64,
    /// When the source committed that message.
    pub source_time: Option<String>,
    /// The wall clock when it was seen.
    pub seen: String,
    /// What changed, as a sentence.
    pub change: String,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Fields that are written with another type than before.
    pub retyped: Vec<RetypedInfo>,
    /// False: the source stands before this message.
    pub accepted: bool,
    /// Why it was not accepted.
    pub why: Option<String>,
}

/// A field that is written with another type than before.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RetypedInfo {
    pub name: String,
    pub from: String,
    pub to: String,
}

impl SchemaChangeInfo {
    fn of(change: &SchemaChange) -> SchemaChangeInfo {
        let retyped = |one: &Retyped| RetypedInfo { name: one.name.clone(), from: one.from.clone(), to: one.to.clone() };
        SchemaChangeInfo {
            partition: change.partition,
            offset: change.offset,
            source_time: change.source_time.map(source_time_text),
            seen: source_time_text(change.seen_ms),
            change: change.difference.to_string(),
            added: change.difference.added.clone(),
            removed: change.difference.removed.clone(),
            retyped: change.difference.retyped.iter().map(retyped).collect(),
            accepted: change.accepted,
            why: change.why.clone(),
        }
    }
}

/// What a source reads, as text.
pub fn log_text(log: &LogSpec) -> String {
    match log {
        LogSpec::Files(files) => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        LogSpec::Topic { topic, .. } => topic.clone(),
        LogSpec::Demo(table) => table.clone(),
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourcesAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub sources: Vec<SourceInfo>,
}

impl SourcesAnswer {
    pub fn of(ledger: &Ledger) -> SourcesAnswer {
        let now = now_ms();
        let sources = (0..ledger.plan().sources.len()).map(|id| SourceInfo::of(ledger, id, now)).collect();
        SourcesAnswer { as_of: AsOf::of(ledger), sources }
    }
}

/// A message or row that could not be decoded, mapped or validated, and that no good record of its key has followed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RejectInfo {
    pub source: String,
    pub code: String,
    pub cause: String,
    pub key: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// The target whose mapping rejected the row; null: the record could not be decoded.
    pub target: Option<String>,
    /// How often it stands.
    pub count: i64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RejectsAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    /// All that stand and match, also those that `limit` left off.
    pub total: i64,
    /// Sorted by source, code, cause, key and position.
    pub rejects: Vec<RejectInfo>,
}

/// A row of a target.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RowAnswerInfo {
    /// The newest closed tick of the worker that holds the row.
    pub as_of: Tick,
    pub target: String,
    pub key: String,
    /// `absent`, `row`, `duplicate` or `rejected`.
    pub state: &'static str,
    /// All columns of the row; null where there is none, an array where several claim the key.
    #[schema(schema_with = rows_schema)]
    pub row: Json,
    /// Why the key's newest record is no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<RejectInfo>,
}

/// Is it ready to be believed?
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReadyAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub ready: bool,
    #[serde(flatten)]
    pub notices: Notices,
}

/// What somebody should know.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Notices {
    /// Why answers are not to be believed now: what is hydrating, stuck, or can't be read.
    pub reasons: Vec<String>,
    /// What makes no answer false, and wants somebody all the same: no checkpoint can be taken.
    pub warnings: Vec<String>,
}
