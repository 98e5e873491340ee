//! The order of targets: each after those it reads. A circle is a problem that names the circle.

use std::collections::{HashMap, HashSet};

use super::{Declared, Resolver};
use crate::config::codes::Code;

impl Resolver<'_> {
    /// The targets in an order in which each reads only earlier ones, and for each whether it is on a circle or reads from one.
    /// Otherwise the order of declaration is kept.
    pub(super) fn ordered<'t>(&mut self, declared: Vec<Declared<'t>>) -> (Vec<Declared<'t>>, Vec<bool>) {
        let mut ids: HashMap<&str, usize> = HashMap::new();
        for (id, target) in declared.iter().enumerate() {
            ids.entry(target.name.key()).or_insert(id);
        }
        let reads: Vec<Vec<usize>> = declared
            .iter()
            .map(|target| {
                let names = match target.body.get_text("sql") {
                    Some(sql) => tables(sql),
                    None => target.body.get_text("from").map(str::to_string).into_iter().collect(),
                };
                let mut reads: Vec<usize> = names.iter().filter_map(|name| ids.get(name.as_str()).copied()).collect();
                reads.dedup();
                reads
            })
            .collect();
        let (mut order, mut placed): (Vec<usize>, Vec<bool>) = (Vec::new(), vec![false; declared.len()]);
        while let Some(next) = (0..declared.len()).find(|id| !placed[*id] && reads[*id].iter().all(|read| placed[*read])) {
            placed[next] = true;
            order.push(next);
        }
        let mut told: HashSet<usize> = HashSet::new();
        for start in (0..declared.len()).filter(|id| !placed[*id]) {
            // Every target left reads one that is left: following the first such leads into a circle.
            let mut path = vec![start];
            let circle = loop {
                let last = *path.last().expect("starts with one");
                let next = *reads[last].iter().find(|read| !placed[**read]).expect("it was not placed because of this one");
                if let Some(from) = path.iter().position(|id| *id == next) {
                    break path.split_off(from);
                }
                path.push(next);
            };
            if circle.iter().any(|id| !told.insert(*id)) {
                continue;
            }
            let name = |id: usize| declared[id].name.key();
            let mut names: Vec<&str> = circle.iter().map(|id| name(*id)).collect();
            names.push(names[0]);
            let body = declared[circle[0]].body;
            let place = body.get("sql").or(body.get("from")).map_or(declared[circle[0]].name.place(), |at| {
                let found = at.scalar().and_then(|scalar| word(&scalar.text, names[1]).map(|part| (scalar, part)));
                let mut place = at.place();
                if let Some((scalar, part)) = found {
                    place.at = scalar.trace(&self.report.files[at.file].text, &at.node.at, &part);
                }
                place
            });
            self.report
                .error(Code::Cycle, &place, format!("the target `{}` reads itself: {}", names[0], names.join(" → ")))
                .hint("one of them must read only sources, or targets outside of the circle");
        }
        let left: Vec<usize> = (0..declared.len()).filter(|id| !placed[*id]).collect();
        let circular = order.iter().map(|_| false).chain(left.iter().map(|_| true)).collect();
        (order.into_iter().chain(left).map(|id| declared[id]).collect(), circular)
    }
}

/// Where a word stands in a text, as a whole word.
fn word(text: &str, word: &str) -> Option<std::ops::Range<usize>> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at..at + word.len()).find(|range| !text[..range.start].ends_with(part) && !text[range.end..].starts_with(part))
}

/// The names that stand where SQL names tables: after FROM and JOIN, and after commas between the two and what follows. Enough to
/// order targets; whether they exist is for the planner to say.
pub fn tables(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    // For each open parenthesis: is this the list of FROM?
    let mut in_from = vec![false];
    let mut expected = false;
    for token in tokens(sql) {
        let lower = token.to_ascii_lowercase();
        match lower.as_str() {
            "(" => {
                in_from.push(expected);
            }
            ")" => {
                if in_from.len() > 1 {
                    in_from.pop();
                }
                expected = false;
            }
            "," => expected = *in_from.last().expect("never empty"),
            "from" | "join" => {
                *in_from.last_mut().expect("never empty") = true;
                expected = true;
            }
            "where" | "group" | "having" | "order" | "union" | "select" | "on" | "using" | "window" | "limit" => {
                *in_from.last_mut().expect("never empty") = false;
                expected = false;
            }
            "lateral" => {}
            _ if expected => {
                found.push(token.trim_matches('"').to_string());
                expected = false;
            }
            _ => {}
        }
    }
    found
}

/// Words, quoted names, and single characters of SQL; without comments, white space and strings.
fn tokens(sql: &str) -> Vec<&str> {
    let (mut list, mut at) = (Vec::new(), 0);
    while let Some(c) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let quoted = |quote: char| rest[1..].find(quote).map_or(rest.len(), |n| n + 2);
        let len = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if c == '\'' {
            quoted('\'')
        } else if c == '"' {
            list.push(&rest[..quoted('"')]);
            quoted('"')
        } else if c.is_alphanumeric() || c == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            list.push(&rest[..len]);
            len
        } else {
            if !c.is_whitespace() {
                list.push(&rest[..c.len_utf8()]);
            }
            c.len_utf8()
        };
        at += len;
    }
    list
}

/// SQL without what has no meaning: comments, and more than one blank between tokens.
pub fn normal(sql: &str) -> String {
    let (mut out, mut at) = (String::with_capacity(sql.len()), 0);
    let mut gap = false;
    while let Some(c) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let len = if rest.starts_with("--") {
            gap = true;
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            gap = true;
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if c.is_whitespace() {
            gap = true;
            c.len_utf8()
        } else {
            let len = if c == '\'' || c == '"' { rest[1..].find(c).map_or(rest.len(), |n| n + 2) } else { c.len_utf8() };
            if gap && !out.is_empty() {
                out.push(' ');
            }
            gap = false;
            out.push_str(&rest[..len]);
            len
        };
        at += len;
    }
    out
}
