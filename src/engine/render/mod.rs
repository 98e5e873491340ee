//! Wires a plan into one dataflow; one file a stage.

pub mod accumulate;
pub mod arrange;
pub mod exact_sum;
pub mod group;
pub mod join;
pub mod program;
pub mod sql;
