//! Joins: which columns each side keeps, as key or as value, and `NOT IN`.

use arrow::{
    compute::can_cast_types,
    datatypes::{DataType, Field},
};
use datafusion_common::{Column as NamedColumn, DFSchema, JoinType, NullEquality};
use datafusion_expr::{Cast, Expr, ExprSchemable, LogicalPlan, logical_plan, type_coercion::binary::comparison_coercion};

use super::{Lowered, Lowering, column, copy, needed_by, shown};
use crate::engine::sql::{
    place::{of_word, whole},
    rel::{Group, Join, JoinKind, JoinSide, Pick, PlanColumn, Program, Rel, Slot, Source},
    types,
};

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &logical_plan::Join, needed: &[usize]) -> Lowered<(Rel, Vec<PlanColumn>)> {
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let (kind, swap) = match join.join_type {
            JoinType::Inner => (JoinKind::Inner, false),
            JoinType::Left => (JoinKind::Left, false),
            JoinType::Right => (JoinKind::Right, false),
            JoinType::Full => (JoinKind::Full, false),
            JoinType::LeftSemi => (JoinKind::Semi, false),
            JoinType::RightSemi => (JoinKind::Semi, true),
            JoinType::LeftAnti => (JoinKind::Anti, false),
            JoinType::RightAnti => (JoinKind::Anti, true),
            JoinType::LeftMark | JoinType::RightMark => {
                let word = if of_word(self.text, "exists") == whole(self.text) { "in" } else { "exists" };
                return self.refuse(
                    word,
                    "IN (SELECT …) and EXISTS are supported only as conditions of WHERE that must all hold",
                    "split the query with UNION, or LEFT JOIN the subquery and test a column of it for NULL",
                );
            }
        };
        let (left, right) = if swap { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let mut on = Vec::new();
        for (a, b) in &join.on {
            let (l, r) = if swap { (b, a) } else { (a, b) };
            let (lt, rt) = (l.get_type(left.schema()).map_err(|e| self.failed(&e))?, r.get_type(right.schema()).map_err(|e| self.failed(&e))?);
            if lt == rt {
                on.push((l.clone(), r.clone()));
                continue;
            }
            let Some(both) = comparison_coercion(&lt, &rt).filter(|t| can_cast_types(&lt, t) && can_cast_types(&rt, t)) else {
                return self.refuse(
                    "on",
                    format!("`{}` is of type {}, and `{}` of type {}", shown(l), types::sql_name(&lt), shown(r), types::sql_name(&rt)),
                    "cast one of them",
                );
            };
            let cast = |e: &Expr, t: &DataType| if *t == both { e.clone() } else { Expr::Cast(Cast::new(Box::new(e.clone()), both.clone())) };
            on.push((cast(l, &lt), cast(r, &rt)));
        }
        let null_aware = join.null_aware && kind == JoinKind::Anti;
        if null_aware && (on.len() != 1 || join.filter.is_some()) {
            return self.refuse("in", "NOT IN with a subquery that refers to the outer query is not supported", "use NOT EXISTS");
        }
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let width = left.schema().fields().len();
        let keys = on.len();
        let mut both: Vec<NeededColumn> = needed.iter().map(|i| NeededColumn::of(*i, width, semi)).collect();
        let outputs = both.len();
        let pair = left.schema().join(right.schema()).map_err(|e| self.failed(&e))?;
        if let Some(filter) = &join.filter {
            for found in filter.column_refs() {
                both.push(NeededColumn::of(pair.index_of_column(found).map_err(|e| self.failed(&e))?, width, false));
            }
        }
        let mut sides = [(left, Vec::new(), Vec::new()), (right, Vec::new(), Vec::new())];
        for (side, (plan, values, exprs)) in sides.iter_mut().enumerate() {
            for (l, r) in &on {
                exprs.push(if side == 0 { l.clone() } else { r.clone() });
            }
            for wanted in both.iter().filter(|w| w.side == side) {
                let expr = column(plan.schema(), wanted.at);
                if !exprs[..keys].contains(&expr) && !values.contains(&wanted.at) {
                    values.push(wanted.at);
                    exprs.push(expr);
                }
            }
        }
        let picks: Vec<Pick> = both
            .iter()
            .map(|wanted| {
                let (plan, values, exprs) = &sides[wanted.side];
                let expr = column(plan.schema(), wanted.at);
                match (exprs[..keys].iter().position(|e| *e == expr), wanted.side) {
                    (Some(key), 0) => Pick::LeftKey(key),
                    (Some(key), _) => Pick::RightKey(key),
                    (None, 0) => Pick::Left(values.iter().position(|v| *v == wanted.at).expect("it was added")),
                    (None, _) => Pick::Right(values.iter().position(|v| *v == wanted.at).expect("it was added")),
                }
            })
            .collect();
        let [(left_plan, _, left_exprs), (right_plan, _, right_exprs)] = sides;
        let (left_rel, left_program, left_columns) = self.program(left_plan, Vec::new(), left_exprs)?;
        let (right_rel, right_program, right_columns) = self.program(right_plan, Vec::new(), right_exprs.clone())?;
        let left_values = left_columns.len() - keys;
        let columns: Vec<PlanColumn> = picks[..outputs]
            .iter()
            .map(|pick| match *pick {
                Pick::LeftKey(k) => left_columns[k].clone(),
                Pick::Left(v) => left_columns[keys + v].clone(),
                Pick::RightKey(k) => right_columns[k].clone(),
                Pick::Right(v) => right_columns[keys + v].clone(),
            })
            .collect();
        let wide: Vec<Slot> = left_columns.iter().chain(&right_columns[keys..]).map(Slot::of).collect();
        let residual = match &join.filter {
            None => None,
            Some(filter) => {
                let place = |i: usize| {
                    let wanted = NeededColumn::of(i, width, false);
                    let at = both.iter().position(|w| *w == wanted).expect("columns of the condition were added");
                    match picks[at] {
                        Pick::LeftKey(k) | Pick::RightKey(k) => k,
                        Pick::Left(v) => keys + v,
                        Pick::Right(v) => keys + left_values + v,
                    }
                };
                let (mut program, _) = self.compile(&pair, wide, false, &place, &|_| None, std::slice::from_ref(filter), &[])?;
                program.outputs = (0..program.row.len()).map(Source::Copy).collect();
                program.needed = needed_by(&program);
                Some(program)
            }
        };
        let side = |rel: Rel, program: Program, columns: &[PlanColumn]| JoinSide { rel, program, slots: columns.iter().map(Slot::of).collect() };
        let lowered = Join {
            kind,
            left: side(left_rel, left_program, &left_columns),
            right: side(right_rel, right_program, &right_columns),
            keys,
            nulls_match,
            residual,
            outputs: picks[..outputs].to_vec(),
        };
        if null_aware {
            let right_key = right_exprs[0].clone();
            return Ok((self.not_in(lowered, right_plan, right_key, &columns)?, columns));
        }
        Ok((Rel::Join(Box::new(lowered)), columns))
    }

    /// `NOT IN` as SQL has it: nothing is left once the list holds a NULL, and a NULL is left only by an empty list.
    ///
    /// Three anti joins: by the key; with "is there a NULL in the list"; for NULL keys with "is there anything in the list".
    fn not_in(&mut self, mut by_key: Join, list: &LogicalPlan, key: Expr, columns: &[PlanColumn]) -> Lowered<Rel> {
        let key_slot = by_key.left.slots[0].clone();
        by_key.outputs.push(Pick::LeftKey(0));
        let mut slots: Vec<Slot> = columns.iter().map(Slot::of).collect();
        slots.push(key_slot);
        let width = slots.len();
        let exists = |lowering: &mut Self, filters: Vec<Expr>| -> Lowered<JoinSide> {
            let (input, program, _) = lowering.program(list, filters, Vec::new())?;
            let any = Group { input, program, slots: Vec::new(), keys: 0, always: false, aggregates: Vec::new(), outputs: Vec::new() };
            Ok(JoinSide { rel: Rel::Group(Box::new(any)), program: copy(&[], &[]), slots: Vec::new() })
        };
        let every: Vec<usize> = (0..width).collect();
        let no_null = Join {
            kind: JoinKind::Anti,
            left: JoinSide { rel: Rel::Join(Box::new(by_key)), program: copy(&slots, &every), slots: slots.clone() },
            right: exists(self, vec![key.is_null()])?,
            keys: 0,
            nulls_match: false,
            residual: None,
            outputs: every.iter().map(|i| Pick::Left(*i)).collect(),
        };
        let name = "key";
        let schema = DFSchema::from_unqualified_fields(vec![Field::new(name, slots[width - 1].ty.clone(), true)].into(), Default::default())
            .map_err(|e| self.failed(&e))?;
        let is_null = Expr::Column(NamedColumn::new_unqualified(name)).is_null();
        let (mut residual, _) = self.compile(&schema, slots.clone(), false, &|_| width - 1, &|_| None, &[is_null], &[])?;
        residual.outputs = every.iter().map(|i| Source::Copy(*i)).collect();
        residual.needed = needed_by(&residual);
        let no_unknown = Join {
            kind: JoinKind::Anti,
            left: JoinSide { rel: Rel::Join(Box::new(no_null)), program: copy(&slots, &every), slots },
            right: exists(self, Vec::new())?,
            keys: 0,
            nulls_match: false,
            residual: Some(residual),
            outputs: (0..width - 1).map(Pick::Left).collect(),
        };
        Ok(Rel::Join(Box::new(no_unknown)))
    }
}

/// A column that a join's output or condition reads.
#[derive(PartialEq, Eq)]
struct NeededColumn {
    side: usize,
    at: usize,
}

impl NeededColumn {
    fn of(at: usize, width: usize, semi: bool) -> NeededColumn {
        if semi || at < width { NeededColumn { side: 0, at } } else { NeededColumn { side: 1, at: at - width } }
    }
}
