//! `tieout test`: the tests inside the dataflow files.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use serde_json::{Map, Value as Json};

use super::{Fail, Files, count};
use crate::{
    config::Need,
    plan::{Expectation, Plan, TestCase},
    scenario::{self, Unmet},
};

/// Run the tests inside the dataflow files; no source system is needed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout test --config config.yaml
  tieout test --filter missing --junit report.xml
  tieout test --update                               what stands now is what is expected")]
pub struct Test {
    #[command(flatten)]
    files: Files,
    /// Only tests whose name has this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Rewrite the `expect` steps that do not hold with what stands
    #[arg(long)]
    update: bool,
    /// Worker threads that run each test
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
}

struct Ran<'a> {
    test: &'a TestCase,
    unmet: Vec<Unmet>,
    seconds: f64,
}

pub fn test(args: &Test, out: &mut impl Write) -> Result<(), Fail> {
    let mut plan = args.files.load(Need::Mappings)?;
    plan.workers = args.workers.clamp(1, 64);
    let mut results = Vec::new();
    for test in plan.tests.iter().filter(|t| args.filter.as_ref().is_none_or(|f| t.name.contains(f.as_str()))) {
        let began = Instant::now();
        let unmet = scenario::run_test(&plan, test);
        let seconds = began.elapsed().as_secs_f64();
        writeln!(out, "{} {} ({seconds:.2} s)", if unmet.is_empty() { "ok    " } else { "FAILED" }, title(test))?;
        results.push(Ran { test, unmet, seconds });
    }
    for result in &results {
        for unmet in &result.unmet {
            writeln!(out, "\n{}:{}: {}\n{}", result.test.file.display(), unmet.line, result.test.name, explained(&plan, unmet))?;
        }
    }
    if let Some(path) = &args.junit {
        fs::write(path, junit(&plan, &results)).map_err(|e| Fail::Usage(format!("{} can't be written: {e}; name a file that can be", path.display())))?;
    }
    let failed = results.iter().filter(|r| !r.unmet.is_empty()).count();
    writeln!(out, "\n{}, {failed} failed", count(results.len(), "test"))?;
    if failed > 0 && args.update {
        let changed = update(&plan, &results)?;
        writeln!(out, "{} rewritten; read the change before you keep it", count(changed, "expectation"))?;
        return Ok(());
    }
    if failed > 0 { Err(Fail::No) } else { Ok(()) }
}

fn title(test: &TestCase) -> String {
    format!("{}: {}", test.dataflow, test.name)
}

fn name(plan: &Plan, of: Expectation) -> &str {
    match of {
        Expectation::Target(id) => &plan.targets[id].name,
        Expectation::Comparison(id) => &plan.comparisons[id].name,
        Expectation::Rejects => "rejects",
    }
}

/// What was expected and what stands; of what stands only the fields that were named, where some were.
fn explained(plan: &Plan, unmet: &Unmet) -> String {
    let mut text = format!("  {} expected:\n", name(plan, unmet.of));
    lines(&mut text, &unmet.expected);
    text.push_str("  but what stands is:\n");
    lines(&mut text, &unmet.actual);
    text
}

fn lines(text: &mut String, rows: &[Map<String, Json>]) {
    if rows.is_empty() {
        text.push_str("    nothing\n");
    }
    for row in rows {
        let _ = writeln!(text, "    {}", flow(&Json::Object(row.clone())));
    }
}

/// JSON as YAML in flow style, with no more quotes than it needs.
fn flow(value: &Json) -> String {
    match value {
        Json::Object(map) if map.is_empty() => "{}".into(),
        Json::Object(map) => {
            format!("{{ {} }}", map.iter().map(|(k, v)| format!("{}: {}", flow(&Json::String(k.clone())), flow(v))).collect::<Vec<_>>().join(", "))
        }
        Json::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Can the text stand in YAML without quotes, and stay text?
fn plain(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || "_-. /".contains(c);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "~"].contains(&text.to_ascii_lowercase().as_str());
    !text.is_empty()
        && text.chars().all(word)
        && text.chars().any(char::is_alphabetic)
        && !text.starts_with(|c: char| !c.is_alphabetic())
        && text.trim() == text
        && !reserved
}

fn junit(plan: &Plan, results: &[Ran]) -> String {
    let failed = results.iter().filter(|r| !r.unmet.is_empty()).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failed}\">\n<testsuite name=\"tieout\" tests=\"{}\" failures=\"{failed}\">\n",
        results.len(),
        results.len()
    );
    for result in results {
        let _ = write!(
            xml,
            "<testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\">",
            escaped(&result.test.dataflow),
            escaped(&result.test.name),
            escaped(&result.test.file.display().to_string()),
            result.test.line,
            result.seconds
        );
        for unmet in &result.unmet {
            let _ = write!(xml, "\n<failure message=\"line {}\">{}</failure>\n", unmet.line, escaped(&explained(plan, unmet)));
        }
        xml.push_str("</testcase>\n");
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

fn escaped(text: &str) -> String {
    let keep = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().filter(|c| keep(*c)).collect::<String>().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Rewrites the blocks of expectations that do not hold, from the last line of each file to the first, so that lines keep
/// their numbers.
fn update(plan: &Plan, results: &[Ran]) -> Result<usize, Fail> {
    let mut by_file: BTreeMap<&Path, Vec<&Unmet>> = BTreeMap::new();
    for result in results {
        by_file.entry(&result.test.file).or_default().extend(&result.unmet);
    }
    let mut changed = 0;
    for (path, mut unmet) in by_file {
        unmet.sort_by_key(|u| std::cmp::Reverse(u.line));
        let text = fs::read_to_string(path)?;
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        for unmet in unmet {
            changed += usize::from(replace(&mut lines, unmet.line, name(plan, unmet.of), unmet));
        }
        let mut text = lines.join("\n");
        text.push('\n');
        fs::write(path, text)?;
    }
    Ok(changed)
}

/// Replaces the entry `name:` below the step that starts at `line` (from 1).
fn replace(lines: &mut Vec<String>, line: usize, name: &str, unmet: &Unmet) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_entry = |line: &str| line.trim_start().trim_start_matches("- ").starts_with(&format!("{name}:"));
    let step = line.saturating_sub(1);
    let Some(at) = (step..lines.len()).find(|l| is_entry(&lines[*l])) else { return false };
    let depth = indent(&lines[at]);
    let mut end = at + 1;
    while end < lines.len() && (lines[end].trim().is_empty() || indent(&lines[end]) > depth) {
        end += 1;
    }
    while end > at + 1 && lines[end - 1].trim().is_empty() {
        end -= 1;
    }
    // The fields that each expected row named stay the ones that are named; new rows name all.
    let named: Option<Vec<String>> = unmet.expected.first().map(|row| row.keys().cloned().collect());
    let rows = unmet.actual.iter().map(|row| {
        let kept: Map<String, Json> = row.iter().filter(|(k, _)| named.as_ref().is_none_or(|n| n.contains(k))).map(|(k, v)| (k.clone(), v.clone())).collect();
        format!("{}- {}", " ".repeat(depth + 2), flow(&Json::Object(kept)))
    });
    let head = format!("{}{name}:", " ".repeat(depth));
    let block: Vec<String> = if unmet.actual.is_empty() { vec![format!("{head} []")] } else { std::iter::once(head).chain(rows).collect() };
    lines.splice(at..end, block);
    true
}
