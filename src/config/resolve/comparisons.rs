//! Comparisons: sides, keys, fields, totals.

use super::{Declared, Resolver, settings::span_of, table_text};
use crate::{
    config::{codes::Code, names, yaml::At},
    plan::{Comparison, FieldPair, KeyPair, TableRef, TotalSpec},
    row::{Column, Type},
};

/// One side: its name for messages, its columns and key.
struct Side {
    table: TableRef,
    what: String,
    columns: Vec<Column>,
    key: Vec<usize>,
}

impl Resolver<'_> {
    pub(super) fn comparison(&mut self, declared: Declared) {
        let (name, body) = (declared.name.key(), declared.body);
        let expected = body.get("expected").and_then(|at| self.table(at));
        let actual = body.get("actual").and_then(|at| self.table(at));
        if let (Some(one), Some(other), Some(at)) = (expected, actual, body.get("actual"))
            && one == other
        {
            self.report.error(Code::WrongKind, &at.place(), "a table compared with itself").hint("name two tables");
        }
        let sides = expected.zip(actual).filter(|(e, a)| self.is_known(*e) && self.is_known(*a) && e != a);
        let (mut key, mut fields, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((expected, actual)) = sides {
            let (expected, actual) = (self.side(expected), self.side(actual));
            // A key that did not resolve has its own problem.
            if !expected.key.is_empty() && !actual.key.is_empty() {
                let before = self.report.errors();
                key = self.key_pairs(declared.name, &expected, &actual);
                if self.report.errors() == before {
                    fields = self.field_pairs(declared.name, body, &expected, &actual, &key);
                }
                if self.report.errors() == before {
                    totals = body.get("totals").into_iter().flat_map(At::items).filter_map(|at| self.total(at, &key, &fields)).collect();
                }
            } else {
                self.keyless(body, &expected, &actual);
            }
        }
        if sides.is_none() {
            self.of_one_side(body, expected.filter(|e| self.is_known(*e)), actual.filter(|a| self.is_known(*a)));
        }
        self.plan.comparisons.push(Comparison {
            name: name.to_string(),
            dataflow: declared.dataflow.to_string(),
            owner: declared.owner.map(str::to_string),
            expected: expected.unwrap_or(TableRef::Source(0)),
            actual: actual.unwrap_or(TableRef::Source(0)),
            key,
            fields,
            grace: span_of(body, "comparison", "grace"),
            stale_after: span_of(body, "comparison", "stale_after"),
            totals,
            comment: body.get_text("comment").map(str::to_string),
        });
    }

    fn side(&self, table: TableRef) -> Side {
        Side { table, what: table_text(table, self.plan.table_name(table)), columns: self.plan.columns(table).to_vec(), key: self.plan.key(table).to_vec() }
    }

    /// What can be told of a comparison of which only one side is known: whether that side has the fields that are named.
    fn of_one_side(&mut self, body: At, expected: Option<TableRef>, actual: Option<TableRef>) {
        let (of_expected, table) = match (expected, actual) {
            (Some(table), None) => (true, table),
            (None, Some(table)) => (false, table),
            _ => return,
        };
        let side = self.side(table);
        let Some(fields) = body.get("fields") else { return };
        for item in fields.items() {
            if let Some(name) = item.text() {
                self.column(item, name, &side.columns, &side.what);
            }
        }
        for (left, right) in fields.entries() {
            let (at, name) = if of_expected { (left, Some(left.key())) } else { (right, right.text()) };
            if let Some(name) = name {
                self.column(at, name, &side.columns, &side.what);
            }
        }
    }

    /// A table without a key can't be a side. (A key that did not resolve has its own problem.)
    fn keyless(&mut self, body: At, expected: &Side, actual: &Side) {
        for (key, side) in [("expected", expected), ("actual", actual)] {
            if let TableRef::Source(id) = side.table
                && self.sources_keyless[id]
                && let Some(at) = body.get(key)
            {
                self.report
                    .error(Code::BadKey, &at.place(), format!("{} has no key to match rows by", side.what))
                    .hint("give the source a `key`, or compare a target that has one, for example `SELECT a, b, count(*) AS n … GROUP BY a, b`");
            }
        }
    }

    /// Key columns are matched by name, or by position where the names differ.
    fn key_pairs(&mut self, name: At, expected: &Side, actual: &Side) -> Vec<KeyPair> {
        let text = |side: &Side| names::list(side.key.iter().map(|place| side.columns[*place].name.as_str()));
        if expected.key.len() != actual.key.len() {
            self.report
                .error(Code::BadKey, &name.place(), format!("{} is keyed by {}, {} by {}", expected.what, text(expected), actual.what, text(actual)))
                .hint("both sides need as many key columns: they are matched by name, or by position where the names differ");
            return Vec::new();
        }
        let by_name = |column: &Column| actual.key.iter().copied().find(|place| actual.columns[*place].name == column.name);
        let named: Option<Vec<usize>> = expected.key.iter().map(|place| by_name(&expected.columns[*place])).collect();
        let matched = named.unwrap_or_else(|| actual.key.clone());
        let mut pairs = Vec::new();
        for (e, a) in expected.key.iter().copied().zip(matched) {
            let (left, right) = (&expected.columns[e], &actual.columns[a]);
            match left.ty.common(right.ty) {
                Some(ty) => pairs.push(KeyPair { name: left.name.clone(), ty, expected: e, actual: a }),
                None => self.not_comparable(name, expected, left, actual, right),
            }
        }
        pairs
    }

    fn not_comparable(&mut self, at: At, expected: &Side, left: &Column, actual: &Side, right: &Column) {
        if let (Some(one), Some(other)) = (left.ty.digits(), right.ty.digits()) {
            return self.too_many_digits(at, (expected, left, one), (actual, right, other));
        }
        let message = format!(
            "`{}` of {} is `{}`, `{}` of {} is `{}`: these have no values in common",
            left.name, expected.what, left.ty, right.name, actual.what, right.ty
        );
        let hint = match expected.table {
            TableRef::Target(_) => format!("convert it in the target, for example `{{ value: …, type: \"{}\" }}` or `cast(… AS {})`", right.ty, right.ty),
            TableRef::Source(_) => format!("declare the columns with types that go together, or compare a target that converts `{}`", left.name),
        };
        self.report.error(Code::NotComparable, &at.place(), message).hint(hint);
    }

    /// Two exact numbers have values in common, but no decimal holds those of both.
    fn too_many_digits(&mut self, at: At, expected: (&Side, &Column, (u8, u8)), actual: (&Side, &Column, (u8, u8))) {
        let ((side, left, (whole, scale)), (other_side, right, (other_whole, other_scale))) = (expected, actual);
        let message = format!(
            "`{}` of {} is `{}`, `{}` of {} is `{}`: the values of both need {} digits, and a decimal has at most 38",
            left.name,
            side.what,
            left.ty,
            right.name,
            other_side.what,
            right.ty,
            whole.max(other_whole) + scale.max(other_scale)
        );
        // Fewer digits before the point where there are more of them; of an integer they are given.
        let (larger, finer) = if whole > other_whole { (expected, actual) } else { (actual, expected) };
        let (wide, whole, scale) = match larger.1.ty {
            Type::Int(_) => (finer, finer.2.0, 38 - larger.2.0),
            _ => (larger, 38 - finer.2.1, larger.2.1),
        };
        let ty = Type::Decimal(whole + scale, scale);
        let hint = match wide.0.table {
            TableRef::Target(_) => format!("convert it in the target: `{{ value: …, type: \"{ty}\" }}` or `cast(… AS {ty})`"),
            TableRef::Source(_) => format!("declare `{}` as `{ty}`", wide.1.name),
        };
        self.report.error(Code::NotComparable, &at.place(), message).hint(format!("if that is enough for the values of `{}`, {hint}", wide.1.name));
    }

    fn field_pairs(&mut self, name: At, body: At, expected: &Side, actual: &Side, key: &[KeyPair]) -> Vec<FieldPair> {
        let mut pairs: Vec<FieldPair> = Vec::new();
        let Some(fields) = body.get("fields") else {
            for (e, left) in expected.columns.iter().enumerate().filter(|(e, _)| !expected.key.contains(e)) {
                match actual.columns.iter().position(|c| c.name == left.name) {
                    Some(a) => self.pair(name, expected, e, actual, a, &mut pairs),
                    None => {
                        let near = names::near(&left.name, actual.columns.iter().map(|c| c.name.as_str()));
                        let hint = match near {
                            Some(near) => {
                                format!("add `fields:` to the comparison, with `{}: {near}` if these are meant to match, or without `{}`", left.name, left.name)
                            }
                            None => format!(
                                "add `fields:` to the comparison: a list without `{}`, or a map that says which column matches it; {} has {}",
                                left.name,
                                actual.what,
                                names::list(actual.columns.iter().map(|c| c.name.as_str()))
                            ),
                        };
                        self.report
                            .error(Code::UnknownColumn, &name.place(), format!("{} has `{}`, and {} does not", expected.what, left.name, actual.what))
                            .hint(hint);
                    }
                }
            }
            return pairs;
        };
        let list: Vec<(At, At)> = if fields.is_map() { fields.entries().collect() } else { fields.items().map(|at| (at, at)).collect() };
        for (left, right) in list {
            let (Some(left_name), Some(right_name)) = (left.scalar().map(|s| s.text.clone()), right.text()) else { continue };
            let e = self.column(left, &left_name, &expected.columns, &expected.what);
            let a = self.column(right, right_name, &actual.columns, &actual.what);
            let (Some(e), Some(a)) = (e, a) else { continue };
            if key.iter().any(|pair| pair.expected == e) {
                self.report
                    .error(Code::BadKey, &left.place(), format!("`{left_name}` is part of the key"))
                    .hint("rows are matched by the key, so that it is always equal: leave it out");
            } else if pairs.iter().any(|pair| pair.expected == e) {
                self.report.error(Code::BadKey, &left.place(), format!("`{left_name}` is named twice")).hint("remove one of the two");
            } else {
                self.pair(left, expected, e, actual, a, &mut pairs);
            }
        }
        pairs
    }

    fn pair(&mut self, at: At, expected: &Side, e: usize, actual: &Side, a: usize, pairs: &mut Vec<FieldPair>) {
        let (left, right) = (&expected.columns[e], &actual.columns[a]);
        match left.ty.common(right.ty) {
            Some(ty) => pairs.push(FieldPair { name: left.name.clone(), ty, expected: e, actual: a }),
            None => self.not_comparable(at, expected, left, actual, right),
        }
    }

    fn total(&mut self, at: At, key: &[KeyPair], fields: &[FieldPair]) -> Option<TotalSpec> {
        let sum = at.get("sum")?;
        let name = sum.text()?;
        match fields.iter().find(|field| field.name == name) {
            None => {
                let in_key = key.iter().any(|pair| pair.name == name);
                let message = if in_key { format!("`{name}` is part of the key") } else { format!("`{name}` is not compared") };
                self.report.error(Code::UnknownColumn, &sum.place(), message).hint(names::alternatives(
                    name,
                    fields.iter().map(|f| f.name.as_str()),
                    "nothing is compared",
                ));
            }
            Some(field) if !matches!(field.ty, Type::Int(_) | Type::Decimal(..)) => {
                let hint = match field.ty {
                    Type::Double => "doubles do not add up exactly: declare the column as `decimal(p,s)`".to_string(),
                    _ => {
                        let numbers: Vec<&str> = fields.iter().filter(|f| matches!(f.ty, Type::Int(_) | Type::Decimal(..))).map(|f| f.name.as_str()).collect();
                        if numbers.is_empty() { "no compared column is a number".into() } else { format!("compared numbers are {}", names::list(numbers)) }
                    }
                };
                self.report.error(Code::NotNumeric, &sum.place(), format!("`{name}` is of type `{}`, of which there is no exact sum", field.ty)).hint(hint);
            }
            Some(_) => {}
        }
        let mut by = Vec::new();
        for item in at.get("by").into_iter().flat_map(At::items) {
            let Some(name) = item.text() else { continue };
            let known: Vec<&str> = fields.iter().map(|f| f.name.as_str()).chain(key.iter().map(|k| k.name.as_str())).collect();
            if known.contains(&name) {
                by.push(name.to_string());
            } else {
                self.report.error(Code::UnknownColumn, &item.place(), format!("`{name}` is not compared")).hint(names::alternatives(
                    name,
                    known,
                    "nothing is compared",
                ));
            }
        }
        Some(TotalSpec { sum: name.to_string(), by })
    }
}
