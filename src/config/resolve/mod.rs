//! From checked trees to the plan: names become places in lists, texts become types, values and planned SQL.
//!
//! One pass per kind of thing, in the order in which they build on each other. What failed is still registered by its name, so that
//! one mistake is one problem: whatever reads a failed table is passed over in silence.

mod cases;
mod comparisons;
mod fields;
mod kafka;
mod order;
mod outputs;
pub mod settings;
mod sources;
mod targets;
mod transactions;

use std::collections::HashMap;

use super::{
    Need,
    codes::Code,
    names,
    problem::{Place, Report},
    yaml::{At, Node},
};
use crate::{
    plan::{ComparisonId, Mapping, Plan, TableRef},
    row::{Column, Type, Value, parse_text},
};

/// What a name of the one namespace stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    Table(TableRef),
    Comparison(ComparisonId),
    /// A log of transactions, by its place in the plan's list.
    Transactions(usize),
}

/// A named declaration, and the dataflow around it.
#[derive(Clone, Copy, Debug)]
struct Declared<'t> {
    name: At<'t>,
    body: At<'t>,
    dataflow: &'t str,
    owner: Option<&'t str>,
}

struct Resolver<'r> {
    report: &'r mut Report,
    plan: Plan,
    need: Need,
    /// A file could not be read: that a name is unknown says nothing.
    blind: bool,
    things: HashMap<String, (Thing, Place)>,
    connections: HashMap<String, usize>,
    /// By id: is the kind right?
    connections_known: Vec<bool>,
    /// By id: are the columns right, so that others may build on them?
    sources_known: Vec<bool>,
    /// Those that are to have no key.
    sources_keyless: Vec<bool>,
    targets_known: Vec<bool>,
}

/// Makes the plan; it is of use only if the report has no errors then. The first tree is the configuration.
pub fn resolve(report: &mut Report, trees: &[Option<Node>], need: Need) -> Plan {
    let blind = trees.iter().any(Option::is_none);
    let roots: Vec<At> = trees.iter().enumerate().filter_map(|(file, tree)| tree.as_ref().map(|node| At { file, node })).collect();
    let (config, dataflows): (Vec<At>, Vec<At>) = roots.iter().partition(|at| at.file == 0);
    let mut resolver = Resolver {
        report,
        plan: settings::defaults(),
        need,
        blind,
        things: HashMap::new(),
        connections: HashMap::new(),
        connections_known: Vec::new(),
        sources_known: Vec::new(),
        sources_keyless: Vec::new(),
        targets_known: Vec::new(),
    };
    config.iter().for_each(|at| resolver.settings(*at));
    resolver.dataflow_names(&dataflows);
    let sources = declared(&dataflows, "sources");
    let targets = declared(&dataflows, "targets");
    let comparisons = declared(&dataflows, "comparisons");
    let transactions = declared(&dataflows, "transactions");
    resolver.declare(&sources, "source", |id| Thing::Table(TableRef::Source(id)));
    resolver.declare(&transactions, "transaction log", Thing::Transactions);
    let (targets, circular) = resolver.ordered(targets);
    resolver.declare(&targets, "target", |id| Thing::Table(TableRef::Target(id)));
    resolver.declare(&comparisons, "comparison", Thing::Comparison);
    sources.iter().for_each(|declared| resolver.source(*declared));
    transactions.iter().for_each(|declared| resolver.transactions(*declared));
    sources.iter().enumerate().for_each(|(id, declared)| resolver.member(id, *declared));
    transactions.iter().zip(0..).for_each(|(declared, id)| resolver.has_members(id, *declared));
    targets.iter().zip(circular).for_each(|(declared, circular)| resolver.target(*declared, circular));
    comparisons.iter().for_each(|declared| resolver.comparison(*declared));
    dataflows.iter().for_each(|at| resolver.outputs(*at));
    dataflows.iter().for_each(|at| resolver.tests(*at));
    if !resolver.report.has_errors() {
        resolver.unused(&sources);
    }
    resolver.plan
}

