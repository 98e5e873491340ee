//! SQL: DataFusion's planner crates in, a relational plan of our own out, and scalar expressions over batches.
//!
//! `plan` turns the text of a target into a [`SqlPlan`], or into problems with places; `scalar` does the same for one
//! expression. Nothing outside this folder (and `render/sql.rs`) names DataFusion or Arrow.

use std::ops::Range;

use crate::{
    format::{Batch, Span},
    plan::TableRef,
    row::{Column, Type},
};

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

/// A scalar expression over the columns of one table, planned and typed.
#[derive(Clone, Debug)]
pub struct Scalar {
    text: String,
    ty: Type,
    columns: Vec<usize>,
}

impl Scalar {
    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its values.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The columns that it reads, sorted.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The one column of which it is a one-to-one function (`'SO-' || id`), if it certainly is one.
    pub fn injective_in(&self) -> Option<usize> {
        None
    }
}

/// Plans an expression over `columns`; with `want`, its value is converted to that type.
///
/// # Errors
/// The problems of the text.
pub fn scalar(_text: &str, _columns: &[Column], _want: Option<Type>) -> Result<Scalar, Vec<SqlProblem>> {
    todo!()
}

/// A relational plan over source and target tables.
#[derive(Clone, Debug)]
pub struct SqlPlan {
    pub text: String,
    /// The tables it reads.
    pub inputs: Vec<TableRef>,
    pub columns: Vec<Column>,
}

/// Plans a query over the tables of `catalog`.
///
/// # Errors
/// The problems of the text, among them what can't be kept incrementally.
pub fn plan(_sql: &str, _catalog: &[CatalogTable]) -> Result<SqlPlan, Vec<SqlProblem>> {
    todo!()
}

/// Results of scalars: `spans[i * scalars + j]` is scalar `j` of the `i`-th row asked for, its packed field in `bytes`.
#[derive(Debug, Default)]
pub struct Evaluated {
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
    /// Rows (places in the list asked for) that have no value, and why: a failed cast, a division by zero, an overflow.
    pub errors: Vec<(usize, String)>,
}

/// Evaluates scalars over the records `rows` of a batch of a table with `columns`.
pub fn evaluate(_scalars: &[&Scalar], _batch: &Batch, _columns: &[Column], _rows: &[u32], _out: &mut Evaluated) {
    todo!()
}
