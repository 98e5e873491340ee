//! YAML as a tree of marked nodes.
//!
//! Scalars stay text: what a text means depends on where it stands. Duplicate keys, aliases and tags are settled here;
//! every node knows its bytes, and a byte of a scalar's content can be traced to the byte of the file that it comes from
//! ([`Scalar::trace`]), whatever the quoting, folding and indentation.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    codes::Code,
    problem::{File, Place, Report},
};

/// Nesting of a file; far beyond what the format has.
const DEPTH_MAX: usize = 64;
/// Nodes of a file after aliases are put in.
const NODES_MAX: usize = 200_000;

#[derive(Clone, Debug)]
pub struct Node {
    pub at: Range<usize>,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub enum Data {
    Scalar(Scalar),
    List(Vec<Node>),
    /// Key and value, in the order of the file; keys are scalars, each once.
    Map(Vec<(Node, Node)>),
}

#[derive(Clone, Debug)]
pub struct Scalar {
    /// The content: unquoted, unfolded, interpolated.
    pub text: String,
    style: ScalarStyle,
    /// Text was put in for a `${…}`, so that places in `text` are not places in the file.
    pub filled: bool,
    /// Some of its text stands in the file itself, be it as a default.
    pub spelled: bool,
    /// The suffix of a local tag (`raw` for `!raw`).
    pub tag: Option<String>,
}

impl Scalar {
    /// Not quoted, so that `42`, `true` and `null` are no texts. A quoted scalar that a variable was put into counts as plain, since
    /// YAML wants the quotes in `{ workers: "${env:N}" }`.
    pub fn is_plain(&self) -> bool {
        self.style == ScalarStyle::Plain || self.filled
    }

    pub fn is_null(&self) -> bool {
        self.style == ScalarStyle::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// A plain boolean of YAML 1.2 (`yes` and `on` are texts).
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.is_plain() => Some(true),
            "false" | "False" | "FALSE" if self.is_plain() => Some(false),
            _ => None,
        }
    }

    /// A plain number as JSON writes it, digit by digit as it stands in the file.
    pub fn as_number(&self) -> Option<String> {
        if self.is_plain() { json_number(&self.text) } else { None }
    }

    /// The range of the file that a range of `text` comes from; `at` is the node's. The whole node where that cannot be told.
    pub fn trace(&self, file: &str, at: &Range<usize>, part: &Range<usize>) -> Range<usize> {
        let Some(source) = file.get(at.clone()).filter(|_| !self.filled) else { return at.clone() };
        let places = self.places(source);
        let place = |i: usize| places.get(i).map(|p| at.start + p);
        let Some(start) = place(part.start.min(self.text.len().saturating_sub(1))) else { return at.clone() };
        if part.start >= self.text.len() {
            // Behind the last character: "something is lacking here".
            let last = self.text.trim_end().chars().next_back().map_or(0, char::len_utf8);
            return place(self.text.trim_end().len() - last).map_or(at.clone(), |p| p + last..p + last);
        }
        let last = self.text[..part.end.min(self.text.len())].trim_end().char_indices().next_back().filter(|(i, _)| *i >= part.start);
        let end = last.and_then(|(i, c)| {
            let here = place(i)?;
            let escaped = file.get(here..).is_some_and(|rest| rest.starts_with('\\')) && self.style == ScalarStyle::DoubleQuoted;
            Some(here + if escaped { 2 } else { c.len_utf8() })
        });
        let end = end.unwrap_or(start);
        start..end.max(start).min(file.len())
    }

