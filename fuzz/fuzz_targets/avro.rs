//! A schema, a line feed, and bytes as a message of it: see `feed.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../feed.rs"]
mod feed;

fuzz_target!(|data: &[u8]| feed::feed_avro(data));
