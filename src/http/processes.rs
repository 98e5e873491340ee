//! `/processes`: the processes that run the dataflow together, what each reads and holds.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, answer::AsOf};

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProcessesAnswer {
    #[serde(flatten)]
    pub as_of: AsOf,
    /// By index; of a run in one process there is one.
    pub processes: Vec<ProcessInfo>,
}

/// One process.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProcessInfo {
    pub process: usize,
    /// It seals ticks, keeps what differs, and writes outputs and checkpoints.
    pub leads: bool,
    pub workers: usize,
    /// Where it serves HTTP, as it says itself; null: not at all, or not known yet.
    pub http: Option<String>,
    /// Bytes of memory that it holds, and how many of them its workers' tables and arrangements.
    pub memory_bytes: u64,
    pub state_bytes: u64,
    /// Chunks of messages that are handed to its workers and not decoded yet.
    pub queue_chunks: u64,
    /// What it reads.
    pub reads: Vec<ReadsInfo>,
}

/// How far a process has read its share of a source.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReadsInfo {
    pub source: String,
    pub partitions: Vec<PartitionInfo>,
    pub behind_bytes: u64,
    pub trouble: Option<String>,
}

/// A partition, or a file.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PartitionInfo {
    pub partition: i32,
    /// The next position to be read.
    pub next: i64,
    /// The end of the log, as far as that is known.
    pub end: Option<i64>,
}

/// The processes that run the dataflow together.
#[utoipa::path(get, path = "/api/v1/processes", tag = "health", responses((status = 200, body = ProcessesAnswer)))]
pub async fn processes(State(app): State<App>) -> Json<ProcessesAnswer> {
    let shown = app.processes.list();
    let ledger = app.ledger.read();
    let of = |(index, process): (usize, crate::processes::Process)| ProcessInfo {
        process: index,
        leads: index == 0,
        workers: app.plan.workers.max(1),
        http: process.http,
        memory_bytes: process.memory_bytes,
        state_bytes: ledger.state_bytes_of(index),
        queue_chunks: process.queue_chunks,
        reads: process
            .sources
            .into_iter()
            .map(|reads| ReadsInfo {
                source: app.plan.sources[reads.source].name.clone(),
                partitions: reads.partitions.iter().map(|p| PartitionInfo { partition: p.partition, next: p.next, end: p.end }).collect(),
                behind_bytes: reads.behind_bytes,
                trouble: reads.trouble,
            })
            .collect(),
    };
    Json(ProcessesAnswer { as_of: AsOf::of(&ledger), processes: shown.into_iter().enumerate().map(of).collect() })
}
