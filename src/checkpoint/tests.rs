//! Folders of checkpoints: what is there, what is sound, what goes.

use super::{
    CheckpointError,
    entries::{self, Kind},
    folder::{self, Folder},
    manifest::{EntriesFile, FORMAT, Manifest},
};
use crate::ledger::LedgerSave;

/// Publishes a checkpoint with one block more than the one before.
fn publish(folder: &Folder, tick: u64, before: Vec<EntriesFile>, keep: usize) -> Manifest {
    let path = folder.new_entries(tick);
    let mut writer = entries::Writer::create(&path).unwrap();
    writer.block(Kind::Table, 3, format!("what changed before tick {tick}").as_bytes()).unwrap();
    writer.block(Kind::Differences, 0, b"").unwrap();
    let (bytes, checksum) = writer.finish().unwrap();
    let file = EntriesFile { name: path.file_name().unwrap().to_string_lossy().into(), bytes, checksum: format!("{checksum:032x}") };
    let manifest = Manifest {
        format: FORMAT,
        written_by: "0.1.0".into(),
        tick,
        tables: Vec::new(),
        sources: Vec::new(),
        comparisons: Vec::new(),
        targets: Vec::new(),
        outputs: None,
        ledger: LedgerSave { tick, ..LedgerSave::default() },
        progress: std::collections::BTreeMap::new(),
        clusters: Default::default(),
        topics: Default::default(),
        entries: before.into_iter().chain([file]).collect(),
    };
    folder.publish(&manifest, keep).unwrap();
    manifest
}

/// The newest checkpoint that is sound, and what is wrong with newer ones.
fn newest_sound(folder: &std::path::Path) -> (Option<Manifest>, Vec<CheckpointError>) {
    let mut damaged = Vec::new();
    let sound = folder::list(folder).into_iter().find_map(|found| found.sound(folder).map_err(|error| damaged.push(error)).ok());
    (sound, damaged)
}

fn ticks(folder: &Folder) -> Vec<u64> {
    folder::list(folder.path()).iter().map(|found| found.tick).collect()
}

#[test]
fn the_newest_are_kept_with_all_that_they_need_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let first = publish(&folder, 10, Vec::new(), 2);
    let second = publish(&folder, 20, first.entries.clone(), 2);
    assert_eq!(ticks(&folder), [20, 10]);
    let anew = publish(&folder, 30, Vec::new(), 2);
    assert_eq!(ticks(&folder), [30, 20]);
    for manifest in [&second, &anew] {
        folder::verify(folder.path(), manifest).unwrap();
    }
    publish(&folder, 40, anew.entries.clone(), 2);
    assert_eq!(ticks(&folder), [40, 30]);
    let mut files: Vec<String> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name().to_string_lossy().into()).collect();
    files.sort();
    files.retain(|name| name.ends_with(".entries"));
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn blocks_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let manifest = publish(&folder, 10, Vec::new(), 1);
    let mut read = Vec::new();
    for kind in [Kind::Table, Kind::Differences] {
        entries::read(&folder.path().join(&manifest.entries[0].name), kind, |number, bytes| read.push((kind, number, bytes))).unwrap();
    }
    assert_eq!(read, [(Kind::Table, 3, b"what changed before tick 10".to_vec()), (Kind::Differences, 0, Vec::new())]);
}

/// Every byte of either file matters: whichever is another one, or is lacking, the checkpoint before is used and the
/// damage is named.
#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    publish(&folder, 10, Vec::new(), 3);
    let newest = publish(&folder, 20, Vec::new(), 3);
    assert_eq!(newest_sound(folder.path()).0.unwrap().tick, 20);
    for name in [newest.entries[0].name.clone(), format!("{:020}.json", 20)] {
        let path = folder.path().join(&name);
        let good = std::fs::read(&path).unwrap();
        let used = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let (manifest, damaged) = newest_sound(folder.path());
            let named = damaged.iter().any(|d| d.code == "CHECKPOINT_DAMAGED" && d.message.contains(&name));
            (manifest.map(|m| m.tick), named)
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert_eq!(used(&bad), (Some(10), true), "byte {at} of {name}");
            assert_eq!(used(&good[..at]), (Some(10), true), "{name} cut at {at}");
        }
        assert_eq!(used(&good), (Some(20), false));
    }
    std::fs::remove_file(folder.path().join(&newest.entries[0].name)).unwrap();
    assert_eq!(newest_sound(folder.path()).0.unwrap().tick, 10);
}

#[test]
fn a_checkpoint_of_a_later_format_says_who_wrote_it() {
    let later = Manifest { format: FORMAT + 1, written_by: "9.9.9".into(), ..Manifest::from_bytes(&empty().to_bytes()).unwrap() };
    let why = Manifest::from_bytes(&later.to_bytes()).unwrap_err();
    assert!(why.contains("9.9.9"), "{why}");
}

fn empty() -> Manifest {
    Manifest {
        format: FORMAT,
        written_by: "0.1.0".into(),
        tick: 1,
        tables: Vec::new(),
        sources: Vec::new(),
        comparisons: Vec::new(),
        targets: Vec::new(),
        outputs: None,
        ledger: LedgerSave::default(),
        progress: std::collections::BTreeMap::new(),
        clusters: Default::default(),
        topics: Default::default(),
        entries: Vec::new(),
    }
}

#[test]
fn a_folder_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(Folder::open(dir.path()).unwrap_err().code, "STATE_IN_USE");
    drop(folder);
    Folder::open(dir.path()).unwrap();
}
