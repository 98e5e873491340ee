//! The ledger's loop: collects what the clock and the workers say, applies ticks whole, and publishes them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, select};
use tokio::sync::watch;

use crate::{
    engine::{Part, Report, Sealed, Tick},
    ledger::{
        ComparisonState, Ledger, TickOutput,
        whole::{Torn, Whole},
    },
    telemetry,
};

/// The handle that readers hold: a lock around the ledger, and the news of each closed tick. Clones are the same ledger.
#[derive(Clone, Debug)]
pub struct SharedLedger {
    ledger: Arc<RwLock<Ledger>>,
    closed: Arc<watch::Sender<Tick>>,
    /// Nanoseconds that ticks took to apply.
    nanos: Arc<AtomicU64>,
}

impl SharedLedger {
    pub fn new(ledger: Ledger) -> SharedLedger {
        SharedLedger { ledger: Arc::new(RwLock::new(ledger)), closed: Arc::new(watch::Sender::new(0)), nanos: Arc::default() }
    }

    /// The ledger as of one tick; it does not move while the guard lives, so hold it briefly and format afterwards.
    ///
    /// # Panics
    /// When the ledger broke an invariant: nobody may take credit for what it holds.
    pub fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().expect("the ledger broke an invariant and is not to be read")
    }

    /// Whether [`SharedLedger::read`] can be believed: no invariant was broken while a tick was applied.
    pub fn is_sound(&self) -> bool {
        !self.ledger.is_poisoned()
    }

    /// Tells of each closed tick; only the newest is kept, so a slow reader misses news, never the state.
    pub fn closed(&self) -> watch::Receiver<Tick> {
        self.closed.subscribe()
    }

    /// Nanoseconds that all ticks so far took to apply.
    pub fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    /// Applies a tick whole and tells everybody who waits.
    ///
    /// # Panics
    /// As [`Ledger::apply`] does.
    pub fn apply(&self, sealed: Sealed, reports: Vec<Report>) -> TickOutput {
        let began = Instant::now();
        let output = self.ledger.write().expect("the ledger broke an invariant before").apply(sealed, reports);
        self.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.closed.send_replace(output.tick);
        output
    }
}

/// Ticks of which something is known, until all of it is.
#[derive(Debug, Default)]
pub(super) struct Collector {
    workers: usize,
    processes: usize,
    pending: BTreeMap<Tick, Pending>,
    whole: Whole,
}

#[derive(Debug, Default)]
struct Pending {
    sealed: Option<Sealed>,
    parts: Vec<Part>,
    reports: Vec<Report>,
}

impl Collector {
    pub fn new(workers: usize, processes: usize) -> Collector {
        Collector { workers, processes, ..Collector::default() }
    }

    pub fn sealed(&mut self, sealed: Sealed) {
        let slot = &mut self.pending.entry(sealed.tick).or_default().sealed;
        assert!(slot.is_none(), "tick {} was sealed twice", sealed.tick);
        *slot = Some(sealed);
    }

    /// What another process says of a tick.
    pub fn part(&mut self, part: Part) {
        let parts = &mut self.pending.entry(part.tick).or_default().parts;
        assert!(parts.iter().all(|p| p.process != part.process), "process {} sealed tick {} twice", part.process, part.tick);
        parts.push(part);
    }

    pub fn report(&mut self, report: Report) {
        let reports = &mut self.pending.entry(report.tick).or_default().reports;
        let twice = reports.iter().any(|r| r.worker == report.worker);
        assert!(!twice, "worker {} reported tick {} twice", report.worker, report.tick);
        reports.push(report);
    }

