//! `tieout test`: the tests inside the dataflow files. `rows` shows what was expected beside what stands, `update` writes it
//! into the file.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;

use super::{Fail, Files, count};
use crate::{
    config::Need,
    plan::{Plan, TestCase},
    scenario::{self, Unmet},
};

mod rows;
mod update;

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
    let chosen: Vec<&TestCase> = plan.tests.iter().filter(|t| args.filter.as_ref().is_none_or(|f| t.name.contains(f.as_str()))).collect();
    if let (Some(filter), []) = (&args.filter, &chosen[..]) {
        let names: Vec<String> = plan.tests.iter().map(|t| format!("\n  {}", t.name)).collect();
        return Err(Fail::Usage(format!(
            "no test has `{filter}` in its name; the tests are:{}",
            if names.is_empty() { " none".into() } else { names.concat() }
        )));
    }
    let mut results = Vec::new();
    for test in chosen {
        let began = Instant::now();
        let unmet = scenario::run_test(&plan, test);
        let seconds = began.elapsed().as_secs_f64();
        writeln!(out, "{} {} ({seconds:.2} s)", if unmet.is_empty() { "ok    " } else { "FAILED" }, title(test))?;
        results.push(Ran { test, unmet, seconds });
    }
    for result in &results {
        for unmet in &result.unmet {
            write!(out, "\n{}:{}: {}\n{}", result.test.file.display(), unmet.line, result.test.name, rows::compared(&plan, unmet))?;
        }
    }
    if let Some(path) = &args.junit {
        fs::write(path, junit(&plan, &results)).map_err(|e| Fail::Usage(format!("{} can't be written: {e}; name a file that can be", path.display())))?;
    }
    let failed = results.iter().filter(|r| !r.unmet.is_empty()).count();
    writeln!(out, "\n{}, {failed} failed", count(results.len(), "test"))?;
    if failed > 0 && args.update {
        let (changed, missed) = update(&plan, &results)?;
        writeln!(out, "{} rewritten; read the change before you keep it", count(changed, "expectation"))?;
        for place in &missed {
            writeln!(out, "{place} is written in a way that can't be rewritten; change it by hand")?;
        }
        return if missed.is_empty() { Ok(()) } else { Err(Fail::No) };
    }
    if failed > 0 { Err(Fail::No) } else { Ok(()) }
}

fn title(test: &TestCase) -> String {
    format!("{}: {}", test.dataflow, test.name)
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
        // A test case has one failure at most: readers of reports take the first, or refuse the file.
        if !result.unmet.is_empty() {
            let lines: Vec<String> = result.unmet.iter().map(|unmet| unmet.line.to_string()).collect();
            let texts: Vec<String> = result.unmet.iter().map(|unmet| format!("line {}:\n{}", unmet.line, rows::compared(plan, unmet))).collect();
            let lines = if lines.len() == 1 { format!("line {}", lines[0]) } else { format!("lines {}", lines.join(", ")) };
            let _ = write!(xml, "\n<failure message=\"{lines}\">{}</failure>\n", escaped(&texts.join("\n")));
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

/// Rewrites the expectations that do not hold; how many, and the places of those that could not be found in their file.
fn update(plan: &Plan, results: &[Ran]) -> Result<(usize, Vec<String>), Fail> {
    let mut by_file: BTreeMap<&Path, Vec<&Unmet>> = BTreeMap::new();
    for result in results {
        by_file.entry(&result.test.file).or_default().extend(&result.unmet);
    }
    let (mut changed, mut missed) = (0, Vec::new());
    for (path, mut unmet) in by_file {
        // From the last line to the first, so that lines keep their numbers.
        unmet.sort_by_key(|u| std::cmp::Reverse(u.line));
        let unreachable = |e: std::io::Error| Fail::Usage(format!("{} can't be rewritten: {e}; check who may write it", path.display()));
        let mut text = fs::read_to_string(path).map_err(unreachable)?;
        for unmet in unmet {
            match update::rewritten(&text, plan, unmet) {
                Some(new) => {
                    text = new;
                    changed += 1;
                }
                None => missed.push(format!("{}:{}: `{}`", path.display(), unmet.line, rows::name(plan, unmet.of))),
            }
        }
        fs::write(path, text).map_err(unreachable)?;
    }
    Ok((changed, missed))
}
