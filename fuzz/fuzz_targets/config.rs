//! Bytes as a configuration and dataflow files.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../files.rs"]
mod files;

fuzz_target!(
    init: {
        // A planner that panics is caught, and is a problem of the file; every other panic is a finding.
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some("planner") {
                report(panic);
            }
        }));
    },
    |data: &[u8]| files::check(data)
);
