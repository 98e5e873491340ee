//! From a checkpoint back into workers and ledger.

use std::{path::Path, sync::Arc};

use crossbeam_channel::Sender;

use super::{
    Changes, CheckpointError, Manifest,
    entries::{self, Kind},
    manifest::EntriesFile,
};
use crate::{
    engine::{Again, Cut, Sealed, Upstream, workers::Workers},
    ledger::{Ledger, LedgerSave, Packed},
    log::At,
    plan::{ConnectionKind, LogSpec, Plan},
};

/// A checkpoint that is to be gone on from.
#[derive(Debug)]
pub struct Restore {
    pub manifest: Manifest,
    /// What of it is not as the plan has it.
    pub changes: Changes,
    /// What the ledger of the plan goes on from.
    save: LedgerSave,
}

impl Restore {
    /// What a checkpoint has to go on from, for a plan of which these `changes` are known.
    ///
    /// # Errors
    /// `CHECKPOINT_LOG_CHANGED`: a log is not the one that was read; its positions mean nothing any more.
    pub fn read(plan: &Plan, path: &Path, manifest: Manifest, changes: Changes) -> Result<Restore, CheckpointError> {
        for (at, source) in plan.sources.iter().enumerate() {
            let Some(old) = changes.old_source(at) else { continue };
            let (shape, state) = (&manifest.sources[old], &manifest.ledger.sources[old]);
            let now = beginnings(plan, source, &state.positions);
            for (partition, was) in &shape.beginnings {
                if now.iter().all(|(p, is)| p != partition || is != was) {
                    let position = state.positions.iter().find(|(p, _)| p == partition).map_or(0, |(_, position)| *position);
                    return Err(CheckpointError {
                        code: "CHECKPOINT_LOG_CHANGED",
                        message: format!(
                            "source `{}`: {} when the checkpoint of tick {} was taken",
                            source.name,
                            why(plan, source, *partition, position),
                            manifest.tick
                        ),
                        remedy:
                            "bring the log back; or start anew with `tieout run --fresh` and empty output topics, which reads everything from the beginning"
                                .into(),
                    });
                }
            }
        }
        let differences = differences(path, &manifest.entries, manifest.comparisons.len())?;
        let save = changes.adapt(&LedgerSave { differences, ..manifest.ledger.clone() }, plan);
        Ok(Restore { manifest, changes, save })
    }

    /// Where reading goes on, by source.
    pub fn at(&self) -> Vec<At> {
        self.changes.at(&self.save)
    }

    /// What is read again, and for what.
    pub fn again(&self) -> Vec<Again> {
        self.changes.again(&self.save)
    }

    /// The newest positions in the databases' own logs, by source.
    pub fn upstream(&self) -> Vec<Vec<Upstream>> {
        self.save.sources.iter().map(|source| source.upstream.clone()).collect()
    }

    /// The ledger that goes on from it, once [`Restore::give_back`] has given its tick.
    ///
    /// # Errors
    /// What it kept of the ledger is not for this plan.
    pub fn ledger(&mut self, plan: Arc<Plan>) -> Result<Ledger, CheckpointError> {
        let mut ledger = Ledger::resume(plan, &self.save, self.changes.anew()).map_err(|why| CheckpointError {
            code: "CHECKPOINT_DAMAGED",
            message: why,
            remedy: "start anew with `tieout run --fresh`".into(),
        })?;
        // It has them now.
        self.save.differences = Vec::new();
        ledger.rebuilds(self.again().iter().filter(|again| !again.until.is_empty()).map(|again| again.source));
        Ok(ledger)
    }

    /// Gives the workers their tables back, as the first tick; waits while they have much to do.
    ///
    /// # Errors
    /// A file changed since it was verified.
    pub fn give_back(&self, path: &Path, workers: &Workers, sealed: &Sender<Sealed>) -> Result<(), CheckpointError> {
        let numbers = self.changes.renumbered();
        self.changes.make_blind(workers);
        for file in &self.manifest.entries {
            entries::read(&path.join(&file.name), &[Kind::Table], |_, number, bytes| {
                let give = self.changes.give(number);
                if !give.is_empty() {
                    workers.restore(bytes, give, numbers.clone());
                }
            })?;
        }
        let _ = sealed.send(self.save.sealed());
        workers.restored(self.save.tick, &self.again());
        Ok(())
    }
}

/// What a chain of files says of the differences of so many comparisons: since the last file that says all.
///
/// # Errors
/// A file is not what was written.
pub fn differences(path: &Path, files: &[EntriesFile], comparisons: usize) -> Result<Vec<Vec<Packed>>, CheckpointError> {
    let mut differences = vec![Vec::<Packed>::new(); comparisons];
    for file in files {
        let mut own = vec![None::<Packed>; comparisons];
        entries::read(&path.join(&file.name), &[Kind::Differences, Kind::Changed], |kind, number, bytes| {
            let cut = if kind == Kind::Differences { Cut::Whole } else { Cut::Changes };
            // Large ones stand in several blocks.
            if let Some(of) = own.get_mut(number) {
                of.get_or_insert(Packed { cut, bytes: Vec::new() }).bytes.extend_from_slice(&bytes);
            }
        })?;
        for (all, own) in differences.iter_mut().zip(own) {
            if own.as_ref().is_some_and(|own| own.cut == Cut::Whole) {
                all.clear();
            }
            all.extend(own);
        }
    }
    Ok(differences)
}

/// By partition: a fingerprint of the beginning of a file, up to what was read of it.
pub fn beginnings(plan: &Plan, source: &crate::plan::Source, positions: &[(i32, i64)]) -> Vec<(i32, String)> {
    let (LogSpec::Files(files), ConnectionKind::File { dir }) = (&source.log, &plan.connections[source.connection].kind) else { return Vec::new() };
    let fingerprint = |(partition, position): &(i32, i64)| {
        let path = dir.join(files.get(*partition as usize)?);
        let mut head = Vec::new();
        let limit = (*position).clamp(0, 4096) as u64;
        std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path).ok()?, limit), &mut head).ok()?;
        Some((*partition, format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&head))))
    };
    positions.iter().filter(|(_, position)| *position > 0).filter_map(fingerprint).collect()
}

/// What is not as it was in a source's log.
fn why(plan: &Plan, source: &crate::plan::Source, partition: i32, position: i64) -> String {
    let (LogSpec::Files(files), ConnectionKind::File { dir }) = (&source.log, &plan.connections[source.connection].kind) else {
        return "its log does not begin as it did".into();
    };
    let Some(path) = files.get(partition as usize).map(|file| dir.join(file)) else { return "a file was left out of its list that was read".into() };
    match std::fs::metadata(&path) {
        Err(error) => format!("{} can't be read ({error}), and could be", path.display()),
        Ok(file) if (file.len() as i64) < position => format!("{} has {} bytes, and {position} of it were read", path.display(), file.len()),
        Ok(_) => format!("{} does not begin as it did", path.display()),
    }
}
