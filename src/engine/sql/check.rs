//! What SQL can't be kept incrementally, found in the parsed text, where every token still has its place.
//!
//! Everything here is a refusal with a reason and a way out. What is left goes to DataFusion, whose own complaints
//! `problems` translates.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, Ident, LimitClause, Query, Select, SetExpr, Spanned, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use super::{
    CatalogTable, SqlProblem,
    context::{AGGREGATES, FunctionKind, SHARED},
    place::{of_span, of_word, problem, suggest},
};

/// What a text is checked as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One expression over one row: no aggregates, no subqueries.
    Expression,
    Query,
}

/// The refusals of a parsed text.
pub fn check(text: &str, kind: Kind, parsed: &impl Visit) -> Vec<SqlProblem> {
    let mut checker = Checker { text, kind, problems: Vec::new() };
    let _ = parsed.visit(&mut checker);
    let mut problems = checker.problems;
    problems.sort_by_key(|p| (p.at.start, p.at.end));
    problems.dedup();
    problems
}

struct Checker<'a> {
    text: &'a str,
    kind: Kind,
    problems: Vec<SqlProblem>,
}

impl Checker<'_> {
    fn refuse(&mut self, part: &impl Spanned, word: &str, message: impl Into<String>, hint: impl Into<String>) {
        let at = of_span(self.text, part.span()).unwrap_or_else(|| of_word(self.text, word));
        self.problems.push(problem(at, message, Some(hint.into())));
    }

    fn refuse_word(&mut self, word: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(problem(of_word(self.text, word), message, Some(hint.into())));
    }

    fn function(&mut self, function: &Function) {
        let name = function.name.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(".").to_lowercase();
        let kind = SHARED.function(&name);
        if function.over.is_some() || kind == FunctionKind::Window {
            let hint = "keep a key's newest or greatest row with GROUP BY and max(), and join it back";
            return self.refuse(
                &function.name,
                &name,
                format!("`{name}` is a window function; its value changes for many rows whenever one row comes or goes"),
                hint,
            );
        }
        match kind {
            FunctionKind::Volatile => {
                self.refuse(
                    &function.name,
                    &name,
                    format!("`{name}()` gives another value each time it is asked, so its rows could never be kept"),
                    "use a column of the source instead, e.g. its time of update",
                );
            }
            FunctionKind::OtherAggregate => {
                self.refuse(
                    &function.name,
                    &name,
                    format!("the aggregate `{name}` is not kept incrementally"),
                    format!("supported are {}", AGGREGATES.join(", ")),
                );
            }
            FunctionKind::Unknown => {
                let hint = suggest(&name, SHARED.function_names(), "known are").unwrap_or_else(|| "see DataFusion's scalar functions".into());
                self.refuse(&function.name, &name, format!("there is no function `{name}`"), hint);
            }
            FunctionKind::Aggregate if self.kind == Kind::Expression => {
                self.refuse(&function.name, &name, format!("`{name}` needs all rows, and this expression sees one"), "use a target with `sql:` and GROUP BY");
            }
            FunctionKind::Aggregate => {
                if let FunctionArguments::List(list) = &function.args
                    && !list.clauses.is_empty()
                {
                    let clause = list.clauses[0].to_string();
                    self.refuse(&function.name, &name, format!("`{clause}` means nothing inside `{name}`"), "remove it");
                }
            }
            FunctionKind::Scalar | FunctionKind::Window => {}
        }
        if !function.within_group.is_empty() {
            self.refuse(&function.name, &name, "WITHIN GROUP is not supported", format!("supported aggregates are {}", AGGREGATES.join(", ")));
        }
    }
}

