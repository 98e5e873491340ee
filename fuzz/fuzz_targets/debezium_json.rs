//! Bytes as events of Debezium, and as keys of tombstones.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tieout::plan::Format;

#[path = "../feed.rs"]
mod feed;

fuzz_target!(|data: &[u8]| {
    let (key, value) = feed::split(data);
    feed::feed(Format::DebeziumJson, feed::topic(), Some(key), Some(value));
    feed::feed(Format::DebeziumJson, feed::topic(), Some(data), None);
});
