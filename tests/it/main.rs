//! The integration tests of tieout, in one binary.

mod cli;
mod contract;
#[allow(dead_code, reason = "the benchmarks use the rest of it")]
#[path = "../../benches/generate.rs"]
mod generate;
mod oracle;
mod program;
mod seeds;
mod tidy;
