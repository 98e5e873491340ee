//! Expectations before and after `--update`, by running the tests of a small dataflow.

use crate::{
    cli::test::{rows::compared, update::rewritten},
    config::{self, Need},
    scenario,
};

const CONFIG: &str = "connections: { files: { kind: file, dir: . } }\n";
const HEAD: &str = "\
dataflow: people
sources:
  person: { connection: files, files: [p.ndjson], format: debezium-json, key: [id], columns: { id: int, name: varchar } }
  copy: { connection: files, files: [c.ndjson], format: debezium-json, key: [id], columns: { id: int, name: varchar } }
targets:
  people:
    key: [id]
    from: person
    fields: { id: id, name: upper(name) }
comparisons:
  copied: { expected: people, actual: copy }
tests:
  - name: a
    steps:
      - feed:
          person: [{ op: c, after: { id: 1, name: Ann } }, { op: c, after: { id: 2, name: Bob } }]
";

/// The steps after `--update`, and what was said about the first that failed.
fn updated(steps: &str) -> (String, String) {
    let mut text = format!("{HEAD}{steps}");
    let mut said = String::new();
    // Steps in flow style are rewritten with all that they expect, one expectation a time.
    for _ in 0..5 {
        let plan = config::load_texts(("config.yaml", CONFIG), &[("people.yaml", &text)], &|_| None, Need::Mappings).unwrap_or_else(|p| panic!("{p}"));
        let mut unmet = scenario::run_test(&plan, &plan.tests[0]);
        let Some(first) = unmet.first() else { break };
        if said.is_empty() {
            said = compared(&plan, first);
        }
        unmet.sort_by_key(|u| std::cmp::Reverse(u.line));
        for unmet in &unmet {
            text = rewritten(&text, &plan, unmet).expect("the expectation is found");
        }
    }
    (text.strip_prefix(HEAD).expect("the rest of the file stays").to_string(), said)
}

#[test]
fn what_holds_keeps_its_line_and_comments() {
    let (text, said) = updated(
        "      - expect:   # all of them\n          people:   # in capitals\n            # the first\n            - {id: 1,   name: ANN}  # kept\n            - { id: 2, name: Bob }\n          rejects: [ ]\n\n      - advance: 1s\n",
    );
    assert_eq!(
        text,
        "      - expect:   # all of them\n          people:   # in capitals\n            # the first\n            - {id: 1,   name: ANN}  # kept\n            - { id: 2, name: BOB }\n          rejects: [ ]\n\n      - advance: 1s\n"
    );
    assert_eq!(said, "  people (- expected, + stands)\n    { id: 1, name: ANN }\n  - { id: 2, name: Bob }\n  + { id: 2, name: BOB }\n");
}

#[test]
fn rows_come_and_go() {
    let (text, _) = updated("      - expect:\n          people:\n          - { id: 9, name: EVE }\n          - { name: ANN }\n          copied: []\n");
    assert_eq!(
        text,
        "      - expect:\n          people:\n          - { name: ANN }\n          - { id: 2, name: BOB }\n          copied:\n            - { key: \"1\", kind: missing, state: in_flight }\n            - { key: \"2\", kind: missing, state: in_flight }\n"
    );
    let (text, _) = updated("      - expect:\n          rejects: [{ source: person }]\n          people: [{}, {}]\n");
    assert_eq!(text, "      - expect:\n          rejects: []\n          people: [{}, {}]\n");
}

#[test]
fn flow_style_stays() {
    let (text, _) = updated("      - expect: { people: [], rejects: [] }  # here\n      - advance: 1s");
    assert_eq!(text, "      - expect: { people: [{ id: 1, name: ANN }, { id: 2, name: BOB }], rejects: [] }  # here\n      - advance: 1s");
    let (text, _) = updated(
        "      - expect: { people: [ {id: 7, name: Z}, { id: 1, name: \"x\" }, # one\n        {id: 8, name: y}, {id: 9} ], rejects: [{code: NULL_VALUE}] }\n",
    );
    assert_eq!(text, "      - expect: { people: [ { id: 1, name: ANN }, { id: 2, name: BOB } ], rejects: [] }\n");
}

#[test]
fn only_the_values_that_changed_are_written() {
    let (text, _) = updated(
        "      - expect:\n          people:  # two\n            - id: 1   # Ann\n              name: \"x\"  # in capitals\n            - {name: '${env:LACKING:-BO}', id: \"${env:LACKING:-2}\"}  # Bob\n          rejects: []   # none\n",
    );
    assert_eq!(
        text,
        "      - expect:\n          people:  # two\n            - id: 1   # Ann\n              name: ANN  # in capitals\n            - {name: BOB, id: \"${env:LACKING:-2}\"}  # Bob\n          rejects: []   # none\n"
    );
    let (text, _) = updated("      - expect:\n          rejects:  # hm\n            - { source: person }\n            # the end\n          people: [{}, {}]\n");
    assert_eq!(text, "      - expect:\n          rejects: []  # hm\n            # the end\n          people: [{}, {}]\n");
}

/// What is written is a dataflow again, whatever stands: `updated` loads it.
#[test]
fn values_that_look_like_something_else() {
    let feed = "      - feed: { person: [{ op: c, after: { id: 3, name: '$${a} \"b\": #c' } }, { op: c, after: { id: 4, name: 'null' } }, { op: c, after: { id: 5, name: null } }] }\n";
    let (text, _) = updated(&format!("{feed}      - expect:\n          people: []\n"));
    let rows = text.split("people:\n").nth(1).unwrap();
    assert!(rows.contains(r##"- { id: 3, name: "$${A} \"B\": #C" }"##), "{rows}");
    assert!(rows.contains("- { id: 4, name: \"NULL\" }") && rows.contains("- { id: 5, name: null }"), "{rows}");
}

#[test]
fn ends_of_lines_stay_what_they_are() {
    let (text, _) = updated("      - expect:\r\n          people:\r\n            - { id: 1, name: x }\r\n            - { id: 2, name: BOB }");
    assert_eq!(text, "      - expect:\r\n          people:\r\n            - { id: 1, name: ANN }\r\n            - { id: 2, name: BOB }");
}

#[test]
fn differences_by_field() {
    let feed = "      - feed: { copy: [{ op: c, after: { id: 1, name: ANN } }, { op: c, after: { id: 2, name: Bo } }] }\n";
    let (text, said) = updated(&format!("{feed}      - expect:\n          copied: [{{ key: 2, field: name, expected: BOB, actual: Bo }}]\n"));
    assert_eq!((text.lines().count(), said.as_str()), (3, ""));
    let (text, _) = updated(&format!("{feed}      - expect:\n          copied: []\n"));
    assert!(
        text.ends_with("copied:\n            - { key: \"2\", kind: mismatched, state: undetermined, fields: { name: { expected: BOB, actual: Bo } } }\n")
            || text.contains("state: in_flight, fields: { name: { expected: BOB, actual: Bo } } }"),
        "{text}"
    );
}
