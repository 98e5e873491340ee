//! Problems: what is wrong with the files, where, and what to do about it.
//!
//! A [`Report`] collects them while the files are read; it ends as [`Problems`], which prints them for people
//! (the text marked, as compilers do) and for tools (JSON). It knows nothing of the format.

use std::{collections::HashSet, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::Serialize;

use super::codes::Code;

/// A file as it was read, under the name to show.
#[derive(Debug)]
pub struct File {
    pub name: String,
    pub text: String,
}

/// A range of bytes in one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: usize,
    pub at: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration does not hold.
    Error,
    /// It holds, and is probably not what was meant.
    Warning,
}

/// Another place that belongs to a problem, such as the first of two equal names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Also {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// What stands there.
    pub message: String,
    #[serde(skip)]
    place: Place,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub code: &'static str,
    pub severity: Severity,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The text that is meant.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What to do, with the known alternatives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also: Option<Also>,
    #[serde(skip)]
    place: Place,
}

impl Problem {
    /// Adds what to do.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The problems of all files so far.
#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<Arc<File>>,
    list: Vec<Problem>,
}

impl Report {
    pub fn of(files: Vec<Arc<File>>) -> Report {
        Report { files, list: Vec::new() }
    }

    /// Blots out a part of a file, before a line with it is shown.
    pub fn blot_out(&mut self, place: &Place) {
        let file = &self.files[place.file];
        let mut text = file.text.clone().into_bytes();
        text.get_mut(place.at.clone()).into_iter().flatten().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
        self.files[place.file] = Arc::new(File { name: file.name.clone(), text: String::from_utf8_lossy(&text).into_owned() });
    }

    /// Adds an error, and gives it for more to be said.
    pub fn error(&mut self, code: Code, place: &Place, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, code, place, message.into())
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: Code, place: &Place, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, code, place, message.into())
    }

    /// Adds an error that concerns two places.
    pub fn error_of_two(&mut self, code: Code, place: &Place, message: impl Into<String>, other: &Place, label: &str) -> &mut Problem {
        let (line, column) = self.line_column(other);
        let also = Also { file: self.files[other.file].name.clone(), line, column, message: label.to_string(), place: other.clone() };
        let problem = self.error(code, place, message);
        problem.also = Some(also);
        problem
    }

    fn push(&mut self, severity: Severity, code: Code, place: &Place, message: String) -> &mut Problem {
        let file = &self.files[place.file];
        let (line, column) = self.line_column(place);
        let text = file.text.get(place.at.clone()).unwrap_or_default();
        let text = if text.chars().count() > 120 { text.chars().take(117).chain("...".chars()).collect() } else { text.to_string() };
        self.list.push(Problem {
            code: code.name(),
            severity,
            file: file.name.clone(),
            line,
            column,
            text,
            message,
            hint: None,
            also: None,
            place: place.clone(),
        });
        self.list.last_mut().expect("just pushed")
    }

    /// The newest problem.
    pub fn last(&mut self) -> &mut Problem {
        self.list.last_mut().expect("there is a problem")
    }

    fn line_column(&self, place: &Place) -> (usize, usize) {
        line_column(&self.files[place.file].text, place.at.start)
    }

    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|p| p.severity == Severity::Error).count()
    }

    /// The files that have an error so far.
    pub fn broken_files(&self) -> HashSet<usize> {
        self.list.iter().filter(|p| p.severity == Severity::Error).map(|p| p.place.file).collect()
    }

    /// Sorted by file (the configuration first, then the dataflows by name), line and column.
    pub fn finish(self) -> Problems {
        let mut list = self.list;
        list.sort_by_key(|p| (p.place.file, p.place.at.start, p.place.at.end));
        list.dedup();
        Problems { files: self.files, list }
    }
}

/// Line and column (from 1, in characters) of a byte of a text.
pub fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

/// All problems of a configuration.
#[derive(Debug, Default)]
pub struct Problems {
    files: Vec<Arc<File>>,
    list: Vec<Problem>,
}

impl Problems {
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// These, and those of other files.
    pub fn and(mut self, mut others: Problems) -> Problems {
        for problem in &mut others.list {
            problem.place.file += self.files.len();
            if let Some(also) = &mut problem.also {
                also.place.file += self.files.len();
            }
        }
        self.files.append(&mut others.files);
        self.list.append(&mut others.list);
        self
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// For people: each problem with its line and the marked text, then how many there are.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled().decor_style(DecorStyle::Unicode) } else { Renderer::plain().decor_style(DecorStyle::Ascii) };
        let mut out = String::new();
        for problem in &self.list {
            out += &self.render_one(&renderer, problem);
            out += "\n\n";
        }
        out += &self.summary();
        out.push('\n');
        out
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let file = |place: &Place| {
            let file = &self.files[place.file];
            Snippet::source(file.text.clone()).path(file.name.clone())
        };
        let mark = |place: &Place, kind: AnnotationKind| kind.span(visible(&self.files[place.file].text, &place.at));
        let primary = mark(&problem.place, AnnotationKind::Primary);
        let title = level.primary_title(problem.message.as_str()).id(problem.code);
        let mut group = match &problem.also {
            None => title.element(file(&problem.place).annotation(primary)),
            Some(also) => {
                let context = mark(&also.place, AnnotationKind::Context).label(also.message.clone());
                if also.place.file == problem.place.file {
                    title.element(file(&problem.place).annotations([primary, context]))
                } else {
                    title.element(file(&problem.place).annotation(primary)).element(file(&also.place).annotation(context))
                }
            }
        };
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// `3 problems in 2 files`.
    pub fn summary(&self) -> String {
        let mut files: Vec<_> = self.list.iter().map(|p| &p.file).collect();
        files.sort_unstable();
        files.dedup();
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let errors = self.list.iter().filter(|p| p.severity == Severity::Error).count();
        let warnings = self.list.len() - errors;
        let what = match (errors, warnings) {
            (0, 0) => return "no problems".into(),
            (_, 0) => count(errors, "problem"),
            (0, _) => count(warnings, "warning"),
            _ => format!("{} and {}", count(errors, "problem"), count(warnings, "warning")),
        };
        format!("{what} in {}", count(files.len(), "file"))
    }

    /// For tools: `{"problems": […]}`, lines and columns from 1, columns in characters.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "problems": self.list })
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// A range of several lines is marked on its first line only, and an empty one on one character, so that the eye finds it.
fn visible(text: &str, at: &Range<usize>) -> Range<usize> {
    let start = at.start.min(text.len());
    let end = at.end.clamp(start, text.len());
    let first = text[start..end].split('\n').next().unwrap_or_default();
    let end = start + first.trim_end().len();
    if end == start { start..text[start..].chars().next().filter(|c| *c != '\n').map_or(start, |c| start + c.len_utf8()) } else { start..end }
}
