//! The relational plan: what `render` turns into a dataflow.
//!
//! Rows between operators are packed (see `row`); a column's packed form follows from its Arrow type. Only [`Rel::Input`]
//! gives rows as a table has them. Everything that computes is a [`Program`], which reads packed rows and writes packed
//! rows, so that the operators themselves only move bytes.

use std::fmt::Write as _;

use arrow::datatypes::DataType;

use super::{
    compute::Compiled,
    types::{Form, form_of, sql_name},
};
use crate::{
    plan::TableRef,
    row::{Column, Type},
};

/// A column between operators.
#[derive(Clone, Debug)]
pub struct PlanColumn {
    pub name: String,
    pub ty: DataType,
    /// The declared type, where the column is a table's column and nothing was done to it.
    pub declared: Option<Type>,
}

/// How a field of a row is packed, and what it means.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    /// Finds the field's end.
    pub packed: Type,
    /// The type of a table's column (packed as that type says); `None` between operators.
    pub table: Option<Type>,
    pub ty: DataType,
}

impl Slot {
    /// The slot of a column between operators.
    pub fn of(column: &PlanColumn) -> Slot {
        let form = form_of(&column.ty).unwrap_or(Form::Null);
        Slot { name: column.name.clone(), packed: form.stand_in(), table: None, ty: column.ty.clone() }
    }

    /// The slot of a table's column.
    pub fn of_table(column: &Column) -> Slot {
        Slot { name: column.name.clone(), packed: column.ty, table: Some(column.ty), ty: super::types::arrow_type(column.ty) }
    }
}

/// Where a field of a program's row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The field of the input row, byte for byte.
    Copy(usize),
    /// A place in [`Program::computed`].
    Computed(usize),
}

/// Reads packed rows, drops those that a filter does not want, and writes packed rows of `outputs`.
#[derive(Clone, Debug)]
pub struct Program {
    /// The layout of the rows it reads.
    pub row: Vec<Slot>,
    /// The rows are a table's: a needed value may be unknown.
    pub of_table: bool,
    /// Places in `row` that it reads, sorted.
    pub needed: Vec<usize>,
    /// Applied in order; each must be true.
    pub filters: Vec<Compiled>,
    pub computed: Vec<Compiled>,
    pub outputs: Vec<Source>,
}

impl Program {
    /// Does it hand on its rows as they are?
    pub fn is_identity(&self) -> bool {
        !self.of_table && self.filters.is_empty() && self.outputs.len() == self.row.len() && self.outputs.iter().enumerate().all(|(i, s)| *s == Source::Copy(i))
    }

    fn describe(&self, source: Source) -> String {
        match source {
            Source::Copy(at) => self.row[at].name.clone(),
            Source::Computed(at) => self.computed[at].text.clone(),
        }
    }

    fn describe_all(&self, sources: &[Source]) -> String {
        sources.iter().map(|s| self.describe(*s)).collect::<Vec<_>>().join(", ")
    }

    fn describe_filters(&self) -> Option<String> {
        (!self.filters.is_empty()).then(|| self.filters.iter().map(|f| f.text.clone()).collect::<Vec<_>>().join(" AND "))
    }
}

/// A relation.
#[derive(Clone, Debug)]
pub enum Rel {
    /// Packed rows that are always there.
    Values(Vec<Vec<u8>>),
    /// The rows of a table, as it packs them.
    Input {
        table: TableRef,
        name: String,
    },
    Map {
        input: Box<Rel>,
        program: Program,
    },
    Join(Box<Join>),
    Group(Box<Group>),
    Union(Vec<Rel>),
}

/// Which rows a join gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// Left rows that match some right row.
    Semi,
    /// Left rows that match none.
    Anti,
}

/// A field of a join's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// A key, as the left side has it; NULL for an unmatched right row.
    LeftKey(usize),
    Left(usize),
    RightKey(usize),
    Right(usize),
}

/// A join of two sides on packed keys.
#[derive(Clone, Debug)]
pub struct Join {
    pub kind: JoinKind,
    pub left: JoinSide,
    pub right: JoinSide,
    /// How many outputs of each side's program are the key; the others are its values.
    pub keys: usize,
    /// `IS NOT DISTINCT FROM`: NULL matches NULL.
    pub nulls_match: bool,
    /// A condition beyond the keys; reads and gives rows of keys, left values, right values.
    pub residual: Option<Program>,
    pub outputs: Vec<Pick>,
}

