//! One planned expression over arrays of the columns that it reads.
//!
//! A batch is evaluated whole. Where that fails it is halved until only the offending rows are left, so a row fails
//! exactly if it fails alone; whatever guards it (`CASE`, `AND`) then guards it as SQL says.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, Field as ArrowField, Schema, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use datafusion_common::{
    DFSchema, DataFusionError, Result,
    tree_node::{Transformed, TransformedResult, TreeNode},
};
use datafusion_expr::{Expr, execution_props::ExecutionProps, physical_planning_context::PhysicalPlanningContext};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr, expressions::Column, utils::collect_columns};

use super::{
    checked::checked,
    types::{self, Fit},
};
use crate::format::Span;

/// A planned expression.
#[derive(Clone, Debug)]
pub struct Compiled {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// The columns of its relation that it reads, sorted; arrays are given in this order.
    pub inputs: Vec<usize>,
    /// The type of its values.
    pub ty: DataType,
    pub fit: Fit,
    /// How people know it.
    pub text: String,
}

impl Compiled {
    /// Plans `expr` over a relation of `schema`.
    ///
    /// # Errors
    /// What DataFusion says.
    pub fn new(expr: &Expr, schema: &DFSchema, fit: Fit, text: String) -> Result<Compiled> {
        let planned = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
        let planned = checked(planned, schema.as_arrow())?;
        let mut inputs: Vec<usize> = collect_columns(&planned).iter().map(Column::index).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let planned = planned
            .transform_up(|node| match node.downcast_ref::<Column>() {
                Some(column) => {
                    let at = inputs.binary_search(&column.index()).expect("the column was collected");
                    Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as Arc<dyn PhysicalExpr>))
                }
                None => Ok(Transformed::no(node)),
            })
            .data()?;
        let fields: Vec<ArrowField> = inputs.iter().map(|i| ArrowField::new(schema.field(*i).name(), schema.field(*i).data_type().clone(), true)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let ty = match fit {
            Fit::Exact(ty) => types::arrow_type(ty),
            _ => planned.data_type(&schema)?,
        };
        Ok(Compiled { expr: planned, schema, inputs, ty, fit, text })
    }

    /// Evaluates `n` rows of `arrays` (those of `inputs`) and packs the values at the end of `out`; `put` gets the place
    /// of each row's value, or why it has none.
    pub fn evaluate(&self, arrays: Vec<ArrayRef>, n: usize, out: &mut Vec<u8>, put: &mut dyn FnMut(usize, std::result::Result<Span, String>)) {
        if n == 0 {
            return;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).expect("arrays have the planned types and one length");
        self.range(&batch, 0, n, out, put);
    }

    fn range(&self, batch: &RecordBatch, from: usize, to: usize, out: &mut Vec<u8>, put: &mut dyn FnMut(usize, std::result::Result<Span, String>)) {
        let n = to - from;
        let result = if n == batch.num_rows() { self.array(batch) } else { self.array(&batch.slice(from, n)) };
        match result {
            Ok(array) => types::pack_array(&array, self.fit, out, |i, result| put(from + i, result.map_err(|why| self.blame(&why)))),
            Err(why) if n == 1 => put(from, Err(self.blame(&why))),
            Err(_) => {
                let middle = from + n / 2;
                self.range(batch, from, middle, out, put);
                self.range(batch, middle, to, out, put);
            }
        }
    }

    /// The values of a batch, or why there are none.
    pub fn array(&self, batch: &RecordBatch) -> std::result::Result<ArrayRef, String> {
        // Some function may panic on values which nobody thought of; that is one row's trouble, not the worker's.
        match catch_unwind(AssertUnwindSafe(|| self.expr.evaluate(batch).and_then(|value| value.into_array(batch.num_rows())))) {
            Ok(Ok(array)) => match self.fit {
                Fit::Exact(ty) => types::exact(&array, ty),
                _ => Ok(array),
            },
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err("the function failed on this value".into()),
        }
    }

    fn blame(&self, why: &str) -> String {
        format!("{why} in `{}`", self.text)
    }

    /// The value on no row at all, for an expression of constants.
    pub fn constant(&self) -> std::result::Result<ArrayRef, String> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).expect("no columns, one row");
        self.array(&batch)
    }
}

/// Why an evaluation failed, in our words where we have some.
pub fn reason(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.trim();
    if text.contains("Divide by zero") {
        return "division by zero".into();
    }
    if let Some(rest) = text.find("Cannot cast string '").map(|at| &text[at + 20..])
        && let Some((value, ty)) = rest.rsplit_once("' to value of ")
    {
        return format!("cast of '{value}' to {} failed", our_type(ty.trim_end_matches(" type")));
    }
    if let Some(rest) = text.find("Cannot parse ").or_else(|| text.find("Can't cast value ")).or_else(|| text.find("Overflow happened on: ")) {
        let detail = &text[rest..];
        return match detail.strip_prefix("Overflow happened on: ").or_else(|| detail.strip_prefix("Can't cast value ")) {
            Some(what) if detail.starts_with("Overflow") => format!("overflow of {what}"),
            Some(what) => match what.split_once(" to type ") {
                Some((value, ty)) => format!("cast of {value} to {} failed", our_type(ty)),
                None => format!("cast of {what} failed"),
            },
            None => lower_first(detail),
        };
    }
    let known = [
        "Arrow error: ",
        "Execution error: ",
        "Compute error: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "Arithmetic overflow: ",
        "External error: ",
        "This feature is not implemented: ",
    ];
    let mut short = text;
    while let Some(rest) = known.iter().find_map(|prefix| short.strip_prefix(prefix)) {
        short = rest;
    }
    lower_first(short)
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => first.to_lowercase().chain(characters).collect(),
        _ => text.to_string(),
    }
}

fn our_type(arrow: &str) -> String {
    match arrow {
        "Int8" => "tinyint".into(),
        "Int16" => "smallint".into(),
        "Int32" => "int".into(),
        "Int64" => "bigint".into(),
        "Float32" | "Float64" => "double".into(),
        "Boolean" => "bool".into(),
        "Date32" | "Date64" => "date".into(),
        other if other.starts_with("Timestamp") => "timestamp".into(),
        other if other.starts_with("Time") => "time".into(),
        other => other.strip_prefix("Decimal128").map_or_else(|| other.to_string(), |rest| format!("decimal{}", rest.replace(' ', ""))),
    }
}
