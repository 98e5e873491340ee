//! The reference pages that are written by the code: metrics, codes, and (`cli`) the command line. `docs/reference/` holds
//! them; a test says when they are out of date, and `TIEOUT_WRITE=1` makes it write them again. Settings are `config`'s.

use std::fmt::Write as _;

use crate::{config::codes::CODES as PROBLEMS, engine::table::change::CODES as REJECTS, telemetry};

/// What a process says with its exit code.
pub const EXITS: &[(u8, &str)] = &[
    (0, "all went well, whatever differs"),
    (1, "the answer is no: `--fail-on` found such differences, or a test failed"),
    (2, "the command line asks for what does not go"),
    (70, "tieout itself is at fault; please report it"),
    (74, "the output can't be written"),
    (75, "a failure of the surroundings that is worth trying again"),
    (78, "the configuration, or what it points to, does not hold: trying again changes nothing"),
    (130, "asked to stop twice, so the last tick was not waited for"),
];

/// Why a log or a sink stops: the code, whether trying again may help (exit code 75) or not (78), and what it means.
pub const STOPS: &[(&str, bool, &str)] = &[
    ("ACCESS_REFUSED", false, "the broker refuses this user what was tried"),
    ("BROKER_UNREACHABLE", true, "no broker answers; a reader that runs keeps trying and shows it as trouble"),
    ("BROKER_UNTRUSTED", false, "nobody whom the connection's `tls` trusts vouches for the broker's certificate, or it is of another name"),
    ("CHECKPOINT_DAMAGED", false, "a checkpoint is not what was written; one before it is used"),
    ("CHECKPOINT_LOG_CHANGED", false, "a log does not begin as it did when the checkpoint was taken, so its positions mean nothing"),
    ("CHECKPOINT_NEWER", false, "a later version of tieout took the newest checkpoint"),
    ("CHECKPOINT_UNREADABLE", true, "the folder of checkpoints can't be read, so it is not known whether there is one to go on from"),
    ("CHECKPOINT_UNWRITABLE", false, "a checkpoint can't be written: the run goes on, and the ones before stand; where `data_dir` is no folder it ends"),
    ("CLIENT_FAILED", true, "librdkafka gave up"),
    ("CLUSTER_ADDRESS", true, "a process of a cluster can't listen for the others where it should"),
    ("CLUSTER_CHANGED", false, "a connection's brokers are those of another cluster than the one that was read"),
    ("CLUSTER_TWICE", false, "two connections have outputs on the same cluster"),
    ("CONNECTION_SETTINGS", false, "librdkafka or the brokers do not take a property of the connection, or the name of an output topic"),
    (
        "FILE_NOT_WRITTEN",
        false,
        "an output file can't be created or written, is another process's, or has lines of others; of a full disk, or where another process writes it, it may be tried again (75)",
    ),
    ("FILE_REPLACED", false, "a file was replaced by another one of its name while it was followed"),
    ("FILE_TRUNCATED", false, "a file is shorter than what was read of it"),
    ("FILE_UNREADABLE", false, "a file can't be opened or read"),
    ("LINE_TOO_LONG", false, "a file has no line end where a message must have ended"),
    ("LOG_SHRUNK", false, "a partition ends before the position that it was read up to"),
    ("LOG_UNSUPPORTED", false, "the connection's kind does not hold such a log"),
    ("MEMORY_EXHAUSTED", true, "`memory_max` is full of what can't go to a file"),
    ("NOT_DELIVERED", true, "a topic did not take a record; one that is too large will not be taken later either"),
    ("OFFSET_GONE", false, "messages that were not read yet are gone from the topic's retention"),
    ("OFFSET_OUT_OF_RANGE", true, "the broker refused a position that it holds"),
    ("OUTPUT_GONE", false, "an output topic or file that was written was removed, or is another one of its name"),
    ("OUTPUT_UNSUPPORTED", false, "the connection's kind can't be written to"),
    ("PARTITIONS_FEWER", false, "a topic has fewer partitions than before"),
    ("PARTITION_UNKNOWN", false, "`start` names a partition that the topic does not have"),
    ("PEER_DIFFERS", true, "a process of the cluster is of another build, or has another dataflow, cluster file or number of workers"),
    (
        "PEER_LOST",
        true,
        "a process of the cluster was killed, failed, or can't be reached any more; all stop, to be started together (with the exit code of one that gave up)",
    ),
    ("PEER_MISSING", true, "not all processes of the cluster were there within `start_max`"),
    ("PEER_SILENT", true, "a process of the cluster has said nothing for `silence_max`: it hangs, or the network is cut"),
    ("POSITION_BEYOND_END", false, "`start`, or a checkpoint, names a position after the partition's end"),
    ("PROGRESS_COMPACTED", false, "the topic of progress records is compacted"),
    ("PROGRESS_GAP", false, "what is written to Kafka can't be made again: progress records or checkpoints are lacking"),
    ("PROGRESS_LOST", false, "progress records that were there are gone"),
    ("PROGRESS_PARTITIONS", false, "the topic of progress records has several partitions"),
    ("PROGRESS_UNREADABLE", false, "the topic of progress records has a record that is none"),
    ("SINK_FENCED", false, "another tieout of the same `name` writes to the same cluster"),
    ("REGISTRY_ANSWER", true, "the schema registry's address answers, but not as a registry; a reader that runs keeps trying"),
    ("REGISTRY_REFUSED", false, "the schema registry refuses this user"),
    ("REPLAY_WAITS", true, "after a restart one partition does not come up to where it had been read, while others are far ahead of it"),
    ("REGISTRY_UNREACHABLE", true, "the schema registry does not answer; a reader that runs keeps trying and shows it as trouble"),
    (
        "SCHEMA_CHANGED",
        false,
        "the columns or types of a source's messages changed in a way that its `schema_change` does not accept; without `--once` all else goes on",
    ),
    ("SCHEMA_INCOMPATIBLE", false, "the registry has a schema under the output's topic that the new one is not compatible with"),
    ("STATE_IN_USE", true, "another process keeps its state in the same `data_dir`"),
    ("TABLE_UNKNOWN", false, "the simulation has no such table"),
    ("TOKEN_REFUSED", false, "the authority of the connection's `sasl.token_url` gives tieout no token"),
    ("TOKEN_UNREACHABLE", true, "the authority of the connection's `sasl.token_url` does not answer; a reader that runs keeps trying and shows it as trouble"),
    ("TOPIC_GONE", false, "a topic that was read does not exist any more"),
    (
        "TOPIC_NOT_CREATED",
        false,
        "an output topic does not exist and could not be created; where the brokers did not answer in time it is worth another try (75)",
    ),
    ("TOPIC_DIFFERS", false, "processes of a cluster read topics of one name that are not the same one"),
    ("TOPIC_REPLACED", false, "a topic was deleted and created again under its name"),
    ("TOPIC_UNKNOWN", false, "there is no such topic; without `--once` tieout waits for it"),
    ("TRANSACTION_IN_USE", true, "`sink transactions abort` would end the transaction of a tieout that writes at this moment"),
    ("TRANSACTION_OPEN", false, "partitions are still held back after the deployment's own transaction was ended"),
    ("TRANSACTION_STATE_UNREADABLE", false, "the brokers keep what they know of transactions in a form that this version does not read"),
];

