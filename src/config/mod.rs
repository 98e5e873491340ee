//! The configuration: YAML in, a plan out, or every problem of all files at once.
//!
//! ```text
//!  file ─▶ yaml ─▶ fill ─▶ check (against shape) ─▶ resolve ─▶ Plan
//!         tree     ${…}    keys and forms            names, types, SQL
//!            └────────┴──────────┴──────────────────────┴─▶ Problems
//! ```
//!
//! [`shape`] declares the format; the check, the JSON Schemas and the reference follow from it.

mod check;
mod cluster;
pub mod codes;
mod fill;
mod names;
pub mod problem;
mod reference;
mod resolve;
mod schema;
pub mod shape;
pub mod size;
pub mod span;
pub(crate) mod yaml;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use cluster::{cluster_text, load_cluster};
pub use problem::{Problem, Problems, Severity};
pub use reference::reference;
pub use schema::{Kind, schema};

use crate::plan::Plan;
use problem::{File, Place, Report};
use yaml::At;

/// What a command needs to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything (`run`, `check`).
    Connections,
    /// The mappings only (`test`, `graph`): a variable that is not set in `connections` is left as it stands.
    Mappings,
}

/// What became of the files: a plan if there are no errors, and all problems, warnings among them.
#[derive(Debug)]
pub struct Checked {
    pub plan: Option<Plan>,
    pub problems: Problems,
}

/// Loads a configuration and its dataflows: all `*.yaml` and `*.yml` of the folder `dataflows` (default: the folder of that
/// name beside the configuration file). Warnings are dropped; [`check`] keeps them.
///
/// # Errors
/// Every problem of every file.
pub fn load(config: &Path, dataflows: Option<&Path>, need: Need) -> Result<Plan, Problems> {
    into_result(check(config, dataflows, need))
}

/// As [`load`], from texts: `(name, text)` of the configuration and of each dataflow.
///
/// # Errors
/// Every problem of every text.
pub fn load_texts(config: (&str, &str), dataflows: &[(&str, &str)], env: &dyn Fn(&str) -> Option<String>, need: Need) -> Result<Plan, Problems> {
    into_result(check_texts(config, dataflows, env, need))
}

fn into_result(checked: Checked) -> Result<Plan, Problems> {
    checked.plan.ok_or(checked.problems)
}

/// As [`load`], with the warnings.
pub fn check(config: &Path, dataflows: Option<&Path>, need: Need) -> Checked {
    let mut report = Report::default();
    let beside = config.parent().unwrap_or(Path::new("")).join("dataflows");
    let folder = dataflows.unwrap_or(&beside);
    read(&mut report, config);
    match list(folder) {
        Ok(paths) if paths.is_empty() => unreadable(&mut report, folder, "there is no `*.yaml` in it"),
        Ok(paths) => paths.iter().for_each(|path| read(&mut report, path)),
        // A configuration that is not there has no folder beside it either: one mistake, one problem.
        Err(_) if dataflows.is_none() && !config.exists() => {}
        Err(error) => unreadable(&mut report, folder, &cause(&error)),
    }
    check_report(report, &|name| std::env::var(name).ok(), need)
}

/// As [`check`], from texts.
pub fn check_texts(config: (&str, &str), dataflows: &[(&str, &str)], env: &dyn Fn(&str) -> Option<String>, need: Need) -> Checked {
    let files = std::iter::once(&config).chain(dataflows);
    let files = files.map(|(name, text)| Arc::new(File { name: (*name).to_string(), text: (*text).to_string() })).collect();
    check_report(Report::of(files), env, need)
}

/// The first file of the report is the configuration. Files that could not be read have their problem already.
fn check_report(mut report: Report, env: &dyn Fn(&str) -> Option<String>, need: Need) -> Checked {
    let folder = Path::new(&report.files[0].name).parent().unwrap_or(Path::new("")).to_path_buf();
    let around = fill::Surroundings { env, folder: &folder };
    let unread = report.broken_files();
    let mut trees = Vec::new();
    for file in 0..report.files.len() {
        let tree = if unread.contains(&file) { None } else { yaml::parse(&mut report, file) };
        let Some(mut tree) = tree else {
            trees.push(None);
            continue;
        };
        fill::fill_file(&mut report, file, &mut tree, &around, need);
        check::check(&mut report, At { file, node: &tree }, if file == 0 { &shape::CONFIG } else { &shape::DATAFLOW });
        trees.push(Some(tree));
    }
    let plan = resolve::resolve(&mut report, &trees, need);
    let plan = if report.has_errors() { None } else { Some(plan) };
    Checked { plan, problems: report.finish() }
}

/// Adds a file to the report, with a problem if it cannot be read.
fn read(report: &mut Report, path: &Path) {
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => report.files.push(Arc::new(File { name: path.display().to_string(), text })),
        Ok(Err(error)) => {
            let at = error.utf8_error().valid_up_to();
            // Up to there the text is as it stands in the file, so that the place is right.
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            report.files.push(Arc::new(File { name: path.display().to_string(), text }));
            let place = Place { file: report.files.len() - 1, at: at..at + char::REPLACEMENT_CHARACTER.len_utf8() };
            report.error(codes::Code::Unreadable, &place, format!("cannot read `{}`: byte {at} is not UTF-8", path.display())).hint("save the file as UTF-8");
        }
        Err(error) => unreadable(report, path, &cause(&error)),
    }
}

fn unreadable(report: &mut Report, path: &Path, why: &str) {
    report.files.push(Arc::new(File { name: path.display().to_string(), text: String::new() }));
    let place = Place { file: report.files.len() - 1, at: 0..0 };
    report
        .error(codes::Code::Unreadable, &place, format!("cannot read `{}`: {why}", path.display()))
        .hint("`--config FILE` names the configuration, `--dataflows DIR` the folder of dataflows (default: `dataflows/` beside it)");
}

/// The dataflow files of a folder, by name.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// An I/O error without its number.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or folder".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
