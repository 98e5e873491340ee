//! What the user declared, once it is known to hold: the plan.
//!
//! `config` makes it from YAML, `engine` renders it, everything else reads it. Names are resolved to places in these
//! lists; a text is here only to be shown.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    engine::sql::{Scalar, SqlPlan},
    format::avro::Schemas,
    row::{Column, Type, Value},
};

pub mod cluster;
pub mod properties;

pub use properties::Properties;

pub type ConnectionId = usize;
pub type SourceId = usize;
pub type TargetId = usize;
pub type ComparisonId = usize;

/// Everything that one process of tieout does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tells this deployment from others that write to the same Kafka clusters.
    pub name: String,
    pub data_dir: PathBuf,
    /// Timely worker threads of each process.
    pub workers: usize,
    /// The process that runs it, of how many.
    pub process: Process,
    /// How often a tick is sealed.
    pub tick: Duration,
    /// How long something may stand still though it has something to do.
    pub stuck_after: Duration,
    /// How long the end of a range that a connector sends again is waited for; zero: nothing is held.
    pub replay_bound: Duration,
    /// Bytes of memory that the process may hold.
    pub memory_max: Option<u64>,
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    pub checkpoint: Checkpoints,
    pub connections: Vec<Connection>,
    /// The declared sources, then the logs of transactions.
    pub sources: Vec<Source>,
    pub transactions: Vec<Transactions>,
    /// In an order in which each reads only earlier ones.
    pub targets: Vec<Target>,
    pub comparisons: Vec<Comparison>,
    pub outputs: Vec<Output>,
    pub tests: Vec<TestCase>,
}

/// A process among those that run one plan together; the first one leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Process {
    /// The only one.
    pub const ALONE: Process = Process { index: 0, of: 1 };

    pub fn leads(self) -> bool {
        self.index == 0
    }
}

/// What of a log one process reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    All,
    Nothing,
    /// The partitions whose number leaves this `rest` when it is divided by `of`.
    Every {
        of: usize,
        rest: usize,
    },
}

impl Share {
    /// Is this partition a part of it?
    pub fn has(self, partition: i32) -> bool {
        match self {
            Share::All => true,
            Share::Nothing => false,
            Share::Every { of, rest } => partition as usize % of == rest,
        }
    }
}

/// When checkpoints are taken, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    pub interval: Duration,
    pub keep: usize,
}

/// A system that logs are read from, or written to.
#[derive(Clone, Debug)]
pub struct Connection {
    pub name: String,
    pub kind: ConnectionKind,
}

#[derive(Clone, Debug)]
pub enum ConnectionKind {
    /// A folder of files.
    File { dir: PathBuf },
    /// A Kafka cluster; `properties` are librdkafka's own settings: those of the file, and what its `tls` and `sasl` come to.
    Kafka { brokers: String, properties: Properties, registry: Option<Arc<Registry>> },
    /// The simulated departments of `tieout demo`: changes in a second, and the seed of its chances.
    Demo { seed: u64, rate: u32 },
}

/// A schema registry that speaks Confluent's REST API.
#[derive(Debug)]
pub struct Registry {
    /// Without a slash at its end.
    pub url: String,
    /// User and password, where the registry asks for them.
    pub user: Option<(String, cluster::Secret)>,
    /// What is known of its schemas; readers and writers fill it, decoders and encoders read it.
    pub schemas: Arc<Schemas>,
}

/// A table that a log of changes describes.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    /// The dataflow (file) that declares it, and that file's owner.
    pub dataflow: String,
    pub owner: Option<String>,
    pub connection: ConnectionId,
    pub log: LogSpec,
    pub format: Format,
    /// All declared columns, in order.
    pub columns: Vec<Column>,
    /// Places in `columns`. Empty: rows are counted, since nothing names one.
    pub key: Vec<usize>,
    /// How the connector writes decimals and times where the message has no schema to say it.
    pub wire: Wire,
    /// What happens when the schema of its messages changes, where the file says it.
    pub schema_change: Option<SchemaPolicy>,
    /// The columns that no row may lack, once the reader knows them; decoders read it.
    pub required: Arc<Required>,
    /// What is known of the registry's schemas, for the formats in Avro.
    pub schemas: Option<Arc<Schemas>>,
    pub comment: Option<String>,
}

