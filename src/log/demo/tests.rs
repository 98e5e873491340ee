//! The simulated world: the same for the same seed, lively, and of bounded size.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Table, World};

const START_MS: i64 = 1_767_225_600_000;

fn lines(bytes: &[u8]) -> Vec<Json> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).expect("an event is JSON")).collect()
}

/// Applies events to a table by key.
fn apply(table: &mut BTreeMap<String, Json>, key: &str, events: Vec<Json>) {
    for event in events {
        let image = if event["op"] == "d" { &event["before"] } else { &event["after"] };
        let id = image[key].to_string();
        match event["op"].as_str() {
            Some("r" | "c") => assert!(table.insert(id, event["after"].clone()).is_none(), "an insert of a row that is there: {event}"),
            Some("u") => assert_eq!(table.insert(id, event["after"].clone()), Some(event["before"].clone())),
            Some("d") => assert_eq!(table.remove(&id), Some(event["before"].clone())),
            op => panic!("{op:?} is no operation of the simulation"),
        }
    }
}

#[test]
fn the_same_seed_is_the_same_world_however_it_is_read() {
    let (mut whole, mut steps) = (World::new(7, 200, START_MS), World::new(7, 200, START_MS));
    assert_eq!(whole.snapshot(Table::Deal), steps.snapshot(Table::Deal));
    let all = whole.changes_until(START_MS + 20_000, Table::Deal);
    let parts: Vec<u8> = (1..=2_000).flat_map(|n| steps.changes_until(START_MS + n * 10, Table::Deal)).collect();
    assert!(all == parts && !all.is_empty());
}

#[test]
fn tables_keep_their_size_and_changes_come_at_the_rate() {
    const MINUTES: i64 = 30;
    for (table, key) in [(Table::Deal, "id"), (Table::SalesOrder, "order_no")] {
        let mut world = World::new(1, 200, START_MS);
        let mut rows = BTreeMap::new();
        apply(&mut rows, key, world.snapshot(table).iter().flat_map(|l| lines(l)).collect());
        let first = rows.len();
        assert!((2_000..8_000).contains(&first), "{} has {first} rows at the start", table.name());
        let mut changes = 0;
        for minute in 1..=MINUTES {
            let events = lines(&world.changes_until(START_MS + minute * 60_000, table));
            changes += events.len() as i64;
            apply(&mut rows, key, events);
            assert!(rows.len().abs_diff(first) < first / 4, "{} has {} rows after {minute} minutes, and had {first}", table.name(), rows.len());
        }
        let rate = changes / (MINUTES * 60);
        assert!((70..140).contains(&rate), "{} has {rate} changes a second", table.name());
    }
}

#[test]
fn source_times_are_in_order_and_within_what_was_asked() {
    let mut world = World::new(3, 500, START_MS);
    let mut last = START_MS;
    for event in lines(&world.changes_until(START_MS + 10_000, Table::SalesOrder)) {
        let time = event["source"]["ts_ms"].as_i64().expect("an event has a source time");
        assert!(time >= last && time <= START_MS + 10_000);
        last = time;
    }
}