    /// For each byte of `text`, the byte of `source` (the scalar as the file has it) that it comes from.
    fn places(&self, source: &str) -> Vec<usize> {
        let bytes = source.as_bytes();
        // Tags and anchors belong to the span; of a block, the parser's span starts at the first content, or at the `|`.
        let mut at = 0;
        while source[at..].starts_with(['!', '&']) {
            at += source[at..].find(char::is_whitespace).unwrap_or(source.len() - at);
            at += source[at..].len() - source[at..].trim_start().len();
        }
        at += match self.style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded if !source[at..].starts_with(['|', '>']) => 0,
            ScalarStyle::Literal | ScalarStyle::Folded => source[at..].find('\n').map_or(source.len() - at, |n| n + 1),
        };
        let mut places = Vec::with_capacity(self.text.len());
        let blank = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_whitespace);
        for c in self.text.chars() {
            if !c.is_whitespace() {
                while blank(at) || (self.style == ScalarStyle::DoubleQuoted && bytes.get(at) == Some(&b'\\') && blank(at + 1)) {
                    at += 1;
                }
            }
            let escape = self.style == ScalarStyle::DoubleQuoted && bytes.get(at) == Some(&b'\\');
            let here = at;
            at += match (c.is_whitespace(), escape) {
                (_, true) => match bytes.get(at + 1) {
                    Some(b'x') => 4,
                    Some(b'u') => 6,
                    Some(b'U') => 10,
                    _ => 2,
                },
                (true, _) => usize::from(blank(at)),
                (false, _) if c == '\'' && self.style == ScalarStyle::SingleQuoted => 2,
                (false, _) => c.len_utf8(),
            };
            places.extend(std::iter::repeat_n(here.min(source.len()), c.len_utf8()));
        }
        places
    }
}

/// A number of YAML as a number of JSON: the same digits, without what JSON does not know (`+`, `.5`, `0x1f`).
fn json_number(text: &str) -> Option<String> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|n| n.to_string());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(|n| n.to_string());
    }
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) => ("-", body),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = body.find(['e', 'E']).map_or((body, ""), |e| body.split_at(e));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let exponent_digits = exponent.get(1..).map_or("", |e| e.strip_prefix(['+', '-']).unwrap_or(e));
    if !digits(whole) || !digits(fraction.unwrap_or("0")) || (whole.is_empty() && fraction.is_none_or(str::is_empty)) {
        return None;
    }
    if !exponent.is_empty() && (exponent_digits.is_empty() || !digits(exponent_digits)) {
        return None;
    }
    let trimmed = whole.trim_start_matches('0');
    let whole = if trimmed.is_empty() { "0" } else { trimmed };
    Some(match fraction {
        Some(f) if !f.is_empty() => format!("{sign}{whole}.{f}{exponent}"),
        _ => format!("{sign}{whole}{exponent}"),
    })
}

/// A node, with the file in which it stands. The methods give nothing where the node has another form: that has been reported.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub file: usize,
    pub node: &'a Node,
}

impl<'a> At<'a> {
    pub fn place(self) -> Place {
        Place { file: self.file, at: self.node.at.clone() }
    }

    pub fn scalar(self) -> Option<&'a Scalar> {
        match &self.node.data {
            Data::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar that is not null.
    pub fn text(self) -> Option<&'a str> {
        self.scalar().filter(|s| !s.is_null()).map(|s| s.text.as_str())
    }

    pub fn items(self) -> impl Iterator<Item = At<'a>> {
        let items: &[Node] = match &self.node.data {
            Data::List(items) => items,
            _ => &[],
        };
        items.iter().map(move |node| At { file: self.file, node })
    }

    /// Key and value, in order.
    pub fn entries(self) -> impl Iterator<Item = (At<'a>, At<'a>)> {
        let entries: &[(Node, Node)] = match &self.node.data {
            Data::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(move |(key, value)| (At { file: self.file, node: key }, At { file: self.file, node: value }))
    }

    /// The value of a key; a key without a value counts as absent.
    pub fn get(self, key: &str) -> Option<At<'a>> {
        self.entries().find(|(k, _)| k.key() == key).map(|(_, v)| v).filter(|v| !v.is_null())
    }

    /// The text of the value of a key.
    pub fn get_text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(At::text)
    }

    /// The text of a key of a map.
    pub fn key(self) -> &'a str {
        self.scalar().map_or("", |s| s.text.as_str())
    }

    pub fn is_null(self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    pub fn is_map(self) -> bool {
        matches!(self.node.data, Data::Map(_))
    }

    pub fn is_list(self) -> bool {
        matches!(self.node.data, Data::List(_))
    }

    /// What stands here, for messages.
    pub fn form(self) -> &'static str {
        match &self.node.data {
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
            Data::Scalar(s) if s.is_null() => "nothing",
            Data::Scalar(s) if s.as_bool().is_some() => "a bool",
            Data::Scalar(s) if s.as_number().is_some() => "a number",
            Data::Scalar(_) => "a text",
        }
    }
}

