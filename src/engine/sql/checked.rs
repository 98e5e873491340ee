//! Arithmetic that never gives a wrong number: overflow and division by zero are errors of their row.
//!
//! DataFusion's own operators wrap integers and follow IEEE 754 for doubles; this file replaces them in a planned
//! expression before it is used.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::{DataType, Float32Type, Float64Type, Schema},
    error::ArrowError,
    record_batch::RecordBatch,
};
use datafusion_common::{
    Result, ScalarValue,
    tree_node::{Transformed, TransformedResult, TreeNode},
};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::{
    PhysicalExpr,
    expressions::{BinaryExpr, Literal, NegativeExpr},
};

/// The expression with checked arithmetic, over rows of `schema`.
pub fn checked(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    expr.transform_up(|node| {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
            let (left, right, op) = (binary.left().clone(), binary.right().clone(), *binary.op());
            match op {
                Operator::Plus | Operator::Minus | Operator::Multiply => {
                    return Ok(Transformed::yes(Arc::new(BinaryExpr::new(left, op, right).with_fail_on_overflow(true)) as _));
                }
                Operator::Divide | Operator::Modulo if right.data_type(schema)?.is_floating() => {
                    let right: Arc<dyn PhysicalExpr> = Arc::new(NotZero { inner: right });
                    return Ok(Transformed::yes(Arc::new(BinaryExpr::new(left, op, right)) as _));
                }
                _ => {}
            }
        }
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let ty = negative.arg().data_type(schema)?;
            if matches!(ty, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) {
                let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::new_zero(&ty)?));
                return Ok(Transformed::yes(Arc::new(BinaryExpr::new(zero, Operator::Minus, negative.arg().clone()).with_fail_on_overflow(true)) as _));
            }
        }
        Ok(Transformed::no(node))
    })
    .data()
}

/// A divisor of doubles: its value, and an error where that is zero.
#[derive(Debug, Clone, Eq)]
struct NotZero {
    inner: Arc<dyn PhysicalExpr>,
}

impl PartialEq for NotZero {
    fn eq(&self, other: &NotZero) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Hash for NotZero {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for NotZero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn has_zero(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().any(|v| v == Some(0.0)),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().any(|v| v == Some(0.0)),
        _ => false,
    }
}

impl PhysicalExpr for NotZero {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.inner.evaluate(batch)?;
        let zero = match &value {
            ColumnarValue::Array(array) => has_zero(array),
            ColumnarValue::Scalar(scalar) => has_zero(&scalar.to_array()?),
        };
        if zero { Err(ArrowError::DivideByZero.into()) } else { Ok(value) }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(NotZero { inner: children[0].clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
