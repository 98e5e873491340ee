//! The files of the contract load, and mean what they say.

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
fn tests_need_no_connections() {
    let config = include_str!("../../tests/contract/orders/config.yaml");
    let load = |need| load_texts(("config.yaml", config), &[("dataflows/orders.yaml", ORDERS)], &|_| None, need);
    assert!(load(Need::Mappings).is_ok());
    let problems = load(Need::Connections).unwrap_err();
    assert_eq!(problems.list().iter().map(|p| (p.code, p.line, p.text.as_str())).collect::<Vec<_>>(),
        [("unset-variable", 8, "${env:TIEOUT_DATA}"), ("unset-variable", 9, "${env:TIEOUT_DATA}")]);
}

#[test]
fn the_version_is_the_meaning() {
    let version = |text: &str| load_one(text).targets[0].version.clone();
    let base = "dataflow: a\nsources:\n  s: { connection: crm, files: [f], format: debezium-json, key: [id], columns: { id: int, a: varchar, b: int } }\ntargets:\n  t:\n    key: [id]\n    from: s\n";
    let one = version(&format!("{base}    fields: {{ id: id, a: lower(a), b: b }}\n"));
    let laid_out = version(&format!("{base}    # a comment\n    comment: for people\n    fields:\n      b: {{ value: b }}\n      a: |\n        lower(a)\n      id: id\n"));
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
