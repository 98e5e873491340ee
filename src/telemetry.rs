//! What tieout says of itself: metrics, and named events, each of which emits its log line and its metrics.
//!
//! Metrics that tell what stands are set from the ledger when they are asked for ([`page`]), so that all numbers of a page
//! are of one tick. What happens between two pages is counted by the events below. The list of metrics is one literal,
//! [`METRICS`]; the registry and the reference in the docs are made from it.

use std::{
    fmt::Write as _,
    sync::{LazyLock, Mutex},
};

pub use prometheus::TEXT_FORMAT;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::{
    checkpoint::{CheckpointError, Manifest},
    clock::{gate::News, resent},
    format::evolution::SchemaChange,
    ledger::{Cause, ComparisonState, Kind, Ledger, Stale, State, TickOutput},
    memory,
    plan::{Plan, TableRef},
    watchdog::Stuck,
};

/// A metric, as the reference tells it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($field:ident: $kind:ident [$($label:literal),*] $name:literal $help:literal;)*) => {
        /// All metrics of the process.
        pub struct Metrics {
            registry: Registry,
            /// Held while a page is made: its counters are set, not counted.
            page: Mutex<()>,
            $(#[doc = $help] pub $field: $kind,)*
        }

        /// Every metric, in the order of the reference.
        pub const METRICS: &[Metric] =
            &[$(Metric { name: $name, kind: <$kind as Series>::NAME, labels: &[$($label),*], help: $help },)*];

        impl Metrics {
            fn new() -> Metrics {
                let registry = Registry::new();
                $(let $field = <$kind as Series>::of(Opts::new($name, $help), &[$($label),*]);
                registry.register(Box::new($field.clone())).expect("every metric has its own name");)*
                Metrics { registry, page: Mutex::new(()), $($field,)* }
            }
        }
    };
}