/// The entries of one section of all files.
fn declared<'t>(dataflows: &[At<'t>], section: &str) -> Vec<Declared<'t>> {
    let mut list = Vec::new();
    for at in dataflows {
        let (dataflow, owner) = (at.get_text("dataflow").unwrap_or_default(), at.get_text("owner"));
        let entries = at.get(section).into_iter().flat_map(At::entries);
        list.extend(entries.map(|(name, body)| Declared { name, body, dataflow, owner }));
    }
    list
}

impl Resolver<'_> {
    /// Two files must not be one dataflow by name.
    fn dataflow_names(&mut self, dataflows: &[At]) {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        for at in dataflows {
            let Some(name) = at.get("dataflow") else { continue };
            let Some(text) = name.text() else { continue };
            match seen.get(text) {
                Some(first) => {
                    self.report
                        .error_of_two(Code::DuplicateName, &name.place(), format!("two dataflows are named `{text}`"), first, "first here")
                        .hint("rename one of the two");
                }
                None => {
                    seen.insert(text, name.place());
                }
            }
        }
    }

    /// Registers names: the place in `list` is the id.
    fn declare(&mut self, list: &[Declared], what: &str, thing: impl Fn(usize) -> Thing) {
        for (id, declared) in list.iter().enumerate() {
            let (name, place) = (declared.name.key(), declared.name.place());
            if !names::is_plain(name) {
                self.report
                    .error(Code::BadName, &place, format!("`{name}` cannot be the name of a {what}"))
                    .hint("letters, digits and `_`, not starting with a digit: SQL, file names and addresses carry it as it is");
            } else if name == "rejects" {
                self.report.error(Code::BadName, &place, "the name `rejects` is taken").hint("it is the table of records that could not be decoded or mapped");
            }
            if let Some((_, first)) = self.things.get(name) {
                let first = first.clone();
                self.report
                    .error_of_two(Code::DuplicateName, &place, format!("the name `{name}` is taken"), &first, "first here")
                    .hint("sources, targets, comparisons and logs of transactions of all files share one namespace: rename one of the two");
                continue;
            }
            self.things.insert(name.to_string(), (thing(id), place));
        }
    }

    /// The names of things for which `keep` holds, sorted.
    fn known(&self, keep: impl Fn(Thing) -> bool) -> Vec<String> {
        let mut list: Vec<String> = self.things.iter().filter(|(_, (thing, _))| keep(*thing)).map(|(name, _)| name.clone()).collect();
        list.sort_unstable();
        list
    }

    /// The table that a name stands for.
    fn table(&mut self, at: At) -> Option<TableRef> {
        let name = at.text()?;
        match self.things.get(name) {
            Some((Thing::Table(table), _)) => Some(*table),
            Some((Thing::Comparison(_), declared)) => {
                let declared = declared.clone();
                self.report
                    .error_of_two(Code::WrongKind, &at.place(), format!("`{name}` is a comparison, not a table"), &declared, "declared here")
                    .hint("name a source or a target");
                None
            }
            Some((Thing::Transactions(_), declared)) => {
                let declared = declared.clone();
                self.report
                    .error_of_two(Code::WrongKind, &at.place(), format!("`{name}` is a log of transactions, not a table"), &declared, "declared here")
                    .hint("name a source or a target");
                None
            }
            None => {
                let known = self.known(|thing| matches!(thing, Thing::Table(_)));
                self.unknown(at, "there is no source or target", &known, "no source and no target is declared");
                None
            }
        }
    }

    fn unknown(&mut self, at: At, message: &str, known: &[String], none: &str) {
        if !self.blind {
            let name = at.scalar().map_or("", |s| s.text.as_str());
            self.report.error(Code::UnknownName, &at.place(), format!("{message} `{name}`")).hint(names::alternatives(
                name,
                known.iter().map(String::as_str),
                none,
            ));
        }
    }

    /// The connection that a name stands for.
    fn connection(&mut self, at: At) -> Option<usize> {
        let name = at.text()?;
        let found = self.connections.get(name).copied();
        if found.is_none() {
            let mut known: Vec<String> = self.connections.keys().cloned().collect();
            known.sort_unstable();
            self.unknown(at, "there is no connection", &known, "no connection is declared: add it to `connections` in the configuration file");
        }
        found
    }

    fn is_known(&self, table: TableRef) -> bool {
        match table {
            TableRef::Source(id) => self.sources_known.get(id).copied().unwrap_or(false),
            TableRef::Target(id) => self.targets_known.get(id).copied().unwrap_or(false),
        }
    }

    /// The place of a column in a table; `table` names it in the message.
    fn column(&mut self, at: At, name: &str, columns: &[Column], table: &str) -> Option<usize> {
        let found = columns.iter().position(|c| c.name == name);
        if found.is_none() {
            self.report.error(Code::UnknownColumn, &at.place(), format!("{table} has no column `{name}`")).hint(names::alternatives(
                name,
                columns.iter().map(|c| c.name.as_str()),
                "it has no columns",
            ));
        }
        found
    }

    /// The columns of a list of names, each once. A bad one is reported and left out, which the second result says.
    fn columns_of(&mut self, list: At, columns: &[Column], table: &str) -> (Vec<usize>, bool) {
        let (mut places, mut good): (Vec<usize>, bool) = (Vec::new(), list.is_list());
        for item in list.items() {
            match item.text().and_then(|name| self.column(item, name, columns, table)) {
                Some(place) if places.contains(&place) => {
                    self.report.error(Code::BadKey, &item.place(), format!("`{}` is named twice", columns[place].name)).hint("remove one of the two");
                    good = false;
                }
                Some(place) => places.push(place),
                None => good = false,
            }
        }
        (places, good)
    }

    /// The key of a table: columns whose types can name a row.
    fn key(&mut self, list: At, columns: &[Column], table: &str) -> Vec<usize> {
        let (key, _) = self.columns_of(list, columns, table);
        for (place, item) in list.items().enumerate() {
            if list.items().take(place).any(|earlier| earlier.text() == item.text()) {
                continue;
            }
            let ty = item.text().and_then(|name| columns.iter().find(|c| c.name == name)).map(|c| c.ty);
            if let Some(ty @ (Type::Double | Type::Json | Type::Array)) = ty {
                self.report.error(Code::BadKey, &item.place(), format!("a column of type `{ty}` cannot be part of a key")).hint(match ty {
                    Type::Double => "doubles that look alike need not be equal: declare it as `decimal(p,s)`",
                    _ => "the same value can be written in several ways: use a column of a plain type",
                });
            }
        }
        key
    }

    /// A value of a column, from YAML.
    fn value(&mut self, at: At, ty: Type, what: &str) -> Option<Value> {
        let scalar = at.scalar()?;
        if scalar.is_null() {
            return Some(Value::Null);
        }
        let number = matches!(ty, Type::Int(_) | Type::Decimal(..) | Type::Double).then(|| scalar.as_number()).flatten();
        match parse_text(ty, number.as_deref().unwrap_or(&scalar.text)) {
            Ok(value) => Some(value),
            Err(why) => {
                self.report.error(Code::BadValue, &at.place(), why).hint(format!("{what} has type `{ty}`"));
                None
            }
        }
    }

    /// Warns of sources that nothing reads.
    fn unused(&mut self, sources: &[Declared]) {
        let mut used = vec![false; sources.len()];
        let inputs = self.plan.targets.iter().flat_map(|target| match &target.mapping {
            Mapping::Fields(fields) => vec![fields.from],
            Mapping::Sql(sql) => sql.inputs.clone(),
        });
        let compared = self.plan.comparisons.iter().flat_map(|c| [c.expected, c.actual]);
        for table in inputs.chain(compared) {
            if let TableRef::Source(id) = table {
                used[id] = true;
            }
        }
        for (declared, _) in sources.iter().zip(used).filter(|(_, used)| !used) {
            self.report
                .warning(Code::Unused, &declared.name.place(), format!("nothing reads the source `{}`", declared.name.key()))
                .hint("it is read and kept all the same: remove it, or name it in a target or comparison");
        }
    }
}

/// A source or target by its kind and name, for messages.
fn table_text(table: TableRef, name: &str) -> String {
    match table {
        TableRef::Source(_) => format!("the source `{name}`"),
        TableRef::Target(_) => format!("the target `{name}`"),
    }
}
