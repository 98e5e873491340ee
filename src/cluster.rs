//! Several processes, one dataflow: who they are, how they find and know each other, and how they notice that one is gone.
//!
//! ```text
//!  Mesh::connect ─┬─ door: listens; strangers are refused, counted, and never more than a few
//!                 ├─ dial: calls every process of a lower index, two connections each
//!                 ├─ roll: all have named the same starts of the same processes, or nobody begins
//!                 └─▶ per process a Link for the engine, and a control connection (pulse)
//! ```
//!
//! A cluster begins when all of its processes are there, and ends when one is lost: state is spread, so nobody can go on alone.
//! Which start of which process is meant is part of what all agree on, so that what an older run left over is never taken for
//! one of this one.
//!
//! | file | what |
//! | --- | --- |
//! | `hello` | what is proved to each other, byte by byte |
//! | `build` | which build of tieout this process runs |
//! | `door` | the listener, and who knocks |
//! | `dial` | calling others |
//! | `pulse` | the control connection: signs of life, farewells, notes |
//! | `wire` | a connection once both ends are known: encrypted, or as it is |
//! | `link` | the connection that the engine gets |

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::plan::cluster::Cluster;

mod build;
mod dial;
mod door;
pub mod hello;
mod link;
mod pulse;
mod wire;

pub use link::Link;
pub use pulse::{Frame, Frames};

use dial::{Called, NotReached};
use door::{Door, Guest};
use hello::{Boot, Card, Use, Verdict};
use pulse::Fate;
use wire::{Side, Wire};

/// How often the door is looked after while others are waited for, and afterwards.
const LOOK: Duration = Duration::from_millis(2);
const LOOK_LATER: Duration = Duration::from_millis(50);
/// Between two calls of a process that was not reached.
const CALL_AGAIN: Duration = Duration::from_millis(200);
/// Between two log lines about who is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// A process that was there is gone.
pub const LOST: &str = "PEER_LOST";
/// A process is there, and says nothing.
pub const SILENT: &str = "PEER_SILENT";

/// What all processes of a run must have alike.
#[derive(Clone, Debug)]
pub struct Alike {
    /// Workers of each process.
    pub threads: usize,
    /// The fingerprint of the plan.
    pub plan: String,
}

/// A process that the run can't go on without is lost.
#[derive(Clone, Debug)]
pub struct Lost {
    pub peer: usize,
    pub address: String,
    pub code: &'static str,
    pub why: String,
    /// The code with which to exit: that of who gave up, since what it can't mend by trying again nobody can.
    pub exit: u8,
}

/// The exit code of who has lost another process: all are started together again.
pub const AGAIN: u8 = 75;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lost { peer, address, code, why, exit } = self;
        let remedy = match *exit {
            AGAIN => "the cluster stops, to be started together again",
            0 => "the cluster stops, too",
            _ => "the cluster stops, and trying again changes nothing: see to that process, then start all",
        };
        write!(f, "{code}: process {peer} of the cluster ({address}) is lost: {why}; {remedy}")
    }
}

/// Why a process could not join its cluster.
#[derive(Clone, Debug)]
pub struct MeshError {
    pub code: &'static str,
    pub message: String,
    /// Trying again may help.
    pub retry: bool,
}

impl std::fmt::Display for MeshError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What is known of another process while the cluster comes together.
#[derive(Default)]
struct Slot {
    boot: Option<Boot>,
    control: Option<Wire>,
    data: Option<Wire>,
    frames: Frames,
    roll: Option<[u8; 32]>,
    calling: bool,
    call_after: Option<Instant>,
    /// Why it is not there, as far as that is known.
    last: Option<NotReached>,
}

impl Slot {
    fn is_there(&self) -> bool {
        [&self.control, &self.data].into_iter().all(|wire| wire.as_ref().is_some_and(Wire::is_ready))
    }

    fn clear(&mut self) {
        let last = self.last.take();
        *self = Slot { calling: self.calling, call_after: self.call_after, last, ..Slot::default() };
    }
}

/// A process among the others of its cluster.
pub struct Mesh {
    links: Vec<Option<Link>>,
    fate: Arc<Fate>,
    notes: Receiver<(usize, Vec<u8>)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    run: [u8; 32],
}

