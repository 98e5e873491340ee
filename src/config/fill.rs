//! Interpolation: `${env:NAME}`, `${env:NAME:-default}` and `${file:path}` inside of scalars; `$${` stands for `${`.
//!
//! A variable that is set to nothing counts as unset: mostly it is a secret or a setting that got lost on its way. Who means the
//! empty text writes `${env:NAME:-}`.

use std::path::Path;

use super::{
    Need,
    codes::Code,
    problem::{Place, Report},
    yaml::{At, Data, Node},
};

/// Where the values come from.
pub struct Surroundings<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Paths of `${file:…}` are relative to this folder, the one of the configuration file.
    pub folder: &'a Path,
}

/// Puts values in for every `${…}` of a file; without need of the connections, what names an unset variable there stays.
pub fn fill_file(report: &mut Report, file: usize, tree: &mut Node, around: &Surroundings, need: Need) {
    let Data::Map(entries) = &mut tree.data else { return };
    for (key, value) in entries {
        let keep_unset = need == Need::Mappings && file == 0 && At { file, node: key }.key() == "connections";
        fill(report, file, value, around, keep_unset);
    }
}

/// Puts values in for every `${…}` of the values below `node`. With `keep_unset`, what names an unset variable stays as it stands.
fn fill(report: &mut Report, file: usize, node: &mut Node, around: &Surroundings, keep_unset: bool) {
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| fill(report, file, item, around, keep_unset)),
        Data::Map(entries) => entries.iter_mut().for_each(|(_, value)| fill(report, file, value, around, keep_unset)),
        Data::Scalar(scalar) if scalar.text.contains("${") => {
            let (filled, spelled) = fill_text(report, At { file, node }, around, keep_unset);
            if let Data::Scalar(scalar) = &mut node.data {
                scalar.text = filled;
                (scalar.filled, scalar.spelled) = (true, spelled);
            }
        }
        Data::Scalar(_) => {}
    }
}

/// The text, and whether some of it stands in the file itself.
fn fill_text(report: &mut Report, at: At, around: &Surroundings, keep_unset: bool) -> (String, bool) {
    let scalar = at.scalar().expect("called for scalars");
    let text = scalar.text.as_str();
    let source = report.files[at.file].clone();
    let place = |from: usize, to: usize| Place { file: at.file, at: scalar.trace(&source.text, &at.node.at, &(from..to)) };
    let (mut out, mut done, mut spelled) = (String::with_capacity(text.len()), 0, false);
    while let Some(open) = text[done..].find("${").map(|n| n + done) {
        if text[..open].ends_with('$') && open > done {
            out += &text[done..open - 1];
            out += "${";
            (done, spelled) = (open + 2, true);
            continue;
        }
        out += &text[done..open];
        spelled |= done < open;
        let Some(close) = text[open..].find('}').map(|n| n + open) else {
            report
                .error(Code::BadInterpolation, &place(open, text.len()), "a `${` that is not closed")
                .hint("close it with `}`; a literal `${` is written `$${`");
            return (text.to_string(), true);
        };
        let inside = &text[open + 2..close];
        let here = place(open, close + 1);
        let value = match inside.split_once(':') {
            Some(("env", rest)) => {
                let (name, default) = rest.split_once(":-").map_or((rest, None), |(name, default)| (name, Some(default)));
                let set = (around.env)(name);
                let empty = set.as_deref() == Some("");
                spelled |= default.is_some_and(|default| !default.is_empty());
                let value = set.filter(|_| !empty).or(default.map(str::to_string));
                if value.is_none() && !keep_unset {
                    let message = format!("the environment variable `{name}` is {}", if empty { "empty" } else { "not set" });
                    let or_empty = if empty { format!("; `${{env:{name}:-}}` takes the empty text") } else { String::new() };
                    let hint = format!("set it (`export {name}=…`), or give a default, unless it is a secret: `${{env:{name}:-…}}`{or_empty}");
                    report.error(Code::UnsetVariable, &here, message).hint(hint);
                }
                value
            }
            Some(("file", path)) => match std::fs::read_to_string(around.folder.join(path)) {
                Ok(content) => Some(content.trim_end_matches(['\r', '\n']).to_string()),
                Err(_) if keep_unset => None,
                Err(error) => {
                    report
                        .error(Code::BadInterpolation, &here, format!("cannot read `{path}`: {}", super::cause(&error)))
                        .hint("the path is relative to the folder of the configuration file");
                    None
                }
            },
            _ => {
                report
                    .error(Code::BadInterpolation, &here, format!("`${{{inside}}}` is not known"))
                    .hint("known are `${env:NAME}`, `${env:NAME:-default}` and `${file:path}`; a literal `${` is written `$${`");
                None
            }
        };
        out += value.as_deref().unwrap_or(&text[open..=close]);
        done = close + 1;
    }
    spelled |= done < text.len();
    (out + &text[done..], spelled)
}