impl Visitor for Checker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.kind == Kind::Expression {
            return ControlFlow::Continue(());
        }
        if let Some(with) = &query.with
            && with.recursive
        {
            self.refuse_word("recursive", "recursive queries are not supported", "unfold the levels you need as joins");
        }
        if query.order_by.is_some() {
            self.refuse_word("order", "ORDER BY means nothing in a table, which has no order", "remove it; whoever reads the table can sort");
        }
        match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit: None, .. }) => {
                self.refuse_word("offset", "OFFSET of a table without order is any rows", "filter with WHERE on a column instead");
            }
            Some(_) => self.refuse_word("limit", "LIMIT of a table without order is any rows", "filter with WHERE on a column instead"),
            None => {}
        }
        if query.fetch.is_some() {
            self.refuse_word("fetch", "FETCH of a table without order is any rows", "filter with WHERE on a column instead");
        }
        if !query.locks.is_empty() || query.for_clause.is_some() {
            self.refuse_word("for", "FOR is not supported", "remove it");
        }
        if !query.pipe_operators.is_empty() {
            self.refuse_word("|>", "pipe operators are not supported", "write a SELECT");
        }
        match &*query.body {
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => {}
            other => self.refuse(other, "", "only SELECT is supported here", "write a SELECT"),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        use datafusion_sql::sqlparser::ast::Distinct;
        if matches!(select.distinct, Some(Distinct::On(_))) {
            self.refuse_word("distinct", "DISTINCT ON keeps any one row of several", "use GROUP BY with min() or max()");
        }
        if select.top.is_some() {
            self.refuse_word("top", "TOP of a table without order is any rows", "filter with WHERE on a column instead");
        }
        if select.qualify.is_some() || !select.named_window.is_empty() {
            let word = if select.qualify.is_some() { "qualify" } else { "window" };
            self.refuse_word(word, "window functions are not kept incrementally", "use GROUP BY with min() or max(), and join it back");
        }
        if select.into.is_some() {
            self.refuse_word("into", "SELECT INTO is not supported", "the target's name is that of its declaration");
        }
        if !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.sort_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.connect_by.is_empty()
        {
            self.refuse(select, "select", "this clause of another SQL dialect is not supported", "use FROM, WHERE, GROUP BY and HAVING");
        }
        match &select.group_by {
            GroupByExpr::All(_) => self.refuse_word("all", "GROUP BY ALL is not supported", "name the columns"),
            GroupByExpr::Expressions(expressions, modifiers) => {
                for expression in expressions {
                    if matches!(expression, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)) {
                        let text = expression.to_string();
                        let word = text.split([' ', '(']).next().unwrap_or_default().to_string();
                        self.refuse_word(
                            &word,
                            format!("{} is not supported", word.to_uppercase()),
                            "write one SELECT for each grouping, with UNION ALL between them",
                        );
                    }
                }
                if !modifiers.is_empty() {
                    self.refuse_word("with", "modifiers of GROUP BY are not supported", "write one SELECT for each grouping, with UNION ALL between them");
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, with_ordinality: false, sample: None, version: None, .. } | TableFactor::NestedJoin { .. } => {}
            TableFactor::Derived { lateral: true, .. } => {
                self.refuse_word("lateral", "LATERAL is not supported", "join a subquery with ON instead");
            }
            TableFactor::Derived { .. } => {}
            TableFactor::Table { sample: Some(_), .. } => self.refuse_word("tablesample", "a sample is another one each time", "filter with WHERE instead"),
            other => {
                let text = other.to_string();
                let word = text.split([' ', '(']).next().unwrap_or_default().to_string();
                self.refuse_word(&word, format!("`{word}` is not supported in FROM"), "name a source or a target, or write a subquery");
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Subquery(_) => {
                let hint = if self.kind == Kind::Query {
                    "join the subquery instead, e.g. `LEFT JOIN (SELECT …) s ON …`"
                } else {
                    "use a target with `sql:` and a join"
                };
                self.refuse(expr, "select", "a subquery that stands for one value is not supported", hint);
            }
            Expr::InSubquery { .. } | Expr::Exists { .. } if self.kind == Kind::Expression => {
                self.refuse(expr, "select", "this expression sees one row, and no other table", "use a target with `sql:`");
            }
            Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Struct { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::Named { .. }
            | Expr::Lambda(_)
            | Expr::CompoundFieldAccess { .. } => {
                self.refuse(expr, "", "lists, tuples and structs are not supported", "compare and compute single values");
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                self.refuse(expr, "any", "ANY and ALL are not supported", "use IN, EXISTS, or a comparison with min() or max()");
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Gives unquoted names the spelling of the column they mean, where it has capitals: SQL folds what is not quoted.
pub fn respell(parsed: &mut impl VisitMut, tables: &[CatalogTable], aliases: &HashSet<String>) {
    struct Respeller<'a> {
        names: HashSet<&'a str>,
        aliases: &'a HashSet<String>,
    }
    impl Respeller<'_> {
        fn ident(&self, ident: &mut Ident) {
            let lower = ident.value.to_lowercase();
            if ident.quote_style.is_some() || self.names.contains(lower.as_str()) || self.aliases.contains(&lower) {
                return;
            }
            let found = if self.names.contains(ident.value.as_str()) {
                Some(ident.value.clone())
            } else {
                let mut like = self.names.iter().filter(|name| name.to_lowercase() == lower);
                like.next().filter(|_| like.next().is_none()).map(ToString::to_string)
            };
            if let Some(name) = found {
                ident.value = name;
                ident.quote_style = Some('"');
            }
        }
    }
    impl VisitorMut for Respeller<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(ident) => self.ident(ident),
                Expr::CompoundIdentifier(parts) => {
                    if let Some(last) = parts.last_mut() {
                        self.ident(last);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let names = tables.iter().flat_map(|t| t.columns.iter().map(|c| c.name.as_str())).collect();
    let _ = VisitMut::visit(parsed, &mut Respeller { names, aliases });
}

/// The names that a query gives to its own columns.
pub fn aliases(parsed: &impl Visit) -> HashSet<String> {
    struct Aliases(HashSet<String>);
    impl Visitor for Aliases {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            use datafusion_sql::sqlparser::ast::SelectItem;
            for item in &select.projection {
                if let SelectItem::ExprWithAlias { alias, .. } = item {
                    self.0.insert(alias.value.to_lowercase());
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut aliases = Aliases(HashSet::new());
    let _ = parsed.visit(&mut aliases);
    aliases.0
}