impl Source {
    /// What happens when the schema of its messages changes. Messages that have none by themselves may leave out what is null;
    /// only where the file asks for it are they watched.
    pub fn schema_policy(&self) -> SchemaPolicy {
        let has_schema = matches!(self.format, Format::DebeziumJson | Format::DebeziumAvro | Format::UpsertAvro) && !self.columns.is_empty();
        self.schema_change.unwrap_or(if has_schema && !matches!(self.log, LogSpec::Demo(_)) { SchemaPolicy::Evolve } else { SchemaPolicy::Ignore })
    }
}

/// By column.
pub type Required = OnceLock<Vec<bool>>;

/// What happens when the schema of a source's messages changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaPolicy {
    /// The source stops at any change.
    Exception,
    /// It stops where a declared column is gone, or can't be read any more.
    Evolve,
    /// It never stops; changes are shown.
    Lenient,
    /// Nobody looks.
    Ignore,
}

impl SchemaPolicy {
    pub const ALL: [(&'static str, SchemaPolicy); 4] =
        [("exception", SchemaPolicy::Exception), ("evolve", SchemaPolicy::Evolve), ("lenient", SchemaPolicy::Lenient), ("ignore", SchemaPolicy::Ignore)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, policy)| *policy == self).expect("every policy is listed").0
    }
}

/// The transactions of one upstream connector: the log that says where each ends, and the sources whose rows they have.
#[derive(Clone, Debug)]
pub struct Transactions {
    /// The log of begins and ends: a source that no table is made of.
    pub log: SourceId,
    /// How long the rest of a transaction is waited for.
    pub bound: Duration,
    pub members: Vec<Member>,
}

/// A source of which transactions have rows.
#[derive(Clone, Debug)]
pub struct Member {
    pub source: SourceId,
    /// The source's table, as the log of transactions names it.
    pub collection: String,
}

/// What of a connection a source reads.
#[derive(Clone, Debug, PartialEq)]
pub enum LogSpec {
    /// Files of a folder, read one after the other as one log; they are followed as they grow, which is mostly the last one.
    Files(Vec<PathBuf>),
    /// A topic; `heartbeat` is the topic that moves its source time while the table is quiet.
    Topic { topic: String, start: Start, heartbeat: Heartbeat },
    /// A table of the simulation of `tieout demo`.
    Demo(String),
}

/// Where reading of a topic starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    Beginning,
    End,
    /// Offset by partition; a partition that is not named starts at its beginning.
    Offsets(BTreeMap<i32, i64>),
    /// The first message at or after this time, in milliseconds since the epoch.
    Time(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Heartbeat {
    /// `__debezium-heartbeat.PREFIX` of the topic's prefix, if there is such a topic.
    Auto,
    Topic(String),
    None,
}

impl Heartbeat {
    /// The topic to which the connector that writes a topic sends heartbeats, by its prefix.
    pub fn of(topic: &str) -> Option<String> {
        topic.split_once('.').map(|(prefix, _)| format!("__debezium-heartbeat.{prefix}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DebeziumJson,
    UpsertJson,
    DebeziumAvro,
    UpsertAvro,
    /// Each message is a row; nothing is ever taken back.
    Json,
}

impl Format {
    pub const ALL: [(&'static str, Format); 5] = [
        ("debezium-json", Format::DebeziumJson),
        ("upsert-json", Format::UpsertJson),
        ("debezium-avro", Format::DebeziumAvro),
        ("upsert-avro", Format::UpsertAvro),
        ("json", Format::Json),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, f)| *f == self).expect("every format is listed").0
    }

    /// Schemas of a registry say how its messages are written.
    pub fn is_avro(self) -> bool {
        self.in_text() != self
    }

    /// The format that has the same messages as text: how they are written in tests, and shown.
    pub fn in_text(self) -> Format {
        match self {
            Format::DebeziumAvro => Format::DebeziumJson,
            Format::UpsertAvro => Format::UpsertJson,
            text => text,
        }
    }
}

/// How decimals, times and bytes stand in messages without a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wire {
    pub decimals: WireDecimals,
    pub times: WireTimes,
    /// Bytes are hexadecimal digits (`binary.handling.mode` `hex`), not base64. A schema does not tell the two apart.
    pub hex: bool,
}

/// How decimals stand in messages without a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireDecimals {
    /// Text or numbers (`decimal.handling.mode` `string` or `double`).
    #[default]
    Text,
    /// Every string is base64 of the unscaled value at the declared scale (`precise`, which is the connector's default);
    /// "1234" is base64, too.
    Precise,
}

/// The unit of a number that stands for a time or timestamp (Debezium's `time.precision.mode`). Text is always ISO 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireTimes {
    /// Milliseconds for a declared precision up to 3, microseconds up to 6.
    #[default]
    Adaptive,
    /// The same, but for times of day, which are always in microseconds: MariaDB's and MySQL's default.
    AdaptiveTimeMicroseconds,
    Microseconds,
    /// Milliseconds whatever the precision.
    Connect,
    Nanoseconds,
}

