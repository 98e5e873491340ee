//! DataFusion's complaints as problems with places and suggestions.

use std::{
    any::Any,
    ops::{ControlFlow, Range},
};

use datafusion_common::{
    DataFusionError, ScalarValue, SchemaError,
    diagnostic::Diagnostic,
    tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
};
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::{
    ast::{self, Spanned, Visit, Visitor},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span},
};

use super::{
    SqlProblem,
    context::{AGGREGATES, SHARED},
    place::{of_message, of_span, of_word, problem, suggest, whole},
};

/// An expression as people write it.
pub fn shown(expr: &Expr) -> String {
    let plain = expr.clone().transform(|e| {
        Ok(match e {
            Expr::Column(mut column) => {
                column.relation = None;
                Transformed::yes(Expr::Column(column))
            }
            Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), metadata) => {
                Transformed::yes(Expr::Literal(ScalarValue::Utf8(Some(format!("'{}'", text.replace('\'', "''")))), metadata))
            }
            other => Transformed::no(other),
        })
    });
    plain.data().unwrap_or_else(|_| expr.clone()).human_display().to_string()
}

/// The problem of a text that does not parse.
pub fn of_parser(text: &str, error: &ParserError) -> SqlProblem {
    match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
            let (at, message) = of_message(text, message);
            let hint = of_slip(text, &at);
            problem(at, lower_first(&message), Some(hint))
        }
        ParserError::RecursionLimitExceeded => problem(whole(text), "the text is nested too deeply", Some("split it over several fields or targets".into())),
    }
}

/// What to look at where the parser stopped.
pub fn of_slip(text: &str, at: &Range<usize>) -> String {
    match misspelt(text, at) {
        Some((word, keyword)) => format!("did you mean `{keyword}` where `{word}` stands?"),
        None => LOOK_HERE.into(),
    }
}

pub const LOOK_HERE: &str = "look here and at the word before: a comma, an operator, a bracket or a keyword may be lacking; a text has 'single quotes'";

/// The word at which the parser stopped, or the one before it, if it is nearly a keyword: a misspelt one reads as a name at first.
fn misspelt<'t>(text: &'t str, at: &Range<usize>) -> Option<(&'t str, &'static str)> {
    const KEYWORDS: [&str; 24] = [
        "SELECT",
        "DISTINCT",
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "JOIN",
        "INNER",
        "LEFT",
        "RIGHT",
        "FULL",
        "CROSS",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "BETWEEN",
        "LIKE",
        "CAST",
        "WITH",
    ];
    let words = |text: &'t str| text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    let near = [words(text.get(at.clone())?).next(), words(text.get(..at.start)?).next_back()];
    near.into_iter().flatten().find_map(|word| {
        let upper = word.to_uppercase();
        let keyword = KEYWORDS.into_iter().find(|k| strsim::damerau_levenshtein(k, &upper) == 1)?;
        (word.len() > 3 && !KEYWORDS.contains(&upper.as_str())).then_some((word, keyword))
    })
}

/// Runs a planner on a stack of its own, which is large enough for any text that the parser accepts and ends in a problem
/// where the planner panics.
pub fn guarded<R: Send>(text: &str, plan: impl FnOnce() -> Result<R, Vec<SqlProblem>> + Send) -> Result<R, Vec<SqlProblem>> {
    const STACK_BYTES: usize = 256 << 20;
    let outcome = std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("planner".into()).stack_size(STACK_BYTES).spawn_scoped(scope, plan);
        planner.expect("a thread can be started").join()
    });
    outcome.unwrap_or_else(|panic| Err(vec![of_panic(text, &*panic)]))
}

/// Workers evaluate on ordinary stacks, so an expression's depth has a limit.
///
/// # Errors
/// The problem, if it is deeper.
pub fn not_too_deep(text: &str, expr: &Expr) -> Result<(), Vec<SqlProblem>> {
    const DEPTH_MAX: usize = 300;
    let (mut level, mut depth) = (vec![expr], 0);
    while !level.is_empty() {
        depth += 1;
        let mut below = Vec::new();
        for expr in level {
            let _ = expr.apply_children(|child| {
                below.push(child);
                Ok(TreeNodeRecursion::Continue)
            });
        }
        level = below;
    }
    if depth > DEPTH_MAX {
        return Err(vec![problem(
            whole(text),
            format!("the expression is nested {depth} levels deep, and {DEPTH_MAX} are kept"),
            Some("split it over several fields or targets".into()),
        )]);
    }
    Ok(())
}

