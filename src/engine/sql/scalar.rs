//! Scalar expressions: from text to a typed, planned [`Scalar`], and its values over batches.

use std::sync::Arc;

use arrow::{array::ArrayRef, compute::can_cast_types, datatypes::DataType};
use datafusion_common::{
    DFSchema, ToDFSchema,
    tree_node::{TreeNode, TreeNodeRecursion},
};
use datafusion_expr::{Cast, Expr, ExprSchemable, Operator, simplify::SimplifyContext};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_sql::{
    planner::{PlannerContext, SqlToRel},
    sqlparser::{dialect::GenericDialect, parser::Parser, tokenizer::Token},
};

use super::{
    CatalogTable, Evaluated, SqlProblem, binding,
    check::{self, Kind},
    compute::Compiled,
    context::{Context, SHARED, parser_options, schema_of},
    place::{of_location, problem, suggest, whole},
    problems,
    types::{self, Fit},
};
use crate::{
    format::{Batch, Lack, Span},
    plan::TableRef,
    row::{self, Column, Field, Type},
};

/// A scalar expression over the columns of one table, planned and typed.
#[derive(Clone, Debug)]
pub struct Scalar {
    text: String,
    ty: Type,
    columns: Vec<usize>,
    injective: Option<usize>,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// The packed field itself.
    Copy(usize),
    Compute(Arc<Compiled>),
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
        self.injective
    }
}

/// Plans an expression over `columns`; with `want`, its value is converted to that type.
///
/// # Errors
/// The problems of the text.
pub fn scalar(text: &str, columns: &[Column], want: Option<Type>) -> Result<Scalar, Vec<SqlProblem>> {
    problems::guarded(text, || plan_scalar(text, columns, want))
}

fn plan_scalar(text: &str, columns: &[Column], want: Option<Type>) -> Result<Scalar, Vec<SqlProblem>> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(|e| vec![problems::of_parser(text, &e)])?;
    let mut parsed = parser.parse_expr().map_err(|e| vec![problems::of_parser(text, &e)])?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let start = of_location(text, rest.span.start);
        let at = start..whole(text).end.max(start);
        let hint = problems::of_slip(text, &at);
        return Err(vec![problem(at, format!("the expression should end before `{}`", rest.token), Some(hint))]);
    }
    binding::rebind(&mut parsed);
    let refusals = check::check(text, Kind::Expression, &parsed);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    // The one table that an expression sees has no name; respelling looks at its columns only.
    let tables = [CatalogTable { name: String::new(), table: TableRef::Source(0), columns: columns.to_vec() }];
    let aliases = check::aliases(&parsed);
    check::respell(&mut parsed, &tables, &aliases);
    let schema = schema_of(columns).to_dfschema().map_err(|e| problems::of_planner(text, &e))?;
    let fail = |e: &datafusion_common::DataFusionError| problems::of_planner(text, e);
    let context = Context { tables: &[] };
    let planner = SqlToRel::new_with_options(&context, parser_options());
    let expr = planner.sql_to_expr(parsed, &schema, &mut PlannerContext::new()).map_err(|e| fail(&e))?;
    let unknown = unknown_columns(text, &expr, &schema, columns);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    problems::not_too_deep(text, &expr)?;
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_config_options(SHARED.options.clone()).with_schema(Arc::new(schema.clone())).build());
    let expr = simplifier.coerce(expr, &schema).map_err(|e| fail(&e))?;
    constants_hold(text, &expr, &schema)?;
    if let Some(scalar) = copied(text, &expr, &schema, columns, want) {
        return Ok(scalar);
    }
    let found = expr.get_type(&schema).map_err(|e| fail(&e))?;
    let (expr, ty, fit) = converted(text, expr, &found, want)?;
    let injective = injective(&expr, &schema).filter(|_| !matches!(fit, Fit::Uuid));
    // The columns that are written, not those that simplification leaves: what a record is refused for must not depend on
    // how clever the planner is.
    let mut named: Vec<usize> = expr.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column)).collect();
    named.sort_unstable();
    let expr = simplifier.simplify(expr).map_err(|e| fail(&e))?;
    // Values are packed as what they are, and read as what was planned.
    let simplified = expr.get_type(&schema).map_err(|e| fail(&e))?;
    let expr = if matches!(fit, Fit::Exact(_)) { expr } else { cast(expr, &simplified, types::arrow_type(ty)) };
    let compiled = Compiled::new(&expr, &schema, fit, text.trim().to_string()).map_err(|e| fail(&e))?;
    if compiled.inputs.is_empty()
        && let Err(why) = compiled.constant()
    {
        return Err(vec![problem(whole(text), why, Some(format!("no row could have this value; the column is of type `{ty}`")))]);
    }
    Ok(Scalar { text: text.to_string(), ty, columns: named, injective, how: How::Compute(Arc::new(compiled)) })
}