/// A table that should exist.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub dataflow: String,
    pub owner: Option<String>,
    pub columns: Vec<Column>,
    /// Places in `columns`.
    pub key: Vec<usize>,
    pub mapping: Mapping,
    /// The hash of the mapping's meaning, in hex.
    pub version: String,
    pub comment: Option<String>,
    /// Comment and tags by column.
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    pub comment: Option<String>,
    pub tags: Vec<String>,
}

/// A table that a mapping reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TableRef {
    Source(SourceId),
    Target(TargetId),
}

#[derive(Clone, Debug)]
pub enum Mapping {
    Fields(FieldMapping),
    Sql(SqlPlan),
}

/// A mapping row by row.
#[derive(Clone, Debug)]
pub struct FieldMapping {
    pub from: TableRef,
    /// Rows on which this is not true have no row in the target.
    pub filter: Option<Scalar>,
    /// As many as the target has columns.
    pub fields: Vec<FieldRule>,
    /// Target columns that must not be NULL: `REQUIRED_VALUE_MISSING` otherwise.
    pub require: Vec<usize>,
}

/// How one target column comes to its value. First `value`, then, if that is NULL or missing, the policy.
#[derive(Clone, Debug)]
pub struct FieldRule {
    pub value: FieldValue,
    /// What happens to NULL (and to a column that the message lacks, unless `on_missing` says otherwise).
    pub on_null: NullPolicy,
    /// What happens when a column that `value` is (a plain column only) is lacking in the message.
    pub on_missing: Option<NullPolicy>,
    /// What happens to the empty text; `None`: it is a value like any other.
    pub on_empty: Option<NullPolicy>,
}

#[derive(Clone, Debug)]
pub enum FieldValue {
    /// A column of the input, converted to the target column's type if that is another.
    Column(usize),
    Expression(Scalar),
    /// A map from values of an input; values of `when` have the type of the target column.
    Case {
        input: CaseInput,
        when: Vec<(Value, Value)>,
        otherwise: Otherwise,
    },
}

#[derive(Clone, Debug)]
pub enum CaseInput {
    Column(usize),
    Expression(Scalar),
}

