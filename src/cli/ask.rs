//! `tieout differences`, `tieout rows`: questions to a running tieout, over its HTTP API.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::{Fail, http, table::table};

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
  tieout differences orders_in_erp --format csv > differences.csv")]
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
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
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
    let answer = http::get(&at.url, path)?;
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

fn text(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub fn differences(args: &Differences, out: &mut impl Write) -> Result<(), Fail> {
    let Some(comparison) = &args.comparison else { return comparisons(args, out) };
    let mut path = format!("/api/v1/comparisons/{}/differences?limit={}", http::escaped(comparison), args.limit);
    for (name, value) in [("kind", &args.kind), ("state", &args.state), ("key", &args.key), ("field", &args.field)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", http::escaped(value)));
        }
    }
    let format = match args.format {
        Format::Table | Format::Json => "json",
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    };
    let body = asked(&args.at, &format!("{path}&format={format}"))?;
    if args.format != Format::Table {
        return Ok(out.write_all(&body)?);
    }
    let answer = parsed(&body)?;
    let found = answer.get("differences").and_then(Json::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|d| {
            let fields = d.get("fields").and_then(Json::as_object).cloned().unwrap_or_default();
            let fields: Vec<String> =
                fields.iter().map(|(name, both)| format!("{name}: {} / {}", text(both.get("expected")), text(both.get("actual")))).collect();
            let since = d.get("since");
            let since = text(since.and_then(|s| s.get("source_time")).or(since));
            vec![text(d.get("key")), text(d.get("kind")), text(d.get("state")), fields.join(", "), since]
        })
        .collect();
    write!(out, "{}", table(&["key", "kind", "state", "expected / actual", "since"], &rows))?;
    Ok(writeln!(out, "{} as of tick {}", super::count(rows.len(), "difference"), text(answer.get("as_of")))?)
}

fn comparisons(args: &Differences, out: &mut impl Write) -> Result<(), Fail> {
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

pub fn rows(args: &Rows, out: &mut impl Write) -> Result<(), Fail> {
    let path = format!("/api/v1/targets/{}/rows/{}", http::escaped(&args.target), http::escaped(&args.key));
    let answer = parsed(&asked(&args.at, &path)?)?;
    Ok(writeln!(out, "{answer:#}")?)
}
