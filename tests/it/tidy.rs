//! The structure of the repository as ordinary tests: who may name whom, how files begin and how long they are, what must not
//! be in the tree, and where pages lead.
//!
//! Rules look at the text of files, not at their meaning: a rule is a word, the only places that may have it, and the reason.

use std::{fs, path::Path, process::Command};

use tieout::reference;

/// A file of the repository, by its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let of_tests = ["tests.rs", "testing.rs", "samples.rs", "model.rs", "fixture.rs"].contains(&name);
        self.path.starts_with("tests/") || self.path.contains("/tests/") || of_tests
    }

    /// The lines that are not comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(i, line)| (i + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files that git knows, or would know once they are added; without git, those of the folders that hold code.
fn files() -> Vec<File> {
    let git = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output();
    let paths = match git {
        Ok(listed) if listed.status.success() && !listed.stdout.is_empty() => String::from_utf8_lossy(&listed.stdout).lines().map(str::to_string).collect(),
        _ => {
            let mut paths = Vec::new();
            for folder in ["src", "tests", "benches", "docs", "dataflows", "config", ".ci"] {
                walk(&root().join(folder), &mut paths);
            }
            paths
        }
    };
    let read = |path: String| fs::read_to_string(root().join(&path)).ok().map(|text| File { path, text });
    paths.into_iter().filter_map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, paths);
        } else if let Ok(below) = path.strip_prefix(root()) {
            paths.push(below.display().to_string());
        }
    }
}

fn rust() -> Vec<File> {
    let found: Vec<File> = files().into_iter().filter(|f| f.path.ends_with(".rs") && !f.path.starts_with("fuzz/")).collect();
    assert!(found.len() > 50, "only {} Rust files were found", found.len());
    found
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Words that only some places may have, and why. A place is a path, or the start of one.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("rdkafka::", &["src/log/kafka", "src/sink/kafka"], "only the Kafka files name the Kafka client"),
    ("create_with_context", &["src/log/kafka/client.rs"], "clients of Kafka are made in one place, which knows how they are encrypted and log in"),
    ("datafusion_", &["src/engine/sql/", "src/engine/render/"], "DataFusion is named where SQL is planned and rendered, and nowhere else"),
    ("arrow::", &["src/engine/sql/", "src/engine/render/"], "Arrow is named where SQL is planned and rendered, and nowhere else"),
    ("timely::", &["src/engine/", "src/cluster/link.rs"], "only the engine knows how it is run; a cluster's connections are what timely takes"),
    ("openssl::", &["src/cluster/hello.rs", "src/cluster/wire.rs"], "proofs are made in one place, and connections encrypted in one"),
    ("socket2::", &["src/cluster/link.rs"], "sockets between processes are set up in one place"),
    ("differential_dataflow::", &["src/engine/"], "only the engine knows what it is made of"),
    (
        "ureq::",
        &["src/http_client.rs", "src/registry.rs", "src/log/kafka/token.rs", "src/cli/ask.rs"],
        "only the registry, who gives tokens and a tieout that runs are asked over HTTP, by threads that may wait",
    ),
    ("axum::", &["src/http/"], "only HTTP names the web server"),
    ("clap::", &["src/cli/", "src/reference.rs"], "only the command line parses arguments"),
    ("saphyr_parser", &["src/config/"], "YAML is read in one place"),
    ("annotate_snippets", &["src/config/"], "places in files are shown in one place"),
    ("prometheus::", &["src/telemetry.rs", "src/telemetry/"], "metrics are made in one place"),
    (
        "SystemTime",
        &["src/clock.rs", "src/log/", "src/http/answer.rs"],
        "the clock reads the wall clock on the data's way, readers and HTTP for what they show; nobody else does",
    ),
    (
        "unsafe {",
        &["src/log/kafka/topic_id.rs", "src/log/kafka/watermark.rs", "src/log/kafka/token.rs", "src/memory.rs", "src/memory/"],
        "what librdkafka's Rust client does not offer is asked of its C interface, and an allocator is unsafe; nothing else is",
    ),
    (" println!", &[], "what is printed goes through the command line's writer, so that a closed pipe is no panic"),
    ("eprintln!", &["src/cli/"], "what happens is an event of telemetry; only the command line speaks to a person"),
    ("Utc::now", &[], "as SystemTime"),
    ("Local::now", &[], "as SystemTime"),
];

