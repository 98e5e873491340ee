//! Bytes as messages of a topic in `upsert-json`, as lines of a file, and as rows in `json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tieout::plan::{Format, LogSpec};

#[path = "../feed.rs"]
mod feed;

fuzz_target!(|data: &[u8]| {
    let (key, value) = feed::split(data);
    feed::feed(Format::UpsertJson, feed::topic(), Some(key), Some(value));
    feed::feed(Format::UpsertJson, LogSpec::Files(Vec::new()), None, Some(data));
    feed::feed(Format::Json, feed::topic(), None, Some(value));
});