/// The byte at which each character of a text starts, and its end.
struct Offsets(Option<Vec<usize>>, usize);

impl Offsets {
    fn of(text: &str) -> Offsets {
        let table = (!text.is_ascii()).then(|| text.char_indices().map(|(i, _)| i).collect());
        Offsets(table, text.len())
    }

    fn byte(&self, character: usize) -> usize {
        match &self.0 {
            None => character.min(self.1),
            Some(table) => table.get(character).copied().unwrap_or(self.1),
        }
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

/// A collection that is being read: its node, the key that waits for its value, the anchor to keep it under.
struct Open {
    node: Node,
    key: Option<Node>,
    anchor: usize,
}

/// Reads a text of which nothing is reported; `None` when it is no YAML.
pub fn parse_text(text: &str) -> Option<Node> {
    let file = File { name: String::new(), text: text.to_string() };
    let mut report = Report::of(vec![Arc::new(file)]);
    parse(&mut report, 0).filter(|_| !report.has_errors())
}

/// Reads a file of the report; `None` when it is no YAML, which is then a problem of the report. An empty file is an empty map.
pub fn parse(report: &mut Report, file: usize) -> Option<Node> {
    let source = report.files[file].clone();
    let text = source.text.as_str();
    let offsets = Offsets::of(text);
    let mut parser = Parser::new_from_str(text);
    let mut anchors: HashMap<usize, (Node, usize, usize)> = HashMap::new();
    let (mut stack, mut root, mut documents, mut nodes): (Vec<Open>, Option<Node>, usize, usize) = (Vec::new(), None, 0, 0);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                syntax_problem(report, file, text, offsets.byte(error.marker().index()), error.info());
                return None;
            }
        };
        let at = offsets.range(&span);
        let (node, anchor) = match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) => {
                documents += 1;
                if documents == 2 {
                    report.error(Code::Yaml, &Place { file, at }, "a second document in one file").hint("put each dataflow into a file of its own");
                    return None;
                }
                continue;
            }
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if stack.len() >= DEPTH_MAX => {
                let _ = anchor;
                report.error(Code::Yaml, &Place { file, at }, format!("nested more than {DEPTH_MAX} deep"));
                return None;
            }
            Event::SequenceStart(anchor, _) => {
                stack.push(Open { node: Node { at, data: Data::List(Vec::new()) }, key: None, anchor });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                stack.push(Open { node: Node { at, data: Data::Map(Vec::new()) }, key: None, anchor });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = stack.pop() else { continue };
                let end = at.end.max(open.node.at.start);
                open.node.at.end = open.node.at.start + text.get(open.node.at.start..end).map_or(0, |t| t.trim_end().len());
                (open.node, open.anchor)
            }
            Event::Scalar(content, style, anchor, tag) => {
                let tag = tag.map(Cow::into_owned).map(|t| t.suffix);
                (
                    Node { at: trimmed(text, at, style), data: Data::Scalar(Scalar { text: content.into_owned(), style, filled: false, spelled: true, tag }) },
                    anchor,
                )
            }
            Event::Alias(id) => {
                let Some((node, size, depth)) = anchors.get(&id) else {
                    report.error(Code::Yaml, &Place { file, at }, "an alias inside of what it names");
                    return None;
                };
                nodes += size;
                if nodes > NODES_MAX || stack.len() + depth > DEPTH_MAX {
                    report.error(Code::Yaml, &Place { file, at }, "aliases that blow the file up").hint("write out what is meant");
                    return None;
                }
                (node.clone(), 0)
            }
        };
        nodes += 1;
        if nodes > NODES_MAX {
            report.error(Code::Yaml, &Place { file, at: node.at }, format!("more than {NODES_MAX} values in one file"));
            return None;
        }
        if anchor > 0 {
            anchors.insert(anchor, (node.clone(), size_of(&node), depth_of(&node)));
        }
        match stack.last_mut() {
            None => root = Some(node),
            Some(open) => insert(report, file, open, node),
        }
    }
    Some(root.filter(|node| !At { file, node }.is_null()).unwrap_or(Node { at: 0..0, data: Data::Map(Vec::new()) }))
}