/// What the files of a module must not name, and why.
const NEVER: &[(&str, &[&str], &str)] = &[
    ("src/engine/", &["std::fs", "fs::", "std::net", "tokio", "std::env", "Utc::now"], "the engine does no I/O and knows no async"),
    (
        "src/engine/",
        &["crate::log", "crate::sink", "crate::http", "crate::ledger", "crate::pipeline", "crate::clock", "crate::cli", "crate::config"],
        "the arrow of dependencies",
    ),
    (
        "src/cluster",
        &["crate::log", "crate::sink", "crate::http", "crate::ledger", "crate::pipeline", "crate::clock", "crate::config", "crate::engine"],
        "the cluster knows processes, and nothing of what they run",
    ),
    (
        "src/http/",
        &["engine::worker", "engine::table", "engine::render", "crate::clock", "crate::pipeline", "crate::log", "crate::sink"],
        "HTTP never touches a worker: it reads the ledger",
    ),
    (
        "src/ledger",
        &["engine::worker", "crate::http", "crate::sink", "crate::pipeline", "crate::clock", "crate::log", "std::fs"],
        "the ledger is told; it asks nobody",
    ),
    (
        "src/format/",
        &[
            "crate::log",
            "crate::sink",
            "crate::http",
            "crate::ledger",
            "crate::pipeline",
            "crate::clock",
            "crate::config",
            "crate::registry",
            "std::fs",
            "std::net",
            "tokio",
        ],
        "formats know bytes and rows only",
    ),
    (
        "src/registry",
        &["crate::log", "crate::sink", "crate::http", "crate::ledger", "crate::pipeline", "crate::clock", "crate::config", "crate::engine", "tokio"],
        "the registry is asked by readers and writers, and knows neither",
    ),
    (
        "src/log/",
        &["crate::sink", "crate::http", "crate::ledger", "crate::pipeline", "crate::clock", "crate::config", "engine::worker"],
        "a log does not know who reads it",
    ),
    ("src/sink", &["crate::http", "crate::pipeline", "crate::clock", "crate::config", "engine::worker"], "a sink writes what it is given"),
    (
        "src/config/",
        &["crate::http", "crate::ledger", "crate::pipeline", "crate::clock", "crate::sink", "crate::log", "engine::worker"],
        "a file is checked without running anything",
    ),
    ("src/row", &["arrow", "crate::engine", "crate::plan", "crate::format"], "rows know their bytes only"),
    ("src/", &["crate::cli"], "nothing reads the command line but the command line itself"),
];

#[test]
fn words_stay_where_they_belong() {
    let mut found = Vec::new();
    for file in rust().iter().filter(|f| f.path.starts_with("src/") && !f.is_test()) {
        for (word, places, why) in ONLY {
            if !places.iter().any(|place| file.path.starts_with(place)) {
                found.extend(file.code().filter(|(_, line)| line.contains(word)).map(|(n, _)| format!("{}:{n}: `{word}`: {why}", file.path)));
            }
        }
    }
    none(&found, "a word stands where it does not belong");
}

#[test]
fn dependencies_go_one_way() {
    let mut found = Vec::new();
    for file in rust().iter().filter(|f| !f.is_test()) {
        for (place, words, why) in NEVER {
            if !file.path.starts_with(place) || (*words == ["crate::cli"] && file.path.starts_with("src/cli/")) {
                continue;
            }
            for (n, line) in file.code() {
                let bad = words.iter().find(|word| named(line, word));
                found.extend(bad.map(|word| format!("{}:{n}: `{word}`: {why}", file.path)));
            }
        }
    }
    none(&found, "a module names what it must not");
}

/// The word stands in the line, and is not the end of a longer name.
fn named(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == '`'))
}

/// Files that may be longer than 700 lines, and why.
const LONG: &[(&str, &str)] = &[
    ("src/row.rs", "the bytes of all types in one file, which is what makes equality of bytes believable; most of it are short functions"),
    ("src/log/kafka.rs", "one reader with all its stops; what could leave has left (`client`, `watch`, `topic_id`)"),
    ("tests/it/oracle/model.rs", "a random dataflow's whole grammar, declared once"),
];

