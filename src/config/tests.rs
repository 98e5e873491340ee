//! The files of the contract load, and mean what they say.

mod broken;
mod fuzz;

use super::*;
use crate::plan::{Action, ConnectionKind, FieldValue, Mapping, NullPolicy, TableRef};

const CONFIG: &str = "connections:\n  crm: { kind: file, dir: \"${env:DATA}\" }\n  bus: { kind: kafka, brokers: b }\n";

fn env(name: &str) -> Option<String> {
    (name == "DATA").then(|| "data".to_string())
}

fn load_one(dataflow: &str) -> Plan {
    load_texts(("config.yaml", CONFIG), &[("dataflows/a.yaml", dataflow)], &env, Need::Connections).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems_of(dataflow: &str) -> String {
    check_texts(("config.yaml", CONFIG), &[("dataflows/a.yaml", dataflow)], &env, Need::Connections).problems.render(false)
}

/// A file that cannot be read hides nothing of the others.
#[test]
fn files_that_cannot_be_read_are_problems_beside_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (config, folder) = (dir.path().join("config.yaml"), dir.path().join("dataflows"));
    let said = |config: &Path| {
        let problems = check(config, None, Need::Mappings).problems;
        problems.list().iter().map(|p| format!("{} {}:{} {}", p.file.rsplit('/').next().unwrap(), p.line, p.column, p.code)).collect::<Vec<_>>()
    };
    assert_eq!(said(&config), ["config.yaml 1:1 unreadable"]);
    std::fs::write(&config, b"workers: many\n# caf\xe9\n").unwrap();
    assert_eq!(said(&config), ["config.yaml 2:6 unreadable", "dataflows 1:1 unreadable"]);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&config, CONFIG.replace("kafka", "kafak")).unwrap();
    assert_eq!(said(&config), ["config.yaml 3:16 bad-value", "dataflows 1:1 unreadable"]);
    std::fs::write(folder.join("a.yaml"), b"dataflow: a\nowner: Jos\xe9\ntests: 1\n").unwrap();
    std::fs::write(folder.join("b.yaml"), "dataflow: b\nsuorces: {}\ncomparisons: { c: { expected: of_a, actual: of_a } }\n").unwrap();
    // What `a.yaml` declares is not known.
    assert_eq!(said(&config), ["config.yaml 3:16 bad-value", "a.yaml 2:11 unreadable", "b.yaml 2:1 unknown-key"]);
}

const ORDERS: &str = include_str!("../../tests/contract/orders/dataflows/orders.yaml");

