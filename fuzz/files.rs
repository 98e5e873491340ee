//! Bytes as a configuration and its dataflows, checked as `tieout check` checks files.

use tieout::config::{Need, check_texts};

/// What stands between the configuration and the dataflows: a comment, so that each part may be YAML.
const BETWEEN: &str = "\n#===\n";

/// Checks the parts; whatever they are, there is a plan, or there are problems that can be shown, and the same each time.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What lies about on the machine is no part of the input.
    if text.contains("${file:") {
        return;
    }
    let mut parts = text.split(BETWEEN);
    let config = parts.next().unwrap_or_default();
    let names: Vec<String> = parts.clone().enumerate().map(|(n, _)| format!("dataflows/{n}.yaml")).collect();
    let dataflows: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(parts).collect();
    let env = |name: &str| (name == "TIEOUT_DATA").then(|| "data".to_string());
    let mut shown = Vec::new();
    for need in [Need::Connections, Need::Mappings, Need::Connections] {
        let checked = check_texts(("config.yaml", config), &dataflows, &env, need);
        assert_eq!(checked.plan.is_none(), checked.problems.has_errors());
        for problem in checked.problems.list() {
            assert!(problem.line > 0 && problem.column > 0, "{problem:?}");
        }
        shown.push(checked.problems.render(false) + &checked.problems.json().to_string());
    }
    assert_eq!(shown[0], shown[2]);
}