metrics! {
    differences: IntGaugeVec ["comparison", "kind", "state"] "tieout_differences"
        "Differences that stand as of the newest closed tick; none are shown while hydrating.";
    comparison_state: IntGaugeVec ["comparison", "state"] "tieout_comparison_state"
        "1 for the state that the comparison is in, 0 for the others.";
    comparison_stale: IntGaugeVec ["comparison", "cause"] "tieout_comparison_stale"
        "1 for what makes the comparison stale (`schema`, `trouble` or `still`), 0 for the others.";
    hydrated: IntGaugeVec [] "tieout_hydrated"
        "1 once the backlog that existed at the start is covered and differences are shown.";
    records_read: IntCounterVec ["source"] "tieout_records_read_total"
        "Messages read from the source's log.";
    records_applied: IntCounterVec ["source"] "tieout_records_applied_total"
        "Records that changed, or confirmed, a row of the source's table.";
    records_filtered: IntCounterVec ["source"] "tieout_records_filtered_total"
        "Records that no table wants: filtered out by a mapping, or of no meaning for the table.";
    records_rejected: IntCounterVec ["source"] "tieout_records_rejected_total"
        "Records that could not be decoded, mapped or validated, whether or not they were mended later.";
    records_suppressed: IntCounterVec ["source"] "tieout_records_suppressed_total"
        "Records that were passed over because they had come before. 0 as yet: what comes again is applied again, which changes nothing, and counts as that.";
    partition_records: IntCounterVec ["source", "partition", "fate"] "tieout_partition_records_total"
        "Messages by partition and what became of them; `read` is the sum of `applied`, `filtered`, `rejected` and `suppressed`.";
    rejects: IntGaugeVec ["source"] "tieout_rejects"
        "Rejects that stand: no good record of their key has followed.";
    frontier_lag: GaugeVec ["source"] "tieout_frontier_lag_seconds"
        "Seconds since the newest closed tick at which the source was read to its end; grows while a backlog is read, or the source is in trouble.";
    source_time_lag: GaugeVec ["source"] "tieout_source_time_lag_seconds"
        "Seconds between now and the source time up to which the source is known; absent until it showed one.";
    source_behind: IntGaugeVec ["source"] "tieout_source_behind_bytes"
        "Bytes of the log that are known and not read yet.";
    source_trouble: IntGaugeVec ["source"] "tieout_source_trouble"
        "1 while the source can't be read.";
    schema_changes: IntCounterVec ["source", "verdict"] "tieout_source_schema_changes_total"
        "Changes of the schema of the source's messages, by verdict: `accepted` or `refused`; absent where nobody looks.";
    schema_refused: IntGaugeVec ["source"] "tieout_source_schema_refused"
        "1 while the source stands before a change of its schema that is not accepted.";
    stuck: IntGaugeVec ["code", "name"] "tieout_stuck"
        "1 while a reader, a partition, an output or the engine has stood still for longer than `stuck_after` though it has something to do.";
    tick_seconds: HistogramVec [] "tieout_tick_seconds"
        "Seconds from the seal of a tick until every worker has closed it.";
    closed_tick: GaugeVec [] "tieout_closed_tick_timestamp_seconds"
        "The wall clock at which the newest closed tick was sealed, in seconds since the epoch.";
    state_bytes: IntGaugeVec [] "tieout_state_bytes"
        "Bytes that the workers hold: tables and arrangements.";
    memory_bytes: IntGaugeVec [] "tieout_memory_bytes"
        "Bytes of memory that the process holds, pages of files included.";
    file_bytes: IntGaugeVec [] "tieout_memory_file_bytes"
        "Bytes of state that are in a file, since memory came close to `memory_max`.";
    table_rows: IntGaugeVec ["table"] "tieout_table_rows"
        "Rows of a table as of the newest closed tick.";
    transactions_held: IntGaugeVec ["log"] "tieout_transactions_held"
        "Upstream transactions that wait for the rest of their rows.";
    transactions_held_bytes: IntGaugeVec ["log"] "tieout_transactions_held_bytes"
        "Bytes of messages that wait for, or behind, the rest of a transaction.";
    transactions_incomplete: IntGaugeVec ["log"] "tieout_transactions_incomplete"
        "Upstream transactions that are shown though some of their rows are lacking, of which it is known what they touched.";
    transactions_older: IntGaugeVec ["log"] "tieout_transactions_incomplete_older"
        "More of these than are kept each: while there are some, no comparison of their sources confirms anything new.";
    replays: IntCounterVec ["source"] "tieout_replays_total"
        "Ranges that the source's connector sent again.";
    replayed: IntCounterVec ["source"] "tieout_replayed_records_total"
        "Records of those ranges that had come before.";
    replays_released: IntCounterVec ["source"] "tieout_replays_released_total"
        "Ranges that went on before their end had come: older states were shown.";
    replay_records: IntGaugeVec ["source"] "tieout_replay_held_records"
        "Messages that are held until the range that is sent again is over.";
    replay_bytes: IntGaugeVec ["source"] "tieout_replay_held_bytes"
        "Bytes of those messages.";
    queue_rows: IntGaugeVec [] "tieout_queue_rows"
        "Messages that are read and not yet handed to a worker; a full queue makes readers wait.";
    difference_changes: IntCounterVec [] "tieout_difference_changes_total"
        "Changes of differences that the workers made, shown or not.";
    checkpoint_taken: GaugeVec [] "tieout_checkpoint_timestamp_seconds"
        "The wall clock of the tick of the newest checkpoint, in seconds since the epoch; 0 before the first.";
    checkpoint_seconds: HistogramVec [] "tieout_checkpoint_seconds"
        "Seconds that a checkpoint took, beside everything else.";
    checkpoint_bytes: IntGaugeVec [] "tieout_checkpoint_bytes"
        "Bytes of all files that the newest checkpoint needs.";
    checkpoint_failures: IntCounterVec [] "tieout_checkpoint_failures_total"
        "Checkpoints that could not be taken.";
    subscribers: IntGaugeVec [] "tieout_subscribers"
        "Open subscriptions over HTTP.";
    subscribers_cut: IntCounterVec [] "tieout_subscribers_cut_total"
        "Subscriptions that were ended because the subscriber read too slowly.";
    http_requests: IntCounterVec ["status"] "tieout_http_requests_total"
        "Answers over HTTP, by status code.";
    strangers: IntCounterVec ["code"] "tieout_cluster_strangers_total"
        "Connections to the cluster's address that were refused: they are of no process of the cluster.";
    build: IntGaugeVec ["version"] "tieout_build_info"
        "Always 1; the label tells the version.";
}

