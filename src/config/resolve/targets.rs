//! Targets: their mapping, planned, and its version.

use std::fmt::Write as _;

use super::{Declared, Resolver, order, table_text};
use crate::{
    config::{codes::Code, yaml::At},
    engine::sql::{self, CatalogTable, SqlPlan, SqlProblem},
    plan::{CaseInput, FieldMapping, FieldValue, Mapping, Note, Otherwise, TableRef, Target},
    row::{Column, Type},
};

impl Resolver<'_> {
    /// Targets come in the order of their ids. `circular`: on a circle, or after one, so that nothing can be planned.
    pub(super) fn target(&mut self, declared: Declared, circular: bool) {
        let (name, body) = (declared.name.key(), declared.body);
        let before = self.report.errors();
        let (mapping, columns, notes) = match body.get("sql") {
            Some(_) if circular => (None, Vec::new(), Vec::new()),
            Some(sql) => match self.query(sql) {
                Some(plan) => {
                    let columns = plan.columns.clone();
                    let notes = vec![Note::default(); columns.len()];
                    (Some(Mapping::Sql(plan)), columns, notes)
                }
                None => (None, Vec::new(), Vec::new()),
            },
            None => {
                let (mapping, columns, notes) = self.field_mapping(body, circular);
                (mapping.map(Mapping::Fields), columns, notes)
            }
        };
        let known = mapping.is_some() && self.report.errors() == before;
        let what = format!("the target `{name}`");
        let key = match body.get("key") {
            // The names of fields are known, whatever else is wrong.
            Some(list) if known || body.get("fields").is_some_and(At::is_map) => self.key(list, &columns, &what),
            _ => Vec::new(),
        };
        if let Some(list) = body.get("key").filter(|list| list.is_list() && list.items().next().is_none()) {
            self.report
                .error(Code::BadKey, &list.place(), "a target without a key")
                .hint("`key`: the columns that name a row; for a single row, a column of a literal will do");
        }
        let mapping =
            mapping.unwrap_or_else(|| Mapping::Fields(FieldMapping { from: TableRef::Source(0), filter: None, fields: Vec::new(), require: Vec::new() }));
        self.targets_known.push(known);
        let version = if known { self.version(&mapping, &columns, &key) } else { String::new() };
        self.plan.targets.push(Target {
            name: name.to_string(),
            dataflow: declared.dataflow.to_string(),
            owner: declared.owner.map(str::to_string),
            columns,
            key,
            mapping,
            version,
            comment: body.get_text("comment").map(str::to_string),
            notes,
        });
    }

    /// A planned query. Nothing is said when a table that it reads has problems of its own.
    fn query(&mut self, sql: At) -> Option<SqlPlan> {
        let text = sql.text()?;
        let mut catalog = Vec::new();
        let sources = self.plan.sources.iter().enumerate().map(|(id, s)| (TableRef::Source(id), s.name.as_str(), &s.columns));
        let targets = self.plan.targets.iter().enumerate().map(|(id, t)| (TableRef::Target(id), t.name.as_str(), &t.columns));
        for (table, name, columns) in sources.chain(targets) {
            if self.is_known(table) {
                catalog.push(CatalogTable { name: name.to_string(), table, columns: columns.clone() });
            }
        }
        let broken = |name: &String| {
            self.things.get(name).is_some_and(|(thing, _)| match thing {
                super::Thing::Table(table) => !self.is_known(*table),
                super::Thing::Comparison(_) | super::Thing::Transactions(_) => false,
            })
        };
        let tables = order::tables(text);
        if tables.iter().any(broken) || (self.blind && tables.iter().any(|name| !self.things.contains_key(name))) {
            return None;
        }
        match sql::plan(text, &catalog) {
            Ok(plan) => Some(plan),
            Err(problems) => {
                self.sql_problems(sql, &problems);
                None
            }
        }
    }

    /// Problems of a SQL text, each at its place in the file.
    pub(super) fn sql_problems(&mut self, at: At, problems: &[SqlProblem]) {
        let source = self.report.files[at.file].clone();
        for problem in problems {
            let mut place = at.place();
            if let Some(scalar) = at.scalar() {
                place.at = scalar.trace(&source.text, &at.node.at, &problem.at);
            }
            let told = self.report.error(Code::Sql, &place, problem.message.clone());
            if let Some(hint) = &problem.hint {
                told.hint(hint.clone());
            }
        }
    }

    /// The mapping, if nothing is wrong with it, and its columns; one whose rule is wrong has its name at least.
    fn field_mapping(&mut self, body: At, circular: bool) -> (Option<FieldMapping>, Vec<Column>, Vec<Note>) {
        let from = body.get("from").and_then(|from| self.table(from)).filter(|from| !circular && self.is_known(*from));
        let Some(from) = from else {
            let names = body.get("fields").into_iter().flat_map(At::entries);
            let columns: Vec<Column> = names.map(|(name, _)| Column { name: name.key().to_string(), ty: Type::Varchar(0) }).collect();
            self.required(body, &columns);
            return (None, columns, Vec::new());
        };
        let input = self.plan.columns(from).to_vec();
        let what = table_text(from, self.plan.table_name(from));
        let filter = body.get("where").and_then(|at| {
            let scalar = self.expression(at, &input, &what, None)?;
            if scalar.ty() != Type::Bool {
                self.report
                    .error(Code::WrongType, &at.place(), format!("`where` must be true or false, and is of type `{}`", scalar.ty()))
                    .hint("compare it with something");
            }
            Some(scalar)
        });
        let (mut columns, mut rules, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for (name, field) in body.get("fields").into_iter().flat_map(At::entries) {
            let rule = self.field(name, field, &input, &what);
            columns.push(Column { name: name.key().to_string(), ty: rule.as_ref().map_or(Type::Varchar(0), |(ty, _)| *ty) });
            rules.extend(rule.map(|(_, rule)| rule));
            let tags = field.get("tags").into_iter().flat_map(At::items).filter_map(At::text).map(str::to_string).collect();
            notes.push(Note { comment: field.get_text("comment").map(str::to_string), tags });
        }
        let require = self.required(body, &columns);
        let whole = !columns.is_empty() && rules.len() == columns.len();
        (whole.then_some(FieldMapping { from, filter, fields: rules, require }), columns, notes)
    }

    fn required(&mut self, body: At, columns: &[Column]) -> Vec<usize> {
        body.get("require").map(|list| self.columns_of(list, columns, "the target").0).unwrap_or_default()
    }

    /// The hash of the mapping's meaning: the same for another layout, other comments or another order of keys; another for another
    /// expression, type, key, or version of a target that it reads.
    fn version(&self, mapping: &Mapping, columns: &[Column], key: &[usize]) -> String {
        let mut text = String::new();
        let input = |table: TableRef| match table {
            TableRef::Source(id) => self.plan.sources[id].name.clone(),
            TableRef::Target(id) => format!("{}@{}", self.plan.targets[id].name, self.plan.targets[id].version),
        };
        match mapping {
            Mapping::Sql(plan) => {
                let mut inputs: Vec<String> = plan.inputs.iter().map(|table| input(*table)).collect();
                inputs.sort_unstable();
                let _ = writeln!(text, "sql {inputs:?} {}", order::normal(&plan.text));
                for column in columns {
                    let _ = writeln!(text, "column {} {}", column.name, column.ty);
                }
            }
            Mapping::Fields(fields) => {
                let names = self.plan.columns(fields.from);
                let _ = writeln!(text, "from {} where {:?}", input(fields.from), fields.filter.as_ref().map(|f| order::normal(f.text())));
                let mut lines: Vec<String> = fields
                    .fields
                    .iter()
                    .zip(columns)
                    .enumerate()
                    .map(|(place, (rule, column))| {
                        let value = match &rule.value {
                            FieldValue::Column(id) => format!("column {} {}", names[*id].name, names[*id].ty),
                            FieldValue::Expression(scalar) => format!("sql {}", order::normal(scalar.text())),
                            FieldValue::Case { input, when, otherwise } => {
                                let input = match input {
                                    CaseInput::Column(id) => format!("column {} {}", names[*id].name, names[*id].ty),
                                    CaseInput::Expression(scalar) => format!("sql {}", order::normal(scalar.text())),
                                };
                                let mut pairs: Vec<String> = when.iter().map(|pair| format!("{pair:?}")).collect();
                                pairs.sort_unstable();
                                let otherwise = match otherwise {
                                    Otherwise::Reject => "reject".into(),
                                    Otherwise::Value(value) => format!("{value:?}"),
                                };
                                format!("case {input} {pairs:?} {otherwise}")
                            }
                        };
                        let require = fields.require.contains(&place);
                        format!("{} {} {value} {:?} {:?} {:?} {require}", column.name, column.ty, rule.on_null, rule.on_missing, rule.on_empty)
                    })
                    .collect();
                lines.sort_unstable();
                text += &lines.join("\n");
            }
        }
        let key: Vec<&str> = key.iter().map(|place| columns[*place].name.as_str()).collect();
        let _ = write!(text, "\nkey {key:?}");
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}
