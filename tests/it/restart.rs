//! The built program, killed at any moment and started again: what it says is what a run says that was never killed, and
//! nothing is read twice.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{
    generate::{self, Size, Workload},
    program::{Running, root},
};

const FILES: [&str; 5] = ["src.snapshot.ndjson", "src.changes.ndjson", "tgt.snapshot.ndjson", "tgt.changes.ndjson", "acc.snapshot.ndjson"];

/// A folder in which the files of a workload appear bit by bit.
struct Live {
    dir: tempfile::TempDir,
    /// By file: its lines, and how many of them are there.
    files: Vec<(File, Vec<String>, usize)>,
    random: u64,
}

impl Live {
    fn new(workload: &Workload, seed: u64) -> Live {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("data")).expect("a folder");
        let open = |name: &&str| {
            let lines = fs::read_to_string(workload.dir.join(name)).expect("a file of the workload").lines().map(|l| format!("{l}\n")).collect();
            (OpenOptions::new().create(true).append(true).open(dir.path().join("data").join(name)).expect("a file"), lines, 0)
        };
        let files = FILES.iter().map(open).collect();
        // The snapshots are there from the start.
        let mut live = Live { dir, files, random: seed.max(1) };
        for at in [0, 2, 4] {
            live.append(at, usize::MAX);
        }
        live
    }

    /// Xorshift; its seed is the test's.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn append(&mut self, at: usize, lines: usize) {
        let (file, all, there) = &mut self.files[at];
        let until = there.saturating_add(lines).min(all.len());
        file.write_all(all[*there..until].concat().as_bytes()).expect("a file that can be written");
        *there = until;
    }

    fn complete(&self) -> bool {
        self.files.iter().all(|(_, lines, there)| lines.len() == *there)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the program on the folder, with checkpoints in it.
    fn start(&self, contract: &str, workers: u64) -> Running {
        let contract = root().join("tests/contract").join(contract);
        let config = self.path().join("config.yaml");
        let text = fs::read_to_string(contract.join("config.yaml")).expect("the contract is there");
        fs::write(&config, format!("{text}\ncheckpoint: {{ interval: 100ms, keep: 2 }}\n")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.env("TIEOUT_DATA", self.path().join("data")).env("TIEOUT_STATE", self.path().join("state"));
        command.args(["run", "--listen", "127.0.0.1:0", "--tick", "5ms", "--workers", &workers.to_string(), "--config"]).arg(config);
        Running::start(command.arg("--dataflows").arg(contract.join("dataflows")))
    }
}

/// Key, kind, field and values of each line of differences. The other columns say when: they follow from how the ticks were
/// cut, which is not the same in any two runs.
fn what(csv_text: &str) -> BTreeSet<String> {
    let mut csv = csv::Reader::from_reader(csv_text.as_bytes());
    csv.records().map(|line| line.expect("a line")).map(|l| [&l[0], &l[1], &l[3], &l[4], &l[5]].join("|")).collect()
}

fn served(running: &Running, comparison: &str) -> BTreeSet<String> {
    let (status, text) = running.text(&format!("/api/v1/comparisons/{comparison}/differences?format=csv&limit=100000")).expect("it answers");
    assert_eq!(status, 200, "{text}");
    what(&text)
}

fn exported(live: &Live, contract: &str, comparison: &str) -> BTreeSet<String> {
    let out = live.path().join("out");
    let config = root().join("tests/contract").join(contract).join("config.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.env("TIEOUT_DATA", live.path().join("data")).args(["run", "--once", "--log", "warn", "--config"]).arg(config).arg("--export").arg(&out);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(out.join("differences").join(format!("{comparison}.csv"))).expect("the export is there");
    what(&text)
}

/// By source: messages read, and lines of its files.
fn read(live: &Live, answer: &serde_json::Value) -> Vec<(u64, u64)> {
    let lines = |source: &serde_json::Value| {
        let log = source["log"].as_str().expect("a log");
        FILES.iter().enumerate().filter(|(_, name)| log.contains(**name)).map(|(at, _)| live.files[at].1.len() as u64).sum()
    };
    answer["sources"].as_array().expect("sources").iter().map(|source| (source["read"].as_u64().expect("a count"), lines(source))).collect()
}

#[test]
fn killed_at_any_moment_it_says_what_a_run_says_that_was_never_killed() {
    let seed = std::env::var("TIEOUT_RESTART_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("TIEOUT_RESTART_SEED={seed}");
    for (contract, comparison) in [("orders", "orders_in_erp"), ("revenue", "revenue_by_region")] {
        let workload = generate::workload(Size { rows: 2_000, changes: 12_000, seed, fault: 0.01, lag: 300 });
        let mut live = Live::new(&workload, seed);
        let mut kills = 0;
        while !live.complete() {
            let workers = 1 + live.draw(4);
            let running = live.start(contract, workers);
            for _ in 0..1 + live.draw(20) {
                let (file, lines) = (1 + 2 * live.draw(2) as usize, 1 + live.draw(400) as usize);
                live.append(file, lines);
                std::thread::park_timeout(Duration::from_millis(live.draw(40)));
            }
            // Dropping it is `kill -9`; some are asked to stop.
            match live.draw(4) {
                0 => running.stop(),
                _ => {
                    kills += 1;
                    drop(running);
                }
            }
        }
        let running = live.start(contract, 2);
        running.until("/api/v1/sources", |answer| answer["hydrated"] == true && read(&live, answer).iter().all(|(read, lines)| read >= lines));
        // Exactly as many as there are: nothing was lost, and nothing counted twice.
        let counts = read(&live, &running.get("/api/v1/sources"));
        assert!(counts.iter().all(|(read, lines)| read == lines), "{contract} after {kills} kills: {counts:?}");
        let truth = exported(&live, contract, comparison);
        assert!(!truth.is_empty());
        let said = served(&running, comparison);
        let (lacking, false_): (Vec<_>, Vec<_>) = (truth.difference(&said).collect(), said.difference(&truth).collect());
        assert!(said == truth, "{contract} after {kills} kills\n  lacking: {lacking:#?}\n  false: {false_:#?}");
        println!("{contract}: {kills} kills");
        running.stop();
    }
}