/// Ticks are closed within milliseconds, or something is in the way.
const TICK_SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// A kind of metric.
trait Series: Sized {
    const NAME: &'static str;
    fn of(opts: Opts, labels: &[&str]) -> Self;
}

macro_rules! series {
    ($($kind:ident $name:literal $opts:expr;)*) => {
        $(impl Series for $kind {
            const NAME: &'static str = $name;
            fn of(opts: Opts, labels: &[&str]) -> Self {
                let series = $kind::new($opts(opts), labels).expect("names and labels of metrics are valid");
                // One without labels is there from the start, at zero.
                if labels.is_empty() {
                    series.with_label_values::<&str>(&[]);
                }
                series
            }
        })*
    };
}

series! {
    IntGaugeVec "gauge" std::convert::identity;
    GaugeVec "gauge" std::convert::identity;
    IntCounterVec "counter" std::convert::identity;
    HistogramVec "histogram" |opts| HistogramOpts { common_opts: opts, buckets: TICK_SECONDS.to_vec() };
}

static ALL: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    &ALL
}

/// The reference of metrics, in Markdown.
pub fn reference() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let labels = metric.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help);
    }
    out
}

/// The page of metrics as of the ledger's newest closed tick, in Prometheus' text format; `now_ms` is the wall clock.
pub fn page(ledger: &Ledger, now_ms: i64) -> String {
    let metrics = metrics();
    let _page = metrics.page.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    metrics.set(ledger, now_ms);
    text(&metrics.registry.gather())
}

/// The same of a process without a ledger: what it has counted by itself, and its memory. What it does not know is absent.
pub fn own_page() -> String {
    metrics().set_memory();
    let value = |m: &prometheus::proto::Metric| m.get_gauge().get_value() + m.get_counter().get_value() + m.get_histogram().get_sample_count() as f64;
    let known = metrics().registry.gather().into_iter().filter(|family| family.get_metric().iter().any(|metric| value(metric) != 0.0));
    text(&known.collect::<Vec<_>>())
}

fn text(families: &[prometheus::proto::MetricFamily]) -> String {
    TextEncoder::new().encode_to_string(families).unwrap_or_else(|e| format!("# {e}\n"))
}

impl Metrics {
    fn set_memory(&self) {
        let none: [&str; 0] = [];
        self.memory_bytes.with_label_values(&none).set(memory::held() as i64);
        self.file_bytes.with_label_values(&none).set(memory::file_bytes() as i64);
    }

