//! `tieout test --update`: an expectation in a dataflow file rewritten to what stands; everything else stays byte for byte.
//!
//! The file is parsed for the places of its values, and edited as text, since no library keeps comments and layout. A row that
//! changed gets new values where they changed; rows go with their lines, and come behind the last one.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::rows::{Turn, flow, name, turns};
use crate::{
    config::yaml::{self, At, Node},
    plan::Plan,
    scenario::{self, Unmet},
};

/// Bytes of the text, and what comes in their place.
type Edit = (Range<usize>, String);

/// The text with one expectation rewritten; `None`: it was not found, or is written with anchors.
pub fn rewritten(text: &str, plan: &Plan, unmet: &Unmet) -> Option<String> {
    let tree = yaml::parse_text(text)?;
    let (key, list) = expectation(text, &tree, unmet.line, name(plan, unmet.of))?;
    let turns = turns(plan, unmet);
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let rows: Vec<At> = list.items().collect();
    if rows.len() != unmet.expected.len() || rows.iter().any(|row| !inside(row.node, list.node)) {
        return None;
    }
    let new: Vec<String> = turns.iter().filter_map(|turn| if let Turn::New(row) = turn { Some(object(row)) } else { None }).collect();
    let gone: Vec<usize> = turns.iter().filter_map(|turn| if let Turn::Gone(at) = turn { Some(*at) } else { None }).collect();
    let mut edits: Vec<Edit> = Vec::new();
    for turn in &turns {
        if let Turn::Other(at, row) = turn {
            values(text, rows[*at], plan, unmet, &unmet.expected[*at], row, &mut edits)?;
        }
    }
    let is_flow = text[list.node.at.clone()].starts_with('[');
    // A list of a map in block style may have its rows on lines of their own.
    let in_block = line_of(text, key.start).trim_start().starts_with(&text[key.clone()]);
    if gone.len() == rows.len() && (is_flow || new.is_empty()) {
        let colon = key.end + text[key.end..].find(':')? + 1;
        let margin = " ".repeat(key.start - line_start(text, key.start) + 2);
        if is_flow && in_block && !new.is_empty() {
            let lines: String = new.iter().map(|row| format!("{eol}{margin}- {row}")).collect();
            edits.push((colon..list.node.at.end, lines));
        } else if is_flow {
            edits.push((list.node.at.clone(), format!("[{}]", new.join(", "))));
        } else {
            edits.push((colon..colon, " []".into()));
            edits.extend(rows.iter().map(|row| (lines_of(text, &row.node.at), String::new())));
        }
    } else if is_flow {
        let kept = (0..rows.len()).rev().find(|at| !gone.contains(at))?;
        let end = |at: usize| rows[at].node.at.end;
        edits.extend(gone.iter().filter(|at| **at < kept).map(|at| (rows[*at].node.at.start..rows[at + 1].node.at.start, String::new())));
        let more: String = new.iter().map(|row| format!(", {row}")).collect();
        edits.push((end(kept)..end(rows.len() - 1), more));
    } else {
        edits.extend(gone.iter().map(|at| (lines_of(text, &rows[*at].node.at), String::new())));
        let last = lines_of(text, &rows.last()?.node.at).end;
        let first = &rows[0].node.at;
        let margin = text[line_start(text, first.start)..first.start].split('-').next().unwrap_or_default();
        let lines: String = new.iter().map(|row| format!("{margin}- {row}{eol}")).collect();
        let ended = text[..last].ends_with('\n');
        edits.push((last..last, if ended { lines } else { format!("{}{lines}", if lines.is_empty() { "" } else { eol }).trim_end().to_string() }));
    }
    apply(text, edits)
}

/// The key and the rows of an expectation of the step on this line.
fn expectation<'t>(text: &str, tree: &'t Node, line: usize, name: &str) -> Option<(Range<usize>, At<'t>)> {
    let tests = At { file: 0, node: tree }.get("tests")?;
    let steps = tests.items().filter_map(|test| test.get("steps")).flat_map(At::items);
    let mut found = steps.filter(|step| text[..step.node.at.start].matches('\n').count() + 1 == line);
    let expect = found.next().filter(|_| found.next().is_none())?.get("expect")?;
    let (key, rows) = expect.entries().find(|(key, _)| key.key() == name)?;
    let good = inside(key.node, expect.node) && inside(rows.node, expect.node) && rows.is_list();
    good.then(|| (key.node.at.clone(), rows))
}

/// A node that stands where it is used (an alias is what it names, somewhere else), and that nothing else refers to.
fn inside(node: &Node, around: &Node) -> bool {
    around.at.start <= node.at.start && node.at.end <= around.at.end
}

/// New values for the fields of a row that changed.
fn values(text: &str, at: At, plan: &Plan, unmet: &Unmet, expected: &Map<String, Json>, row: &Map<String, Json>, edits: &mut Vec<Edit>) -> Option<()> {
    for (key, value) in at.entries() {
        let (Some(old), Some(new)) = (expected.get(key.key()), row.get(key.key())) else { return None };
        if scenario::same(plan, unmet.of, key.key(), old, new) {
            continue;
        }
        let place = value.node.at.clone();
        if !inside(value.node, at.node) || text[place.clone()].starts_with(['&', '*', '!']) {
            return None;
        }
        // Nothing stands behind `key:`.
        let space = if place.is_empty() && !text[..place.start].ends_with(' ') { " " } else { "" };
        edits.push((place, format!("{space}{}", flow(new))));
    }
    Some(())
}

fn object(row: &Map<String, Json>) -> String {
    flow(&Json::Object(row.clone()))
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |n| n + 1)
}

fn line_of(text: &str, at: usize) -> &str {
    text[line_start(text, at)..].lines().next().unwrap_or_default()
}

/// The whole lines on which a value stands.
fn lines_of(text: &str, at: &Range<usize>) -> Range<usize> {
    line_start(text, at.start)..text[at.end..].find('\n').map_or(text.len(), |n| at.end + n + 1)
}

/// Edits that do not touch each other, from the last to the first.
fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|(at, _)| (at.start, at.end));
    if edits.windows(2).any(|pair| pair[0].0.end > pair[1].0.start) {
        return None;
    }
    let mut text = text.to_string();
    for (at, new) in edits.into_iter().rev() {
        text.replace_range(at, &new);
    }
    Some(text)
}

#[cfg(test)]
mod tests;
