//! `tieout differences`, `tieout rows`, `tieout processes`: questions to a running tieout, over its HTTP API.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::{Fail, progress::bytes, table::table};
use crate::http_client;

#[derive(Clone, Debug, Args)]
struct Where {
    /// Where the tieout runs that is asked
    #[arg(long, value_name = "URL", env = "TIEOUT_URL", default_value = "http://127.0.0.1:7171")]
    url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
}

/// List the differences of a comparison, or the comparisons
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout differences                                 the comparisons and their counts
  tieout differences orders_in_erp --state confirmed
  tieout differences orders_in_erp --format csv > differences.csv     all of them")]
pub struct Differences {
    /// The comparison [default: list them]
    comparison: Option<String>,
    #[command(flatten)]
    at: Where,
    /// Only of this kind
    #[arg(long, value_name = "KIND", value_parser = ["missing", "unexpected", "mismatched", "duplicate"])]
    kind: Option<String>,
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = ["undetermined", "in_flight", "confirmed"])]
    state: Option<String>,
    /// Only of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only mismatches in this field
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    /// At most so many [default: 100 for table and json, otherwise all]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Those behind this page: its `next` in JSON
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// Show the processes that run the dataflow: what each reads and holds
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout processes
  tieout processes --url http://10.0.0.2:7171        any of them knows all")]
pub struct Processes {
    #[command(flatten)]
    at: Where,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Look up the row that a target has for a key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout rows expected_order SO-1
  tieout rows expected_revenue '[\"EMEA\",\"EUR\"]'")]
pub struct Rows {
    /// The target
    target: String,
    /// The key: the text of its one column, or a JSON array of its several
    key: String,
    #[command(flatten)]
    at: Where,
}

/// The body of an answer that says yes; what went wrong otherwise, in the server's words.
fn asked(at: &Where, path: &str) -> Result<Vec<u8>, Fail> {
    let no_address = || Fail::Usage(format!("`--url {}` is no address; for example http://127.0.0.1:7171", at.url));
    let host = at.url.strip_prefix("http://").map(|host| host.trim_end_matches('/'));
    if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
        return Err(no_address());
    }
    let answer = http_client::get(&at.url, path).map_err(|error| match error {
        ureq::Error::BadUri(_) => no_address(),
        error => Fail::Retry(format!("no tieout answers at {}: {error}; start one with `tieout run`, or name its address with `--url`", at.url)),
    })?;
    if answer.status < 300 {
        return Ok(answer.body);
    }
    let problem: Json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
    let part = |name: &str| problem.get(name).and_then(Json::as_str).map(str::to_string);
    let message = part("message").unwrap_or_else(|| format!("{} answers {}", at.url, answer.status));
    let message = match part("remedy") {
        Some(remedy) => format!("{message}; {remedy}"),
        None => message,
    };
    Err(if answer.status >= 500 { Fail::Retry(message) } else { Fail::Usage(message) })
}

fn parsed(body: &[u8]) -> Result<Json, Fail> {
    serde_json::from_slice(body).map_err(|e| Fail::Retry(format!("the answer is not JSON: {e}; is it a tieout that listens there?")))
}

/// A value of a row: NULL and the empty text can be told apart, and from the texts that look like them.
fn cell(value: &Json) -> String {
    match value {
        Json::Null => "NULL".into(),
        Json::String(text) if text.is_empty() || text == "NULL" || text.starts_with('\'') => format!("'{text}'"),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What one side has: its row, several, or none.
fn side(difference: &Json, name: &str) -> String {
    let row = |row: &Json| {
        let fields = row.as_object().into_iter().flatten().map(|(name, value)| format!("{name}: {}", cell(value)));
        fields.collect::<Vec<_>>().join(", ")
    };
    let rejected = difference.get("rejected").and_then(Json::as_array).is_some_and(|sides| sides.iter().any(|side| side == name));
    match difference.get(name) {
        Some(Json::Array(rows)) => rows.iter().map(row).collect::<Vec<_>>().join(" | "),
        Some(one @ Json::Object(_)) => row(one),
        _ if rejected => "(a reject)".into(),
        _ => "–".into(),
    }
}

/// In what the sides differ: the fields where both have a row, and otherwise what each side has.
fn both(difference: &Json) -> String {
    match difference.get("fields").and_then(Json::as_object).filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            let value = |both: &Json, side: &str| both.get(side).map_or_else(String::new, cell);
            let fields = fields.iter().map(|(name, both)| format!("{name}: {} / {}", value(both, "expected"), value(both, "actual")));
            fields.collect::<Vec<_>>().join(", ")
        }
        None => format!("{} / {}", side(difference, "expected"), side(difference, "actual")),
    }
}