    fn set(&self, ledger: &Ledger, now_ms: i64) {
        let plan = ledger.plan();
        let none: [&str; 0] = [];
        let total = |counter: &IntCounterVec, labels: &[&str], n: u64| {
            let counter = counter.with_label_values(labels);
            counter.inc_by(n.saturating_sub(counter.get()));
        };
        for (id, comparison) in plan.comparisons.iter().enumerate() {
            let (name, status) = (comparison.name.as_str(), ledger.status(id));
            for kind in Kind::ALL {
                for state in State::ALL {
                    let count = status.counts.of(kind, state) as i64;
                    self.differences.with_label_values(&[name, kind.name(), state.name()]).set(count);
                }
            }
            for state in ComparisonState::NAMES {
                self.comparison_state.with_label_values(&[name, state]).set(i64::from(state == status.state.name()));
            }
            for cause in Cause::ALL {
                self.comparison_stale.with_label_values(&[name, cause.name()]).set(i64::from(status.state.cause() == Some(cause)));
            }
            for (table, side) in [(comparison.expected, &status.expected), (comparison.actual, &status.actual)] {
                self.table_rows.with_label_values(&[plan.table_name(table)]).set(side.rows as i64);
            }
        }
        for (id, target) in plan.targets.iter().enumerate() {
            self.table_rows.with_label_values(&[target.name.as_str()]).set(ledger.rows(TableRef::Target(id)) as i64);
        }
        let mut rejects = vec![0; plan.sources.len()];
        for (reject, weight) in ledger.rejects() {
            rejects[reject.source] += weight;
        }
        for (id, source) in ledger.sources().iter().enumerate() {
            let name = [plan.sources[id].name.as_str()];
            let counts = source.counts();
            total(&self.records_read, &name, counts.read);
            total(&self.records_applied, &name, counts.applied);
            total(&self.records_filtered, &name, counts.filtered);
            total(&self.records_rejected, &name, counts.rejected);
            total(&self.records_suppressed, &name, counts.suppressed);
            for (partition, counts) in &source.counts {
                let partition = partition.to_string();
                for (fate, count) in counts.named() {
                    total(&self.partition_records, &[name[0], &partition, fate], count);
                }
            }
            self.rejects.with_label_values(&name).set(rejects[id]);
            self.source_behind.with_label_values(&name).set(source.behind_bytes as i64);
            self.source_trouble.with_label_values(&name).set(i64::from(source.trouble.is_some()));
            self.replay_records.with_label_values(&name).set(source.replaying.map_or(0, |of| of.records as i64));
            self.replay_bytes.with_label_values(&name).set(source.replaying.map_or(0, |of| of.bytes as i64));
            if let Some(schema) = &source.schema {
                total(&self.schema_changes, &[name[0], "accepted"], schema.accepted);
                total(&self.schema_changes, &[name[0], "refused"], schema.refused_ever);
                self.schema_refused.with_label_values(&name).set(i64::from(source.refused));
            }
            if source.caught_up_ms != 0 {
                self.frontier_lag.with_label_values(&name).set((now_ms - source.caught_up_ms) as f64 / 1000.0);
            }
            if let Some(known_to) = source.known_to {
                self.source_time_lag.with_label_values(&name).set((now_ms - known_to) as f64 / 1000.0);
            }
        }
        self.hydrated.with_label_values(&none).set(i64::from(ledger.hydrated()));
        self.closed_tick.with_label_values(&none).set(ledger.wall_ms() as f64 / 1000.0);
        self.set_memory();
        self.state_bytes.with_label_values(&none).set(ledger.state_bytes() as i64);
        total(&self.difference_changes, &none, ledger.difference_changes());
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }
}

/// A tick was closed and applied.
pub struct TickClosed<'a> {
    pub output: &'a TickOutput,
}

impl TickClosed<'_> {
    pub fn emit(self) {
        let output = self.output;
        metrics().tick_seconds.with_label_values::<&str>(&[]).observe(output.seconds);
        let changes: usize = output.changes.comparisons.iter().map(|(_, changes)| changes.len()).sum();
        tracing::trace!(tick = output.tick, changes, rows = output.rows.len(), seconds = output.seconds, "tick closed");
        if let Some(failure) = &output.failure {
            tracing::error!(tick = output.tick, %failure, "a mapping asks to stop");
        }
    }
}

/// A comparison came into another state.
pub struct ComparisonTurned<'a> {
    pub comparison: &'a str,
    pub from: &'a ComparisonState,
    pub to: &'a ComparisonState,
    pub differences: u64,
}

impl ComparisonTurned<'_> {
    pub fn emit(self) {
        let (from, to) = (self.from.name(), self.to.name());
        match self.to {
            ComparisonState::Stale(Stale { cause, reason }) => {
                tracing::warn!(comparison = self.comparison, from, to, cause = cause.name(), %reason, "comparison turned stale");
            }
            _ => tracing::info!(comparison = self.comparison, from, to, differences = self.differences, "comparison turned {to}"),
        }
    }
}

/// A source can't be read now, or can be again (`trouble` is `None`).
pub struct SourceTurned<'a> {
    pub source: &'a str,
    pub trouble: Option<&'a str>,
}

impl SourceTurned<'_> {
    pub fn emit(self) {
        match self.trouble {
            Some(trouble) => tracing::warn!(source = self.source, trouble, "source can't be read"),
            None => tracing::info!(source = self.source, "source is read again"),
        }
    }
}

/// The schema of a source's messages changed.
pub struct SchemaTurned<'a> {
    pub source: &'a str,
    pub change: &'a SchemaChange,
}

impl SchemaTurned<'_> {
    pub fn emit(self) {
        let SchemaChange { partition, offset, difference, accepted, why, .. } = self.change;
        let (code, source) = ("SCHEMA_CHANGED", self.source);
        match why {
            Some(why) => tracing::error!(code, source, partition, offset, change = %difference, why, "schema changed, and the source stops there"),
            None => tracing::warn!(code, source, partition, offset, change = %difference, accepted, "schema changed, and is accepted"),
        }
    }
}

