//! The seeds of the fuzz targets, over what the targets do: they stay true where no nightly compiler is.

use std::{fs, path::Path};

use tieout::plan::{Format, LogSpec};

#[path = "../../fuzz/feed.rs"]
mod feed;
#[path = "../../fuzz/files.rs"]
mod files;

/// Every seed of a target; how many there were.
fn each(target: &str, run: impl Fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let seeds = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    seeds.map(|seed| run(&fs::read(seed.expect("a folder can be listed").path()).expect("a seed can be read"))).count()
}

#[test]
fn avro() {
    let seeds = each("avro", feed::feed_avro);
    assert!(seeds > 10, "{seeds} seeds");
}

#[test]
fn debezium_json() {
    let seeds = each("debezium_json", |data| {
        let (key, value) = feed::split(data);
        feed::feed(Format::DebeziumJson, feed::topic(), Some(key), Some(value));
        feed::feed(Format::DebeziumJson, feed::topic(), Some(data), None);
    });
    assert!(seeds > 10, "{seeds} seeds");
}

#[test]
fn upsert_json() {
    let seeds = each("upsert_json", |data| {
        let (key, value) = feed::split(data);
        feed::feed(Format::UpsertJson, feed::topic(), Some(key), Some(value));
        feed::feed(Format::UpsertJson, LogSpec::Files(Vec::new()), None, Some(data));
    });
    assert!(seeds > 10, "{seeds} seeds");
}

#[test]
fn config() {
    let seeds = each("config", files::check);
    assert!(seeds > 50, "{seeds} seeds");
}
