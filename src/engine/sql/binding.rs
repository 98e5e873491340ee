//! `a IS [NOT] DISTINCT FROM b AND c` means `(a IS [NOT] DISTINCT FROM b) AND c`, as in PostgreSQL and the standard. The
//! parser reads all that follows FROM as its operand, however loosely it binds; this puts the tree right.
//!
//! Brackets have a node of their own in the parsed text, so a bare AND or OR below what binds tighter is always the parser's
//! doing.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, Ident, UnaryOperator, VisitMut, VisitorMut};

/// Puts the operands of every `IS DISTINCT FROM` right.
pub fn rebind(parsed: &mut impl VisitMut) {
    struct Rebinder;
    impl VisitorMut for Rebinder {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let taken = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
            *expr = loosened(taken);
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(parsed, &mut Rebinder);
}

/// The expression, with a bare AND or OR that stands too deep in it lifted out.
fn loosened(expr: Expr) -> Expr {
    let binary = |left: Expr, op: BinaryOperator, right: Box<Expr>| Expr::BinaryOp { left: Box::new(left), op, right };
    match expr {
        Expr::IsDistinctFrom(a, b) => match *b {
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => binary(loosened(Expr::IsDistinctFrom(a, left)), op, right),
            other => Expr::IsDistinctFrom(a, Box::new(other)),
        },
        Expr::IsNotDistinctFrom(a, b) => match *b {
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                binary(loosened(Expr::IsNotDistinctFrom(a, left)), op, right)
            }
            other => Expr::IsNotDistinctFrom(a, Box::new(other)),
        },
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => match *right {
            Expr::BinaryOp { left: inner, op: BinaryOperator::Or, right } => {
                binary(loosened(binary(*left, BinaryOperator::And, inner)), BinaryOperator::Or, right)
            }
            other => binary(*left, BinaryOperator::And, Box::new(other)),
        },
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => match *expr {
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                binary(loosened(Expr::UnaryOp { op: UnaryOperator::Not, expr: left }), op, right)
            }
            other => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(other) },
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use datafusion_sql::sqlparser::{dialect::GenericDialect, parser::Parser};

    use super::*;

    fn parsed(text: &str) -> Expr {
        Parser::new(&GenericDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap()
    }

    /// Without the nodes of brackets.
    fn bare(mut expr: Expr) -> Expr {
        struct Bare;
        impl VisitorMut for Bare {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                if let Expr::Nested(inner) = expr {
                    *expr = (**inner).clone();
                }
                ControlFlow::Continue(())
            }
        }
        let _ = VisitMut::visit(&mut expr, &mut Bare);
        expr
    }

    #[test]
    fn is_distinct_from_binds_tighter_than_not_and_or() {
        for (text, meant) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c", "(a IS NOT DISTINCT FROM b) OR c"),
            ("a IS DISTINCT FROM b AND c OR d", "((a IS DISTINCT FROM b) AND c) OR d"),
            ("p AND a IS DISTINCT FROM b OR c", "(p AND (a IS DISTINCT FROM b)) OR c"),
            ("p AND q AND a IS DISTINCT FROM b AND c OR d", "((p AND q AND (a IS DISTINCT FROM b)) AND c) OR d"),
            ("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c"),
            ("NOT a IS DISTINCT FROM b OR c AND d", "(NOT (a IS DISTINCT FROM b)) OR (c AND d)"),
            ("x IS DISTINCT FROM 3 AND x IN (1, 2)", "(x IS DISTINCT FROM 3) AND (x IN (1, 2))"),
            ("a IS DISTINCT FROM b + 1", "a IS DISTINCT FROM (b + 1)"),
        ] {
            let mut expr = parsed(text);
            rebind(&mut expr);
            // AND is read from the left however it was bracketed here, so texts are compared, which show what is above what.
            assert_eq!(shape(&expr), shape(&bare(parsed(meant))), "{text}");
        }
        // Brackets stand.
        let mut expr = parsed("a IS DISTINCT FROM (b AND c)");
        rebind(&mut expr);
        assert_eq!(expr, parsed("a IS DISTINCT FROM (b AND c)"));
    }

    /// Chains of AND and of OR as lists, everything else in brackets.
    fn shape(expr: &Expr) -> String {
        fn chain(expr: &Expr, of: &BinaryOperator, into: &mut Vec<String>) {
            match expr {
                Expr::BinaryOp { left, op, right } if op == of => {
                    chain(left, of, into);
                    chain(right, of, into);
                }
                other => into.push(shape(other)),
            }
        }
        match expr {
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
                let mut all = Vec::new();
                chain(expr, op, &mut all);
                format!("{op}[{}]", all.join(", "))
            }
            Expr::IsDistinctFrom(a, b) => format!("distinct({}, {})", shape(a), shape(b)),
            Expr::IsNotDistinctFrom(a, b) => format!("same({}, {})", shape(a), shape(b)),
            Expr::UnaryOp { op, expr } => format!("{op}({})", shape(expr)),
            other => other.to_string(),
        }
    }
}