/// The code of a stop that another process names.
pub fn stop(code: &str) -> &'static str {
    STOPS.iter().find(|(known, ..)| *known == code).map_or("PEER_LOST", |(known, ..)| known)
}

/// What stands still though it should move.
pub const STUCK: &[(&str, &str)] = &[
    ("PARTITION_STUCK", "the log has more of a partition than was read, and nothing of it came for longer than `stuck_after`"),
    ("READER_STUCK", "a source's reader has neither read nor heard from its log for longer than `stuck_after`"),
    ("SINK_STUCK", "closed ticks were not written for longer than `stuck_after`"),
    ("TICK_STUCK", "no tick was closed for longer than `stuck_after`: the engine, or an output whose queue is full, holds it up"),
];

/// What is shown though it is not as it should be, named in the log.
pub const WARNINGS: &[(&str, &str)] = &[
    ("HELLO_FLOOD", "more connections to the cluster's address than `strangers_max` had proved nothing; the oldest was cut"),
    ("HELLO_MALFORMED", "what connected to the cluster's address is no process of tieout"),
    ("HELLO_SLOW", "what connected to the cluster's address did not say within `hello_max` who it is"),
    ("HELLO_UNPROVEN", "what connected to the cluster's address does not know the cluster's secret"),
    ("POSITIONS_RESTARTED", "the positions of a source's database went back though its changes are new: it was restored, or is another one"),
    (
        "REPLAY_RELEASED",
        "a range that a connector sends again is shown as it comes: its end did not come within `replay_bound`, too much is held, or a few records were only sent twice",
    ),
    (
        "TRANSACTIONS_INCOMPLETE_MANY",
        "more than a hundred transactions of a log stand incomplete: what the oldest touched is not kept, and nothing new is confirmed of their tables until their rows have come",
    ),
    (
        "TRANSACTION_HANGING",
        "brokers left out the end of one of tieout's own transactions in some partitions; it is ended, and what was committed of it is written again",
    ),
    ("TRANSACTION_INCOMPLETE", "an upstream transaction is shown without all of its rows: they did not come within its log's `bound`, or too much is held"),
];

