//! The process that leads, among those of its cluster: it tells the others what its own workers are told, and hears what comes of
//! it. Everything else of a run is as with one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossbeam_channel::Sender;

use super::{
    note::{self, Down, Shown, Up},
    spawn,
};
use crate::{
    clock::{Ask, Begin},
    cluster::Mesh,
    engine::{Command, ExportBlock, Part, Reply, Report, SavePart, workers::Others},
    http::forward::Guests,
    ledger::Torn,
    log::{LogError, LogStatus},
    plan::{Plan, SourceId},
    processes::Processes,
    reference, row,
};

/// Parts of a checkpoint that may wait for the disk before nothing more is heard; about 256 MiB.
const PARTS_MAX: usize = 1024;

/// The other processes, as the one that leads has them.
pub struct Leader {
    mesh: Arc<Mesh>,
    processes: usize,
    /// Workers of each.
    threads: usize,
    waiting: Mutex<Waiting>,
}

/// Who waits for something that the others say.
#[derive(Default)]
struct Waiting {
    next: u64,
    rows: BTreeMap<u64, Reply>,
    /// The checkpoint that is being taken.
    save: Option<(u64, Sender<SavePart>)>,
    /// By worker.
    exports: Vec<Sender<ExportBlock>>,
}

/// Look-ups whose answers are waited for; those before nobody waits for any more.
const ROWS_MAX: usize = 10_000;

impl Leader {
    pub fn new(mesh: Arc<Mesh>, plan: &Plan) -> Leader {
        Leader { mesh, processes: plan.process.of, threads: plan.workers.max(1), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding it")
    }

    fn say(&self, down: &Down) {
        let bytes = note::write(down);
        (1..self.processes).for_each(|to| self.mesh.say(to, &bytes));
    }

    /// Tells the others what to go on from.
    pub fn begin(&self, begin: Begin) {
        self.say(&Down::Begin(Box::new(begin)));
    }

    /// Tells the others that the run is over, and leaves the cluster.
    pub fn over(&self, failure: Option<String>) {
        self.say(&Down::Over(failure));
        self.mesh.leave();
    }

    /// Starts to hear what the others say; ends when all of them have said everything.
    pub fn hear(self: &Arc<Self>, ears: Ears) {
        let leader = Arc::clone(self);
        spawn("followers", move || {
            let mut left = leader.processes - 1;
            while left > 0 {
                let Ok((from, bytes)) = leader.mesh.notes().recv() else { return };
                match note::read(&bytes) {
                    Ok(Up::Done) => left -= 1,
                    Ok(up) => leader.take(&ears, from, up),
                    Err(why) => leader.mesh.distrust(from, &why),
                }
            }
        });
    }

    fn take(&self, ears: &Ears, from: usize, up: Up) {
        // Who has left does not hear; then the run ends, and says so.
        match up {
            Up::Report(report) => drop(ears.reports.send(report)),
            Up::Part(part) => drop(ears.parts.send(part)),
            Up::State(state) => drop(ears.ask.send(Ask::Is(from, state))),
            Up::Row { id, answer } => {
                let reply = self.waiting().rows.remove(&id);
                let _ = reply.map(|reply| reply(answer));
            }
            Up::Save { id, part } => {
                let to = self.waiting().save.as_ref().filter(|(of, _)| *of == id).map(|(_, to)| to.clone());
                if let Some(to) = to {
                    while to.len() > PARTS_MAX {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let _ = to.send(part);
                }
            }
            Up::Export { worker, block } => {
                let to = self.waiting().exports.get(worker).cloned();
                let _ = to.map(|to| to.send(block));
            }
            Up::Shown(shown) => {
                let Shown { logs, .. } = &*shown;
                for ((view, waits, ended), status) in logs.iter().zip(ears.logs.get(from).into_iter().flatten()) {
                    status.take_over(view.clone(), *waits, *ended);
                }
                if let Some((source, error)) = ears.other_topic(from) {
                    let _ = ears.ask.send(Ask::Failed(source, error));
                }
                ears.processes.show(from, shown.memory_bytes, shown.pending, shown.http);
            }
            Up::Failed { source, code, message, remedy, retry } => {
                let code = reference::stop(&code);
                let _ = ears.ask.send(Ask::Failed(source, LogError { code, message, remedy, retry }));
            }
            Up::AskedToStop => drop(ears.ask.send(Ask::Stop)),
            Up::Http { id, word } => {
                if let Some(guests) = &ears.guests {
                    guests.hear(from, id, word);
                }
            }
            Up::Done => {}
        }
    }

    /// Says a part of an answer over HTTP.
    pub fn answer(&self, to: usize, id: u64, piece: crate::http::forward::Piece) {
        self.mesh.say(to, &note::write(&Down::Answer { id, piece }));
    }
}

/// Where what the others say goes.
pub struct Ears {
    pub reports: Sender<Report>,
    pub parts: Sender<Part>,
    pub ask: Sender<Ask>,
    /// By process and source.
    pub logs: Vec<Vec<Arc<LogStatus>>>,
    pub processes: Processes,
    pub guests: Option<Guests>,
}

impl Ears {
    /// A topic that is another one for that process than for this one: its brokers are of another cluster.
    fn other_topic(&self, from: usize) -> Option<(SourceId, LogError)> {
        let identity = |process: usize, source: usize| self.logs.get(process)?.get(source)?.view().identity;
        let differs = |source: usize| {
            let ids = [identity(0, source)?, identity(from, source)?];
            (ids[0] != ids[1]).then(|| Torn { source, processes: [0, from], ids }.error())
        };
        (0..self.logs.first()?.len()).find_map(|source| Some((source, differs(source)?)))
    }
}

impl Others for Leader {
    fn tell(&self, command: &Command) {
        let down = match command {
            Command::Seal { tick, hold, shown } => Down::Seal { tick: *tick, hold: *hold, shown: *shown },
            Command::Row { table, key, reply } => {
                let owner = row::worker_of(row::hash_key(key), self.threads * self.processes) / self.threads;
                if owner > 0 {
                    let id = {
                        let mut waiting = self.waiting();
                        waiting.next += 1;
                        let id = waiting.next;
                        waiting.rows.insert(id, reply.clone());
                        while waiting.rows.len() > ROWS_MAX {
                            waiting.rows.pop_first();
                        }
                        id
                    };
                    self.mesh.say(owner, &note::write(&Down::Row { id, table: *table, key: key.clone() }));
                }
                return;
            }
            Command::Keep => Down::Keep,
            Command::Save { all, to } => {
                let mut waiting = self.waiting();
                waiting.next += 1;
                waiting.save = Some((waiting.next, to.clone()));
                Down::Save { id: waiting.next, all: *all }
            }
            Command::Cut => Down::Cut,
            Command::Blind { tables } => Down::Blind { tables: tables.to_vec() },
            Command::Restore { entries, give, numbers } => {
                Down::Restore { entries: entries.to_vec(), give: give.to_vec(), numbers: numbers.as_deref().cloned() }
            }
            Command::Empty { sides } => Down::Empty { sides: sides.to_vec() },
            Command::Restored => Down::Restored,
            Command::Quiet => Down::Quiet,
            Command::Export { to } => {
                self.waiting().exports = to.to_vec();
                Down::Export
            }
            Command::Stop => {
                // Nobody waits for what is not there by now.
                *self.waiting() = Waiting::default();
                Down::Stop
            }
            // For one worker of this process.
            Command::Chunk { .. } => return,
        };
        self.say(&down);
    }

    fn align(&self, process: usize, oldest: i64) {
        self.mesh.say(process, &note::write(&Down::Oldest(oldest)));
    }
}