/// Something has stood still for too long (`now`), or moves again.
pub struct StuckTurned<'a> {
    pub stuck: &'a Stuck,
    pub now: bool,
}

impl StuckTurned<'_> {
    pub fn emit(self) {
        let Stuck { code, name, text } = self.stuck;
        if self.now {
            metrics().stuck.with_label_values(&[code, name.as_str()]).set(1);
            tracing::error!(code, name, "{text}");
        } else {
            let _ = metrics().stuck.remove_label_values(&[code, name.as_str()]);
            tracing::info!(code, name, "moves again");
        }
    }
}

/// Somebody who is no process of the cluster was refused; `unsaid`: of how many like it nothing was said before.
pub struct StrangerRefused<'a> {
    pub code: &'a str,
    pub from: std::net::SocketAddr,
    pub why: &'a str,
    pub says: bool,
    pub unsaid: u64,
}

impl StrangerRefused<'_> {
    pub fn emit(self) {
        metrics().strangers.with_label_values(&[self.code]).inc();
        if self.says {
            tracing::warn!(code = self.code, from = %self.from, unsaid = self.unsaid, "a stranger at the cluster's address was refused: {}", self.why);
        }
    }
}

/// Memory came close to its limit: state goes to a file from now on.
pub struct MemoryShort {
    pub held: u64,
    pub most: u64,
}

impl MemoryShort {
    pub fn emit(self) {
        tracing::warn!(held = self.held, memory_max = self.most, "memory is short: what the state grows by goes to a file in data_dir");
    }
}

/// A record was rejected (`weight` 1), or a good record of its key followed (-1).
pub struct RejectMoved<'a> {
    pub plan: &'a Plan,
    pub reject: &'a crate::engine::Reject,
    pub weight: i64,
}

impl RejectMoved<'_> {
    pub fn emit(self) {
        let (source, reject) = (&self.plan.sources[self.reject.source].name, self.reject);
        let (code, cause, key) = (reject.code, &reject.cause, reject.key.as_deref().unwrap_or(""));
        let (partition, offset) = (reject.partition, reject.offset);
        if self.weight > 0 {
            tracing::debug!(%source, code, %cause, key, partition, offset, "record rejected");
        } else {
            tracing::debug!(%source, code, key, partition, offset, "reject mended");
        }
    }
}

/// The queue between readers and workers holds so many messages now.
pub struct QueueMeasured {
    pub rows: u64,
}

impl QueueMeasured {
    pub fn emit(self) {
        metrics().queue_rows.with_label_values::<&str>(&[]).set(self.rows as i64);
    }
}

/// So much is held for transactions of a log.
pub struct TransactionsMeasured<'a> {
    pub log: &'a str,
    pub held: usize,
    pub bytes: u64,
    pub incomplete: usize,
    pub older: u64,
}

impl TransactionsMeasured<'_> {
    pub fn emit(self) {
        metrics().transactions_held.with_label_values(&[self.log]).set(self.held as i64);
        metrics().transactions_held_bytes.with_label_values(&[self.log]).set(self.bytes as i64);
        metrics().transactions_incomplete.with_label_values(&[self.log]).set(self.incomplete as i64);
        metrics().transactions_older.with_label_values(&[self.log]).set(self.older as i64);
    }
}

/// A transaction goes on without all of its rows, or no longer lacks any.
pub struct TransactionTurned<'a> {
    pub news: &'a News,
}

impl TransactionTurned<'_> {
    pub fn emit(self) {
        match self.news {
            News::Incomplete { name, why, seen } => {
                let of = |(source, seen, count): &(String, u64, Option<u64>)| match count {
                    Some(count) => format!("{source} {seen} of {count}"),
                    None => format!("{source} {seen}"),
                };
                let seen = seen.iter().map(of).collect::<Vec<_>>().join(", ");
                tracing::warn!(code = "TRANSACTION_INCOMPLETE", transaction = %name, why = why.text(), seen, "a transaction is shown without all of its rows");
            }
            News::Many { name, stands: true } => tracing::warn!(
                code = "TRANSACTIONS_INCOMPLETE_MANY",
                transactions = %name,
                "many transactions stand incomplete: what the oldest touched is not kept, and until their rows have come nothing new is confirmed of their tables"
            ),
            News::Many { name, stands: false } => tracing::info!(transactions = %name, "nothing more of the oldest incomplete transactions is awaited"),
            News::Settled { name } => tracing::info!(transaction = %name, "nothing more of an incomplete transaction is awaited"),
        }
    }
}

