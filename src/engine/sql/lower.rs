//! From DataFusion's optimized logical plan to the relational plan.
//!
//! Two functions call each other: [`Lowering::relation`] gives a relation of exactly the needed columns;
//! [`Lowering::program`] gives expressions over a plan as a [`Program`], taking the projections and filters on its way
//! into it. So only columns that someone reads are kept anywhere.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion_common::{
    Column as NamedColumn, DFSchema, DataFusionError, ScalarValue,
    tree_node::{Transformed, TransformedResult, TreeNode},
};
use datafusion_expr::{
    Case, Cast, Distinct, Expr, ExprSchemable, LogicalPlan,
    logical_plan::{self, SubqueryAlias},
};

use super::{
    CatalogTable, SqlProblem,
    compute::Compiled,
    context::{AGGREGATES, Context, plain_name},
    place::{of_word, problem, whole},
    problems,
    problems::shown,
    rel::{Aggregate, AggregateFunction, Group, PlanColumn, Program, Rel, Slot, Source},
    scalar::strip,
    types::{self, Fit},
};
use crate::{plan::TableRef, row};

mod join;

type Lowered<R> = Result<R, Vec<SqlProblem>>;

pub struct Lowering<'a> {
    pub text: &'a str,
    pub tables: &'a [CatalogTable],
    /// The tables that were met.
    pub inputs: BTreeSet<TableRef>,
}

fn column(schema: &DFSchema, at: usize) -> Expr {
    Expr::Column(NamedColumn::from(schema.qualified_field(at)))
}

