//! Logs of transactions: what is read, and which sources take part.

use super::{Declared, Resolver, Thing, settings::span_of};
use crate::{
    config::codes::Code,
    plan::{Format, Heartbeat, LogSpec, Member, Source, Transactions, Wire},
};

impl Resolver<'_> {
    pub(super) fn transactions(&mut self, declared: Declared) {
        let (name, body) = (declared.name.key(), declared.body);
        let connection = body.get("connection").and_then(|at| self.connection(at));
        let log = match self.log(name, body, connection) {
            LogSpec::Topic { topic, start, .. } => LogSpec::Topic { topic, start, heartbeat: Heartbeat::None },
            log => log,
        };
        self.plan.transactions.push(Transactions { log: self.plan.sources.len(), bound: span_of(body, "transaction log", "bound"), members: Vec::new() });
        self.sources_known.push(false);
        self.sources_keyless.push(false);
        self.plan.sources.push(Source {
            name: name.to_string(),
            dataflow: declared.dataflow.to_string(),
            owner: declared.owner.map(str::to_string),
            connection: connection.unwrap_or(0),
            log,
            format: Format::DebeziumJson,
            columns: Vec::new(),
            key: Vec::new(),
            wire: Wire::default(),
            schema_change: None,
            required: std::sync::Arc::default(),
            schemas: None,
            comment: body.get_text("comment").map(str::to_string),
        });
    }

    /// Makes a source take part in the transactions of the log that it names.
    pub(super) fn member(&mut self, id: usize, declared: Declared) {
        let Some(at) = declared.body.get("transactions") else { return };
        let name = at.text().unwrap_or_default();
        let group = match self.things.get(name) {
            Some((Thing::Transactions(group), _)) => *group,
            Some((_, other)) => {
                let other = other.clone();
                self.report
                    .error_of_two(Code::WrongKind, &at.place(), format!("`{name}` is no log of transactions"), &other, "declared here")
                    .hint("name one that is declared in `transactions`");
                return;
            }
            None => {
                let known = self.known(|thing| matches!(thing, Thing::Transactions(_)));
                self.unknown(at, "there is no log of transactions", &known, "none is declared: add it to `transactions`");
                return;
            }
        };
        let source = &self.plan.sources[id];
        if source.format != Format::DebeziumJson {
            let message = format!("of messages in `{}` it is not known of which transaction they are", source.format.name());
            self.report.error(Code::WrongKind, &at.place(), message).hint("only in `debezium-json` that is read; in Avro it is not, by now");
            return;
        }
        let log = &self.plan.sources[self.plan.transactions[group].log];
        let derived = match (&source.log, &log.log) {
            (LogSpec::Topic { topic, .. }, LogSpec::Topic { topic: log, .. }) => {
                log.rsplit_once('.').and_then(|(prefix, _)| topic.strip_prefix(prefix)?.strip_prefix('.')).map(str::to_string)
            }
            _ => None,
        };
        let Some(collection) = declared.body.get_text("collection").map(str::to_string).or(derived) else {
            if !matches!((&source.log, &log.log), (LogSpec::Demo(_), _) | (_, LogSpec::Demo(_))) {
                self.report
                    .error(Code::MissingKey, &at.place(), format!("how `{name}` names the table of `{}` can't be told from its log", declared.name.key()))
                    .hint("add `collection`: `SCHEMA.TABLE` for PostgreSQL, `DATABASE.TABLE` for MariaDB and MySQL");
            }
            return;
        };
        self.plan.transactions[group].members.push(Member { source: id, collection });
    }

    /// Warns of a log that no source names.
    pub(super) fn has_members(&mut self, id: usize, declared: Declared) {
        if self.plan.transactions[id].members.is_empty() && !self.report.has_errors() {
            self.report
                .warning(Code::Unused, &declared.name.place(), format!("no source names the log of transactions `{}`", declared.name.key()))
                .hint(format!("add `transactions: {}` to the sources of its connector, or remove it", declared.name.key()));
        }
    }
}