#[test]
fn files_begin_with_what_they_are_and_fit_in_the_head() {
    let mut found = Vec::new();
    for file in rust() {
        if !file.text.starts_with("//!") {
            found.push(format!("{}: does not open with `//!`: what it is, what it owns, what it leaves to others", file.path));
        }
        let lines = file.text.lines().count();
        let listed = LONG.iter().any(|(path, _)| *path == file.path);
        if lines > 700 && !listed {
            found.push(format!("{}: {lines} lines, and 700 fit in the head; divide it, or list it with a reason", file.path));
        }
        if lines <= 700 && listed {
            found.push(format!("{}: is not long any more: take it off the list", file.path));
        }
    }
    none(&found, "files");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("dbg", "!(")];
    let mut found = Vec::new();
    for file in rust() {
        for (i, line) in file.text.lines().enumerate() {
            found.extend(words.iter().filter(|word| line.contains(*word)).map(|word| format!("{}:{}: `{word}`", file.path, i + 1)));
        }
    }
    // A number that somebody wanted to fill in stands as a word in capitals between two at signs.
    for file in files().iter().filter(|f| f.path.ends_with(".md")) {
        for (i, line) in file.text.lines().enumerate() {
            let blank = line.split('@').skip(1).any(|word| word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
            found.extend(blank.then(|| format!("{}:{}: a blank that was not filled in", file.path, i + 1)));
        }
    }
    none(&found, "work that is not done belongs into an issue");
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    // In pieces, so that this file does not hold what it looks for.
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("maven", ".org"),
        concat!("maven", ".apache.org"),
        concat!("deb.debian", ".org"),
        concat!("proxy.golang", ".org"),
    ];
    let secrets = [concat!("PRIVATE", " KEY-----"), concat!("AKI", "AIOSF")];
    let mut found = Vec::new();
    // Lock files are written by cargo, which names its registry in them.
    for file in files().iter().filter(|f| !f.path.ends_with("Cargo.lock") && !f.path.starts_with("LICENSE")) {
        for (i, line) in file.text.lines().enumerate() {
            // A namespace is a name, not a place to download from.
            let line = line.replace(concat!("http://maven", ".apache.org/POM/4.0.0"), "").replace(concat!("http://maven", ".apache.org/xsd"), "");
            let bad = places.iter().chain(&hosts).chain(&secrets).find(|word| line.contains(*word));
            found.extend(bad.map(|word| format!("{}:{}: `{word}`", file.path, i + 1)));
        }
    }
    none(&found, "a path of one machine, the host of a registry, or a secret");
}

#[test]
fn every_code_is_in_the_reference() {
    let mut known: Vec<&str> = reference::STOPS.iter().map(|(code, ..)| *code).collect();
    known.extend(reference::STUCK.iter().map(|(code, _)| *code));
    known.extend(reference::WARNINGS.iter().map(|(code, _)| *code));
    known.extend(tieout::engine::table::change::CODES.iter().map(|(code, _)| *code));
    let mut found = Vec::new();
    let mut used = Vec::new();
    for file in rust().iter().filter(|f| f.path.starts_with("src/") && !f.is_test() && f.path != "src/reference.rs") {
        for (n, line) in file.code() {
            for word in line.split('"').skip(1).step_by(2).filter(|word| is_code(word)) {
                used.push(word.to_string());
                if !known.contains(&word) {
                    found.push(format!("{}:{n}: `{word}` is in no list of src/reference.rs or src/engine/table/change.rs", file.path));
                }
            }
        }
    }
    found.extend(known.iter().filter(|code| !used.iter().any(|u| u == *code)).map(|code| format!("`{code}` is listed, and nothing uses it")));
    none(&found, "codes");
}

/// `TWO_WORDS` or more, in capitals, and no environment variable.
fn is_code(word: &str) -> bool {
    let environment = ["CARGO_", "TIEOUT_", "KAFKA_", "MIMALLOC_", "NO_"].iter().any(|start| word.starts_with(start));
    let capitals = word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    capitals && word.contains('_') && !word.starts_with('_') && !word.ends_with('_') && !environment
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut found = Vec::new();
    for file in files().iter().filter(|f| f.path.ends_with(".md")) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (i, line) in file.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = link.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                if !root().join(folder).join(path).exists() {
                    found.push(format!("{}:{}: {link}", file.path, i + 1));
                }
            }
        }
    }
    none(&found, "links to what is not there");
}