impl Lowering<'_> {
    fn refuse<R>(&self, word: &str, message: impl Into<String>, hint: &str) -> Lowered<R> {
        Err(vec![problem(of_word(self.text, word), message, Some(hint.into()))])
    }

    fn failed(&self, error: &DataFusionError) -> Vec<SqlProblem> {
        problems::of_planner(self.text, error)
    }

    /// The relation of the columns `needed` of `plan`, in that order.
    pub fn relation(&mut self, plan: &LogicalPlan, needed: &[usize]) -> Lowered<(Rel, Vec<PlanColumn>)> {
        let all = |plan: &LogicalPlan| (0..plan.schema().fields().len()).map(|i| column(plan.schema(), i)).collect::<Vec<_>>();
        match plan {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) => {
                let outputs = needed.iter().map(|i| column(plan.schema(), *i)).collect();
                let (input, program, columns) = self.program(plan, Vec::new(), outputs)?;
                Ok((if program.is_identity() { input } else { Rel::Map { input: Box::new(input), program } }, columns))
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, needed),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (rel, program, columns) = self.program(input, Vec::new(), all(input))?;
                let group = Group {
                    input: rel,
                    program,
                    slots: columns.iter().map(Slot::of).collect(),
                    keys: columns.len(),
                    always: false,
                    aggregates: Vec::new(),
                    outputs: needed.to_vec(),
                };
                Ok((Rel::Group(Box::new(group)), needed.iter().map(|i| columns[*i].clone()).collect()))
            }
            LogicalPlan::Union(union) => {
                let mut inputs = Vec::new();
                let mut columns: Vec<PlanColumn> = Vec::new();
                for input in &union.inputs {
                    let cast = |i: &usize| {
                        let (expr, to) = (column(input.schema(), *i), union.schema.field(*i).data_type());
                        if input.schema().field(*i).data_type() == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to.clone())) }
                    };
                    let (rel, program, found) = self.program(input, Vec::new(), needed.iter().map(cast).collect())?;
                    inputs.push(if program.is_identity() { rel } else { Rel::Map { input: Box::new(rel), program } });
                    if columns.is_empty() {
                        columns = found;
                    } else {
                        for (column, other) in columns.iter_mut().zip(found) {
                            column.declared = column.declared.filter(|ty| other.declared == Some(*ty));
                        }
                    }
                }
                for (column, i) in columns.iter_mut().zip(needed) {
                    column.name.clone_from(union.schema.field(*i).name());
                }
                Ok((Rel::Union(inputs), columns))
            }
            LogicalPlan::Join(join) => self.join(join, needed),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = if empty.produce_one_row { vec![row::pack_row(&[])] } else { Vec::new() };
                if empty.produce_one_row && !needed.is_empty() {
                    return self.refuse("", "a row without columns has no columns", "write what it should hold");
                }
                Ok((Rel::Values(rows), self.plain_columns(&empty.schema, needed)))
            }
            LogicalPlan::Values(values) => self.values(values, needed),
            LogicalPlan::Limit(_) => self.refuse("limit", "LIMIT of a table without order is any rows", "filter with WHERE on a column instead"),
            LogicalPlan::Sort(_) => self.refuse("order", "ORDER BY means nothing in a table, which has no order", "remove it"),
            LogicalPlan::Window(_) => self.refuse("over", "window functions are not kept incrementally", "use GROUP BY with min() or max(), and join it back"),
            LogicalPlan::Distinct(Distinct::On(_)) => self.refuse("distinct", "DISTINCT ON keeps any one row of several", "use GROUP BY with min() or max()"),
            LogicalPlan::RecursiveQuery(_) => self.refuse("recursive", "recursive queries are not supported", "unfold the levels you need as joins"),
            other => {
                let shown = other.display().to_string();
                self.refuse(
                    "",
                    format!("this can't be kept incrementally: {}", shown.split([':', '\n']).next().unwrap_or_default()),
                    "write it with joins, GROUP BY and UNION",
                )
            }
        }
    }

    fn plain_columns(&self, schema: &DFSchema, needed: &[usize]) -> Vec<PlanColumn> {
        needed.iter().map(|i| PlanColumn { name: schema.field(*i).name().clone(), ty: schema.field(*i).data_type().clone(), declared: None }).collect()
    }

    /// `outputs` over the rows of `plan` that satisfy `filters`; expressions are over the schema of `plan`.
    fn program(&mut self, plan: &LogicalPlan, mut filters: Vec<Expr>, outputs: Vec<Expr>) -> Lowered<(Rel, Program, Vec<PlanColumn>)> {
        match plan {
            LogicalPlan::Filter(filter) => {
                filters.insert(0, filter.predicate.clone());
                self.program(&filter.input, filters, outputs)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, schema, .. }) => {
                let rename = |expr: Expr| replaced(expr, schema, &|at| column(input.schema(), at));
                let (filters, outputs) = (filters.into_iter().map(rename).collect(), outputs.into_iter().map(rename).collect());
                self.program(input, filters, outputs)
            }
            LogicalPlan::Projection(projection)
                if projection.expr.iter().all(|e| matches!(strip(e), Expr::Column(_) | Expr::Literal(..)))
                    || (filters.is_empty() && outputs.iter().all(|e| matches!(strip(e), Expr::Column(_)))) =>
            {
                let names: Vec<String> = outputs.iter().map(strip_name).collect();
                let inline = |expr: Expr| replaced(expr, plan.schema(), &|at| strip(&projection.expr[at]).clone());
                let (filters, outputs) = (filters.into_iter().map(inline).collect(), outputs.into_iter().map(inline).collect());
                let (rel, program, mut columns) = self.program(&projection.input, filters, outputs)?;
                for (column, name) in columns.iter_mut().zip(names) {
                    column.name = name;
                }
                Ok((rel, program, columns))
            }
            LogicalPlan::TableScan(scan) => {
                let Some(at) = (Context { tables: self.tables }).find(&plain_name(&scan.table_name)) else {
                    return self.refuse(scan.table_name.table(), format!("there is no table `{}`", plain_name(&scan.table_name)), "declare it");
                };
                let table = &self.tables[at];
                self.inputs.insert(table.table);
                let rel = Rel::Input { table: table.table, name: table.name.clone() };
                let row: Vec<Slot> = table.columns.iter().map(Slot::of_table).collect();
                let place: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..row.len()).collect());
                filters.splice(0..0, scan.filters.iter().cloned());
                let declared = |i: usize| Some(table.columns[place[i]].ty);
                let (program, columns) = self.compile(plan.schema(), row, true, &|i| place[i], &declared, &filters, &outputs)?;
                Ok((rel, program, columns))
            }
            _ => {
                let mut needed = BTreeSet::new();
                for expr in filters.iter().chain(&outputs) {
                    for found in expr.column_refs() {
                        needed.insert(plan.schema().index_of_column(found).map_err(|e| self.failed(&e))?);
                    }
                }
                let needed: Vec<usize> = needed.into_iter().collect();
                let (rel, found) = self.relation(plan, &needed)?;
                let row: Vec<Slot> = found.iter().map(Slot::of).collect();
                let place = |i: usize| needed.binary_search(&i).expect("every column that is read was asked for");
                let (program, columns) = self.compile(plan.schema(), row, false, &place, &|i| found[place(i)].declared, &filters, &outputs)?;
                Ok((rel, program, columns))
            }
        }
    }

    /// The program over rows of `row`, in which column `i` of `schema` stands at `place(i)`.
    #[allow(clippy::too_many_arguments)]
    fn compile(
        &self,
        schema: &DFSchema,
        row: Vec<Slot>,
        of_table: bool,
        place: &dyn Fn(usize) -> usize,
        declared: &dyn Fn(usize) -> Option<row::Type>,
        filters: &[Expr],
        outputs: &[Expr],
    ) -> Lowered<(Program, Vec<PlanColumn>)> {
        let one = |expr: &Expr, fit: Fit| -> Lowered<Compiled> {
            let mut compiled = Compiled::new(expr, schema, fit, shown(expr)).map_err(|e| self.failed(&e))?;
            compiled.inputs.iter_mut().for_each(|i| *i = place(*i));
            Ok(compiled)
        };
        let mut program = Program { row, of_table, needed: Vec::new(), filters: Vec::new(), computed: Vec::new(), outputs: Vec::new() };
        for filter in filters {
            for part in datafusion_expr::utils::split_conjunction(filter) {
                program.filters.push(one(part, Fit::Any)?);
            }
        }
        let (mut columns, mut computed): (Vec<PlanColumn>, Vec<&Expr>) = (Vec::new(), Vec::new());
        for output in outputs {
            let expr = strip(output);
            let ty = expr.get_type(schema).map_err(|e| self.failed(&e))?;
            if types::form_of(&ty).is_none() {
                let why = types::row_type(&ty).err().unwrap_or_default();
                return Err(vec![problem(whole(self.text), format!("`{}`: {why}", shown(expr)), None)]);
            }
            let mut origin = None;
            let source = match expr {
                Expr::Column(c) if let Some(at) = schema.maybe_index_of_column(c) => {
                    origin = declared(at);
                    let at = place(at);
                    // A uuid is bytes in a table, and text in between.
                    (program.row[at].table != Some(row::Type::Uuid)).then_some(Source::Copy(at))
                }
                _ => None,
            };
            let source = match (source, computed.iter().position(|e| *e == expr)) {
                (Some(source), _) => source,
                (None, Some(at)) => Source::Computed(at),
                (None, None) => {
                    computed.push(expr);
                    program.computed.push(one(expr, Fit::Any)?);
                    Source::Computed(program.computed.len() - 1)
                }
            };
            program.outputs.push(source);
            columns.push(PlanColumn { name: strip_name(output), ty, declared: origin });
        }
        program.needed = needed_by(&program);
        Ok((program, columns))
    }

    fn aggregate(&mut self, node: &logical_plan::Aggregate, needed: &[usize]) -> Lowered<(Rel, Vec<PlanColumn>)> {
        let keys = node.group_expr.len();
        if node.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return self.refuse("group", "grouping sets are not supported", "write one SELECT for each grouping, with UNION ALL between them");
        }
        let mut outputs = node.group_expr.clone();
        let mut aggregates = Vec::new();
        for (i, expr) in node.aggr_expr.iter().enumerate() {
            if !needed.contains(&(keys + i)) {
                continue;
            }
            let Expr::AggregateFunction(call) = strip(expr) else {
                return self.refuse("", format!("`{}` is no aggregate", shown(expr)), "name an aggregate");
            };
            let name = call.func.name().to_lowercase();
            let function = match name.as_str() {
                "count" => AggregateFunction::Count,
                "sum" => AggregateFunction::Sum,
                "avg" => AggregateFunction::Average,
                "min" | "bool_and" => AggregateFunction::Least,
                "max" | "bool_or" => AggregateFunction::Greatest,
                _ => {
                    return self.refuse(
                        &name,
                        format!("the aggregate `{name}` is not kept incrementally"),
                        &format!("supported are {}", AGGREGATES.join(", ")),
                    );
                }
            };
            if call.params.args.len() != 1 {
                return self.refuse(&name, format!("`{name}` of several values is not supported"), "aggregate one value, e.g. a concatenation of them");
            }
            let ty = node.schema.field(keys + i).data_type().clone();
            let mut argument = call.params.args[0].clone();
            let input = argument.get_type(node.input.schema()).map_err(|e| self.failed(&e))?;
            let summed = matches!(function, AggregateFunction::Sum | AggregateFunction::Average);
            if (summed && !matches!(input, DataType::Int64 | DataType::UInt64 | DataType::Float64 | DataType::Decimal128(..) | DataType::Null))
                || types::form_of(&ty).is_none()
            {
                return self.refuse(
                    &name,
                    format!("`{name}` of {} is not supported", types::sql_name(&input)),
                    "cast the value, e.g. to decimal(38,10) or bigint",
                );
            }
            if let Some(filter) = &call.params.filter {
                argument = Expr::Case(Case { expr: None, when_then_expr: vec![(filter.clone(), Box::new(argument))], else_expr: None });
            }
            let counts_rows = function == AggregateFunction::Count && !call.params.distinct && matches!(&argument, Expr::Literal(value, _) if !value.is_null());
            let argument = (!counts_rows).then(|| {
                outputs[keys..].iter().position(|o| *o == argument).unwrap_or_else(|| {
                    outputs.push(argument);
                    outputs.len() - keys - 1
                })
            });
            let least_or_greatest = matches!(function, AggregateFunction::Least | AggregateFunction::Greatest);
            aggregates.push((keys + i, Aggregate { function, distinct: call.params.distinct && !least_or_greatest, argument, input, ty, text: shown(expr) }));
        }
        let (input, program, columns) = self.program(&node.input, Vec::new(), outputs)?;
        let place = |at: &usize| if *at < keys { *at } else { keys + aggregates.iter().position(|(i, _)| i == at).expect("needed aggregates are kept") };
        let places: Vec<usize> = needed.iter().map(place).collect();
        let found = needed.iter().zip(&places).map(|(at, place)| {
            let (name, ty) = (node.schema.field(*at).name().clone(), node.schema.field(*at).data_type().clone());
            let declared = if *place < keys {
                columns[*place].declared
            } else {
                // The least and greatest of a column are values of it.
                let aggregate = &aggregates[*place - keys].1;
                let same = matches!(aggregate.function, AggregateFunction::Least | AggregateFunction::Greatest);
                aggregate.argument.filter(|_| same).and_then(|a| columns[keys + a].declared)
            };
            PlanColumn { name, ty, declared }
        });
        let found = found.collect();
        let slots = columns.iter().map(Slot::of).collect();
        let aggregates = aggregates.into_iter().map(|(_, a)| a).collect();
        Ok((Rel::Group(Box::new(Group { input, program, slots, keys, always: keys == 0, aggregates, outputs: places })), found))
    }

    fn values(&mut self, values: &logical_plan::Values, needed: &[usize]) -> Lowered<(Rel, Vec<PlanColumn>)> {
        let schema = DFSchema::empty();
        let mut rows = Vec::new();
        for line in &values.values {
            let (mut bytes, mut spans) = (Vec::new(), Vec::new());
            for at in needed {
                let ty = values.schema.field(*at).data_type().clone();
                let expr = match &line[*at] {
                    Expr::Literal(value, _) if value.is_null() => Expr::Literal(ScalarValue::try_from(&ty).map_err(|e| self.failed(&e))?, None),
                    expr if expr.get_type(&schema).is_ok_and(|t| t == ty) => expr.clone(),
                    expr => Expr::Cast(Cast::new(Box::new(expr.clone()), ty)),
                };
                let compiled = Compiled::new(&expr, &schema, Fit::Any, shown(&expr)).map_err(|e| self.failed(&e))?;
                let mut why = None;
                compiled.evaluate(Vec::new(), 1, &mut bytes, &mut |_, result| match result {
                    Ok(span) => spans.push(span),
                    Err(error) => why = Some(error),
                });
                if let Some(why) = why {
                    return self.refuse("values", why, "write another value");
                }
            }
            let mut row = Vec::new();
            let mut writer = row::RowWriter::new(&mut row, needed.len());
            spans.iter().for_each(|span| writer.field(span.field(&bytes)));
            writer.finish();
            rows.push(row);
        }
        Ok((Rel::Values(rows), self.plain_columns(&values.schema, needed)))
    }

    /// The rows of `plan` as a table has them, with the columns' final names and types.
    pub fn table(&mut self, plan: &LogicalPlan) -> Lowered<(Rel, Vec<row::Column>)> {
        let every: Vec<usize> = (0..plan.schema().fields().len()).collect();
        let (rel, found) = self.relation(plan, &every)?;
        let mut columns = Vec::new();
        for (column, field) in found.iter().zip(plan.schema().fields()) {
            let ty = match column.declared {
                Some(declared) => declared,
                None => {
                    types::row_type(&column.ty).map_err(|why| vec![problem(of_word(self.text, field.name()), format!("`{}`: {why}", field.name()), None)])?
                }
            };
            columns.push(row::Column { name: field.name().clone(), ty });
        }
        if found.iter().zip(&columns).all(|(f, c)| c.ty != row::Type::Uuid && types::arrow_type(c.ty) == f.ty) {
            return Ok((rel, columns));
        }
        let fields: Vec<_> = found.iter().enumerate().map(|(i, f)| arrow::datatypes::Field::new(format!("c{i}"), f.ty.clone(), true)).collect();
        let schema = DFSchema::from_unqualified_fields(fields.into(), Default::default()).map_err(|e| self.failed(&e))?;
        let slots: Vec<Slot> = found.iter().map(Slot::of).collect();
        let mut program = copy(&slots, &every);
        for (i, (found, wanted)) in found.iter().zip(&columns).enumerate() {
            let to = types::arrow_type(wanted.ty);
            if wanted.ty != row::Type::Uuid && to == found.ty {
                continue;
            }
            let expr = column(&schema, i);
            let expr = if to == found.ty { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) };
            let fit = if wanted.ty == row::Type::Uuid { Fit::Uuid } else { Fit::Any };
            let compiled = Compiled::new(&expr, &schema, fit, wanted.name.clone()).map_err(|e| self.failed(&e))?;
            program.computed.push(compiled);
            program.outputs[i] = Source::Computed(program.computed.len() - 1);
        }
        program.needed = needed_by(&program);
        Ok((Rel::Map { input: Box::new(rel), program }, columns))
    }
}

/// The program that hands on some fields of its rows.
fn copy(row: &[Slot], outputs: &[usize]) -> Program {
    let outputs: Vec<Source> = outputs.iter().map(|i| Source::Copy(*i)).collect();
    let mut program = Program { row: row.to_vec(), of_table: false, needed: Vec::new(), filters: Vec::new(), computed: Vec::new(), outputs };
    program.needed = needed_by(&program);
    program
}

fn needed_by(program: &Program) -> Vec<usize> {
    let copied = program.outputs.iter().filter_map(|s| if let Source::Copy(at) = s { Some(*at) } else { None });
    let read = program.filters.iter().chain(&program.computed).flat_map(|c| c.inputs.iter().copied());
    copied.chain(read).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The expression with each column of `schema` replaced.
fn replaced(expr: Expr, schema: &DFSchema, by: &dyn Fn(usize) -> Expr) -> Expr {
    let replace = |expr: Expr| match &expr {
        Expr::Column(c) => match schema.maybe_index_of_column(c) {
            Some(at) => Ok(Transformed::yes(by(at))),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    };
    expr.transform_up(replace).data().expect("replacing columns does not fail")
}

fn strip_name(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Column(column) => column.name.clone(),
        other => shown(other),
    }
}
