//! The dataflow as a graph, made from the plan: for people as text, for programs as nodes and edges, for pictures as DOT.

use std::fmt::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::answer::log_text,
    plan::{ConnectionKind, Mapping, OutputOf, Plan, TableRef},
};

/// A connection, source, target, comparison or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Node {
    /// Kind and name, e.g. `source:opportunity`.
    pub id: String,
    pub kind: &'static str,
    pub name: String,
    /// The dataflow that declares it.
    pub dataflow: Option<String>,
    /// What it is, in a few words.
    pub detail: String,
}

/// Data goes from one node to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// `reads`, `maps`, `expected`, `actual` or `writes`.
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

fn table_id(plan: &Plan, table: TableRef) -> String {
    let kind = match table {
        TableRef::Source(_) => "source",
        TableRef::Target(_) => "target",
    };
    format!("{kind}:{}", plan.table_name(table))
}

impl Graph {
    /// The graph of a plan; each node stands behind those that it reads.
    pub fn of(plan: &Plan) -> Graph {
        let mut graph = Graph { nodes: Vec::new(), edges: Vec::new() };
        let mut node = |kind: &'static str, name: &str, dataflow: Option<&str>, detail: String| {
            let id = format!("{kind}:{name}");
            graph.nodes.push(Node { id, kind, name: name.into(), dataflow: dataflow.map(str::to_string), detail });
        };
        let mut edges = Vec::new();
        let mut edge = |from: String, to: String, kind: &'static str| edges.push(Edge { from, to, kind });
        for connection in &plan.connections {
            let detail = match &connection.kind {
                ConnectionKind::File { .. } => "files".to_string(),
                ConnectionKind::Kafka { .. } => "Kafka".to_string(),
                ConnectionKind::Demo { .. } => "simulation".to_string(),
            };
            node("connection", &connection.name, None, detail);
        }
        for source in &plan.sources {
            let detail = format!("{} as {}", log_text(&source.log), source.format.name());
            node("source", &source.name, Some(&source.dataflow), detail);
            let connection = &plan.connections[source.connection].name;
            edge(format!("connection:{connection}"), format!("source:{}", source.name), "reads");
        }
        for target in &plan.targets {
            let inputs = match &target.mapping {
                Mapping::Fields(mapping) => vec![mapping.from],
                Mapping::Sql(sql) => sql.inputs.clone(),
            };
            let by = if matches!(target.mapping, Mapping::Fields(_)) { "fields" } else { "SQL" };
            let key: Vec<&str> = target.key.iter().map(|c| target.columns[*c].name.as_str()).collect();
            node("target", &target.name, Some(&target.dataflow), format!("{by}, key {}", key.join(", ")));
            for input in inputs {
                edge(table_id(plan, input), format!("target:{}", target.name), "maps");
            }
        }
        for comparison in &plan.comparisons {
            let key: Vec<&str> = comparison.key.iter().map(|k| k.name.as_str()).collect();
            let detail = format!("key {}, grace {} s", key.join(", "), comparison.grace.as_secs_f64());
            node("comparison", &comparison.name, Some(&comparison.dataflow), detail);
            let id = format!("comparison:{}", comparison.name);
            edge(table_id(plan, comparison.expected), id.clone(), "expected");
            edge(table_id(plan, comparison.actual), id, "actual");
        }
        for output in &plan.outputs {
            let connection = &plan.connections[output.connection].name;
            let name = format!("{connection}/{}", output.to);
            let from = match output.what {
                OutputOf::Table(target) => table_id(plan, TableRef::Target(target)),
                OutputOf::Differences(comparison) => format!("comparison:{}", plan.comparisons[comparison].name),
            };
            node("output", &name, None, output.format.name().to_string());
            edge(from, format!("output:{name}"), "writes");
        }
        graph.edges = edges;
        graph
    }

    /// One node a line, under a heading for each kind, with what it reads.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut kind = "";
        for node in &self.nodes {
            if node.kind != kind {
                kind = node.kind;
                let _ = writeln!(out, "{}{kind}s", if out.is_empty() { "" } else { "\n" });
            }
            let names: Vec<String> = self
                .edges
                .iter()
                .filter(|e| e.to == node.id)
                .map(|e| {
                    let name = e.from.split_once(':').map_or(e.from.as_str(), |(_, name)| name);
                    if matches!(e.kind, "expected" | "actual") { format!("{name} ({})", e.kind) } else { name.to_string() }
                })
                .collect();
            let from = if names.is_empty() { String::new() } else { format!("{} ─▶ ", names.join(" + ")) };
            let _ = writeln!(out, "  {from}{}  [{}]", node.name, node.detail);
        }
        out
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut out = String::from("digraph tieout {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
        for node in &self.nodes {
            let shape = match node.kind {
                "connection" => "cylinder",
                "comparison" => "diamond",
                "output" => "cds",
                _ => "box",
            };
            let label = quote(&format!("{}\n{}", node.name, node.detail)).replace('\n', "\\n");
            let _ = writeln!(out, "  {} [label={label}, shape={shape}];", quote(&node.id));
        }
        for edge in &self.edges {
            let _ = writeln!(out, "  {} -> {} [label={}];", quote(&edge.from), quote(&edge.to), quote(edge.kind));
        }
        out.push_str("}\n");
        out
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GraphAnswer {
    /// The plan does not change with ticks; `as_of` only tells when it was asked.
    #[serde(flatten)]
    pub as_of: super::answer::AsOf,
    pub text: String,
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}