/// Puts a finished node into the collection around it.
fn insert(report: &mut Report, file: usize, open: &mut Open, node: Node) {
    match &mut open.node.data {
        Data::List(items) => items.push(node),
        Data::Map(entries) => match open.key.take() {
            None => open.key = Some(node),
            Some(key) => {
                let at = At { file, node: &key };
                if at.scalar().is_none() {
                    report
                        .error(Code::Yaml, &at.place(), format!("a key must be a text, and is {}", at.form()))
                        .hint("a `{` or `[` at the start of a value needs quotes around the value");
                } else if let Some((first, _)) = entries.iter().find(|(k, _)| At { file, node: k }.key() == at.key()) {
                    let first = Place { file, at: first.at.clone() };
                    report
                        .error_of_two(Code::DuplicateKey, &at.place(), format!("`{}` stands twice in one map", at.key()), &first, "first here")
                        .hint("remove one of the two, or rename it");
                } else {
                    entries.push((key, node));
                }
            }
        },
        Data::Scalar(_) => unreachable!("only lists and maps are open"),
    }
}

fn size_of(node: &Node) -> usize {
    match &node.data {
        Data::Scalar(_) => 1,
        Data::List(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        Data::Map(entries) => 1 + entries.iter().map(|(k, v)| size_of(k) + size_of(v)).sum::<usize>(),
    }
}

fn depth_of(node: &Node) -> usize {
    match &node.data {
        Data::Scalar(_) => 0,
        Data::List(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|(k, v)| depth_of(k).max(depth_of(v))).max().unwrap_or(0),
    }
}

/// The span of a scalar may reach into the white space behind it, that of a quoted one into a comment too.
fn trimmed(text: &str, at: Range<usize>, style: ScalarStyle) -> Range<usize> {
    let Some(source) = text.get(at.clone()) else { return at.start..at.start };
    let quote = match style {
        ScalarStyle::SingleQuoted => '\'',
        ScalarStyle::DoubleQuoted => '"',
        _ => return at.start..at.start + source.trim_end().len(),
    };
    let mut inside = source.char_indices().skip_while(|(_, c)| *c != quote).skip(1).peekable();
    while let Some((i, c)) = inside.next() {
        let pair = if quote == '"' { c == '\\' } else { c == quote && inside.peek().is_some_and(|(_, next)| *next == quote) };
        if pair {
            inside.next();
        } else if c == quote {
            return at.start..at.start + i + 1;
        }
    }
    at
}

/// A syntax error in our words where the scanner's are hard to act on.
fn syntax_problem(report: &mut Report, file: usize, text: &str, at: usize, info: &str) {
    let line_start = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |n| n + 1);
    let line = text.get(line_start..).and_then(|t| t.split('\n').next()).unwrap_or_default();
    let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
    if let Some(tab) = line[..indent].find('\t') {
        let tabs = line_start + tab..line_start + indent;
        report.error(Code::Yaml, &Place { file, at: tabs }, "a tab in the indentation").hint("YAML is indented with spaces only");
        return;
    }
    let end = text.get(at..).and_then(|t| t.chars().next()).map_or(at, |c| at + c.len_utf8());
    let problem = report.error(Code::Yaml, &Place { file, at: at..end }, format!("not YAML: {info}"));
    if line.contains("${") && line.contains('{') {
        problem.hint("inside `{ }` and `[ ]`, a value with `${…}` needs quotes");
    } else if line.matches(": ").count() > 1 {
        problem.hint("a value that contains `: ` needs quotes");
    } else {
        problem.hint("look at this line and the one before it: indentation, a missing colon or quote, an open bracket");
    }
}

#[cfg(test)]
mod tests;
