//! The thread that takes checkpoints, beside everything else.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use super::{CheckpointError, Folder, Manifest, entries, manifest::EntriesFile, restore};
use crate::{
    clock::Ask,
    engine::{Command, Cut, SavePart, Tick, workers::Workers},
    failpoint,
    ledger::{LedgerSave, Packed, SharedLedger},
    log::kafka::group::Groups,
    plan::Plan,
    sink::Written,
    telemetry,
    watchdog::Watched,
};

/// How often it is looked whether the outputs have been written.
const LOOK: Duration = Duration::from_millis(5);
/// How long the last checkpoint of a run waits for them.
const PATIENCE_AT_END: Duration = Duration::from_secs(10);

/// The thread, and the way to it.
pub struct Taker {
    stop: Sender<()>,
    saves: Sender<LedgerSave>,
    thread: JoinHandle<Chain>,
}

/// What has been taken so far.
struct Chain {
    plan: Arc<Plan>,
    /// What every checkpoint of the plan says.
    of_plan: Manifest,
    folder: Folder,
    workers: usize,
    /// The entries that the next checkpoint adds to; none: it begins anew, with everything.
    files: Vec<EntriesFile>,
    next: u64,
    /// How far the outputs are written.
    written: Written,
    /// Their topics, as far as they are known.
    topics: BTreeMap<String, BTreeMap<String, String>>,
    /// Who is told what checkpoints cover.
    groups: Groups,
    /// The run ends.
    ending: bool,
}

/// Why a checkpoint was not taken.
enum Given {
    /// The run ends.
    Up,
    Failed(CheckpointError),
}

/// Of differences, in one block.
const BLOCK_BYTES: usize = 64 << 20;

impl Taker {
    /// Starts to take a checkpoint every `checkpoint.interval`; `restored` is the one that the run went on from,
    /// if it goes on with its chain of files.
    pub fn start(
        plan: Arc<Plan>,
        folder: Folder,
        restored: Option<&Manifest>,
        ledger: SharedLedger,
        ask: Sender<Ask>,
        written: Written,
        watched: Watched,
    ) -> Taker {
        let (stop, stopped) = unbounded();
        let (saves, saved) = unbounded();
        let found = super::folder::list(folder.path()).unwrap_or_default();
        let next = found.first().map_or(0, |found| found.tick).max(restored.map_or(0, |m| m.tick)) + 1;
        let files = restored.map(|manifest| manifest.entries.clone()).unwrap_or_default();
        let groups = Groups::of(&plan);
        let topics = restored.map(|manifest| manifest.topics.clone()).unwrap_or_default();
        let of_plan = Manifest::of(&plan, LedgerSave::default(), Vec::new());
        let mut chain = Chain { workers: plan.all_workers(), of_plan, plan, folder, files, next, written, topics, groups, ending: false };
        let thread = std::thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || {
                let mut due = Instant::now() + chain.plan.checkpoint.interval;
                while stopped.recv_timeout(due.saturating_duration_since(Instant::now())).is_err_and(|e| e.is_timeout()) {
                    // A clock that has left takes no questions; then the run ends, and says so.
                    let tell = |command, cut| {
                        let _ = match command {
                            Command::Save { all, to } => ask.send(Ask::Save { all, to }),
                            _ => ask.send(Ask::Cut(cut)),
                        };
                    };
                    let may = ledger.read().may_save();
                    match if may { chain.take(&stopped, &saved, tell) } else { Ok(()) } {
                        Ok(()) => watched.checkpoint(None),
                        Err(Given::Up) => break,
                        Err(Given::Failed(error)) => {
                            telemetry::CheckpointFailed { error: &error }.emit();
                            watched.checkpoint(Some(&error));
                        }
                    }
                    due = Instant::now() + chain.plan.checkpoint.interval;
                }
                chain
            })
            .expect("the operating system starts a thread");
        Taker { stop, saves, thread }
    }

    /// Where the ledger's part of a checkpoint goes.
    pub fn saves(&self) -> Sender<LedgerSave> {
        self.saves.clone()
    }

    /// Ends the thread, and takes a last checkpoint of workers and ledger if both have closed and applied all that there was.
    ///
    /// # Errors
    /// It could not be taken; the one before stands.
    pub fn finish(self, last: Option<(&Workers, &SharedLedger)>) -> Result<(), CheckpointError> {
        let _ = self.stop.send(());
        let mut chain = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let Some((workers, ledger)) = last.filter(|(_, ledger)| ledger.read().may_save()) else { return Ok(()) };
        chain.ending = true;
        let (saves, saved) = unbounded();
        let taken = chain.take(&never(), &saved, |command, cut| {
            if matches!(command, Command::Cut) {
                let _ = saves.send(ledger.read().save(cut));
            }
            workers.all(&command);
        });
        chain.groups.finish();
        match taken {
            // Given up: the outputs are behind, and say why.
            Ok(()) | Err(Given::Up) => Ok(()),
            Err(Given::Failed(error)) => Err(error),
        }
    }
}

