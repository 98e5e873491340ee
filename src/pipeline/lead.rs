//! The process that leads, among those of its cluster: it tells the others what its own workers are told, and hears what comes of
//! it. Everything else of a run is as with one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossbeam_channel::Sender;

use super::{
    Failure,
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
    /// The first log that one of the others can't read on.
    failed: Mutex<Option<(SourceId, LogError)>>,
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
        Leader { mesh, processes: plan.process.of, threads: plan.workers.max(1), waiting: Mutex::default(), failed: Mutex::default() }
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
    pub fn over(&self, failure: Option<&Failure>) {
        self.say(&Down::Over(failure.map(|failure| (failure.blame, failure.message.clone()))));
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
                let error = LogError { code: reference::stop(&code), message, remedy, retry };
                self.failed.lock().expect("nobody panics while holding it").get_or_insert_with(|| (source, error.clone()));
                let _ = ears.ask.send(Ask::Failed(source, error));
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

    /// The log that one of the others can't read on, if there is one: it binds no positions any more, so no tick ends.
    pub fn failed(&self) -> Option<(SourceId, LogError)> {
        self.failed.lock().expect("nobody panics while holding it").clone()
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

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use super::*;
    use crate::{
        cluster::Alike,
        config::{self, Need},
        plan::cluster::{Cluster, Secret},
    };

    const CONFIG: &str = "connections: { bus: { kind: kafka, brokers: 'a:1' } }";
    const DATAFLOW: &str = "
dataflow: d
sources:
  s: { connection: bus, topic: t, format: upsert-json, key: [id], columns: { id: bigint } }
targets:
  a: { key: [id], from: s, fields: { id: id } }
";

    /// Whoever waits for its last tick learns of it, though the clock has stopped.
    #[test]
    fn a_log_that_fails_after_the_clock_has_stopped_is_known() {
        let plan = config::load_texts(("config.yaml", CONFIG), &[("d.yaml", DATAFLOW)], &|_| None, Need::Connections).unwrap_or_else(|p| panic!("{p}"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let cluster = Cluster {
            name: "test".into(),
            secret: Secret::new("a secret of some length"),
            encrypts: false,
            processes: vec![address.clone()],
            index: 0,
            listen: address,
            hello_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(2),
            start_max: Duration::from_secs(20),
            strangers_max: 16,
        };
        let mesh = Mesh::connect_on(listener, &cluster, &Alike { threads: 1, plan: "p".into() }, |lost| panic!("{lost}")).expect("it is alone");
        let leader = Leader::new(Arc::new(mesh), &plan);
        let (ask, _) = crossbeam_channel::unbounded();
        let ears = Ears {
            reports: crossbeam_channel::unbounded().0,
            parts: crossbeam_channel::unbounded().0,
            ask,
            logs: Vec::new(),
            processes: Processes::of(&plan),
            guests: None,
        };
        assert_eq!(leader.failed(), None);
        let fails = |code: &str| Up::Failed { source: 0, code: code.into(), message: "gone".into(), remedy: "none".into(), retry: false };
        leader.take(&ears, 1, fails("TOPIC_GONE"));
        leader.take(&ears, 2, fails("OFFSET_GONE"));
        assert_eq!(leader.failed().map(|(source, error)| (source, error.code)), Some((0, "TOPIC_GONE")), "the first one");
        leader.over(None);
    }
}
