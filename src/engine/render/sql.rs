//! A relational plan as a dataflow.
//!
//! Rows flow packed; every operator keeps bags, so a row's weight is how often it stands in the relation. At every closed
//! tick the accumulated output is what the query gives on the accumulated inputs, whatever the number of workers.

use std::collections::HashMap;

use differential_dataflow::{AsCollection, VecCollection, collection::concatenate};
use timely::dataflow::{Scope, operators::ToStream};

use super::{group, join, program};
use crate::{
    engine::sql::{SqlPlan, rel::Rel},
    plan::TableRef,
};

/// Packed rows of a relation.
pub type Rows<'scope> = VecCollection<'scope, u64, Vec<u8>, isize>;

/// Rows that have no value; an error goes when its row goes.
pub type Errors<'scope> = VecCollection<'scope, u64, RowError, isize>;

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowError {
    /// `EVALUATION_FAILED` or `VALUE_UNKNOWN`.
    pub code: &'static str,
    pub cause: String,
}

/// Renders a plan over its inputs: the packed rows of each table's declared columns. Gives rows of `plan.columns`; updates
/// of one tick may cancel each other.
pub fn render_sql<'scope>(scope: Scope<'scope, u64>, plan: &SqlPlan, inputs: &HashMap<TableRef, Rows<'scope>>) -> (Rows<'scope>, Errors<'scope>) {
    let mut rendering = Rendering { scope, inputs, errors: Vec::new() };
    let rows = rendering.rel(plan.rel());
    let errors = match rendering.errors.len() {
        0 => constant(scope, Vec::new()),
        1 => rendering.errors.remove(0),
        _ => concatenate(scope, rendering.errors),
    };
    (rows, errors)
}

/// Records that are there from the first tick on.
pub fn constant<'scope, D: Clone + 'static>(scope: Scope<'scope, u64>, records: Vec<D>) -> VecCollection<'scope, u64, D, isize> {
    let records = if scope.index() == 0 { records } else { Vec::new() };
    records.into_iter().map(|record| (record, 0, 1)).collect::<Vec<_>>().to_stream(scope).as_collection()
}

/// What the functions of a rendering share.
pub struct Rendering<'a, 'scope> {
    pub scope: Scope<'scope, u64>,
    inputs: &'a HashMap<TableRef, Rows<'scope>>,
    pub errors: Vec<Errors<'scope>>,
}

impl<'scope> Rendering<'_, 'scope> {
    /// The rows of a relation.
    pub fn rel(&mut self, rel: &Rel) -> Rows<'scope> {
        match rel {
            Rel::Values(rows) => constant(self.scope, rows.clone()),
            Rel::Input { table, name } => self.inputs.get(table).unwrap_or_else(|| panic!("the plan reads `{name}`, so it must be among its inputs")).clone(),
            Rel::Map { input, program } => {
                let rows = self.rel(input);
                let (rows, errors) = program::map(rows, program);
                self.errors.push(errors);
                rows
            }
            Rel::Join(join) => join::render(self, join),
            Rel::Group(group) => group::render(self, group),
            Rel::Union(inputs) => {
                let inputs: Vec<Rows> = inputs.iter().map(|input| self.rel(input)).collect();
                concatenate(self.scope, inputs)
            }
        }
    }
}

#[cfg(test)]
mod tests;