#[derive(Clone, Debug)]
pub enum Otherwise {
    /// A value that no rule knows is a reject, `MAPPING_NOT_FOUND`. (NULL is left to the null policy.)
    Reject,
    Value(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub enum NullPolicy {
    Pass,
    Default(Value),
    /// The row is not in the target.
    Drop,
    /// The row is a reject, `NULL_VALUE`.
    Reject,
    /// tieout stops with the place.
    Fail,
}

/// Two tables that should agree, matched by key.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub name: String,
    pub dataflow: String,
    pub owner: Option<String>,
    pub expected: TableRef,
    pub actual: TableRef,
    /// The type in which each key column is matched, with the expected side's name.
    pub key: Vec<KeyPair>,
    /// The compared fields, with the expected side's name and the type that holds both sides' values.
    pub fields: Vec<FieldPair>,
    pub grace: Duration,
    /// How long a side's time may stand still before the comparison is `stale`.
    pub stale_after: Duration,
    pub totals: Vec<TotalSpec>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyPair {
    pub name: String,
    pub ty: Type,
    /// Places in the columns of each side.
    pub expected: usize,
    pub actual: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldPair {
    pub name: String,
    pub ty: Type,
    pub expected: usize,
    pub actual: usize,
}

/// A declared sum of a comparison: a field of `fields`, by fields of `fields` or of the key.
#[derive(Clone, Debug, PartialEq)]
pub struct TotalSpec {
    pub sum: String,
    pub by: Vec<String>,
}

/// A table, or the differences of a comparison, written to a topic or a file.
#[derive(Clone, Debug)]
pub struct Output {
    pub what: OutputOf,
    pub connection: ConnectionId,
    /// The topic, or the file's name in the connection's folder.
    pub to: String,
    /// Any but `Json`.
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputOf {
    Table(TargetId),
    Differences(ComparisonId),
}

/// A test written in a dataflow file.
#[derive(Clone, Debug)]
pub struct TestCase {
    pub name: String,
    pub dataflow: String,
    pub file: PathBuf,
    pub line: usize,
    pub steps: Vec<Step>,
}

/// A step; `line` is where it stands.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Messages by source, each the JSON text of an event in the source's format.
    Feed(Vec<(SourceId, Vec<String>)>),
    /// Moves the source time of all sources forward.
    Advance(Duration),
    /// Everything ends, and goes on from a checkpoint, with so many workers (`None`: as many as before).
    Restart(Option<usize>),
    /// What must hold now, by table, comparison or `rejects`: rows as JSON objects of the columns that matter.
    Expect(Vec<(Expectation, Vec<serde_json::Map<String, serde_json::Value>>)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expectation {
    Target(TargetId),
    Comparison(ComparisonId),
    Rejects,
}

impl Plan {
    /// The columns of a table.
    pub fn columns(&self, table: TableRef) -> &[Column] {
        match table {
            TableRef::Source(id) => &self.sources[id].columns,
            TableRef::Target(id) => &self.targets[id].columns,
        }
    }

    /// The workers of all processes.
    pub fn all_workers(&self) -> usize {
        self.workers.max(1) * self.process.of
    }

    /// What this process reads of a source. The partitions of a topic are spread, and so that topics of one partition are spread,
    /// too; files and simulations are read by one, and so are all sources that wait for each other's transactions.
    pub fn share(&self, source: SourceId) -> Share {
        let Process { index, of } = self.process;
        let whole = |number: usize| if number % of == index { Share::All } else { Share::Nothing };
        let group = self.transactions.iter().position(|group| group.log == source || group.members.iter().any(|member| member.source == source));
        match (group, &self.sources[source].log) {
            _ if of == 1 => Share::All,
            (Some(group), _) => whole(group),
            (None, LogSpec::Topic { .. }) => Share::Every { of, rest: (index + source) % of },
            (None, LogSpec::Files(_) | LogSpec::Demo(_)) => whole(source),
        }
    }

    /// The file that an output is written to; nothing: it goes elsewhere.
    pub fn file_of(&self, output: &Output) -> Option<PathBuf> {
        match &self.connections[output.connection].kind {
            ConnectionKind::File { dir } => Some(dir.join(&output.to)),
            _ => None,
        }
    }

    /// The columns whose values an output writes in base64, as Debezium has bytes, and not in hexadecimal digits.
    pub fn base64_of(&self, output: &Output) -> Vec<&str> {
        let OutputOf::Table(target) = output.what else { return Vec::new() };
        let bytes = |column: &&Column| output.format == Format::DebeziumJson && column.ty == Type::Bytes;
        self.targets[target].columns.iter().filter(bytes).map(|column| column.name.as_str()).collect()
    }

    /// The key of a table, as places in its columns.
    pub fn key(&self, table: TableRef) -> &[usize] {
        match table {
            TableRef::Source(id) => &self.sources[id].key,
            TableRef::Target(id) => &self.targets[id].key,
        }
    }

    /// The name of a table.
    pub fn table_name(&self, table: TableRef) -> &str {
        match table {
            TableRef::Source(id) => &self.sources[id].name,
            TableRef::Target(id) => &self.targets[id].name,
        }
    }

    /// The sources that a table is computed from.
    pub fn sources_of(&self, table: TableRef) -> Vec<SourceId> {
        let mut found = Vec::new();
        let mut todo = vec![table];
        while let Some(table) = todo.pop() {
            match table {
                TableRef::Source(id) if !found.contains(&id) => found.push(id),
                TableRef::Source(_) => {}
                TableRef::Target(id) => match &self.targets[id].mapping {
                    Mapping::Fields(mapping) => todo.push(mapping.from),
                    Mapping::Sql(sql) => todo.extend(&sql.inputs),
                },
            }
        }
        found.sort_unstable();
        found
    }
}