impl Mesh {
    /// Joins the cluster: waits until all of its processes are there and agree. `on_lost` is called once, from any thread, when
    /// one of them is lost; it must end the process, since nothing of the engine comes to an end then.
    ///
    /// # Errors
    /// The address can't be listened on, a process is not there in time, or does not fit.
    pub fn connect(cluster: &Cluster, alike: &Alike, on_lost: impl FnOnce(Lost) + Send + 'static) -> Result<Mesh, MeshError> {
        let refused = |error: std::io::Error| MeshError {
            code: "CLUSTER_ADDRESS",
            message: format!("process {} can't listen on {}: {error}; `listen` names another address of this machine", cluster.index, cluster.listen),
            retry: matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable),
        };
        // Who resolves names may be there later than this process, at the start of a machine.
        let addresses = cluster.listen.to_socket_addrs().map_err(|error| MeshError { retry: true, ..refused(error) })?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        Mesh::connect_on(TcpListener::bind(&addresses[..]).map_err(refused)?, cluster, alike, on_lost)
    }

    /// The same with a listener that is there already.
    ///
    /// # Errors
    /// As [`Mesh::connect`].
    pub fn connect_on(listener: TcpListener, cluster: &Cluster, alike: &Alike, on_lost: impl FnOnce(Lost) + Send + 'static) -> Result<Mesh, MeshError> {
        let unusable = |error: std::io::Error| MeshError { code: "CLUSTER_ADDRESS", message: error.to_string(), retry: true };
        let door = Door::new(listener, cluster.secret.clone(), cluster.hello_max, cluster.strangers_max).map_err(unusable)?;
        let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let card = Card {
            wants: Use::Control,
            encrypts: cluster.encrypts,
            from: number(cluster.index),
            to: 0,
            processes: number(cluster.processes.len()),
            threads: number(alike.threads),
            boot: hello::random(),
            cluster: cluster.name.clone(),
            version: build::version(),
            plan: alike.plan.clone(),
        };
        let (called, calls) = unbounded();
        let slots = (0..cluster.processes.len()).map(|_| Slot::default()).collect();
        Gathering { cluster, card, door, slots, called, calls, run: None }.gather(Box::new(on_lost)).map_err(|missing| missing.error(cluster))
    }

    /// The connections that the engine exchanges on, by process (none to this one). They are given away once.
    pub fn links(&mut self) -> Vec<Option<Link>> {
        std::mem::take(&mut self.links)
    }

    /// Says something to another process; what one says to another arrives whole and in order.
    pub fn say(&self, to: usize, note: &[u8]) {
        self.fate.note(to, note);
    }

    /// What other processes say, with who says it.
    pub fn notes(&self) -> &Receiver<(usize, Vec<u8>)> {
        &self.notes
    }

    /// Tells this run of this cluster from every other one; the same in all processes.
    pub fn run(&self) -> [u8; 32] {
        self.run
    }

    /// Tells the others that this process gives up with an exit code, and why, so that they name the cause and exit likewise; it should
    /// end at once.
    pub fn give_up(&self, exit: u8, why: &str) {
        self.fate.give_up(exit, why);
    }

    /// A process says what nobody understands: it is lost, as far as this one is concerned.
    pub fn distrust(&self, peer: usize, why: &str) {
        self.fate.lost(peer, LOST, why);
    }

    /// Does this process leave, or has it given up?
    pub fn is_leaving(&self) -> bool {
        self.fate.is_leaving()
    }

    /// Leaves as one should, once the engine has stopped.
    pub fn leave(&self) {
        self.fate.leave();
        let threads = self.threads.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A cluster that comes together.
struct Gathering<'a> {
    cluster: &'a Cluster,
    card: Card,
    door: Door,
    slots: Vec<Slot>,
    called: Sender<(usize, Result<Called, NotReached>)>,
    calls: Receiver<(usize, Result<Called, NotReached>)>,
    /// What was last said to all to be the run.
    run: Option<[u8; 32]>,
}

const REMEDY: &str = "; start all of them with the same cluster file, each with its own index, and let nothing between them stop connections to these \
                      addresses (`tieout cluster` tries that without running anything)";

/// Who was not there in time.
struct Missing(Vec<(usize, Option<NotReached>)>);

impl Missing {
    fn error(self, cluster: &Cluster) -> MeshError {
        let why = |(peer, last): &(usize, Option<NotReached>)| {
            let why = last.as_ref().map_or("it has not called, or does not agree who is there", |last| last.why.as_str());
            format!("process {peer} ({}): {why}", cluster.processes[*peer])
        };
        let differs = self.0.iter().any(|(_, last)| last.as_ref().is_some_and(|last| last.differs));
        let all: Vec<String> = self.0.iter().map(why).collect();
        MeshError {
            code: if differs { "PEER_DIFFERS" } else { "PEER_MISSING" },
            message: format!("not all of the cluster came together within {:?}: {}{}", cluster.start_max, all.join("; "), if differs { "" } else { REMEDY }),
            // Somebody may be changing them one by one; who starts them again goes on until all fit.
            retry: true,
        }
    }
}