#[test]
fn the_orders_contract_loads() {
    let config = include_str!("../../tests/contract/orders/config.yaml");
    let env = |name: &str| (name == "TIEOUT_DATA").then(|| "data".to_string());
    let checked = check_texts(("config.yaml", config), &[("dataflows/orders.yaml", ORDERS)], &env, Need::Connections);
    assert!(checked.problems.is_empty(), "{}", checked.problems);
    let plan = checked.plan.unwrap();
    assert_eq!((plan.workers, plan.tick.as_millis(), plan.sources.len(), plan.targets.len()), (2, 50, 2, 1));
    let target = &plan.targets[0];
    let Mapping::Fields(mapping) = &target.mapping else { panic!("row by row") };
    assert_eq!(mapping.from, TableRef::Source(0));
    assert!(matches!(mapping.fields[1].value, FieldValue::Column(1)));
    assert!(matches!(&mapping.fields[2].value, FieldValue::Case { when, .. } if when.len() == 4));
    assert_eq!(mapping.fields[4].on_null, NullPolicy::Default(crate::row::Value::Text("EUR".into())));
    assert_eq!(mapping.require, [1, 3]);
    let comparison = &plan.comparisons[0];
    assert_eq!(comparison.key[0].name, "order_id");
    assert_eq!(comparison.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["customer", "status", "amount", "currency", "closed_on", "owner"]);
    let Action::Feed(feed) = &plan.tests[0].steps[0].action else { panic!("a feed") };
    assert_eq!(feed[0].1[0], r#"{"op":"c","after":{"id":1,"account_id":7,"owner":"Ann","amount":"10.50","currency":null,"stage":"Closed Won"}}"#);
    assert_eq!(plan.tests[0].steps[0].line, 63);
}

#[test]
fn the_stand_contract_loads() {
    let config = include_str!("../../tests/contract/stand/config.yaml");
    let dataflow = include_str!("../../tests/contract/stand/dataflows/invoices.yaml");
    let env = |name: &str| (name == "KAFKA_BOOTSTRAP").then(|| "localhost:9092".to_string());
    let plan = load_texts(("config.yaml", config), &[("dataflows/invoices.yaml", dataflow)], &env, Need::Connections).unwrap();
    assert!(matches!(&plan.connections[0].kind, ConnectionKind::Kafka { brokers, .. } if brokers == "localhost:9092"));
    assert_eq!(plan.outputs.len(), 2);
}

#[test]
fn the_revenue_contract_loads() {
    let config = include_str!("../../tests/contract/revenue/config.yaml");
    let dataflow = include_str!("../../tests/contract/revenue/dataflows/revenue.yaml");
    // The order of declaration does not matter.
    let (head, tail) = dataflow.split_once("  won_deal:\n").unwrap();
    let (won, rest) = tail.split_once("  expected_revenue:\n").unwrap();
    let (others, comparisons) = rest.split_once("\ncomparisons:").unwrap();
    let shuffled = format!("{head}  expected_revenue:\n{others}\n  won_deal:\n{won}\ncomparisons:{comparisons}");
    for text in [dataflow, &shuffled] {
        let load = |need| check_texts(("config.yaml", config), &[("dataflows/revenue.yaml", text)], &|_| None, need);
        let checked = load(Need::Mappings);
        assert!(checked.problems.is_empty(), "{}", checked.problems);
        let plan = checked.plan.unwrap();
        let place = |name: &str| plan.targets.iter().position(|t| t.name == name).unwrap();
        assert!(place("won_deal") < place("expected_revenue"));
        let target = &plan.targets[place("expected_revenue")];
        assert_eq!(target.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["region", "currency", "revenue", "orders", "largest"]);
        let Mapping::Sql(sql) = &target.mapping else { panic!("a query") };
        assert_eq!(sql.inputs, [TableRef::Target(place("won_deal"))]);
        assert_eq!(plan.comparisons[0].grace.as_secs(), 300);
        assert_eq!(plan.comparisons[0].key.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["region", "currency"]);
    }
}

#[test]
fn tests_need_no_connections() {
    let config = include_str!("../../tests/contract/orders/config.yaml");
    let load = |need| load_texts(("config.yaml", config), &[("dataflows/orders.yaml", ORDERS)], &|_| None, need);
    assert!(load(Need::Mappings).is_ok());
    let problems = load(Need::Connections).unwrap_err();
    assert_eq!(
        problems.list().iter().map(|p| (p.code, p.line, p.text.as_str())).collect::<Vec<_>>(),
        [("unset-variable", 8, "${env:TIEOUT_DATA}"), ("unset-variable", 9, "${env:TIEOUT_DATA}")]
    );
}

#[test]
fn a_default_stands_in_for_null_unless_on_null_says_otherwise() {
    let rule = |policies: &str| {
        let text = format!(
            "dataflow: a\nsources:\n  s: {{ connection: crm, files: [f], format: debezium-json, key: [id], columns: {{ id: int, a: varchar }} }}\ntargets:\n  t:\n    key: [id]\n    from: s\n    fields: {{ id: id, a: {{ value: a, default: x, {policies} }} }}\n"
        );
        let Mapping::Fields(mapping) = load_one(&text).targets.remove(0).mapping else { panic!("row by row") };
        let field = mapping.fields[1].clone();
        (field.on_null, field.on_empty)
    };
    let default = NullPolicy::Default(crate::row::Value::Text("x".into()));
    assert_eq!(rule("tags: []"), (default.clone(), None));
    assert_eq!(rule("on_empty: default"), (default.clone(), Some(default.clone())));
    assert_eq!(rule("on_empty: default, on_null: pass"), (NullPolicy::Pass, Some(default)));
}

#[test]
fn an_empty_variable_is_not_set() {
    let env = |name: &str| (name == "EMPTY").then(String::new);
    let said = |value: &str| {
        let config =
            format!("connections: {{ bus: {{ kind: kafka, brokers: b, properties: {{ security.protocol: sasl_ssl, sasl.password: \"{value}\" }} }} }}");
        let checked = check_texts(("config.yaml", &config), &[("a.yaml", "dataflow: a")], &env, Need::Connections);
        checked.problems.list().iter().map(|p| p.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(said("${env:EMPTY}"), ["the environment variable `EMPTY` is empty"]);
    assert_eq!(said("${env:LACKING}"), ["the environment variable `LACKING` is not set"]);
    assert_eq!(said("${env:EMPTY:-x}"), ["a secret stands in the file itself, where everybody can read it"]);
    for good in ["${env:EMPTY:-}", "${env:LACKING:-}"] {
        assert!(said(good).is_empty(), "{good}");
    }
}

#[test]
fn the_version_is_the_meaning() {
    let version = |text: &str| load_one(text).targets[0].version.clone();
    let base = "dataflow: a\nsources:\n  s: { connection: crm, files: [f], format: debezium-json, key: [id], columns: { id: int, a: varchar, b: int } }\ntargets:\n  t:\n    key: [id]\n    from: s\n";
    let one = version(&format!("{base}    fields: {{ id: id, a: lower(a), b: b }}\n"));
    let laid_out =
        version(&format!("{base}    # a comment\n    comment: for people\n    fields:\n      b: {{ value: b }}\n      a: |\n        lower(a)\n      id: id\n"));
    assert_eq!(one, laid_out);
    assert_eq!(one.len(), 16);
    assert_ne!(one, version(&format!("{base}    fields: {{ id: id, a: upper(a), b: b }}\n")));
    assert_ne!(one, version(&format!("{base}    fields: {{ id: id, a: lower(a), b: {{ value: b, default: 0 }} }}\n")));
}

#[test]
fn problems_point_into_block_scalars() {
    let text = "dataflow: a\nsources:\n  s: { connection: crm, files: [f], format: debezium-json, key: [id], columns: { id: int, a: varchar } }\ntargets:\n  t:\n    key: [id]\n    from: s\n    where: >\n      id > 0\n      and nosuch > 1\n    fields: { id: id }\n";
    let rendered = problems_of(text);
    assert!(rendered.contains("a.yaml:10:11"), "{rendered}");
}

/// A file that is written by the code: equal, or written again with `TIEOUT_WRITE=1`.
fn assert_written(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("TIEOUT_WRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is out of date: run `TIEOUT_WRITE=1 cargo test --lib config`", path.display());
}

#[test]
fn the_reference_and_the_schemas_are_up_to_date() {
    assert_written("docs/reference/settings.md", &reference());
    for (name, kind) in Kind::ALL {
        assert_written(&format!("docs/reference/{name}.schema.json"), &format!("{:#}\n", schema(kind)));
    }
}

#[test]
fn the_default_configuration_has_every_setting() {
    let text = include_str!("../../config/default.yaml");
    let dataflow = ORDERS.replace("connection: crm", "connection: files").replace("connection: erp", "connection: files");
    let load =
        |text: &str| load_texts(("config.yaml", text), &[("orders.yaml", &dataflow)], &env, Need::Connections).unwrap_or_else(|problems| panic!("{problems}"));
    let (full, bare) = (load(text), load("connections: { files: { kind: file, dir: d } }"));
    assert_eq!((full.data_dir, full.workers, full.tick, full.listen), (bare.data_dir, bare.workers, bare.tick, bare.listen));
    for object in shape::objects().into_iter().filter(|o| ["config", "http", "connection"].contains(&o.name)) {
        for key in object.keys {
            assert!(
                text.lines().any(|line| line.trim_start().trim_start_matches('#').starts_with(&format!("{}:", key.name))),
                "config/default.yaml lacks `{}`",
                key.name
            );
        }
    }
}

#[test]
fn codes_are_listed_once() {
    let mut names: Vec<&str> = codes::CODES.iter().map(|(_, name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), codes::CODES.len());
    assert_eq!(codes::Code::Unused as usize + 1, codes::CODES.len(), "every code is in the list");
}

#[test]
fn bytes_are_spelled_as_wire_says_and_else_as_the_format_does() {
    for (format, wire, hex) in [
        ("debezium-json", "", false),
        ("debezium-json", "wire: { binary: hex }", true),
        ("upsert-json", "", true),
        ("upsert-json", "wire: { times: connect }", true),
        ("upsert-json", "wire: { binary: base64 }", false),
        ("json", "", true),
        ("json", "wire: { binary: base64 }", false),
    ] {
        let flow = format!(
            "dataflow: d\nsources:\n  s:\n    connection: bus\n    topic: t\n    format: {format}\n    key: [id]\n    columns: {{ id: int, raw: bytes }}\n    {wire}\n"
        );
        assert_eq!(load_one(&flow).sources[0].wire.hex, hex, "{format} {wire}");
    }
}
