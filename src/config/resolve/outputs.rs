//! Outputs: what goes where.

use std::path::{Component, Path, PathBuf};

use super::{Resolver, Thing};
use crate::{
    config::{codes::Code, problem::Place, yaml::At},
    plan::{ConnectionKind, Format, LogSpec, Output, OutputOf, Source, TableRef},
};

impl Resolver<'_> {
    pub(super) fn outputs(&mut self, dataflow: At) {
        for at in dataflow.get("outputs").into_iter().flat_map(At::items) {
            let what = self.output_of(at);
            let connection = at.get("connection").and_then(|at| self.connection(at));
            let to = at.entries().find(|(key, _)| key.key() == "topic" || key.key() == "file");
            if let (Some(connection), Some((key, _))) = (connection, to) {
                self.output_kind(connection, key);
            }
            let (Some(what), Some(connection), Some((_, to))) = (what, connection, to) else { continue };
            let text = to.text().unwrap_or_default().to_string();
            let place = self.physical(connection, &text);
            if self.plan.outputs.iter().any(|output| self.physical(output.connection, &output.to) == place) {
                self.report
                    .error(Code::DuplicateName, &to.place(), format!("`{text}` is written by another output already"))
                    .hint("each output needs a topic or file of its own");
            }
            if let Some(source) = self.plan.sources.iter().find(|source| self.read_by(source).contains(&place)) {
                let message = format!("`{text}` is read by the source `{}`: what is written would be read again, for ever", source.name);
                self.report.error(Code::DuplicateName, &to.place(), message).hint("write to a topic or file of its own");
            }
            if matches!(self.plan.connections[connection].kind, ConnectionKind::File { .. })
                && !Path::new(&text).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
            {
                let message = format!("`{text}` leaves the folder of the connection `{}`", self.plan.connections[connection].name);
                self.report.error(Code::BadValue, &to.place(), message).hint("name a file below the connection's `dir`");
            }
            let format = at.get("format");
            let named = format.and_then(At::text).and_then(|text| Format::ALL.iter().find(|(name, _)| *name == text)).map(|(_, format)| *format);
            if let (Some(named), Some(format)) = (named.filter(|format| format.is_avro()), format)
                && self.registry_of(connection, named, format).is_some()
            {
                self.names_in_avro(what, format);
            }
            let format = named.unwrap_or(Format::UpsertJson);
            self.plan.outputs.push(Output { what, connection, to: text, format });
        }
    }

    /// Avro has letters, digits and `_` in the names of fields, nothing else.
    fn names_in_avro(&mut self, what: OutputOf, format: At) {
        let names: Vec<String> = match what {
            OutputOf::Table(id) => self.plan.targets[id].columns.iter().map(|c| c.name.clone()).collect(),
            OutputOf::Differences(id) => self.plan.comparisons[id].key.iter().map(|pair| pair.name.clone()).collect(),
        };
        let plain = |name: &str| !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(name) = names.iter().find(|name| !plain(name)) {
            self.report
                .error(Code::BadName, &format.place(), format!("Avro has no field `{name}`"))
                .hint("fields of Avro have letters, digits and `_`, and begin with no digit: name the column so in the target");
        }
    }

    /// Where a topic or file of a connection really is; two connections may reach the same place.
    fn physical(&self, connection: usize, to: &str) -> String {
        match &self.plan.connections[connection].kind {
            ConnectionKind::File { dir } => dir.join(to).components().filter(|part| *part != Component::CurDir).collect::<PathBuf>().display().to_string(),
            ConnectionKind::Kafka { brokers, .. } => format!("{brokers} {to}"),
            ConnectionKind::Demo { .. } => to.to_string(),
        }
    }

    /// The places that a source reads.
    fn read_by(&self, source: &Source) -> Vec<String> {
        match &source.log {
            LogSpec::Files(files) => files.iter().map(|file| self.physical(source.connection, &file.to_string_lossy())).collect(),
            LogSpec::Topic { topic, .. } => vec![self.physical(source.connection, topic)],
            LogSpec::Demo(_) => Vec::new(),
        }
    }

    fn output_kind(&mut self, connection: usize, key: At) {
        if !self.connections_known[connection] {
            return;
        }
        let connection = &self.plan.connections[connection];
        let (kind, wanted) = match connection.kind {
            ConnectionKind::File { .. } => ("file", "file"),
            ConnectionKind::Kafka { .. } => ("kafka", "topic"),
            ConnectionKind::Demo { .. } => ("demo", ""),
        };
        if key.key() != wanted {
            let message = format!("the connection `{}` is of kind `{kind}` and has no `{}`", connection.name, key.key());
            self.report.error(Code::WrongKind, &key.place(), message).hint(match kind {
                "demo" => "the simulation is only read; write to a `file` or `kafka` connection".to_string(),
                _ => format!("an output to a `{kind}` connection has `{wanted}`"),
            });
        }
    }

    fn output_of(&mut self, at: At) -> Option<OutputOf> {
        if let Some(name) = at.get("table") {
            return match self.things.get(name.text()?) {
                Some((Thing::Table(TableRef::Target(id)), _)) => Some(OutputOf::Table(*id)),
                Some((thing, declared)) => {
                    let (thing, declared) = (*thing, declared.clone());
                    self.not_an_output(name, thing, &declared, "table");
                    None
                }
                None => {
                    let known = self.known(|thing| matches!(thing, Thing::Table(TableRef::Target(_))));
                    self.unknown(name, "there is no target", &known, "no target is declared");
                    None
                }
            };
        }
        let name = at.get("differences")?;
        match self.things.get(name.text()?) {
            Some((Thing::Comparison(id), _)) => Some(OutputOf::Differences(*id)),
            Some((thing, declared)) => {
                let (thing, declared) = (*thing, declared.clone());
                self.not_an_output(name, thing, &declared, "differences");
                None
            }
            None => {
                let known = self.known(|thing| matches!(thing, Thing::Comparison(_)));
                self.unknown(name, "there is no comparison", &known, "no comparison is declared");
                None
            }
        }
    }

    fn not_an_output(&mut self, name: At, thing: Thing, declared: &Place, key: &str) {
        let (is, hint) = match thing {
            Thing::Transactions(_) => ("a log of transactions", "name a target"),
            Thing::Comparison(_) => ("a comparison", "write `differences:` instead of `table:`"),
            Thing::Table(TableRef::Target(_)) => ("a target", "write `table:` instead of `differences:`"),
            Thing::Table(TableRef::Source(_)) => ("a source", "what comes from a source is not written again: declare a target that reads it"),
        };
        let text = name.text().unwrap_or_default().to_string();
        let wanted = if key == "table" { "a target" } else { "a comparison" };
        self.report.error_of_two(Code::WrongKind, &name.place(), format!("`{text}` is {is}, not {wanted}"), declared, "declared here").hint(hint);
    }
}