fn unknown_columns(text: &str, expr: &Expr, schema: &DFSchema, columns: &[Column]) -> Vec<SqlProblem> {
    let mut unknown: Vec<_> = expr.column_refs().into_iter().filter(|c| !schema.has_column(c)).collect();
    unknown.sort();
    let problems = unknown.into_iter().map(|column| {
        let hint = suggest(&column.name, columns.iter().map(|c| c.name.as_str()), "known are");
        problem(super::place::of_word(text, &column.name), format!("there is no column `{}`", column.flat_name()), hint)
    });
    problems.collect()
}

/// The expression as a copy of a column, if it is one and the type needs no work.
fn copied(text: &str, expr: &Expr, schema: &DFSchema, columns: &[Column], want: Option<Type>) -> Option<Scalar> {
    let Expr::Column(column) = strip(expr) else { return None };
    let at = schema.maybe_index_of_column(column)?;
    let (from, to) = (columns[at].ty, want.unwrap_or(columns[at].ty));
    row::holds(from, to).then(|| Scalar { text: text.to_string(), ty: to, columns: vec![at], injective: Some(at), how: How::Copy(at) })
}

/// Without the aliases around it.
pub fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip(&alias.expr),
        expr => expr,
    }
}

fn cast(expr: Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) }
}

/// The expression converted to `want` (or to the column type of its own type), that type, and what else it must fit.
fn converted(text: &str, expr: Expr, found: &DataType, want: Option<Type>) -> Result<(Expr, Type, Fit), Vec<SqlProblem>> {
    let no = |message: String, hint: Option<String>| Err(vec![problem(whole(text), message, hint)]);
    let Some(want) = want else {
        return match types::row_type(found) {
            Ok(ty) => Ok((cast(expr, found, types::arrow_type(ty)), ty, Fit::Any)),
            Err(why) => no(why, None),
        };
    };
    let to = types::arrow_type(want);
    if !convertible(found, want) || !can_cast_types(found, &to) {
        return no(
            format!("this is of type {}, and {want} is wanted", types::sql_name(found)),
            Some(format!("convert it, e.g. `CAST(… AS {want})`, or declare the column with another type")),
        );
    }
    // As of a plain column: what would be rounded does not fit.
    if types::loses(found, want) {
        return Ok((expr, want, Fit::Exact(want)));
    }
    let expr = cast(expr, found, to);
    let fit = match want {
        Type::Varchar(n) if n > 0 => Fit::Characters(n),
        Type::Uuid => Fit::Uuid,
        _ => Fit::Any,
    };
    Ok((expr, want, fit))
}

/// Is a conversion without being asked for sensible?
fn convertible(from: &DataType, to: Type) -> bool {
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match to {
        _ if *from == DataType::Null => true,
        Type::Bool => *from == DataType::Boolean || text,
        Type::Int(_) | Type::Decimal(..) | Type::Double => from.is_numeric() || text,
        Type::Varchar(_) => !from.is_binary() && !matches!(from, DataType::Interval(_) | DataType::Duration(_)),
        Type::Bytes => from.is_binary(),
        Type::Date => matches!(from, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) || text,
        Type::Time(_) => matches!(from, DataType::Time32(_) | DataType::Time64(_)) || text,
        Type::Timestamp(_, zone) => match from {
            DataType::Timestamp(_, found) => found.is_some() == zone,
            DataType::Date32 | DataType::Date64 => !zone,
            _ => text,
        },
        Type::Uuid | Type::Json | Type::Array => text,
    }
}

