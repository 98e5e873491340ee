//! The integration tests of tieout, in one binary.

mod ask;
mod change;
mod cli;
mod cluster;
mod contract;
mod fixture;
#[path = "../../benches/generate.rs"]
mod generate;
mod late;
mod live;
#[allow(
    dead_code,
    clippy::bind_instead_of_map,
    clippy::manual_range_patterns,
    clippy::needless_range_loop,
    clippy::precedence,
    clippy::unnecessary_to_owned,
    reason = "plain loops over numbered things, to be read beside the design rather than to be short or fast"
)]
mod oracle;
mod processes;
mod program;
mod resent;
mod restart;
mod schema;
mod seeds;
mod stuck;
mod tidy;
mod upstream;