/// One side of a join.
#[derive(Clone, Debug)]
pub struct JoinSide {
    pub rel: Rel,
    pub program: Program,
    pub slots: Vec<Slot>,
}

/// Rows grouped by a packed key, with aggregates over each group.
#[derive(Clone, Debug)]
pub struct Group {
    pub input: Rel,
    /// Gives the key's columns, then the arguments.
    pub program: Program,
    pub slots: Vec<Slot>,
    pub keys: usize,
    /// There is one group even when there is no row (an aggregate without GROUP BY).
    pub always: bool,
    pub aggregates: Vec<Aggregate>,
    /// Places in keys, then aggregates.
    pub outputs: Vec<usize>,
}

/// An aggregate; NULL arguments do not count.
#[derive(Clone, Debug)]
pub struct Aggregate {
    pub function: AggregateFunction,
    pub distinct: bool,
    /// Place among the arguments; `None` counts rows.
    pub argument: Option<usize>,
    pub input: DataType,
    pub ty: DataType,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    Count,
    Sum,
    Average,
    Least,
    Greatest,
}

impl Rel {
    /// One operator a line, inputs indented below.
    pub fn explain(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Rel::Values(rows) => {
                let _ = writeln!(out, "{indent}Values: {} row{}", rows.len(), if rows.len() == 1 { "" } else { "s" });
            }
            Rel::Input { name, .. } => {
                let _ = writeln!(out, "{indent}Table: {name}");
            }
            Rel::Map { input, program } => {
                let _ = write!(out, "{indent}Map: {}", program.describe_all(&program.outputs));
                explain_filters(out, program);
                input.explain(out, depth + 1);
            }
            Rel::Join(join) => {
                let keys = (0..join.keys).map(|k| {
                    let (left, right) = (join.left.program.describe(join.left.program.outputs[k]), join.right.program.describe(join.right.program.outputs[k]));
                    format!("{left} {} {right}", if join.nulls_match { "IS NOT DISTINCT FROM" } else { "=" })
                });
                let keys = keys.collect::<Vec<_>>().join(", ");
                let _ = write!(out, "{indent}{:?} join: {}", join.kind, if keys.is_empty() { "every pair" } else { &keys });
                if let Some(condition) = join.residual.as_ref().and_then(Program::describe_filters) {
                    let _ = write!(out, " and {condition}");
                }
                let pick = |pick: &Pick| match *pick {
                    Pick::LeftKey(k) => join.left.slots[k].name.clone(),
                    Pick::Left(v) => join.left.slots[join.keys + v].name.clone(),
                    Pick::RightKey(k) => join.right.slots[k].name.clone(),
                    Pick::Right(v) => join.right.slots[join.keys + v].name.clone(),
                };
                let _ = writeln!(out, " → {}", join.outputs.iter().map(pick).collect::<Vec<_>>().join(", "));
                for side in [&join.left, &join.right] {
                    let _ = write!(
                        out,
                        "{indent}  {}{}; values: {}",
                        if join.keys == 0 { "No key" } else { "Key: " },
                        side.program.describe_all(&side.program.outputs[..join.keys]),
                        side.program.describe_all(&side.program.outputs[join.keys..])
                    );
                    explain_filters(out, &side.program);
                    side.rel.explain(out, depth + 2);
                }
            }
            Rel::Group(group) => {
                let keys = group.program.describe_all(&group.program.outputs[..group.keys]);
                if group.aggregates.is_empty() && !group.always {
                    let _ = write!(out, "{indent}Distinct: {keys}");
                } else {
                    let aggregates = group.aggregates.iter().map(|a| format!("{} {}", a.text, sql_name(&a.ty))).collect::<Vec<_>>().join(", ");
                    let _ = write!(out, "{indent}Group by: {}; aggregates: {aggregates}", if keys.is_empty() { "nothing" } else { &keys });
                }
                explain_filters(out, &group.program);
                group.input.explain(out, depth + 1);
            }
            Rel::Union(inputs) => {
                let _ = writeln!(out, "{indent}Union all");
                for input in inputs {
                    input.explain(out, depth + 1);
                }
            }
        }
    }
}

fn explain_filters(out: &mut String, program: &Program) {
    if let Some(filters) = program.describe_filters() {
        let _ = write!(out, "; where {filters}");
    }
    out.push('\n');
}
