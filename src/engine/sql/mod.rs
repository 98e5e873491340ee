//! SQL: DataFusion's planner crates in, a relational plan of our own out, and scalar expressions over batches.
//!
//! [`plan`] turns the text of a target into a [`SqlPlan`], or into problems with places; [`scalar`] does the same for one
//! expression. Nothing outside this folder (and `render/sql.rs`) names DataFusion or Arrow.
//!
//! | file | what |
//! | --- | --- |
//! | `context` | what DataFusion's planner asks for: tables, functions, options |
//! | `binding` | what `IS DISTINCT FROM` binds, where the parser is wrong |
//! | `check`, `problems`, `place` | refusals, DataFusion's complaints in our words, places in the text |
//! | `types` | packed fields to Arrow arrays and back |
//! | `compute`, `checked` | one expression over a batch; arithmetic that fails instead of wrapping |
//! | `scalar` | expressions of field mappings |
//! | `query`, `lower` | a query's way through DataFusion, and from its logical plan to ours |
//! | `rel` | the relational plan |

use std::{ops::Range, sync::Arc};

use crate::{format::Span, plan::TableRef, row::Column};

mod binding;
mod check;
mod checked;
pub mod compute;
mod context;
mod lower;
mod place;
mod problems;
mod query;
pub mod rel;
mod round;
mod scalar;
pub mod types;

use rel::Rel;

pub use query::plan;
pub use scalar::{Scalar, evaluate, scalar};

/// A problem of a SQL text: the place in the text, what is wrong, and a way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlProblem {
    pub at: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// A table that SQL may name.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    pub name: String,
    pub table: TableRef,
    pub columns: Vec<Column>,
}

/// A relational plan over source and target tables.
#[derive(Clone, Debug)]
pub struct SqlPlan {
    pub text: String,
    /// The tables it reads.
    pub inputs: Vec<TableRef>,
    pub columns: Vec<Column>,
    rel: Arc<Rel>,
    meaning: String,
}

impl SqlPlan {
    /// The operators.
    pub fn rel(&self) -> &Rel {
        &self.rel
    }

    /// The plan as text: one operator a line, its inputs indented below it.
    pub fn explain(&self) -> String {
        let mut out = String::new();
        self.rel.explain(&mut out, 0);
        out
    }

    /// What a version is the hash of: the query without the accidents of its spelling (white space, comments), and the
    /// columns it gives.
    pub fn meaning(&self) -> String {
        let columns = self.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", ");
        format!("{} -> {columns}", self.meaning)
    }
}

/// Results of scalars: `spans[i * scalars + j]` is scalar `j` of the `i`-th row asked for, its packed field in `bytes`.
#[derive(Debug, Default)]
pub struct Evaluated {
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
    /// Rows (places in the list asked for) that have no value, of which scalar, and why: a failed cast, a division by zero, an
    /// overflow.
    pub errors: Vec<(usize, usize, String)>,
}
