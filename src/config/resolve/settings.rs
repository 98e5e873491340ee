//! The settings of the process, and the connections.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Resolver;
use crate::{
    config::{check::address, codes::Code, shape, size, span, yaml::At},
    plan::{Checkpoints, Connection, ConnectionKind, Plan, Process, Registry, cluster::Secret},
};

/// The plan that follows from an empty configuration.
pub fn defaults() -> Plan {
    let of = |object: &shape::Object, name: &str| default(object, name);
    let part = |name: &str| match shape::CONFIG.keys.iter().find(|k| k.name == name).map(|k| &k.shape) {
        Some(shape::Shape::Object(object)) => *object,
        _ => unreachable!("the shape has the object {name}"),
    };
    let (http, checkpoint) = (part("http"), part("checkpoint"));
    Plan {
        name: of(&shape::CONFIG, "name").to_string(),
        data_dir: PathBuf::from(of(&shape::CONFIG, "data_dir")),
        workers: of(&shape::CONFIG, "workers").parse().expect("the default is a number"),
        process: Process::ALONE,
        tick: span::parse(of(&shape::CONFIG, "tick")).expect("the default is a time span"),
        stuck_after: span::parse(of(&shape::CONFIG, "stuck_after")).expect("the default is a time span"),
        replay_bound: span::parse(of(&shape::CONFIG, "replay_bound")).expect("the default is a time span"),
        memory_max: None,
        listen: address(of(http, "listen")).expect("the default is an address"),
        checkpoint: Checkpoints {
            interval: span::parse(of(checkpoint, "interval")).expect("the default is a time span"),
            keep: of(checkpoint, "keep").parse().expect("the default is a number"),
        },
        connections: Vec::new(),
        sources: Vec::new(),
        transactions: Vec::new(),
        targets: Vec::new(),
        comparisons: Vec::new(),
        outputs: Vec::new(),
        tests: Vec::new(),
    }
}

/// The default that the shape declares.
pub fn default(object: &shape::Object, name: &str) -> &'static str {
    object.keys.iter().find(|k| k.name == name).and_then(|k| k.default).expect("the shape has a default")
}

/// A time span of a key, or the default that the shape declares.
pub fn span_of(at: At, object: &str, name: &str) -> Duration {
    let object = shape::objects().into_iter().find(|o| o.name == object).expect("a known object");
    at.get_text(name).and_then(|text| span::parse(text).ok()).unwrap_or_else(|| span::parse(default(object, name)).expect("the default is a time span"))
}

impl Resolver<'_> {
    pub(super) fn settings(&mut self, at: At) {
        if let Some(name) = at.get("name") {
            let text = name.text().unwrap_or_default();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b)) {
                let message = format!("`{text}` is no name of a deployment");
                self.report.error(Code::BadValue, &name.place(), message).hint("a name has small letters, digits, `.`, `_` and `-`, as in `tieout-test`");
            }
            self.plan.name = text.to_string();
        }
        if let Some(dir) = at.get_text("data_dir") {
            self.plan.data_dir = PathBuf::from(dir);
        }
        if let Some(workers) = at.get("workers").and_then(At::scalar).and_then(|s| s.as_number()).and_then(|n| n.parse().ok()) {
            self.plan.workers = workers;
        }
        if at.get("tick").is_some() {
            self.plan.tick = span_of(at, "config", "tick");
        }
        if at.get("stuck_after").is_some() {
            self.plan.stuck_after = span_of(at, "config", "stuck_after");
        }
        if at.get("replay_bound").is_some() {
            self.plan.replay_bound = span_of(at, "config", "replay_bound");
        }
        self.plan.memory_max = at.get_text("memory_max").and_then(|text| size::parse(text).ok());
        if let Some(checkpoint) = at.get("checkpoint") {
            self.plan.checkpoint.interval = span_of(checkpoint, "checkpoint", "interval");
            if let Some(keep) = checkpoint.get("keep").and_then(At::scalar).and_then(|s| s.as_number()).and_then(|n| n.parse().ok()) {
                self.plan.checkpoint.keep = keep;
            }
        }
        if let Some(listen) = at.get("http").and_then(|http| http.get_text("listen")).and_then(address) {
            self.plan.listen = listen;
        }
        for (name, body) in at.get("connections").into_iter().flat_map(At::entries) {
            let text = |key: &str| body.get_text(key).unwrap_or_default();
            let kind = match text("kind") {
                "file" => ConnectionKind::File { dir: PathBuf::from(text("dir")) },
                "kafka" => {
                    let properties = self.kafka(body);
                    if let Some(at) = body.get("brokers").filter(|at| at.text().is_some_and(|list| !list.split(',').all(is_broker))) {
                        self.report
                            .error(Code::BadValue, &at.place(), format!("`{}` is no list of brokers", text("brokers")))
                            .hint("`host:port`, several separated by commas, for example `localhost:9092`");
                    }
                    ConnectionKind::Kafka { brokers: text("brokers").to_string(), properties, registry: body.get("registry").and_then(|at| self.registry(at)) }
                }
                // An unknown kind has been reported.
                _ => ConnectionKind::Demo { seed: text("seed").parse().unwrap_or(1), rate: text("rate").parse().unwrap_or(200) },
            };
            self.connections_known.push(["file", "kafka", "demo"].contains(&text("kind")));
            self.connections.insert(name.key().to_string(), self.plan.connections.len());
            self.plan.connections.push(Connection { name: name.key().to_string(), kind });
        }
    }

    fn registry(&mut self, at: At) -> Option<Arc<Registry>> {
        let url = at.get("url")?;
        let text = url.text()?;
        self.url(url, "of a registry", "http://registry:8081");
        let user = at.get_text("username").zip(at.get_text("password")).map(|(user, password)| (user.to_string(), Secret::new(password)));
        Some(Arc::new(Registry { url: text.trim_end_matches('/').to_string(), user, schemas: Arc::default() }))
    }
}

/// `host` or `host:port`, perhaps after `PROTOCOL://`.
fn is_broker(text: &str) -> bool {
    let text = text.trim();
    let address = text.split_once("://").map_or(text, |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address stands in brackets when a port follows it.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port_holds = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/') && port_holds
}
