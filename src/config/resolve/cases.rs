//! The tests in dataflow files: events as JSON text, expected rows as JSON in the form in which answers have it.

use std::{collections::HashMap, path::PathBuf};

use serde_json::{Map, Value as Json};

use super::{Resolver, Thing};
use crate::{
    config::{
        codes::Code,
        names,
        problem::{Place, line_column},
        span,
        yaml::{At, Data},
    },
    engine::table::change::CODES as REJECTS,
    ledger::{Kind, State},
    plan::{Action, Expectation, Format, SourceId, Step, TableRef, TestCase},
    row::{Type, json_of, key_text, pack_value},
};

/// The columns of a difference, and those of a reject.
const DIFFERENCE: [&str; 8] = ["key", "kind", "state", "field", "fields", "expected", "actual", "since"];
const REJECT: [&str; 6] = ["source", "code", "cause", "key", "partition", "offset"];

impl Resolver<'_> {
    pub(super) fn tests(&mut self, dataflow: At) {
        let mut named: HashMap<&str, Place> = HashMap::new();
        for test in dataflow.get("tests").into_iter().flat_map(At::items) {
            self.test_name(test, &mut named);
            if let Some(steps) = test.get("steps") {
                self.not_empty(steps, "a test without steps shows nothing", "add steps: `feed`, `advance`, `expect`");
            }
            let steps = test.get("steps").into_iter().flat_map(At::items);
            let steps = steps.filter_map(|at| Some(Step { line: self.line(at), action: self.action(at)? })).collect();
            self.plan.tests.push(TestCase {
                name: test.get_text("name").unwrap_or_default().to_string(),
                dataflow: dataflow.get_text("dataflow").unwrap_or_default().to_string(),
                file: PathBuf::from(&self.report.files[dataflow.file].name),
                line: self.line(test),
                steps,
            });
        }
    }

    /// Results are told apart by the name.
    fn test_name<'t>(&mut self, test: At<'t>, named: &mut HashMap<&'t str, Place>) {
        let Some((at, name)) = test.get("name").and_then(|at| Some((at, at.text()?))) else { return };
        match named.get(name) {
            Some(first) => {
                let message = format!("two tests of this dataflow are named `{name}`");
                self.report.error_of_two(Code::DuplicateName, &at.place(), message, first, "first here").hint("rename one of the two");
            }
            None => drop(named.insert(name, at.place())),
        }
    }

    /// A list or map with nothing in it is mostly something that got lost.
    fn not_empty(&mut self, at: At, message: &str, hint: &str) {
        if (at.is_list() || at.is_map()) && at.items().count() + at.entries().count() == 0 {
            self.report.error(Code::BadTest, &at.place(), message).hint(hint);
        }
    }

    fn line(&self, at: At) -> usize {
        line_column(&self.report.files[at.file].text, at.node.at.start).0
    }

    fn action(&mut self, step: At) -> Option<Action> {
        if let Some(feed) = step.get("feed") {
            self.not_empty(feed, "the step feeds nothing", "name a source with its events: `feed: { orders: [{ … }] }`");
            let feed = feed.entries().filter_map(|(name, events)| {
                let source = self.fed(name)?;
                self.not_empty(events, "no event is fed", "write the events as a list, or remove the source from the step");
                Some((source, events.items().filter_map(|event| self.event(event, source)).collect()))
            });
            return Some(Action::Feed(feed.collect()));
        }
        if let Some(restart) = step.get("restart") {
            let workers = restart.get("workers").and_then(At::scalar).and_then(|s| s.as_number()).and_then(|n| n.parse().ok());
            return Some(Action::Restart(workers));
        }
        if let Some(advance) = step.get_text("advance") {
            return span::parse(advance).ok().map(Action::Advance);
        }
        let expect = step.get("expect")?;
        self.not_empty(expect, "the step expects nothing", "name a target, a comparison or `rejects`; `rejects: []` expects that there are none");
        let expect = expect.entries().filter_map(|(name, rows)| {
            let what = self.expected(name)?;
            Some((what, rows.items().filter_map(|row| self.row(row, what)).collect()))
        });
        Some(Action::Expect(expect.collect()))
    }

    fn fed(&mut self, name: At) -> Option<SourceId> {
        match self.things.get(name.key()) {
            Some((Thing::Table(TableRef::Source(id)), _)) => Some(*id),
            Some((Thing::Transactions(group), _)) => Some(self.plan.transactions[*group].log),
            Some((_, declared)) => {
                let declared = declared.clone();
                self.report
                    .error_of_two(Code::WrongKind, &name.place(), format!("`{}` is no source, and cannot be fed", name.key()), &declared, "declared here")
                    .hint("feed the sources that it is computed from");
                None
            }
            None => {
                let known = self.known(|thing| matches!(thing, Thing::Table(TableRef::Source(_))));
                self.unknown(name, "there is no source", &known, "no source is declared");
                None
            }
        }
    }

    fn expected(&mut self, name: At) -> Option<Expectation> {
        match self.things.get(name.key()) {
            _ if name.key() == "rejects" => Some(Expectation::Rejects),
            Some((Thing::Table(TableRef::Target(id)), _)) => Some(Expectation::Target(*id)),
            Some((Thing::Comparison(id), _)) => Some(Expectation::Comparison(*id)),
            Some((Thing::Table(TableRef::Source(_)) | Thing::Transactions(_), declared)) => {
                let declared = declared.clone();
                self.report
                    .error_of_two(Code::WrongKind, &name.place(), format!("`{}` is a source: it holds what was fed", name.key()), &declared, "declared here")
                    .hint("expect a target, a comparison or `rejects`");
                None
            }
            None => {
                let mut known = self.known(|thing| !matches!(thing, Thing::Table(TableRef::Source(_)) | Thing::Transactions(_)));
                known.push("rejects".into());
                self.unknown(name, "there is no target or comparison", &known, "");
                None
            }
        }
    }

    /// The JSON text of an event, after a look at what a slip would break.
    fn event(&mut self, at: At, source: SourceId) -> Option<String> {
        if let Some(scalar) = at.scalar()
            && !scalar.is_null()
        {
            if scalar.tag.as_deref() == Some("raw") {
                return Some(scalar.text.clone());
            }
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&scalar.text) {
                self.report
                    .error(Code::BadTest, &at.place(), format!("the event is not JSON: {error}"))
                    .hint("write the event as YAML (`{ op: c, after: { … } }`), or tag the text with `!raw` if the test is about bytes that are no JSON");
                return None;
            }
            return Some(scalar.text.clone());
        }
        let mut text = String::new();
        self.json_text(at, &mut text)?;
        let format = self.plan.sources[source].format;
        match format.in_text() {
            _ if at.is_null() || self.plan.transactions.iter().any(|t| t.log == source) => {}
            Format::DebeziumJson => self.debezium(at, source),
            Format::UpsertJson => {
                if !at.is_map() || !at.entries().any(|(key, _)| key.key() == "key") {
                    self.report
                        .error(Code::BadTest, &at.place(), "an event in `upsert-json` has a `key`, and a `value` unless it deletes")
                        .hint("for example `{ key: { id: 1 }, value: { id: 1, name: Ann } }`; without `value` the row is deleted");
                }
            }
            _ => {
                if at.is_map() {
                    self.fed_columns(at, source);
                }
            }
        }
        Some(text)
    }

    fn debezium(&mut self, at: At, source: SourceId) {
        let envelope = at.get("payload").unwrap_or(at);
        let Some(op) = envelope.get("op") else {
            self.report.error(Code::BadTest, &envelope.place(), "an event in `debezium-json` needs `op`")
                .hint("for example `{ op: c, after: { id: 1 } }`: `c` created, `u` updated, `d` deleted, `r` read, `t` truncated, `m` message; `!raw` text is not looked at");
            return;
        };
        let ops = ["r", "c", "u", "d", "t", "m"];
        if !op.text().is_some_and(|op| ops.contains(&op)) {
            self.report
                .error(Code::BadTest, &op.place(), format!("`{}` is no `op` of Debezium", op.text().unwrap_or_default()))
                .hint(format!("known are {}; `!raw` text is not looked at", names::list(ops)));
            return;
        }
        for (key, image) in envelope.entries() {
            if ["before", "after"].contains(&key.key()) && image.is_map() {
                self.fed_columns(image, source);
            }
        }
        let image = if op.text() == Some("d") { "before" } else { "after" };
        if op.text().is_some_and(|op| ["r", "c", "u", "d"].contains(&op)) && envelope.get(image).is_none() {
            self.report
                .warning(Code::BadTest, &envelope.place(), format!("an event with `op: {}` has no `{image}`", op.text().unwrap_or_default()))
                .hint(format!("add `{image}: {{ … }}` with the columns of the row"));
        }
    }

    /// Columns that are not declared are left alone by the decoder: a warning, since it is mostly a slip.
    fn fed_columns(&mut self, image: At, source: SourceId) {
        let columns = self.plan.sources[source].columns.clone();
        if !self.sources_known[source] {
            return;
        }
        for (key, _) in image.entries().filter(|(key, _)| !columns.iter().any(|c| c.name == key.key())) {
            let message = format!("the source `{}` declares no column `{}`", self.plan.sources[source].name, key.key());
            self.report.warning(Code::UnknownColumn, &key.place(), message).hint(names::alternatives(key.key(), columns.iter().map(|c| c.name.as_str()), ""));
        }
    }

    /// YAML as JSON text; numbers keep their digits.
    fn json_text(&mut self, at: At, out: &mut String) -> Option<()> {
        match &at.node.data {
            Data::Scalar(scalar) if scalar.is_null() => out.push_str("null"),
            Data::Scalar(scalar) => match (scalar.as_bool(), scalar.as_number()) {
                (Some(value), _) => out.push_str(if value { "true" } else { "false" }),
                (None, Some(number)) => out.push_str(&number),
                (None, None) => out.push_str(&Json::from(scalar.text.as_str()).to_string()),
            },
            Data::List(_) => {
                out.push('[');
                for (place, item) in at.items().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    self.json_text(item, out)?;
                }
                out.push(']');
            }
            Data::Map(_) => {
                out.push('{');
                for (place, (key, value)) in at.entries().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    out.push_str(&Json::from(key.key()).to_string());
                    out.push(':');
                    self.json_text(value, out)?;
                }
                out.push('}');
            }
        }
        Some(())
    }

    fn json(&mut self, at: At) -> Option<Json> {
        let mut text = String::new();
        self.json_text(at, &mut text)?;
        match serde_json::from_str(&text) {
            Ok(json) => Some(json),
            Err(_) => {
                self.report.error(Code::BadTest, &at.place(), "a number that JSON cannot hold").hint("write it in quotes");
                None
            }
        }
    }

    /// A row that must be there, in the form of answers: values of a target are those of its columns (`10.5` is `"10.50"` of a
    /// decimal with two digits), keys are text.
    fn row(&mut self, at: At, what: Expectation) -> Option<Map<String, Json>> {
        let mut row = Map::new();
        let good = match what {
            Expectation::Target(id) if !self.targets_known.get(id).copied().unwrap_or(false) => return None,
            Expectation::Target(id) => {
                let (columns, table) = (self.plan.targets[id].columns.clone(), format!("the target `{}`", self.plan.targets[id].name));
                at.entries().filter(|(name, value)| self.cell(*name, *value, &columns, &table, &mut row).is_none()).count() == 0
            }
            Expectation::Comparison(_) => self.plain_row(at, what, &DIFFERENCE, "a difference", &mut row),
            Expectation::Rejects => self.plain_row(at, what, &REJECT, "a reject", &mut row),
        };
        good.then_some(row)
    }

    fn cell(&mut self, name: At, value: At, columns: &[crate::row::Column], table: &str, row: &mut Map<String, Json>) -> Option<()> {
        let place = self.column(name, name.key(), columns, table)?;
        let ty = columns[place].ty;
        let json = match value.scalar() {
            Some(_) => json_of(ty, &self.value(value, ty, &format!("`{}`", name.key()))?),
            None if matches!(ty, Type::Json | Type::Array) => Json::String(self.json(value)?.to_string()),
            None => {
                self.report.error(Code::BadTest, &value.place(), format!("`{}` has type `{ty}`, and cannot be {}", name.key(), value.form()));
                return None;
            }
        };
        row.insert(name.key().to_string(), json);
        Some(())
    }

    fn plain_row(&mut self, at: At, what: Expectation, known: &[&'static str], of: &str, row: &mut Map<String, Json>) -> bool {
        let before = self.report.errors();
        for (name, value) in at.entries() {
            if !known.contains(&name.key()) {
                self.report.error(Code::UnknownColumn, &name.place(), format!("{of} has no column `{}`", name.key())).hint(names::alternatives(
                    name.key(),
                    known.iter().copied(),
                    "",
                ));
                continue;
            }
            self.plain_value(name.key(), value, what);
            let json = if name.key() == "key" { self.key_json(value, what) } else { self.json(value) };
            row.extend(json.map(|json| (name.key().to_string(), json)));
        }
        self.report.errors() == before
    }

    /// A value of a difference or reject that can only be one of those known; another one would never stand.
    fn plain_value(&mut self, column: &str, value: At, what: Expectation) {
        let fields: Vec<String> = match what {
            // Of a comparison that did not resolve, nothing is known.
            Expectation::Comparison(id) if !self.plan.comparisons[id].key.is_empty() => {
                self.plan.comparisons[id].fields.iter().map(|f| f.name.clone()).collect()
            }
            Expectation::Comparison(_) if ["field", "fields", "expected", "actual"].contains(&column) => return,
            _ => Vec::new(),
        };
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match column {
            "kind" => self.one_of(value, "is no kind of difference", &Kind::ALL.map(Kind::name)),
            "state" => self.one_of(value, "is no state of a difference", &State::ALL.map(State::name)),
            "code" => self.one_of(value, "is no code of a reject", &REJECTS.map(|(code, _)| code)),
            "source" => {
                let known = self.known(|thing| matches!(thing, Thing::Table(TableRef::Source(_))));
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                if !self.blind {
                    self.one_of(value, "is no source", &known);
                }
            }
            // Null of a difference that is not in a field.
            "field" if !value.is_null() => self.one_of(value, "is no field that is compared", &fields),
            "fields" | "expected" | "actual" => {
                for (name, both) in value.entries() {
                    self.one_of(name, "is no field that is compared", &fields);
                    if column == "fields" {
                        both.entries().for_each(|(side, _)| self.one_of(side, "is no side of a comparison", &["expected", "actual"]));
                    }
                }
            }
            _ => {}
        }
    }

    fn one_of(&mut self, at: At, is_no: &str, known: &[&str]) {
        match at.text() {
            Some(text) if known.contains(&text) => {}
            Some(text) => {
                self.report.error(Code::BadTest, &at.place(), format!("`{text}` {is_no}")).hint(names::alternatives(
                    text,
                    known.iter().copied(),
                    "there is none",
                ));
            }
            None => {
                self.report
                    .error(Code::BadTest, &at.place(), format!("{} {is_no}", at.form()))
                    .hint(format!("known are {}", names::list(known.iter().copied())));
            }
        }
    }

    /// A key as answers print it: a text, of several columns a JSON array as text.
    fn key_json(&mut self, at: At, what: Expectation) -> Option<Json> {
        if at.is_null() {
            return Some(Json::Null);
        }
        let types: Vec<Type> = match what {
            Expectation::Comparison(id) => self.plan.comparisons[id].key.iter().map(|pair| pair.ty).collect(),
            _ => Vec::new(),
        };
        let parts: Vec<At> = if at.is_list() { at.items().collect() } else { vec![at] };
        if types.len() != parts.len() {
            // Of a reject, or of a comparison that did not resolve.
            if !types.is_empty() {
                self.report
                    .error(Code::BadTest, &at.place(), format!("{} values for a key of {}", parts.len(), types.len()))
                    .hint("write a key of several columns as a list: `key: [EU, EUR]`");
                return None;
            }
            return match self.json(at)? {
                Json::String(text) => Some(Json::String(text)),
                other => Some(Json::String(other.to_string())),
            };
        }
        let columns: Vec<crate::row::Column> = types.iter().map(|ty| crate::row::Column { name: String::new(), ty: *ty }).collect();
        let mut key = Vec::new();
        for (place, (part, ty)) in parts.iter().zip(&types).enumerate() {
            let value = self.value(*part, *ty, "the key column")?;
            let mut packed = Vec::new();
            pack_value(&mut packed, &value);
            let field = if part.is_null() { crate::row::Field::Null } else { crate::row::Field::Packed(&packed) };
            crate::row::push_key(&mut key, *ty, field, place + 1 == types.len());
        }
        Some(Json::String(key_text(&columns, &key)))
    }
}