/// What a panic of the planner says.
fn of_panic(text: &str, panic: &(dyn Any + Send)) -> SqlProblem {
    let said = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    problem(whole(text), format!("the planner failed on this text: {said}"), Some("write it in another way, and report this".into()))
}

/// The problems of a text that does not plan.
pub fn of_planner(text: &str, error: &DataFusionError) -> Vec<SqlProblem> {
    match error {
        DataFusionError::Collection(errors) => errors.iter().flat_map(|e| of_planner(text, e)).collect(),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let mut problems = of_planner(text, inner);
            if let Some(place) = place_of(text, diagnostic) {
                for problem in &mut problems {
                    problem.at = place.clone();
                }
            }
            problems
        }
        DataFusionError::Context(_, inner) => of_planner(text, inner),
        DataFusionError::Shared(inner) => of_planner(text, inner),
        DataFusionError::SQL(error, _) => vec![of_parser(text, error)],
        DataFusionError::SchemaError(error, _) => vec![of_schema(text, error)],
        other => vec![of_message_text(text, &other.strip_backtrace())],
    }
}

fn place_of(text: &str, diagnostic: &Diagnostic) -> Option<Range<usize>> {
    let span = diagnostic.span?;
    let location = |l: datafusion_common::Location| Location { line: l.line, column: l.column };
    of_span(text, Span { start: location(span.start), end: location(span.end) })
}

fn of_schema(text: &str, error: &SchemaError) -> SqlProblem {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let message = match &field.relation {
                Some(relation) => format!("there is no column `{}` in `{}`", field.name, relation.table()),
                None => format!("there is no column `{}`", field.name),
            };
            let mut near: Vec<&str> = valid_fields
                .iter()
                .filter(|f| field.relation.as_ref().is_none_or(|r| f.relation.as_ref().is_some_and(|s| s.table() == r.table())))
                .map(|f| f.name.as_str())
                .collect();
            if near.is_empty() {
                near = valid_fields.iter().map(|f| f.name.as_str()).collect();
            }
            near.sort_unstable();
            near.dedup();
            problem(of_word(text, &field.name), message, suggest(&field.name, near, "known are"))
        }
        SchemaError::AmbiguousReference { field } => {
            let hint = format!("say whose it is, e.g. `t.{}`", field.name);
            problem(of_word(text, &field.name), format!("`{}` is a column of several tables", field.name), Some(hint))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            problem(of_word(text, name), format!("there are two columns `{name}`"), Some("give one another name with AS".into()))
        }
    }
}

