//! Sources: what is read, and as what.

use std::{collections::BTreeMap, sync::Arc};

use super::{Declared, Resolver};
use crate::{
    config::{check::is_rest_of_type, codes::Code, yaml::At},
    plan::{Connection, ConnectionKind, Format, Heartbeat, LogSpec, Registry, SchemaPolicy, Source, Start, Wire, WireDecimals, WireTimes},
    row::{Column, Type, parse_timestamp},
};

impl Resolver<'_> {
    pub(super) fn source(&mut self, declared: Declared) {
        let (name, body) = (declared.name.key(), declared.body);
        let format = body.get_text("format").and_then(|text| Format::ALL.iter().find(|(n, _)| *n == text)).map(|(_, f)| *f);
        let mut known = body.get("columns").is_some_and(At::is_map);
        let mut columns = Vec::new();
        for (column, ty) in body.get("columns").into_iter().flat_map(At::entries).filter(|(column, ty)| !is_rest_of_type(*column, *ty)) {
            let text = if ty.is_map() { ty.get_text("type") } else { ty.text() };
            let ty = text.and_then(|text| Type::parse(text).ok());
            known &= ty.is_some();
            // Its name is known, whatever its type should be.
            columns.push(Column { name: column.key().to_string(), ty: ty.unwrap_or(Type::Varchar(0)) });
            if column.key().is_empty() {
                self.report.error(Code::BadName, &column.place(), "a column without a name");
            }
        }
        let what = format!("the source `{name}`");
        let key = match body.get("key") {
            Some(list) if body.get("columns").is_some_and(At::is_map) => self.key(list, &columns, &what),
            _ => Vec::new(),
        };
        let none = body.get_text("key") == Some("none");
        let empty = body.get("key").is_none_or(|list| list.is_list() && list.items().next().is_none());
        if let Some(format) = format {
            let place = body.get("key").map_or(declared.name.place(), At::place);
            let counts = !matches!(format.in_text(), Format::UpsertJson);
            if none && !counts {
                self.report
                    .error(Code::BadKey, &place, format!("in `{}` the key names the row: there is no table without one", format.name()))
                    .hint("`key`: the columns of the message key, for example `key: [id]`");
            } else if empty && format != Format::Json {
                let or = if counts { "; `key: none` for a table that has none, whose equal rows are counted" } else { "" };
                self.report
                    .error(Code::MissingKey, &place, format!("a source in `{}` needs `key`", format.name()))
                    .hint(format!("`key`: the columns that name a row, for example `key: [id]`{or}"));
            }
        }
        self.sources_keyless.push(none || empty && format == Some(Format::Json));
        let connection = body.get("connection").and_then(|at| self.connection(at));
        let log = self.log(name, body, connection);
        let schemas = match (format, connection, body.get("format")) {
            (Some(format), Some(connection), Some(at)) if format.is_avro() => self.registry_of(connection, format, at).map(|registry| registry.schemas.clone()),
            _ => None,
        };
        self.sources_known.push(known && !columns.is_empty());
        self.plan.sources.push(Source {
            name: name.to_string(),
            dataflow: declared.dataflow.to_string(),
            owner: declared.owner.map(str::to_string),
            connection: connection.unwrap_or(0),
            log,
            format: format.unwrap_or(Format::Json),
            columns,
            key,
            wire: wire(body, format),
            schema_change: body.get_text("schema_change").and_then(|text| SchemaPolicy::ALL.iter().find(|(name, _)| *name == text)).map(|(_, policy)| *policy),
            required: Arc::default(),
            schemas,
            comment: body.get_text("comment").map(str::to_string),
        });
    }

    /// The registry that a format in Avro needs.
    pub(super) fn registry_of(&mut self, connection: usize, format: Format, at: At) -> Option<Arc<Registry>> {
        if !self.connections_known[connection] {
            return None;
        }
        let Connection { name, kind } = &self.plan.connections[connection];
        let (code, message, hint) = match kind {
            ConnectionKind::Kafka { registry: Some(registry), .. } => return Some(registry.clone()),
            ConnectionKind::Kafka { .. } => (
                Code::MissingKey,
                format!("`{}` needs a schema registry, and the connection `{name}` has none", format.name()),
                "add it to the connection in the configuration file: `registry: { url: \"http://registry:8081\" }`".to_string(),
            ),
            _ => (
                Code::WrongKind,
                format!("`{}` is for topics, and the connection `{name}` is of another kind", format.name()),
                format!("use a `kafka` connection, or `format: {}`", format.in_text().name()),
            ),
        };
        self.report.error(code, &at.place(), message).hint(hint);
        None
    }

    /// What of the connection is read; the connection must be of the kind that has such a thing.
    pub(super) fn log(&mut self, name: &str, body: At, connection: Option<usize>) -> LogSpec {
        let kind = connection.filter(|id| self.connections_known[*id]).map(|id| self.plan.connections[id].kind.clone());
        let wanted = match &kind {
            Some(ConnectionKind::File { .. }) => Some(("file", "files")),
            Some(ConnectionKind::Kafka { .. }) => Some(("kafka", "topic")),
            Some(ConnectionKind::Demo { .. }) => Some(("demo", "table")),
            None => None,
        };
        for (key, _) in body.entries().filter(|(key, _)| ["files", "topic", "table"].contains(&key.key())) {
            if let Some((kind, wanted)) = wanted
                && key.key() != wanted
            {
                let connection = body.get_text("connection").unwrap_or_default();
                self.report
                    .error(Code::WrongKind, &key.place(), format!("the connection `{connection}` is of kind `{kind}` and has no `{}`", key.key()))
                    .hint(format!("a source of a `{kind}` connection has `{wanted}`"));
            }
        }
        if let Some(list) = body.get("files") {
            if list.is_list() && list.items().next().is_none() {
                self.report.error(Code::BadValue, &list.place(), "a source of no files").hint("name at least one file of the connection's folder");
            }
            return LogSpec::Files(list.items().filter_map(At::text).map(Into::into).collect());
        }
        if let Some(topic) = body.get_text("topic") {
            let heartbeat = match body.get_text("heartbeat") {
                None | Some("auto") => Heartbeat::Auto,
                Some("none") => Heartbeat::None,
                Some(topic) => Heartbeat::Topic(topic.to_string()),
            };
            return LogSpec::Topic { topic: topic.to_string(), start: self.start(body), heartbeat };
        }
        LogSpec::Demo(body.get_text("table").unwrap_or(name).to_string())
    }

    fn start(&mut self, body: At) -> Start {
        let Some(start) = body.get("start") else { return Start::Beginning };
        let mut found = if start.text() == Some("end") { Start::End } else { Start::Beginning };
        if let Some(offsets) = start.get("offsets") {
            let mut list = BTreeMap::new();
            for (partition, offset) in offsets.entries() {
                let Ok(number) = partition.key().parse::<u16>() else {
                    self.report
                        .error(Code::BadValue, &partition.place(), format!("`{}` is not the number of a partition", partition.key()))
                        .hint("partitions are numbered from 0: `offsets: { 0: 12, 1: 40 }`");
                    continue;
                };
                if let Some(offset) = offset.scalar().and_then(|s| s.as_number()).and_then(|n| n.parse().ok()) {
                    list.insert(i32::from(number), offset);
                }
            }
            found = Start::Offsets(list);
        }
        if let Some(time) = start.get("time") {
            let text = time.text().unwrap_or_default();
            match parse_timestamp(text, true) {
                Ok(us) => found = Start::Time(us.div_euclid(1000)),
                Err(_) => {
                    self.report.error(Code::BadValue, &time.place(), format!("`{text}` is not a time")).hint("ISO 8601, for example `2026-03-04T05:06:07Z`");
                }
            }
        }
        found
    }
}

fn wire(body: At, format: Option<Format>) -> Wire {
    let text = |key: &str| body.get("wire").and_then(|wire| wire.get_text(key));
    Wire {
        decimals: if text("decimals") == Some("precise") { WireDecimals::Precise } else { WireDecimals::Text },
        times: match text("times") {
            Some("adaptive_time_microseconds") => WireTimes::AdaptiveTimeMicroseconds,
            Some("microseconds") => WireTimes::Microseconds,
            Some("connect") => WireTimes::Connect,
            Some("nanoseconds") => WireTimes::Nanoseconds,
            _ => WireTimes::Adaptive,
        },
        hex: match text("binary") {
            // tieout's own formats write digits, and so they read them.
            None => format.map(Format::in_text) != Some(Format::DebeziumJson),
            Some(word) => word == "hex",
        },
    }
}