impl Chain {
    /// Takes one checkpoint. After a failure the next one begins anew: what the workers copied is nowhere.
    fn take(&mut self, stopped: &Receiver<()>, saved: &Receiver<LedgerSave>, tell: impl Fn(Command, Cut)) -> Result<(), Given> {
        let begun = Instant::now();
        let outweighed = self.files.first().is_some_and(|first| self.files[1..].iter().map(|f| f.bytes).sum::<u64>() > first.bytes);
        // Somebody may have cleared the folder away; a chain that lacks a file is of no use.
        let whole = self.files.iter().all(|file| self.folder.path().join(&file.name).exists());
        let before = if whole { std::mem::take(&mut self.files) } else { Vec::new() };
        let path = self.folder.new_entries(self.next);
        let filled = self.fill(&path, &before, outweighed || before.is_empty(), stopped, saved, tell);
        let mut files = if outweighed { Vec::new() } else { before };
        let written = filled.and_then(|filled| self.outputs_written(filled.0.tick, stopped).map(|progress| (filled, progress)).ok_or(Given::Up));
        let ((save, bytes, checksum), progress) = written.inspect_err(|_| {
            self.files.clear();
            let _ = std::fs::remove_file(&path);
        })?;
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        files.push(EntriesFile { name, bytes, checksum: format!("{checksum:032x}") });
        let mut sources = self.of_plan.sources.clone();
        for ((shape, source), state) in sources.iter_mut().zip(&self.plan.sources).zip(&save.sources) {
            shape.beginnings = restore::beginnings(&self.plan, source, &state.positions);
        }
        let (tick, clusters) = (save.tick, self.written.clusters());
        // Where a cluster did not say, what it said before still holds.
        for (connection, topics) in self.written.topics() {
            self.topics.entry(connection).or_default().extend(topics);
        }
        let (topics, lengths) = (self.topics.clone(), self.written.lengths(tick));
        let settled = lengths.keys().try_for_each(|file| settle(std::path::Path::new(file)));
        let manifest = Manifest { tick, sources, ledger: save, progress, clusters, topics, lengths, entries: files.clone(), ..self.of_plan.clone() };
        failpoint::reach("checkpoint-write");
        if let Err(error) = settled.and_then(|()| self.folder.publish(&manifest, self.plan.checkpoint.keep)) {
            self.files.clear();
            return Err(Given::Failed(error));
        }
        // While there are fewer than may be kept, a start that finds all of them damaged can still go on from the beginning.
        let found = super::folder::list(self.folder.path()).unwrap_or_default();
        if let Some(oldest) = found.last().filter(|_| found.len() >= self.plan.checkpoint.keep) {
            self.written.needed_from(oldest.tick);
        }
        let sources = &manifest.ledger.sources;
        self.groups.cover(|source| sources.get(source).map_or(&[][..], |of| &of.positions));
        self.next = manifest.tick.max(self.next) + 1;
        self.files = files;
        let seconds = begun.elapsed().as_secs_f64();
        telemetry::CheckpointTaken { manifest: &manifest, seconds }.emit();
        Ok(())
    }