/// A connector sends a range again, or has done so.
pub struct ReplayTurned<'a> {
    pub source: &'a str,
    pub news: &'a resent::News,
}

impl ReplayTurned<'_> {
    pub fn emit(self) {
        let source = self.source;
        match self.news {
            resent::News::Began => tracing::info!(source, "a range is sent again: what comes is held until it is over"),
            resent::News::Ended { copies, ms } => {
                metrics().replays.with_label_values(&[source]).inc();
                metrics().replayed.with_label_values(&[source]).inc_by(*copies);
                tracing::info!(source, copies, seconds = *ms as f64 / 1000.0, "a range that was sent again is over");
            }
            resent::News::Released { why, held, ms } => {
                metrics().replays.with_label_values(&[source]).inc();
                metrics().replays_released.with_label_values(&[source]).inc();
                let (why, seconds) = (why.text(), *ms as f64 / 1000.0);
                tracing::warn!(
                    code = "REPLAY_RELEASED",
                    source,
                    why,
                    held,
                    seconds,
                    "a range that is sent again goes on as it is: older states are shown until it is over"
                );
            }
            resent::News::Restarted => {
                tracing::warn!(code = "POSITIONS_RESTARTED", source, "positions of the database's log went back: it was restored, or is another one");
            }
        }
    }
}

/// A checkpoint is in place.
pub struct CheckpointTaken<'a> {
    pub manifest: &'a Manifest,
    pub seconds: f64,
}

impl CheckpointTaken<'_> {
    pub fn emit(self) {
        let Manifest { tick, entries, ledger, .. } = self.manifest;
        let bytes: u64 = entries.iter().map(|file| file.bytes).sum();
        metrics().checkpoint_taken.with_label_values::<&str>(&[]).set(ledger.wall_ms as f64 / 1000.0);
        metrics().checkpoint_seconds.with_label_values::<&str>(&[]).observe(self.seconds);
        metrics().checkpoint_bytes.with_label_values::<&str>(&[]).set(bytes as i64);
        tracing::debug!(tick, bytes, files = entries.len(), seconds = self.seconds, "checkpoint taken");
    }
}

/// A checkpoint could not be taken; the one before stands.
pub struct CheckpointFailed<'a> {
    pub error: &'a CheckpointError,
}

impl CheckpointFailed<'_> {
    pub fn emit(self) {
        metrics().checkpoint_failures.with_label_values::<&str>(&[]).inc();
        tracing::error!("{}", self.error);
    }
}

/// A subscription began.
pub struct SubscriberCame<'a> {
    pub comparison: &'a str,
}

impl SubscriberCame<'_> {
    pub fn emit(self) {
        metrics().subscribers.with_label_values::<&str>(&[]).inc();
        tracing::debug!(comparison = self.comparison, "subscriber came");
    }
}

/// A subscription ended; `cut`: because it was too slow.
pub struct SubscriberLeft<'a> {
    pub comparison: &'a str,
    pub cut: bool,
}

impl SubscriberLeft<'_> {
    pub fn emit(self) {
        metrics().subscribers.with_label_values::<&str>(&[]).dec();
        if self.cut {
            metrics().subscribers_cut.with_label_values::<&str>(&[]).inc();
            tracing::warn!(comparison = self.comparison, "subscriber was cut: it read too slowly");
        }
    }
}

/// A request was answered.
pub struct HttpAnswered<'a> {
    pub path: &'a str,
    pub status: u16,
}

impl HttpAnswered<'_> {
    pub fn emit(self) {
        metrics().http_requests.with_label_values(&[self.status.to_string().as_str()]).inc();
        tracing::trace!(path = self.path, status = self.status, "answered");
    }
}

#[cfg(test)]
mod tests;
