//! `tieout test --update`: an expectation in a dataflow file rewritten to what stands; everything else stays byte for byte.
//!
//! The YAML is edited as text, line by line, since no library keeps comments and layout. Rows that still hold keep their
//! lines; a row that changed is written anew with the fields that it named.

use serde_json::{Map, Value as Json};

use super::rows::{Turn, flow, name, turns};
use crate::{
    plan::{Action, Plan, TestCase},
    scenario::Unmet,
};

/// The text with one expectation rewritten; `None`: it was not found.
pub fn rewritten(text: &str, plan: &Plan, test: &TestCase, unmet: &Unmet) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = unmet.line.checked_sub(1).filter(|at| *at < lines.len())?;
    let eol = if lines[at].ends_with("\r\n") { "\r\n" } else { "\n" };
    let turns = turns(plan, unmet);
    let (from, to, new) = match lines[at].find("expect:").map(|column| (column, after_colon(&lines[at][column..]))) {
        Some((column, "")) => entry(&lines, at, column, name(plan, unmet.of), unmet, &turns, eol)?,
        Some((column, _)) => step(&lines, at, column, plan, test, unmet, &turns, eol)?,
        None => return None,
    };
    let mut out: String = lines[..from].concat();
    out.push_str(&new);
    // A last line without an end stays one.
    if to == lines.len() && !text.ends_with('\n') {
        out.truncate(out.trim_end_matches(['\r', '\n']).len());
    }
    out.push_str(&lines[to..].concat());
    Some(out)
}

/// What stands behind the colon of `key: …`, without a comment.
fn after_colon(line: &str) -> &str {
    let rest = line.split_once(':').map_or("", |(_, rest)| rest).trim();
    if rest.starts_with('#') { "" } else { rest }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

/// The line after the block of `lines[at]`, whose key stands at `column`; blank lines and comments at its end are not of it.
fn block_end(lines: &[&str], at: usize, column: usize) -> usize {
    let of_block = |line: &&str| indent(line) > column || (indent(line) == column && line.trim_start().starts_with("- "));
    let mut end = at + 1;
    for (n, line) in lines.iter().enumerate().skip(at + 1) {
        if !line.trim().is_empty() && !of_block(line) {
            break;
        }
        if !is_blank(line) {
            end = n + 1;
        }
    }
    end
}

/// Rewrites the entry `name:` of a step in block style.
fn entry(lines: &[&str], step: usize, column: usize, name: &str, unmet: &Unmet, turns: &[Turn], eol: &str) -> Option<(usize, usize, String)> {
    let last = block_end(lines, step, column);
    let first = (step + 1..last).find(|l| !is_blank(lines[*l]))?;
    let depth = indent(lines[first]);
    let is_entry = |line: &str| {
        let key = line.trim_start().split(':').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        indent(line) == depth && key == name
    };
    let at = (first..last).find(|l| is_entry(lines[*l]))?;
    let end = block_end(lines, at, depth);
    // The lines of the rows, if each has one of its own.
    let body = &lines[at + 1..end];
    let is_row = |line: &&&str| line.trim_start().starts_with("- ");
    let own = after_colon(lines[at]).is_empty() && body.iter().filter(is_row).count() == unmet.expected.len() && body.iter().all(|l| is_row(&l) || is_blank(l));
    let mut out = String::new();
    if turns.iter().all(|turn| matches!(turn, Turn::Gone(_))) {
        out.push_str(&format!("{}{name}: []{eol}", " ".repeat(depth)));
        return Some((at, end, out));
    }
    if own {
        out.push_str(lines[at])
    } else {
        out.push_str(&format!("{}{name}:{eol}", " ".repeat(depth)))
    }
    let margin = " ".repeat(body.iter().find(is_row).map_or(depth + 2, |line| indent(line)));
    let write = |row: &Map<String, Json>| format!("{margin}- {}{eol}", flow(&Json::Object(row.clone())));
    let mut rest = body.iter();
    for turn in turns {
        if own && !matches!(turn, Turn::New(_)) {
            // Comments before a row stay where they are.
            let line = loop {
                match rest.next() {
                    Some(line) if is_row(&line) => break line,
                    Some(comment) => out.push_str(comment),
                    None => return None,
                }
            };
            match turn {
                Turn::Same(_) => out.push_str(&ended(line, eol)),
                Turn::Other(_, row) => out.push_str(&write(row)),
                Turn::Gone(_) | Turn::New(_) => {}
            }
            continue;
        }
        match turn {
            Turn::Same(at) => out.push_str(&write(&unmet.expected[*at])),
            Turn::Other(_, row) | Turn::New(row) => out.push_str(&write(row)),
            Turn::Gone(_) => {}
        }
    }
    Some((at, end, out))
}

fn ended(line: &str, eol: &str) -> String {
    if line.ends_with('\n') { line.to_string() } else { format!("{line}{eol}") }
}

/// Rewrites a step that stands in flow style, `- expect: { … }`, in block style, with all that it expects.
fn step(lines: &[&str], at: usize, column: usize, plan: &Plan, test: &TestCase, unmet: &Unmet, turns: &[Turn], eol: &str) -> Option<(usize, usize, String)> {
    let step = test.steps.iter().find(|step| step.line == unmet.line)?;
    let Action::Expect(all) = &step.action else { return None };
    let margin = " ".repeat(column);
    let mut out = format!("{}expect:{eol}", &lines[at][..column]);
    for (of, expected) in all {
        let rows: Vec<&Map<String, Json>> = if *of == unmet.of { now(turns, unmet) } else { expected.iter().collect() };
        let head = name(plan, *of);
        out.push_str(&if rows.is_empty() { format!("{margin}  {head}: []{eol}") } else { format!("{margin}  {head}:{eol}") });
        for row in rows {
            out.push_str(&format!("{margin}    - {}{eol}", flow(&Json::Object(row.clone()))));
        }
    }
    Some((at, block_end(lines, at, column), out))
}

fn now<'a>(turns: &'a [Turn], unmet: &'a Unmet) -> Vec<&'a Map<String, Json>> {
    let row = |turn: &'a Turn| match turn {
        Turn::Same(at) => Some(&unmet.expected[*at]),
        Turn::Other(_, row) | Turn::New(row) => Some(row),
        Turn::Gone(_) => None,
    };
    turns.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests;