fn text(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub fn differences(args: &Differences, out: &mut impl Write) -> Result<(), Fail> {
    let Some(comparison) = &args.comparison else { return comparisons(args, out) };
    let mut path = format!("/api/v1/comparisons/{}/differences?", http_client::escaped(comparison));
    for (name, value) in args.filters() {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", http_client::escaped(&value)));
        }
    }
    let format = match args.format {
        Format::Table | Format::Json => "json",
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    };
    let body = asked(&args.at, &format!("{path}format={format}"))?;
    if args.format != Format::Table {
        return Ok(out.write_all(&body)?);
    }
    let answer = parsed(&body)?;
    let found = answer.get("differences").and_then(Json::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> =
        found.iter().map(|d| vec![text(d.get("key")), text(d.get("kind")), text(d.get("state")), both(d), text(d.get("since"))]).collect();
    write!(out, "{}", table(&["key", "kind", "state", "expected / actual", "since"], &rows))?;
    let more = answer.get("next").is_some_and(Json::is_string);
    let shown = match answer.get("total").and_then(Json::as_u64) {
        _ if !more => super::count(rows.len(), "difference"),
        Some(total) => format!("{} of {total} differences", rows.len()),
        None => format!("{} differences of more", rows.len()),
    };
    let way = if more { " (--limit N for more, --format csv for all)" } else { "" };
    writeln!(out, "{shown} as of tick {}{way}", text(answer.get("as_of")))?;
    let waits = |d: &Json| d.get("held_back_by").is_some_and(|by| by == "comparison");
    if let Some(why) = answer.get("held_back").and_then(Json::as_str).filter(|_| found.iter().any(waits)) {
        writeln!(out, "undetermined, because {why}")?;
    }
    Ok(())
}

impl Differences {
    /// What is asked of a comparison's differences, by parameter.
    fn filters(&self) -> [(&'static str, Option<String>); 6] {
        let (kind, state, key, field) = (self.kind.clone(), self.state.clone(), self.key.clone(), self.field.clone());
        let limit = self.limit.map(|n| n.to_string());
        [("kind", kind), ("state", state), ("key", key), ("field", field), ("limit", limit), ("cursor", self.cursor.clone())]
    }
}

fn comparisons(args: &Differences, out: &mut impl Write) -> Result<(), Fail> {
    let of_one = "is about the differences of one comparison: name it, as in `tieout differences NAME`; without a name the comparisons are listed";
    if let Some((name, _)) = args.filters().iter().find(|(_, value)| value.is_some()) {
        return Err(Fail::Usage(format!("`--{name}` {of_one}")));
    }
    if matches!(args.format, Format::Csv | Format::Ndjson) {
        return Err(Fail::Usage(format!("`--format {}` {of_one}", if args.format == Format::Csv { "csv" } else { "ndjson" })));
    }
    let body = asked(&args.at, "/api/v1/comparisons")?;
    if args.format != Format::Table {
        return Ok(out.write_all(&body)?);
    }
    let answer = parsed(&body)?;
    let found = answer.get("comparisons").and_then(Json::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|c| {
            ["name", "state", "total", "reason"].iter().map(|name| text(c.get(*name).or_else(|| c.get("differences").and_then(|d| d.get(*name))))).collect()
        })
        .collect();
    write!(out, "{}", table(&["comparison", "state", "differences", "reason"], &rows))?;
    Ok(())
}

pub fn processes(args: &Processes, out: &mut impl Write) -> Result<(), Fail> {
    let body = asked(&args.at, "/api/v1/processes")?;
    if args.json {
        out.write_all(&body)?;
        return Ok(writeln!(out)?);
    }
    let answer = parsed(&body)?;
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    let positions = |reads: &Json| {
        let one = |p: &Json| format!("{}:{}/{}", cell(&p["partition"]), cell(&p["next"]), text(p.get("end").filter(|end| !end.is_null())));
        let trouble = reads["trouble"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} {}{trouble}", cell(&reads["source"]), list(&reads["partitions"]).iter().map(one).collect::<Vec<_>>().join(" "))
    };
    let row = |process: &Json| {
        let number = |name: &str| process[name].as_u64().unwrap_or(0);
        let reads = list(&process["reads"]);
        let behind: u64 = reads.iter().map(|reads| reads["behind_bytes"].as_u64().unwrap_or(0)).sum();
        vec![
            format!("{}{}", number("process"), if process["leads"] == true { " leads" } else { "" }),
            number("workers").to_string(),
            number("queue_chunks").to_string(),
            bytes(behind),
            bytes(number("state_bytes")),
            bytes(number("memory_bytes")),
            process["http"].as_str().unwrap_or("-").to_string(),
            reads.iter().map(positions).collect::<Vec<_>>().join("; "),
        ]
    };
    let rows: Vec<Vec<String>> = list(&answer["processes"]).iter().map(row).collect();
    Ok(write!(out, "{}", table(&["process", "workers", "queue", "behind", "state", "memory", "http", "reads (partition:next/end)"], &rows))?)
}

pub fn rows(args: &Rows, out: &mut impl Write) -> Result<(), Fail> {
    let path = format!("/api/v1/targets/{}/rows/{}", http_client::escaped(&args.target), http_client::escaped(&args.key));
    let answer = parsed(&asked(&args.at, &path)?)?;
    Ok(writeln!(out, "{answer:#}")?)
}
