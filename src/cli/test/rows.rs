//! Expected rows beside those that stand, as YAML in flow style: for the reader of a failure, and for `--update`.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::{
    plan::{Expectation, Plan},
    scenario::Unmet,
};

/// The name under which a test expects something.
pub fn name(plan: &Plan, of: Expectation) -> &str {
    match of {
        Expectation::Target(id) => &plan.targets[id].name,
        Expectation::Comparison(id) => &plan.comparisons[id].name,
        Expectation::Rejects => "rejects",
    }
}

/// What becomes of an expected row.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// It stands as expected.
    Same(usize),
    /// Another row stands in its place.
    Other(usize, Map<String, Json>),
    Gone(usize),
    New(Map<String, Json>),
}

/// Expected rows in their order with what became of them, then those that nobody expected. Numbers are places of expected
/// rows; rows that stand have the fields that the reader named, or those that tell what they are.
pub fn turns(plan: &Plan, unmet: &Unmet) -> Vec<Turn> {
    let mut free: Vec<usize> = (0..unmet.actual.len()).filter(|a| !unmet.pairs.contains(&Some(*a))).collect();
    let key: Vec<&str> = match unmet.of {
        Expectation::Target(id) => plan.targets[id].key.iter().map(|c| plan.targets[id].columns[*c].name.as_str()).collect(),
        Expectation::Comparison(_) => vec!["key", "field"],
        Expectation::Rejects => vec!["source", "key"],
    };
    let mut turns = Vec::new();
    for (at, (row, pair)) in unmet.expected.iter().zip(&unmet.pairs).enumerate() {
        let named: Vec<&str> = key.iter().copied().filter(|k| row.contains_key(*k)).collect();
        let place = free.iter().position(|a| !named.is_empty() && named.iter().all(|k| unmet.actual[*a].get(*k) == row.get(*k)));
        turns.push(match (pair, place) {
            (Some(_), _) => Turn::Same(at),
            (None, Some(place)) => {
                let stands = &unmet.actual[free.remove(place)];
                Turn::Other(at, row.keys().map(|k| (k.clone(), stands.get(k).cloned().unwrap_or(Json::Null))).collect())
            }
            (None, None) => Turn::Gone(at),
        });
    }
    let fields: Vec<&str> = match unmet.expected.first() {
        Some(row) => key.iter().copied().filter(|k| !row.contains_key(*k) && *k != "field").chain(row.keys().map(String::as_str)).collect(),
        None => match unmet.of {
            Expectation::Target(id) => plan.targets[id].columns.iter().map(|c| c.name.as_str()).collect(),
            Expectation::Comparison(_) => vec!["key", "kind", "state", "fields"],
            Expectation::Rejects => vec!["source", "code", "key"],
        },
    };
    let is_empty = |value: &Json| value.as_object().is_some_and(Map::is_empty);
    turns.extend(free.into_iter().map(|a| {
        let stands = &unmet.actual[a];
        Turn::New(fields.iter().filter_map(|f| stands.get_key_value(*f)).filter(|(_, v)| !is_empty(v)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }));
    turns
}

/// `-` what was expected, `+` what stands instead.
pub fn compared(plan: &Plan, unmet: &Unmet) -> String {
    let mut text = format!("  {} (- expected, + stands)\n", name(plan, unmet.of));
    let mut line = |sign: &str, row: &Map<String, Json>| {
        let _ = writeln!(text, "  {sign} {}", flow(&Json::Object(row.clone())));
    };
    for turn in turns(plan, unmet) {
        match turn {
            Turn::Same(at) => line(" ", &unmet.expected[at]),
            Turn::Other(at, row) => {
                line("-", &unmet.expected[at]);
                line("+", &row);
            }
            Turn::Gone(at) => line("-", &unmet.expected[at]),
            Turn::New(row) => line("+", &row),
        }
    }
    text
}

/// JSON as YAML in flow style, with no more quotes than it needs.
pub fn flow(value: &Json) -> String {
    match value {
        Json::Object(map) if map.is_empty() => "{}".into(),
        Json::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", flow(&Json::String(k.clone())), flow(v))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::String(text) if plain(text) => text.clone(),
        // What looks like a variable is none.
        Json::String(text) if text.contains("${") => Json::from(text.replace("${", "$${")).to_string(),
        other => other.to_string(),
    }
}

/// Can the text stand in YAML without quotes, and stay text?
fn plain(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || "_-. /".contains(c);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    text.starts_with(char::is_alphabetic) && text.chars().all(word) && text.trim() == text && !reserved
}
