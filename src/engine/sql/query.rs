//! Queries: from the text of a target to a [`SqlPlan`].

use std::{collections::BTreeSet, sync::Arc};

use datafusion_common::{DFSchema, tree_node::TreeNodeRecursion};
use datafusion_expr::LogicalPlan;
use datafusion_optimizer::{
    Analyzer, Optimizer, OptimizerContext, OptimizerRule, decorrelate_predicate_subquery::DecorrelatePredicateSubquery,
    eliminate_cross_join::EliminateCrossJoin, eliminate_duplicated_expr::EliminateDuplicatedExpr, eliminate_filter::EliminateFilter,
    eliminate_outer_join::EliminateOuterJoin, extract_equijoin_predicate::ExtractEquijoinPredicate, optimize_unions::OptimizeUnions,
    propagate_empty_relation::PropagateEmptyRelation, push_down_filter::PushDownFilter, simplify_expressions::SimplifyExpressions,
};
use datafusion_sql::{
    planner::SqlToRel,
    sqlparser::{
        ast::{Query, SelectItem, SetExpr, Spanned, Statement},
        dialect::GenericDialect,
        parser::Parser,
    },
};

use super::{
    CatalogTable, SqlPlan, SqlProblem, binding,
    check::{self, Kind},
    context::{Context, SHARED, parser_options},
    lower::Lowering,
    place::{of_span, of_word, problem, suggest, whole},
    problems,
    scalar::constants_hold,
};

/// Plans a query over the tables of `catalog`.
///
/// # Errors
/// The problems of the text, among them what can't be kept incrementally.
pub fn plan(sql: &str, catalog: &[CatalogTable]) -> Result<SqlPlan, Vec<SqlProblem>> {
    problems::guarded(sql, || plan_query(sql, catalog))
}

fn plan_query(sql: &str, catalog: &[CatalogTable]) -> Result<SqlPlan, Vec<SqlProblem>> {
    let statements = Parser::new(&GenericDialect {}).try_with_sql(sql).and_then(|mut p| p.parse_statements());
    let mut statements = statements.map_err(|e| vec![problems::of_parser(sql, &e)])?;
    let mut query = match (statements.pop(), statements.len()) {
        (Some(Statement::Query(query)), 0) => query,
        (None, _) => return Err(vec![problem(whole(sql), "there is no query", Some("write a SELECT".into()))]),
        (Some(_), 0) => return Err(vec![problem(whole(sql), "only a query can be kept", Some("write a SELECT".into()))]),
        (Some(last), _) => {
            let at = of_span(sql, last.span()).unwrap_or_else(|| whole(sql));
            return Err(vec![problem(at, "a target is one query, and here are several", Some("put each into a target of its own".into()))]);
        }
    };
    binding::rebind(&mut query);
    // Shown with its brackets as they are meant.
    let meaning = query.to_string();
    let mut refusals = check::check(sql, Kind::Query, &query);
    refusals.extend(unknown_tables(sql, &query, catalog));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let aliases = check::aliases(&query);
    check::respell(&mut query, catalog, &aliases);
    let duplicates_at = projection_places(sql, &query);
    let context = Context { tables: catalog };
    let fail = |e: &datafusion_common::DataFusionError| problems::of_planner(sql, e);
    let logical = SqlToRel::new_with_options(&context, parser_options()).sql_statement_to_plan(Statement::Query(query)).map_err(|e| fail(&e))?;
    shallow(sql, &logical)?;
    unique_names(sql, &logical, &duplicates_at)?;
    let logical = Analyzer::new().execute_and_check(logical, &SHARED.options, |_, _| {}).map_err(|e| fail(&e))?;
    every_constant_holds(sql, &logical)?;
    let config = OptimizerContext::new_with_config_options(SHARED.options.clone()).without_query_execution_start_time().with_skip_failing_rules(false);
    let logical = Optimizer::with_rules(rules()).optimize(logical, &config, |_, _| {}).map_err(|e| fail(&e))?;
    let mut lowering = Lowering { text: sql, tables: catalog, inputs: BTreeSet::new() };
    let (rel, columns) = lowering.table(&logical)?;
    Ok(SqlPlan { text: sql.to_string(), inputs: lowering.inputs.into_iter().collect(), columns, rel: Arc::new(rel), meaning })
}

/// Rules that lead to nodes which can be lowered. Projections are not among them: lowering asks for the columns it needs.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
    ]
}

/// Tables that are neither in the catalog nor common table expressions.
fn unknown_tables(sql: &str, query: &Query, catalog: &[CatalogTable]) -> Vec<SqlProblem> {
    use std::ops::ControlFlow;

    use datafusion_sql::sqlparser::ast::{ObjectName, Visit, Visitor};
    #[derive(Default)]
    struct Names {
        read: Vec<ObjectName>,
        defined: Vec<String>,
    }
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            self.defined.extend(query.with.iter().flat_map(|w| &w.cte_tables).map(|c| c.alias.name.value.to_lowercase()));
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            self.read.push(relation.clone());
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    let context = Context { tables: catalog };
    let mut problems = Vec::new();
    for name in names.read {
        let plain = name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), |i| i.value.clone())).collect::<Vec<_>>().join(".");
        if context.find(&plain).is_some() || names.defined.contains(&plain.to_lowercase()) {
            continue;
        }
        let known = catalog.iter().map(|t| t.name.as_str()).chain(names.defined.iter().map(String::as_str));
        let at = of_span(sql, name.span()).unwrap_or_else(|| of_word(sql, &plain));
        problems.push(problem(at, format!("there is no table `{plain}`"), suggest(&plain, known, "known are")));
    }
    problems
}

/// The places of the outermost select list, if it has one for every column.
fn projection_places(sql: &str, query: &Query) -> Vec<std::ops::Range<usize>> {
    let mut body = &*query.body;
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let SetExpr::Select(select) = body else { return Vec::new() };
    if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))) {
        return Vec::new();
    }
    select.projection.iter().map(|item| of_span(sql, item.span()).unwrap_or_else(|| whole(sql))).collect()
}

fn unique_names(sql: &str, plan: &LogicalPlan, places: &[std::ops::Range<usize>]) -> Result<(), Vec<SqlProblem>> {
    let mut problems = Vec::new();
    let names: Vec<&String> = plan.schema().fields().iter().map(|f| f.name()).collect();
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            let at = places.get(i).cloned().unwrap_or_else(|| whole(sql));
            problems.push(problem(
                at,
                format!("there are two columns `{name}`"),
                Some(format!("give this one another name, e.g. `AS {}_2`", name.replace(|c: char| !c.is_alphanumeric(), "_"))),
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn each_expression(plan: &LogicalPlan, mut check: impl FnMut(&datafusion_expr::Expr) -> Result<(), Vec<SqlProblem>>) -> Result<(), Vec<SqlProblem>> {
    let mut result = Ok(());
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            if result.is_ok() {
                result = check(expr);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    });
    result
}

fn shallow(sql: &str, plan: &LogicalPlan) -> Result<(), Vec<SqlProblem>> {
    each_expression(plan, |expr| problems::not_too_deep(sql, expr))
}

fn every_constant_holds(sql: &str, plan: &LogicalPlan) -> Result<(), Vec<SqlProblem>> {
    let none = DFSchema::empty();
    each_expression(plan, |expr| constants_hold(sql, expr, &none))
}

#[cfg(test)]
mod tests;
