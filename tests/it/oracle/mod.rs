//! Correctness by oracle: random dataflows on random events, recomputed from scratch after every closed tick.
//!
//! ```text
//!  choices ─┬─▶ model ── YAML ──▶ config ─▶ engine (1–4 workers) ─▶ ledger ─┐
//!           └─▶ events ─ bytes ─▶ decode ────▲   random chunks and ticks     ├─ equal?
//!                  └──── meaning ─▶ truth (all messages so far, plain loops) ┘
//! ```
//!
//! What it can catch: wrong rows, keys, kinds, fields, states, rejects and counts, whatever combination of field rules,
//! filters, updates, deletes, rejects, chunks, ticks and workers makes them; anything that depends on arrival order.
//!
//! Faults among them: records and whole ranges of a log once more (as after a connector's restart), records with source
//! times before and after those of their neighbours, sources that overtake each other, messages that nobody can read, and
//! an engine that is killed and reads all logs again, cut into other ticks. Differences get a second opinion: see `linear`.
//!
//! What it can't: a misunderstanding that the oracle shares (it was written from the design and the documented rules, not
//! from the engine's code, but by someone who read both); values outside of the small pools of `value`; messages with a
//! Connect schema inside; truncations of real connectors beyond `t`; the readers, the clock and Kafka (the script replaces
//! them); staleness and hydration (no source ever stalls here); large states, where memory layout matters.

mod check;
mod draw;
mod events;
mod linear;
mod model;
mod rules;
mod truth;
mod value;