/// Evaluates every arithmetic of constants with checks, before the simplifier folds it without.
pub fn constants_hold(text: &str, expr: &Expr, schema: &DFSchema) -> Result<(), Vec<SqlProblem>> {
    let mut problems = Vec::new();
    let _ = expr.apply(|part| {
        let arithmetic = matches!(part, Expr::Negative(_)) || matches!(part, Expr::BinaryExpr(b) if matches!(b.op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo));
        let constant = arithmetic && !part.exists(|e| Ok(matches!(e, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::AggregateFunction(_) | Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)))).unwrap_or(true);
        if !constant {
            return Ok(TreeNodeRecursion::Continue);
        }
        if let Ok(compiled) = Compiled::new(part, schema, Fit::Any, part.to_string())
            && let Err(why) = compiled.constant()
        {
            problems.push(problem(whole(text), format!("{why} in the constant `{}`", problems::shown(part)), None));
        }
        Ok(TreeNodeRecursion::Jump)
    });
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The column of which `expr` is certainly a one-to-one function.
fn injective(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    let literal = |e: &Expr| match strip(e) {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Cast(c) => matches!(strip(&c.expr), Expr::Literal(value, _) if !value.is_null()),
        _ => false,
    };
    let ty = |e: &Expr| e.get_type(schema).ok();
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match expr {
        Expr::Alias(alias) => injective(&alias.expr, schema),
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Cast(c) => {
            let (from, to) = (ty(&c.expr)?, c.field.data_type());
            let digits = |t: &DataType| match t {
                DataType::Int8 => Some(8),
                DataType::Int16 => Some(16),
                DataType::Int32 => Some(32),
                DataType::Int64 => Some(64),
                _ => None,
            };
            let keeps = match (digits(&from), digits(to)) {
                (Some(a), Some(b)) => a <= b,
                (Some(_), None) => is_text(to),
                _ => is_text(&from) && is_text(to),
            };
            if keeps { injective(&c.expr, schema) } else { None }
        }
        Expr::BinaryExpr(b) if b.op == Operator::StringConcat => {
            let inner = if literal(&b.left) {
                &b.right
            } else if literal(&b.right) {
                &b.left
            } else {
                return None;
            };
            if is_text(&ty(inner)?) { injective(inner, schema) } else { None }
        }
        Expr::ScalarFunction(f) if f.func.name() == "concat" => {
            let mut others = f.args.iter().filter(|a| !literal(a));
            let inner = others.next()?;
            if others.next().is_some() {
                return None;
            }
            // concat() takes NULL as the empty text: no text of an integer is empty, but a text may be.
            let mut base = strip(inner);
            while let Expr::Cast(c) = base {
                base = strip(&c.expr);
            }
            if ty(base)?.is_integer() { injective(inner, schema) } else { None }
        }
        _ => None,
    }
}

/// Evaluates scalars over the records `rows` of a batch of a table with `columns`.
///
/// A value that needs an unknown column is unknown; a missing column is NULL. A row of which one scalar fails is named in
/// `errors` once, with the first failure in the order of `scalars`, and that scalar is NULL there.
pub fn evaluate(scalars: &[&Scalar], batch: &Batch, columns: &[Column], rows: &[u32], out: &mut Evaluated) {
    let (n, stride) = (rows.len(), scalars.len());
    out.bytes.clear();
    out.spans.clear();
    out.spans.resize(n * stride, Span::NULL);
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; columns.len()];
    let mut failed: Vec<(usize, usize, String)> = Vec::new();
    for (j, scalar) in scalars.iter().enumerate() {
        let compiled = match &scalar.how {
            How::Copy(column) => {
                for (i, row) in rows.iter().enumerate() {
                    let span = batch.row(*row as usize)[*column];
                    out.spans[i * stride + j] = match span.field(&batch.bytes) {
                        Field::Packed(bytes) => {
                            let start = out.bytes.len();
                            out.bytes.extend_from_slice(bytes);
                            Span::of(start, out.bytes.len())
                        }
                        Field::Unknown => Span::UNKNOWN,
                        Field::Null => Span::NULL,
                    };
                }
                continue;
            }
            How::Compute(compiled) => compiled,
        };
        let unknown = |i: usize| {
            let spans = batch.row(rows[i] as usize);
            compiled.inputs.iter().any(|c| spans[*c].lack() == Some(Lack::Unknown))
        };
        let inputs = compiled.inputs.iter().map(|column| {
            arrays[*column]
                .get_or_insert_with(|| {
                    let declared = columns[*column].ty;
                    types::array_of(Some(declared), &types::arrow_type(declared), n, |i| batch.row(rows[i] as usize)[*column].field(&batch.bytes))
                })
                .clone()
        });
        let inputs = inputs.collect();
        let spans = &mut out.spans;
        compiled.evaluate(inputs, n, &mut out.bytes, &mut |i, result| {
            spans[i * stride + j] = match result {
                _ if unknown(i) => Span::UNKNOWN,
                Ok(span) => span,
                Err(why) => {
                    failed.push((i, j, why));
                    Span::NULL
                }
            };
        });
    }
    failed.sort();
    failed.dedup_by_key(|f| f.0);
    out.errors = failed;
}

#[cfg(test)]
mod tests;
