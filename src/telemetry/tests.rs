//! The page of metrics is one that Prometheus takes.

use super::*;

#[test]
fn the_reference_has_a_line_for_every_metric() {
    let reference = reference();
    for metric in METRICS {
        assert!(reference.contains(&format!("| `{}` |", metric.name)), "{} is lacking", metric.name);
        assert!(metric.help.ends_with('.'), "the help of {} is no sentence", metric.name);
        assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
    }
}
