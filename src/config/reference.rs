//! The reference of settings as Markdown, from the shape of the format and the list of codes.

use std::fmt::Write as _;

use super::{
    check::describe,
    codes::CODES,
    shape::{self, Object, Rule, Shape},
};
use crate::row::Type;

/// `docs/reference/settings.md`.
pub fn reference() -> String {
    let mut out = String::from("# Settings\n\nWritten by the code (`src/config/shape.rs`); `TIEOUT_WRITE=1 cargo test --lib config` writes it again.\n\n");
    out += "Kinds of files: one *configuration* says where tieout runs and which systems it reaches; *dataflows*, one a file, say what should hold; a *cluster* file says which processes run them together.\n\
        A value may contain `${env:NAME}`, `${env:NAME:-default}` (also taken when the variable is empty; a variable that is not set or empty and has no default is a problem, and `${env:NAME:-}` takes the empty text) or `${file:path}` (relative to the configuration file, without the line end); `$${` stands for `${`.\n\
        A time span is a whole number with its unit: `50ms`, `30s`, `5m`, `1h`, `1d`.\n";
    let _ = writeln!(
        out,
        "Column types: {}; `timestamptz` is `timestamp with time zone`, a precision is given as in `timestamp(3)`.\n",
        Type::NAMES.map(|n| format!("`{n}`")).join(", ")
    );
    for (title, object) in [("The configuration file", &shape::CONFIG), ("Dataflow files", &shape::DATAFLOW), ("The cluster file", &shape::CLUSTER)] {
        let _ = writeln!(out, "## {title}\n");
        let mut seen = Vec::new();
        write_object(&mut out, object, "", &mut seen);
    }
    out += "## Problems\n\nEvery problem has a code, a place and, where there is one, a remedy. `tieout check` prints them all.\n\n| code | meaning |\n| --- | --- |\n";
    for (_, name, meaning) in CODES {
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}

/// The object, then those below it, each under the path on which it is met first.
fn write_object(out: &mut String, object: &'static Object, path: &str, seen: &mut Vec<&'static str>) {
    if seen.contains(&object.name) {
        return;
    }
    seen.push(object.name);
    if !path.is_empty() {
        let _ = writeln!(out, "### `{path}`\n");
    }
    let _ = writeln!(out, "{}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |", object.doc);
    for key in object.keys {
        let default = match (key.default, key.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_string(),
            (None, false) => String::new(),
        };
        let only = key.only.map_or(String::new(), |(tag, value)| format!("With `{tag}: {value}`: "));
        let example = key.example.map_or(String::new(), |e| format!(" Example: `{}: {e}`.", key.name));
        let meaning = format!("{only}{}{}{example}", key.doc, words(&key.shape)).replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {} | {default} | {meaning} |", key.name, short(&key.shape));
    }
    out.push('\n');
    for rule in object.rules {
        let code = |keys: &[&str]| keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        let _ = match rule {
            Rule::ExactlyOne(keys) => writeln!(out, "- Exactly one of {}.", code(keys)),
            Rule::Needs(key, other) => writeln!(out, "- `{key}` only with `{other}`."),
            Rule::Excludes(key, others) => writeln!(out, "- `{key}` excludes {}.", code(others)),
        };
    }
    if !object.rules.is_empty() {
        out.push('\n');
    }
    for key in object.keys {
        let below = if path.is_empty() { key.name.to_string() } else { format!("{path}.{}", key.name) };
        write_below(out, &key.shape, &below, seen);
    }
}

fn write_below(out: &mut String, shape: &Shape, path: &str, seen: &mut Vec<&'static str>) {
    match shape {
        Shape::Object(object) => write_object(out, object, path, seen),
        Shape::List(of) => write_below(out, of, &format!("{path}[]"), seen),
        Shape::Map(of, value) => write_below(out, value, &format!("{path}.<{of}>"), seen),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| write_below(out, shape, path, seen)),
        _ => {}
    }
}

/// A shape for a cell of a table: objects are described below it.
fn short(shape: &Shape) -> String {
    match shape {
        Shape::Object(object) => format!("{} (below)", object.name),
        Shape::List(of) => format!("list of {}", short(of)),
        Shape::Map(of, value) => format!("map of {of} to {}", short(value)),
        Shape::Either(shapes) => shapes.iter().map(short).collect::<Vec<_>>().join(" or "),
        Shape::Word(_) => "word".into(),
        Shape::WordOr(..) => "word or text".into(),
        Shape::Text => "text".into(),
        Shape::Literal => "value".into(),
        Shape::Span { .. } => "time span".into(),
        Shape::Size { .. } => "size".into(),
        Shape::Int { .. } => describe(shape).replace("a whole number", "whole number"),
        Shape::Type => "type".into(),
        Shape::Address => "address and port".into(),
        Shape::Sql => "SQL".into(),
        Shape::Any => "any".into(),
    }
}

/// The known words, each with what it means.
fn words(shape: &Shape) -> String {
    let list = |words: &[(&str, &str)]| words.iter().map(|(word, doc)| format!("`{word}`: {doc}")).collect::<Vec<_>>().join("; ");
    match shape {
        Shape::Word(words) => format!(" {}.", list(words)),
        Shape::WordOr(words, other) => format!(" {}; else {other}.", list(words)),
        Shape::Either(shapes) => shapes.iter().map(words_of_first).collect(),
        _ => String::new(),
    }
}

fn words_of_first(shape: &Shape) -> String {
    if matches!(shape, Shape::Word(_)) { words(shape) } else { String::new() }
}