fn of_message_text(text: &str, said: &str) -> SqlProblem {
    let mut short = said.trim();
    for prefix in [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "Schema error: ",
        "Optimizer rule ",
    ] {
        short = short.strip_prefix(prefix).unwrap_or(short);
    }
    let short = short.split("\nThis issue was likely caused").next().unwrap_or(short).trim_end_matches(['.', '\n']);
    if let Some(name) = between(short, "no table `", "`") {
        return problem(of_word(text, name), format!("there is no table `{name}`"), None);
    }
    if let Some(name) = between(short, "Invalid function '", "'") {
        return problem(of_word(text, name), format!("there is no function `{name}`"), suggest(name, SHARED.function_names(), "known are"));
    }
    if let Some((head, _)) = short.split_once(" must appear in the GROUP BY") {
        let name = head.trim_end_matches('"').rsplit(['"', ' ']).next().unwrap_or(head);
        let column = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
        let hint = format!("add it to GROUP BY, or wrap it in an aggregate ({})", AGGREGATES[..5].join(", "));
        return problem(of_word(text, column), format!("`{column}` is neither grouped nor aggregated"), Some(hint));
    }
    let typed = in_our_types(short);
    let short = typed.as_str();
    if let Some(name) = between(short, "'", "' failed to match any signature").or_else(|| between(short, "call to '", "' failed")) {
        let message = match between(short, "but received ", " (DataType").or_else(|| between(short, "but received ", ".")) {
            Some(found) => format!("`{name}` does not take {}", if found == "String" { "text" } else { found }),
            None => format!("`{name}` does not take these arguments"),
        };
        return problem(of_word(text, name), message, Some("cast the value".into()));
    }
    if short.starts_with("Substring without for/from") {
        return problem(of_word(text, "substr"), "`substr` does not say from where", Some("`substr(text, from)` or `substr(text, from, length)`".into()));
    }
    if let Some(predicate) = between(short, "non-boolean predicate '", "'") {
        let ty = short.rsplit(' ').next().unwrap_or_default();
        let word = predicate.rsplit('.').next().unwrap_or(predicate);
        let at = of_condition(text, word).unwrap_or_else(|| of_word(text, word));
        return problem(at, format!("a condition must be true or false, and this is of type {ty}"), Some("compare it with something".into()));
    }
    // A function that does not take these arguments: the place is its name.
    let at = between(short, "call to '", "'")
        .or_else(|| between(short, "Function '", "'"))
        .or_else(|| between(short, "function '", "'"))
        .map_or_else(|| of_operation(text, short).unwrap_or_else(|| whole(text)), |name| of_word(text, name));
    let short = short.split(" No function matches the given name").next().unwrap_or(short);
    let hint = if short.contains("coerce") || short.contains("infer common") {
        "values of these types do not go together: convert one with `cast(… AS …)`"
    } else {
        "write it in another way; docs/dataflows.md lists what SQL is kept"
    };
    problem(at, lower_first(short), Some(hint.into()))
}

/// The operation that is spoken of as `… operation TYPE OPERATOR TYPE`, if the text has only one with that operator.
fn of_operation(text: &str, said: &str) -> Option<Range<usize>> {
    struct Operations<'a> {
        said: &'a str,
        found: Vec<Span>,
    }
    impl Visitor for Operations<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::BinaryOp { op, .. } = expr
                && self.said.contains(&format!(" {op} "))
            {
                self.found.push(expr.span());
            }
            ControlFlow::Continue(())
        }
    }
    let (_, said) = said.split_once("operation ")?;
    let mut operations = Operations { said, found: Vec::new() };
    // A query, or else the expression of a field.
    let _ = match Parser::parse_sql(&GenericDialect {}, text) {
        Ok(parsed) => parsed.visit(&mut operations),
        Err(_) => Parser::new(&GenericDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_expr()).ok()?.visit(&mut operations),
    };
    match operations.found[..] {
        [one] => of_span(text, one),
        _ => None,
    }
}

/// The `WHERE` or `HAVING` that is nothing but the column `word`.
fn of_condition(text: &str, word: &str) -> Option<Range<usize>> {
    struct Conditions(Vec<Span>);
    impl Visitor for Conditions {
        type Break = ();
        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
            self.0.extend(select.selection.iter().chain(&select.having).map(Spanned::span));
            ControlFlow::Continue(())
        }
    }
    let mut conditions = Conditions(Vec::new());
    let _ = Parser::parse_sql(&GenericDialect {}, text).ok()?.visit(&mut conditions);
    conditions.0.into_iter().filter_map(|span| of_span(text, span)).find(|at| text[at.clone()].rsplit('.').next() == Some(word))
}

/// Names of Arrow types as the types that people declare.
fn in_our_types(said: &str) -> String {
    let names = [
        ("Utf8View", "varchar"),
        ("LargeUtf8", "varchar"),
        ("Utf8", "varchar"),
        ("UInt64", "unsigned bigint"),
        ("Int64", "bigint"),
        ("Int32", "int"),
        ("Int16", "smallint"),
        ("Int8", "tinyint"),
        ("Float64", "double"),
        ("Decimal128(", "decimal("),
        ("Boolean", "bool"),
        ("Date32", "date"),
        ("Binary", "bytes"),
    ];
    names.iter().fold(said.to_string(), |said, (arrow, ours)| said.replace(arrow, ours))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => first.to_lowercase().chain(characters).collect(),
        _ => text.to_string(),
    }
}