impl Gathering<'_> {
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.cluster.index;
        (0..self.slots.len()).filter(move |peer| *peer != me)
    }

    fn gather(mut self, on_lost: Box<dyn FnOnce(Lost) + Send>) -> Result<Mesh, Missing> {
        let (began, mut said) = (Instant::now(), Instant::now());
        loop {
            for guest in self.door.look() {
                self.welcome(guest);
            }
            self.call();
            self.listen();
            if self.others().all(|peer| self.slots[peer].is_there()) {
                let run = self.call_the_roll();
                if self.others().all(|peer| self.slots[peer].roll == Some(run)) {
                    return Ok(self.begin(run, on_lost));
                }
            }
            let missing: Vec<usize> = self.others().filter(|peer| !self.slots[*peer].is_there()).collect();
            if began.elapsed() > self.cluster.start_max {
                return Err(Missing(
                    self.others().map(|peer| (peer, self.slots[peer].last.take())).filter(|(peer, _)| missing.is_empty() || missing.contains(peer)).collect(),
                ));
            }
            if said.elapsed() > SAY_AGAIN {
                said = Instant::now();
                tracing::info!(?missing, "waits for the other processes of cluster `{}`", self.cluster.name);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes in who knows the secret, if it fits.
    fn welcome(&mut self, mut guest: Guest) {
        let peer = usize::from(guest.card.from);
        let card = Card { to: guest.card.from, wants: guest.card.wants, ..self.card.clone() };
        let why = card.differs(&guest.card).or_else(|| {
            (peer <= self.cluster.index || peer >= self.slots.len())
                .then(|| format!("it says to be process {peer}, and no such process calls process {}; each needs its own index", self.cluster.index))
        });
        let Some(why) = why else {
            let Ok(key) = guest.answer(Verdict::Welcome, &card, &self.cluster.secret) else { return };
            let Ok(wire) = Wire::new(guest.stream, self.cluster.encrypts.then_some(key), Side::Answers) else { return };
            if wire.set_nonblocking(true).is_err() {
                return;
            }
            let slot = &mut self.slots[peer];
            if slot.boot.is_some_and(|boot| boot != guest.card.boot) {
                // The newer start is the one that lives.
                slot.clear();
            }
            slot.boot = Some(guest.card.boot);
            match guest.card.wants {
                Use::Control => {
                    // Calls begin with it: what there was of an earlier one is of no use.
                    slot.clear();
                    (slot.boot, slot.control, self.run) = (Some(guest.card.boot), Some(wire), None);
                }
                Use::Data => slot.data = Some(wire),
            }
            slot.last = None;
            return;
        };
        let _ = guest.answer(Verdict::Differs, &card, &self.cluster.secret);
        self.differs(peer, why);
    }

    /// Notes, and says once, that a process does not fit.
    fn differs(&mut self, peer: usize, why: String) {
        let Some(slot) = self.slots.get_mut(peer) else { return tracing::error!("process {peer} of the cluster does not fit: {why}") };
        let last = Some(NotReached::differs(why));
        if slot.last != last {
            tracing::error!("process {peer} of the cluster does not fit: {}", last.as_ref().map_or("", |last| &last.why));
            slot.last = last;
        }
    }

    /// Calls who is to be called, and takes in who was reached.
    fn call(&mut self) {
        for peer in 0..self.cluster.index {
            let slot = &mut self.slots[peer];
            if slot.calling || slot.is_there() || slot.call_after.is_some_and(|after| Instant::now() < after) {
                continue;
            }
            slot.calling = true;
            let (called, cluster, card) = (self.called.clone(), self.cluster.clone(), self.card.clone());
            let call = move || drop(called.send((peer, dial::call(&cluster, &card, peer))));
            if std::thread::Builder::new().name(format!("call-{peer}")).spawn(call).is_err() {
                slot.calling = false;
            }
        }
        while let Ok((peer, reached)) = self.calls.try_recv() {
            let slot = &mut self.slots[peer];
            (slot.calling, slot.call_after) = (false, Some(Instant::now() + CALL_AGAIN));
            match reached {
                Ok(Called { card, control, data }) => {
                    slot.clear();
                    (slot.boot, slot.last) = (Some(card.boot), None);
                    if control.set_nonblocking(true).is_ok() {
                        (slot.control, slot.data, self.run) = (Some(control), Some(data), None);
                    }
                }
                Err(NotReached { why, differs: true, .. }) => self.differs(peer, why),
                // One that has ended meanwhile is still best told by what it said before.
                Err(NotReached { silent: true, .. }) if slot.last.is_some() => {}
                // Who does not fit ends, and then there is nobody any more.
                Err(NotReached { differs: false, .. }) if slot.last.as_ref().is_some_and(|last| last.differs) => {}
                Err(not_reached) => slot.last = Some(not_reached),
            }
        }
    }

    /// Hears what those who are there say; one that is gone is waited for again.
    fn listen(&mut self) {
        for peer in self.others() {
            let slot = &mut self.slots[peer];
            if let Err(error) = slot.control.iter_mut().chain(&mut slot.data).try_for_each(|wire| wire.shake().map(drop)) {
                slot.clear();
                slot.last = Some(error.into());
                continue;
            }
            let Some(control) = slot.control.as_mut().filter(|control| control.is_ready()) else { continue };
            let mut piece = [0; 4096];
            let gone = match control.read(&mut piece) {
                Ok(0) => true,
                Ok(n) => {
                    slot.frames.feed(&piece[..n]);
                    false
                }
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            };
            let frame = loop {
                match slot.frames.next(true) {
                    Ok(Some(Frame::Roll(run))) => slot.roll = Some(run),
                    other => break other,
                }
            };
            if gone || frame.is_err() {
                slot.clear();
                slot.last = Some(NotReached::heard("it was there, and left"));
            }
        }
    }

    /// Tells all who is there, if that is news.
    fn call_the_roll(&mut self) -> [u8; 32] {
        let boots: Vec<Boot> = self.slots.iter().map(|slot| slot.boot.unwrap_or(self.card.boot)).collect();
        let run = hello::run_of(&self.cluster.name, &boots);
        if self.run != Some(run) {
            self.run = Some(run);
            let roll = Frame::Roll(run).bytes();
            for slot in &mut self.slots {
                if let Some(control) = &mut slot.control {
                    // Who can't hear it is gone, which is noticed when it is listened to.
                    let _ = control.write_all(&roll);
                }
            }
        }
        run
    }

    /// All are there and agree.
    fn begin(self, run: [u8; 32], on_lost: Box<dyn FnOnce(Lost) + Send>) -> Mesh {
        let Gathering { cluster, card, mut door, slots, .. } = self;
        let fate = Arc::new(Fate::new(cluster.processes.clone(), on_lost));
        let (to_notes, notes) = bounded(pulse::NOTES_MAX);
        let (mut links, mut writers, mut ears) = (Vec::new(), Vec::new(), Vec::new());
        for (peer, slot) in slots.into_iter().enumerate() {
            let (Some(control), Some(data)) = (slot.control, slot.data) else {
                links.push(None);
                writers.push(None);
                continue;
            };
            let silence = cluster.silence_max;
            let set_up = || {
                link::set_up(control.socket(), silence)?;
                link::set_up(data.socket(), silence)?;
                data.set_nonblocking(false)?;
                data.set_read_timeout(None)?;
                data.set_write_timeout(None)?;
                control.set_nonblocking(false)?;
                control.set_write_timeout(Some(silence))?;
                control.try_clone()
            };
            match set_up() {
                Ok(writer) => writers.push(Some(writer)),
                // Noticed by whoever listens to it.
                Err(_) => writers.push(None),
            }
            links.push(Some(Link::new(data, peer, Arc::clone(&fate))));
            ears.push((peer, control, slot.frames));
        }
        fate.begin(writers);
        let mut threads = Vec::new();
        let mut spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            threads.push(std::thread::Builder::new().name(name).spawn(body).expect("the operating system starts a thread"));
        };
        let silence = cluster.silence_max;
        for (peer, control, frames) in ears {
            let beats = Arc::clone(&fate);
            spawn(format!("pulse-{peer}"), Box::new(move || pulse::beat(peer, silence, &beats)));
            let (fate, notes) = (Arc::clone(&fate), to_notes.clone());
            spawn(format!("hear-{peer}"), Box::new(move || pulse::hear(peer, control, frames, silence, &fate, &notes)));
        }
        let (at_door, secret) = (Arc::clone(&fate), cluster.secret.clone());
        let watch = move || {
            while !at_door.is_leaving() {
                for mut guest in door.look() {
                    let card = Card { to: guest.card.from, wants: guest.card.wants, ..card.clone() };
                    let _ = guest.answer(Verdict::UnderWay, &card, &secret);
                    let (process, control) = (guest.card.from, guest.card.wants == Use::Control);
                    if control {
                        tracing::warn!(process, "a process calls, and the cluster runs already: it was started anew, or twice");
                    }
                }
                std::thread::sleep(LOOK_LATER);
            }
        };
        spawn("cluster".into(), Box::new(watch));
        Mesh { links, fate, notes, threads: Mutex::new(threads), run }
    }
}

#[cfg(test)]
mod tests;
