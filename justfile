# One door for chores; `just` alone lists them.

default:
    @just --list

# Formatting, lints as errors, the licences and advisories of dependencies.
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo deny check

# Everything that `cargo test` has.
test:
    cargo test

# The tests written in a folder of dataflows.
case dir="dataflows/orders":
    cargo run --release -- test --config {{dir}}/config.yaml

# Speed and memory; see docs/performance.md.
bench *args:
    cargo bench {{args}}

# The simulated departments, and the page.
demo:
    cargo run --release -- demo

# What CI runs, on a clean checkout.
ci:
    .ci/run
