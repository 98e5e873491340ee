//! tieout: live reconciliation.
//!
//! The arrow of dependencies goes one way: `cli` → `pipeline` → (`log`, `format`, `sink`, `http`, `ledger`) → `engine` →
//! timely, differential dataflow and DataFusion's planner crates. See ARCHITECTURE.md.

pub mod engine;
pub mod format;
pub mod http;
pub mod ledger;
pub mod plan;
pub mod row;
pub mod telemetry;
