//! The folder of checkpoints: who may use it, which ones are there and sound, and which go.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use super::{
    CheckpointError, entries, folder_of,
    manifest::{EntriesFile, Manifest, Unread},
};
use crate::{engine::Tick, failpoint};

/// The disk gives an error for this place, and will again.
const EIO: i32 = 5;

/// A folder that this process may use, and no other; until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

/// A checkpoint of the folder, as far as it could be read.
#[derive(Clone, Debug)]
pub struct Found {
    pub tick: Tick,
    pub manifest: Result<Manifest, CheckpointError>,
}

impl Found {
    /// The manifest, if all that it names is what was written. Reads all of it.
    ///
    /// # Errors
    /// What is damaged.
    pub fn sound(self, folder: &Path) -> Result<Manifest, CheckpointError> {
        let manifest = self.manifest?;
        verify(folder, &manifest)?;
        Ok(manifest)
    }
}

impl Folder {
    /// Opens the folder of a data directory, and creates it. Where nothing can be written now, it is said, and what is there is
    /// gone on from; each checkpoint tries again.
    ///
    /// # Errors
    /// `STATE_IN_USE`: another process has it. `CHECKPOINT_UNWRITABLE`: it can't be a folder.
    pub fn open(data_dir: &Path) -> Result<Folder, CheckpointError> {
        let path = folder_of(data_dir);
        let unwritable = |error: std::io::Error| CheckpointError::unwritable(&path, &error);
        let name = path.join("lock");
        let lock = match fs::create_dir_all(&path).and_then(|()| File::options().create(true).append(true).open(&name)) {
            Ok(lock) => Some(lock),
            Err(error) if [ErrorKind::NotADirectory, ErrorKind::AlreadyExists].contains(&error.kind()) => return Err(unwritable(error)),
            Err(error) => {
                tracing::error!("{}", unwritable(error));
                File::open(&name).ok()
            }
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => Ok(Folder { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CheckpointError {
                code: "STATE_IN_USE",
                message: format!("another tieout keeps its state in {}", data_dir.display()),
                remedy: "stop that one, or give this one a `data_dir` of its own".into(),
            }),
            Err(TryLockError::Error(error)) => Err(unwritable(error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of all checkpoints: what is written from now on does not follow from them.
    ///
    /// # Errors
    /// They can't be removed. Whoever starts next would go on from one of them.
    pub fn forget(&self) -> Result<(), CheckpointError> {
        let found = ticks(&self.path);
        let removed = found.and_then(|found| found.into_iter().map(|tick| fs::remove_file(manifest_path(&self.path, tick))).fold(Ok(()), Result::and));
        removed.and_then(|()| File::open(&self.path)?.sync_all()).map_err(|error| self.kept(&error))
    }

    /// Could it let go of all checkpoints, if there are any?
    ///
    /// # Errors
    /// The folder can't be read, or written to.
    pub fn can_forget(&self) -> Result<(), CheckpointError> {
        let probe = self.path.join("probe");
        let able = ticks(&self.path).and_then(|found| if found.is_empty() { Ok(()) } else { self.put(&probe, b"").and_then(|()| fs::remove_file(&probe)) });
        able.map_err(|error| self.kept(&error))
    }

    fn kept(&self, error: &io::Error) -> CheckpointError {
        let remedy = "check the space and the rights of `data_dir`, or name another one: the next start would go on from the checkpoints that are there";
        CheckpointError { remedy: remedy.into(), ..CheckpointError::unwritable(&self.path, error) }
    }

    /// How long the files of outputs were before this deployment wrote to them: whatever is behind that it can write again.
    /// `now`: how long they are.
    ///
    /// # Errors
    /// What is known of it is damaged, or can't be read.
    pub fn begin(&self, now: BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>, CheckpointError> {
        let path = self.path.join("begun.json");
        let remedy = "remove that file, and the files of outputs: nobody knows which of their lines are of this deployment";
        let mut begun: BTreeMap<String, u64> = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(CheckpointError { remedy: remedy.into(), ..CheckpointError::unreadable(&path, &error) }),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| CheckpointError { remedy: remedy.into(), ..CheckpointError::damaged(&path, why) })?,
        };
        let known = begun.len();
        for (file, length) in now {
            begun.entry(file).or_insert(length);
        }
        if begun.len() > known
            && let Err(error) = self.put(&path, &serde_json::to_vec(&begun).expect("plain data"))
        {
            tracing::error!("{}", CheckpointError::unwritable(&path, &error));
        }
        Ok(begun)
    }

    /// Writes a file, whole or not at all.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        failpoint::reach("checkpoint-rename");
        fs::rename(&new, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// Where the entries of a checkpoint that is being taken go.
    pub fn new_entries(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:020}.entries"))
    }

    /// Puts a checkpoint in place, whole or not at all; then lets go of what is older than the newest `keep`.
    ///
    /// # Errors
    /// It can't be written; the checkpoints before stand as they were.
    pub fn publish(&self, manifest: &Manifest, keep: usize) -> Result<(), CheckpointError> {
        let path = manifest_path(&self.path, manifest.tick);
        self.put(&path, &manifest.to_bytes()).map_err(|error| CheckpointError::unwritable(&path, &error))?;
        self.tidy(keep);
        Ok(())
    }

    /// Removes checkpoints behind the newest `keep`, and files that no checkpoint names. What can't be removed stays.
    fn tidy(&self, keep: usize) {
        let Ok(found) = list(&self.path) else { return };
        for old in found.iter().skip(keep.max(1)) {
            let _ = fs::remove_file(manifest_path(&self.path, old.tick));
        }
        let kept: Vec<String> =
            found.iter().take(keep.max(1)).filter_map(|f| f.manifest.as_ref().ok()).flat_map(|m| m.entries.iter().map(|e| e.name.clone())).collect();
        // One that can't be read may name any file.
        if found.iter().take(keep.max(1)).any(|f| f.manifest.is_err()) {
            return;
        }
        for file in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if (name.ends_with(".entries") || name.ends_with(".new")) && !kept.contains(&name) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

fn manifest_path(folder: &Path, tick: Tick) -> PathBuf {
    folder.join(format!("{tick:020}.json"))
}

/// Is the checkpoint of a tick not there any more? A tieout that runs has let go of it.
pub fn is_gone(folder: &Path, tick: Tick) -> bool {
    !manifest_path(folder, tick).exists()
}

/// The ticks of which a folder has a checkpoint, the newest first; none where there is no folder.
fn ticks(folder: &Path) -> io::Result<Vec<Tick>> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let tick = |file: fs::DirEntry| file.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
    let mut ticks: Vec<Tick> = files.into_iter().filter_map(tick).collect();
    ticks.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ticks)
}

/// The checkpoints of a folder, the newest first, without a look at their entries.
///
/// # Errors
/// `CHECKPOINT_UNREADABLE`: it can't be looked at, which is not the same as that there are none.
pub fn list(folder: &Path) -> Result<Vec<Found>, CheckpointError> {
    let mut all = Vec::new();
    for tick in ticks(folder).map_err(|error| CheckpointError::unreadable(folder, &error))? {
        let path = manifest_path(folder, tick);
        let manifest = match fs::read(&path) {
            Ok(bytes) => Manifest::from_bytes(&bytes).map_err(|why| match why {
                Unread::Damaged(why) => CheckpointError::damaged(&path, why),
                Unread::Newer(why) => CheckpointError::newer(&path, &why),
            }),
            // A tieout that runs let go of it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => match unread(&path, error) {
                error if error.code == "CHECKPOINT_UNREADABLE" => return Err(error),
                damaged => Err(damaged),
            },
        };
        all.push(Found { tick, manifest });
    }
    Ok(all)
}

/// What an error says of a file of a checkpoint: that it is gone or destroyed, or nothing.
fn unread(path: &Path, error: io::Error) -> CheckpointError {
    if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(EIO) {
        return CheckpointError::damaged(path, error);
    }
    CheckpointError::unreadable(path, &error)
}

/// Are all entries of a checkpoint what was written? Reads all of them.
///
/// # Errors
/// The first file that is not.
pub fn verify(folder: &Path, manifest: &Manifest) -> Result<(), CheckpointError> {
    for EntriesFile { name, bytes, checksum } in &manifest.entries {
        let path = folder.join(name);
        // Before it is read: what was put in its place may have no end.
        let file = fs::metadata(&path).map_err(|e| unread(&path, e))?;
        if !file.is_file() || file.len() != *bytes {
            return Err(CheckpointError::damaged(&path, format!("it has {} bytes, and {bytes} were written", file.len())));
        }
        let (found_bytes, found) = entries::sum(&path).map_err(|e| unread(&path, e))?;
        if found_bytes != *bytes {
            return Err(CheckpointError::damaged(&path, format!("it has {found_bytes} bytes, and {bytes} were written")));
        }
        if format!("{found:032x}") != *checksum {
            return Err(CheckpointError::damaged(&path, "it does not have its checksum"));
        }
    }
    Ok(())
}
