//! tieout: live reconciliation.
//!
//! The arrow of dependencies goes one way: `cli` → `pipeline` → (`log`, `format`, `sink`, `http`, `ledger`) → `engine` →
//! timely, differential dataflow and DataFusion's planner crates. See ARCHITECTURE.md.

pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod export;
pub mod failpoint;
pub mod format;
pub mod http;
pub mod http_client;
pub mod ledger;
pub mod log;
pub mod memory;
pub mod pipeline;
pub mod plan;
pub mod processes;
pub mod reference;
pub mod registry;
pub mod row;
pub mod scenario;
pub mod signals;
pub mod sink;
pub mod telemetry;
pub mod watchdog;
