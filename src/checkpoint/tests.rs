//! Folders of checkpoints: what is there, what is sound, what goes.

use super::{
    CheckpointError,
    entries::{self, Kind},
    folder::{self, Folder},
    manifest::{EntriesFile, FORMAT, Manifest},
    restore,
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
        lengths: Default::default(),
        entries: before.into_iter().chain([file]).collect(),
    };
    folder.publish(&manifest, keep).unwrap();
    manifest
}

/// The newest checkpoint that is sound, and what is wrong with newer ones.
fn newest_sound(folder: &std::path::Path) -> (Option<Manifest>, Vec<CheckpointError>) {
    let mut damaged = Vec::new();
    let sound = folder::list(folder).unwrap().into_iter().find_map(|found| found.sound(folder).map_err(|error| damaged.push(error)).ok());
    (sound, damaged)
}

fn ticks(folder: &Folder) -> Vec<u64> {
    folder::list(folder.path()).unwrap().iter().map(|found| found.tick).collect()
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
        entries::read(&folder.path().join(&manifest.entries[0].name), &[kind], |kind, number, bytes| read.push((kind, number, bytes))).unwrap();
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
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    folder.publish(&later, 2).unwrap();
    let found = folder::list(folder.path()).unwrap();
    let error = found[0].clone().sound(folder.path()).unwrap_err();
    assert!(error.code == "CHECKPOINT_NEWER" && error.message.contains("9.9.9"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_read_is_not_one_without_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    assert!(folder::list(&dir.path().join("none")).unwrap().is_empty());
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(folder::list(&file).unwrap_err().code, "CHECKPOINT_UNREADABLE");
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
        lengths: Default::default(),
        entries: Vec::new(),
    }
}

#[test]
fn what_is_let_go_of_is_not_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let first = publish(&folder, 10, Vec::new(), 5);
    publish(&folder, 20, first.entries, 5);
    folder.can_forget().unwrap();
    folder.forget().unwrap();
    assert!(folder::list(folder.path()).unwrap().is_empty());
    // And one that is taken anew has its own files.
    let anew = publish(&folder, 30, Vec::new(), 5);
    assert!(folder::verify(folder.path(), &anew).is_ok() && folder::list(folder.path()).unwrap().len() == 1);
}

/// Large ones stand in several blocks; a file that says all makes those before it say nothing.
#[test]
fn differences_are_read_out_of_a_chain_of_files() {
    use crate::{engine::Cut, ledger::Packed};
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, blocks: &[(Kind, usize, &[u8])]| {
        let mut writer = entries::Writer::create(&dir.path().join(name)).unwrap();
        blocks.iter().for_each(|(kind, number, bytes)| writer.block(*kind, *number, bytes).unwrap());
        let (bytes, checksum) = writer.finish().unwrap();
        EntriesFile { name: name.into(), bytes, checksum: format!("{checksum:032x}") }
    };
    let files = [
        write("1", &[(Kind::Differences, 0, b"old"), (Kind::Table, 0, b"rows"), (Kind::Differences, 1, b"")]),
        write("2", &[(Kind::Differences, 0, b"a"), (Kind::Differences, 0, b"b"), (Kind::Changed, 1, b"c")]),
        write("3", &[(Kind::Changed, 0, b"d"), (Kind::Changed, 0, b"e"), (Kind::Changed, 1, b"")]),
    ];
    let packed = |cut: Cut, bytes: &[u8]| Packed { cut, bytes: bytes.to_vec() };
    let right =
        [vec![packed(Cut::Whole, b"ab"), packed(Cut::Changes, b"de")], vec![packed(Cut::Whole, b""), packed(Cut::Changes, b"c"), packed(Cut::Changes, b"")]];
    assert_eq!(restore::differences(dir.path(), &files, 2).unwrap(), right);
}

#[test]
fn a_folder_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(Folder::open(dir.path()).unwrap_err().code, "STATE_IN_USE");
    drop(folder);
    Folder::open(dir.path()).unwrap();
}
