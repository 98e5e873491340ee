//! Checkpoints that earlier versions wrote are gone on from: `tests/checkpoints/` holds one of each format, with the files that
//! were read until then and the answers that were right.
//!
//! `TIEOUT_WRITE_CHECKPOINT=1` writes the one of this version's format again. Once that format is released, it is not to be written again.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::program::{Running, root};

const ANSWERS: [(&str, &str); 4] = [
    ("/api/v1/comparisons/orders_in_erp/differences?format=csv", "orders.csv"),
    ("/api/v1/comparisons/revenue_by_region/differences?format=csv", "revenue.csv"),
    ("/api/v1/rejects", "rejects.json"),
    ("/api/v1/sources", "sources.json"),
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        copy_one(&entry.path(), &to.join(entry.file_name()));
    }
}

fn copy_one(from: &Path, to: &Path) {
    if from.is_dir() {
        return copy(from, to);
    }
    fs::copy(from, to).expect("a file");
}

fn start(dir: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    Running::start(command.current_dir(dir).args(["run", "--listen", "127.0.0.1:0"]))
}

/// What does not depend on the day.
fn answer(running: &Running, path: &str) -> String {
    let (status, text) = running.text(path).expect("it answers");
    assert_eq!(status, 200, "{text}");
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(&text) else {
        // Since when differences stand is told by ticks and source times that the checkpoint has.
        return text;
    };
    json.as_object_mut().expect("an answer").retain(|name, _| ["rejects", "sources"].contains(&name.as_str()));
    for source in json["sources"].as_array_mut().into_iter().flatten() {
        source
            .as_object_mut()
            .expect("a source")
            .retain(|name, _| ["name", "read", "applied", "filtered", "rejected", "positions", "source_time"].contains(&name.as_str()));
    }
    format!("{json:#}\n")
}

#[test]
fn checkpoints_of_every_format_are_gone_on_from() {
    let folder = root().join("tests/checkpoints");
    if std::env::var_os("TIEOUT_WRITE_CHECKPOINT").is_some() {
        let newest = folder.join(format!("format-{}", tieout::checkpoint::manifest::FORMAT));
        let dir = tempfile::tempdir().expect("a folder");
        for part in ["config.yaml", "dataflows", "data"] {
            copy_one(&newest.join(part), &dir.path().join(part));
        }
        let running = start(dir.path());
        running.until("/readyz", |answer| answer["ready"] == true);
        running.stop();
        let _ = fs::remove_dir_all(newest.join("state"));
        copy(&dir.path().join("state"), &newest.join("state"));
        let _ = fs::remove_file(newest.join("state/checkpoints/lock"));
        let running = start(dir.path());
        running.until("/readyz", |answer| answer["ready"] == true);
        for (path, name) in ANSWERS {
            fs::write(newest.join(name), answer(&running, path)).expect("a file");
        }
    }
    let mut formats = 0;
    for format in fs::read_dir(&folder).expect("there are checkpoints").flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        formats += 1;
        let dir = tempfile::tempdir().expect("a folder");
        copy(&format, dir.path());
        let running = start(dir.path());
        assert!(running.says(&["goes on from a checkpoint"], Duration::from_secs(30)), "{}", format.display());
        running.until("/readyz", |answer| answer["ready"] == true);
        for (path, name) in ANSWERS {
            let right = fs::read_to_string(format.join(name)).expect("an answer");
            assert!(right.lines().count() > 1, "{name} says something");
            assert_eq!(answer(&running, path), right, "{} {path}", format.display());
        }
        running.stop();
    }
    assert_eq!(formats, tieout::checkpoint::manifest::FORMAT, "one of each format");
}
