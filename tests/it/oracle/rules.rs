//! The rules that `dataflows/rules` states as tests hold, whatever the number of workers and processes.

use std::{fmt::Write as _, path::Path};

use tieout::{
    config::{self, Need},
    scenario,
};

#[test]
fn the_rules_hold() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/rules/config.yaml");
    let mut plan = config::load(&config, None, Need::Mappings).unwrap_or_else(|problems| panic!("{problems}"));
    let mut failed = String::new();
    for (processes, workers) in [(1, 1), (1, 3), (3, 1)] {
        plan.workers = workers;
        for test in &plan.tests {
            for unmet in scenario::run_test_over(&plan, test, processes) {
                let _ = writeln!(
                    failed,
                    "{}:{} ({}, {processes} processes, {workers} workers)\n  expected {:?}\n  but is   {:?}",
                    test.file.display(),
                    unmet.line,
                    test.name,
                    unmet.expected,
                    unmet.actual
                );
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(plan.tests.len() >= 49, "the rules are all there");
}