    /// Waits until the outputs are written up to the cut: a checkpoint must not know what they do not. Nothing, when they
    /// will not be. Otherwise how far each is.
    fn outputs_written(&self, cut: Tick, stopped: &Receiver<()>) -> Option<std::collections::BTreeMap<String, Tick>> {
        let begun = Instant::now();
        while self.written.tick()? < cut {
            match stopped.recv_timeout(LOOK) {
                Err(error) if error.is_timeout() && (!self.ending || begun.elapsed() < PATIENCE_AT_END) => {}
                _ => return None,
            }
        }
        Some(self.written.progress())
    }

    fn fill(
        &self,
        path: &std::path::Path,
        before: &[EntriesFile],
        all: bool,
        stopped: &Receiver<()>,
        saved: &Receiver<LedgerSave>,
        tell: impl Fn(Command, Cut),
    ) -> Result<(LedgerSave, u64, u128), Given> {
        let unwritable = |error: std::io::Error| Given::Failed(CheckpointError::unwritable(path, &error));
        std::fs::create_dir_all(self.folder.path()).map_err(unwritable)?;
        let mut file = entries::Writer::create(path).map_err(unwritable)?;
        let (to, mut parts) = unbounded();
        // What stood before is in the files before: the ledger has to say only what changed since, and does not stop for more.
        let cut = if before.is_empty() { Cut::Whole } else { Cut::Changes };
        tell(Command::Save { all, to }, cut);
        let (mut copied, mut cuts, mut save) = (0, Vec::new(), None::<LedgerSave>);
        // What the ledger said for a checkpoint that was given up may still come; it is of another tick.
        while cuts.len() < self.workers || save.as_ref().is_none_or(|save| save.tick != cuts[0]) {
            select! {
                recv(parts) -> part => match part {
                    Ok(SavePart::Entries { table, bytes }) => file.block(entries::Kind::Table, table, &bytes).map_err(unwritable)?,
                    Ok(SavePart::Copied) => {
                        copied += 1;
                        if copied == self.workers {
                            tell(Command::Cut, cut);
                        }
                    }
                    Ok(SavePart::Cut(tick)) => cuts.push(tick),
                    // All workers have said all; the ledger has not.
                    Err(_) if cuts.len() == self.workers => parts = never(),
                    Err(_) => return Err(Given::Up),
                },
                recv(saved) -> of => match of {
                    Ok(of) => save = Some(of),
                    Err(_) => return Err(Given::Up),
                },
                recv(stopped) -> _ => return Err(Given::Up),
            }
        }
        let mut save = save.expect("the loop waits for it");
        let mut differences = std::mem::take(&mut save.differences);
        if all && !before.is_empty() {
            let stood = restore::differences(self.folder.path(), before, differences.len()).map_err(Given::Failed)?;
            for (stood, changed) in stood.into_iter().zip(&mut differences) {
                changed.splice(0..0, stood);
            }
        }
        for (comparison, parts) in differences.into_iter().enumerate() {
            let packed = match <[Packed; 1]>::try_from(parts) {
                Ok([packed]) => packed,
                Err(parts) => Packed::whole(&parts).ok_or_else(|| Given::Failed(CheckpointError::damaged(path, "its differences can't be read")))?,
            };
            let kind = if packed.cut == Cut::Whole { entries::Kind::Differences } else { entries::Kind::Changed };
            // One that is empty says so.
            let blocks = packed.bytes.chunks(BLOCK_BYTES).chain(packed.bytes.is_empty().then_some(&[][..]));
            for block in blocks {
                file.block(kind, comparison, block).map_err(unwritable)?;
            }
        }
        let (bytes, checksum) = file.finish().map_err(unwritable)?;
        Ok((save, bytes, checksum))
    }
}

/// Has what was written to an output file outlive the machine, as the checkpoint does that relies on it. Of one that was removed or moved
/// the next start says that it is gone.
fn settle(path: &std::path::Path) -> Result<(), CheckpointError> {
    match std::fs::File::open(path).and_then(|file| file.sync_data()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::unwritable(path, &error)),
        _ => Ok(()),
    }
}