    /// The oldest tick, if all of it is there; reports in the order of workers. Of a tick that was restored there is one who knows
    /// it.
    ///
    /// # Errors
    /// It is no whole.
    pub fn pop(&mut self) -> Result<Option<(Sealed, Vec<Report>)>, Torn> {
        let Some(oldest) = self.pending.first_entry() else { return Ok(None) };
        let Pending { sealed: Some(sealed), parts, reports } = oldest.get() else { return Ok(None) };
        let others = if sealed.restored { 0 } else { self.processes - 1 };
        if reports.len() < self.workers || parts.len() < others {
            return Ok(None);
        }
        let Pending { sealed: Some(mut sealed), mut parts, mut reports } = oldest.remove() else { unreachable!("it was there") };
        reports.sort_by_key(|r| r.worker);
        if others > 0 {
            parts.sort_by_key(|part| part.process);
            self.whole.merge(&mut sealed, parts)?;
        }
        Ok(Some((sealed, reports)))
    }
}

/// Applies ticks until all workers have left (`reports` is closed), each as soon as all of it is there; `parts` has what other
/// processes say of them. `on_tick` gets each tick after readers can see it; when it blocks, the ledger waits, and the engine
/// behind it.
///
/// # Errors
/// What processes read does not belong together; nothing of the tick in which that shows is applied.
pub fn run(
    ledger: &SharedLedger,
    sealed: &Receiver<Sealed>,
    parts: &Receiver<Part>,
    reports: &Receiver<Report>,
    mut on_tick: impl FnMut(&Arc<TickOutput>),
) -> Result<(), Torn> {
    let plan = ledger.read().plan().clone();
    let mut collector = Collector::new(plan.all_workers(), plan.process.of);
    let mut news = News::new(&ledger.read());
    let never = crossbeam_channel::never();
    let nothing = crossbeam_channel::never();
    let (mut from_clock, mut from_others) = (sealed, parts);
    let mut workers_left = false;
    while !workers_left {
        select! {
            recv(from_clock) -> message => match message {
                Ok(message) => collector.sealed(message),
                Err(_) => from_clock = &never,
            },
            recv(from_others) -> message => match message {
                Ok(part) => collector.part(part),
                Err(_) => from_others = &nothing,
            },
            recv(reports) -> message => match message {
                Ok(message) => collector.report(message),
                Err(_) => workers_left = true,
            },
        }
        if workers_left {
            // What clocks said before they left may still be on its way.
            sealed.try_iter().for_each(|sealed| collector.sealed(sealed));
            parts.try_iter().for_each(|part| collector.part(part));
        }
        while let Some((sealed, reports)) = collector.pop()? {
            let output = Arc::new(ledger.apply(sealed, reports));
            on_tick(&output);
            news.tell(&ledger.read(), &output);
        }
    }
    Ok(())
}

/// What was last said of comparisons and sources, so that only turns are logged.
struct News {
    comparisons: Vec<ComparisonState>,
    troubles: Vec<Option<String>>,
}

impl News {
    fn new(ledger: &Ledger) -> News {
        let plan = ledger.plan();
        News { comparisons: vec![ComparisonState::Hydrating; plan.comparisons.len()], troubles: vec![None; plan.sources.len()] }
    }

    fn tell(&mut self, ledger: &Ledger, output: &TickOutput) {
        let plan = ledger.plan();
        telemetry::TickClosed { output }.emit();
        if output.restored {
            return;
        }
        for (reject, weight) in &output.rejects {
            telemetry::RejectMoved { plan, reject, weight: *weight }.emit();
        }
        for (id, said) in self.comparisons.iter_mut().enumerate() {
            let status = ledger.status(id);
            if status.state.name() != said.name() {
                let (comparison, differences) = (plan.comparisons[id].name.as_str(), status.counts.total());
                telemetry::ComparisonTurned { comparison, from: said, to: &status.state, differences }.emit();
                *said = status.state;
            }
        }
        for (id, said) in self.troubles.iter_mut().enumerate() {
            let trouble = &output.sources[id].trouble;
            if trouble != said {
                telemetry::SourceTurned { source: &plan.sources[id].name, trouble: trouble.as_deref() }.emit();
                said.clone_from(trouble);
            }
        }
    }
}