/// Codes of answers over HTTP that are problems (`application/problem+json`).
pub const HTTP: &[(u16, &str, &str)] = &[
    (400, "bad_parameter", "a parameter of the query, or a name or key in the path, does not hold"),
    (400, "unknown_field", "the comparison compares no field of that name"),
    (404, "unknown_comparison", "no comparison of that name is declared"),
    (404, "unknown_source", "no source of that name is declared"),
    (404, "unknown_target", "no target of that name is declared"),
    (404, "unknown_path", "there is nothing at this path"),
    (405, "method_not_allowed", "the path is only to be read"),
    (500, "broken_invariant", "the ledger broke an invariant, so no answer can be believed"),
    (503, "hydrating", "the backlog is still read; ask again when `/readyz` answers 200"),
    (503, "no_worker", "no worker answers; tieout may be stopping"),
    (503, "timeout", "the worker that holds the row did not answer in time"),
];

const WRITTEN: &str = "`TIEOUT_WRITE=1 cargo test --test it references` writes it again.\n\n";

/// `docs/reference/metrics.md`.
pub fn metrics() -> String {
    let intro = "`GET /metrics` answers in Prometheus' text format. All numbers that tell what stands are of one closed tick.\n\n";
    format!("# Metrics\n\nWritten by the code (`src/telemetry.rs`); {WRITTEN}{intro}{}", telemetry::reference())
}

/// `docs/reference/codes.md`.
pub fn codes() -> String {
    let mut out = format!("# Codes\n\nWritten by the code (`src/reference.rs`); {WRITTEN}");
    out += "## Exit codes\n\n| code | meaning |\n| --- | --- |\n";
    for (code, meaning) in EXITS {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    out += "\n## Rejects\n\nA message or row that could not be decoded, mapped or validated is a reject: counted, shown, exported, and taken back when a \
        good record of its key follows. It never stops the others.\n\n| code | meaning |\n| --- | --- |\n";
    for (code, meaning) in REJECTS {
        let _ = writeln!(out, "| `{code}` | {meaning} |");
    }
    out += "\n## Stops\n\nWhat ends a run with a name, so that a log or a sink never goes wrong silently.\n\n| code | try again | meaning |\n| --- | --- | --- |\n";
    for (code, retry, meaning) in STOPS {
        let _ = writeln!(out, "| `{code}` | {} | {meaning} |", if *retry { "yes (75)" } else { "no (78)" });
    }
    out += "\n## What stands still\n\nNamed in `/readyz`, in the metric `tieout_stuck` and in the log, until it moves again. What has nothing to do is idle, not stuck.\n\n\
        | code | meaning |\n| --- | --- |\n";
    for (code, meaning) in STUCK {
        let _ = writeln!(out, "| `{code}` | {meaning} |");
    }
    out += "\n## Warnings\n\nA line of the log; metrics tell how many stand.\n\n| code | meaning |\n| --- | --- |\n";
    for (code, meaning) in WARNINGS {
        let _ = writeln!(out, "| `{code}` | {meaning} |");
    }
    out += "\n## Problems over HTTP\n\n| status | code | meaning |\n| --- | --- | --- |\n";
    for (status, code, meaning) in HTTP {
        let _ = writeln!(out, "| {status} | `{code}` | {meaning} |");
    }
    out += "\n## Problems of files\n\n`tieout check` prints them all, each with its place.\n\n| code | meaning |\n| --- | --- |\n";
    for (_, name, meaning) in PROBLEMS {
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}

/// `docs/reference/cli.md`: the help of every command.
pub fn cli(command: clap::Command) -> String {
    let mut out = format!("# Command line\n\nWritten by the code (`src/cli/`); {WRITTEN}");
    let mut command = command.term_width(100);
    command.build();
    let mut section = |title: String, command: &mut clap::Command| {
        // The page must not depend on who writes it.
        let help = command.clone().mut_args(|arg| arg.hide_env_values(true)).render_long_help().to_string();
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        let _ = writeln!(out, "## `{title}`\n\n```text\n{}\n```\n", lines.join("\n"));
    };
    section("tieout".into(), &mut command.clone());
    for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        section(format!("tieout {}", sub.get_name()), sub);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
