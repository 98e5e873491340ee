//! What the ledger exports: `differences/COMPARISON.csv`, `rejects.csv`, and its part of `summary.json`.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::{
    engine::{Counts, Side},
    ledger::{
        Ledger,
        difference::{Difference, Kind, State},
        show::{self, Which},
    },
    plan::{ComparisonId, Plan},
    row::source_time_text,
};

/// The columns of `differences/COMPARISON.csv`.
pub const DIFFERENCE_COLUMNS: [&str; 7] = ["key", "kind", "state", "field", "expected", "actual", "since"];
/// The columns of `rejects.csv`.
pub const REJECT_COLUMNS: [&str; 6] = ["source", "code", "cause", "key", "partition", "offset"];

/// Writes a line of CSV. NULL is an empty cell and the empty text is `""`, as PostgreSQL's COPY has it.
///
/// # Errors
/// Those of `to`.
pub fn write_csv<'a>(to: &mut impl Write, cells: impl IntoIterator<Item = Option<&'a str>>) -> io::Result<()> {
    let mut line = String::new();
    for (place, cell) in cells.into_iter().enumerate() {
        line.push_str(if place > 0 { "," } else { "" });
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => line.extend(["\"", &text.replace('"', "\"\""), "\""]),
            Some(text) => line.push_str(text),
        }
    }
    line.push('\n');
    to.write_all(line.as_bytes())
}

/// The lines of a difference in CSV: one a differing field, by the field's name, for `mismatched`; otherwise one without a
/// field and with the rows as JSON.
pub fn difference_lines(plan: &Plan, comparison: ComparisonId, difference: &Difference) -> Vec<[Option<String>; 7]> {
    let comparison = &plan.comparisons[comparison];
    let line = |field: Option<&str>, expected: Option<String>, actual: Option<String>| {
        let key = show::key_text(plan, comparison, &difference.key);
        let (kind, state) = (difference.kind.name().to_string(), difference.state.name().to_string());
        [Some(key), Some(kind), Some(state), field.map(str::to_string), expected, actual, Some(source_time_text(difference.since.source_time))]
    };
    let mut fields = difference.fields(comparison);
    if difference.kind != Kind::Mismatched || fields.is_empty() {
        let text = |which, side: &Side| match show::side_json(plan, comparison, which, side) {
            Json::Null => None,
            json => Some(json.to_string()),
        };
        let (expected, actual) = (&difference.sides.expected, &difference.sides.actual);
        return vec![line(None, text(Which::Expected, expected), text(Which::Actual, actual))];
    }
    fields.sort_by_key(|d| &comparison.fields[d.field].name);
    let lines = fields.iter().map(|d| {
        let (expected, actual) = show::differing_text(plan, comparison, d);
        line(Some(&comparison.fields[d.field].name), expected, actual)
    });
    lines.collect()
}

impl Ledger {
    /// Writes `differences/COMPARISON.csv`, sorted by key, then field.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn export_differences(&self, comparison: ComparisonId, mut to: impl Write) -> io::Result<()> {
        write_csv(&mut to, DIFFERENCE_COLUMNS.map(Some))?;
        for difference in self.differences(comparison, None) {
            for line in difference_lines(&self.plan, comparison, difference) {
                write_csv(&mut to, line.iter().map(Option::as_deref))?;
            }
        }
        to.flush()
    }

    /// Writes `rejects.csv`: a line for each reject that stands, as often as it does.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn export_rejects(&self, mut to: impl Write) -> io::Result<()> {
        write_csv(&mut to, REJECT_COLUMNS.map(Some))?;
        for (reject, weight) in self.rejects() {
            // A row that was computed from several records has no position.
            let position = |n: i64| (n >= 0).then(|| n.to_string());
            let (partition, offset) = (position(reject.partition.into()), position(reject.offset));
            let source = self.plan.sources[reject.source].name.as_str();
            for _ in 0..weight {
                let cells = [Some(source), Some(reject.code), Some(&reject.cause), reject.key.as_deref(), partition.as_deref(), offset.as_deref()];
                write_csv(&mut to, cells)?;
            }
        }
        to.flush()
    }

    /// The ledger's part of `summary.json`; seconds and memory are the caller's.
    pub fn summary(&self) -> Map<String, Json> {
        let mut sources = Map::new();
        for (source, declared) in self.sources.iter().zip(&self.plan.sources) {
            let positions: Map<String, Json> = source.positions.iter().map(|(partition, next)| (partition.to_string(), (*next).into())).collect();
            let Counts { read, applied, filtered, rejected, suppressed } = source.counts();
            let counts = json!({
                "read": read, "applied": applied, "filtered": filtered, "rejected": rejected, "suppressed": suppressed,
                "source_time": source.time.map(source_time_text), "positions": positions,
            });
            sources.insert(declared.name.clone(), counts);
        }
        let mut comparisons = Map::new();
        for (id, declared) in self.plan.comparisons.iter().enumerate() {
            let status = self.status(id);
            let mut kinds = Map::new();
            for kind in Kind::ALL {
                let states: Map<String, Json> = State::ALL.iter().map(|s| (s.name().to_string(), status.counts.of(kind, *s).into())).collect();
                kinds.insert(kind.name().into(), Json::Object(states));
            }
            let mut entry = Map::new();
            entry.insert("state".into(), status.state.name().into());
            if let Some(reason) = status.state.reason() {
                entry.insert("reason".into(), reason.into());
            }
            entry.insert("total".into(), status.counts.total().into());
            entry.insert("kinds".into(), Json::Object(kinds));
            entry.insert("expected_rows".into(), status.expected.rows.into());
            entry.insert("actual_rows".into(), status.actual.rows.into());
            comparisons.insert(declared.name.clone(), Json::Object(entry));
        }
        let mut summary = Map::new();
        summary.insert("tick".into(), self.as_of.into());
        summary.insert("sources".into(), Json::Object(sources));
        summary.insert("differences".into(), Json::Object(comparisons));
        summary.insert("difference_changes".into(), self.difference_changes().into());
        summary.insert("rejects".into(), self.rejects().map(|(_, weight)| weight).sum::<i64>().into());
        summary.insert("state_bytes".into(), self.state_bytes().into());
        summary
    }
}
