//! The processes that run one plan together, as they show themselves: what HTTP, the page and the watchdog see of them.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    log::{LogStatus, PartitionView},
    memory,
    plan::Plan,
};

/// One process, as it last showed itself.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
    /// Chunks that are handed out and not decoded yet.
    pub queue_chunks: u64,
    /// Where it serves HTTP, as it says itself.
    pub http: Option<String>,
    /// The sources of which it reads something.
    pub sources: Vec<Reads>,
}

/// What a process reads of a source.
#[derive(Clone, Debug)]
pub struct Reads {
    pub source: usize,
    pub partitions: Vec<PartitionView>,
    pub behind_bytes: u64,
    pub trouble: Option<String>,
}

/// All of them, by index; clones are the same.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Mutex<Vec<Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    /// This process.
    own: bool,
    memory_bytes: u64,
    queue_chunks: Arc<AtomicU64>,
    http: Option<String>,
    logs: Vec<Arc<LogStatus>>,
}

impl Processes {
    pub fn of(plan: &Plan) -> Processes {
        let slot = |index| Slot { own: index == plan.process.index, ..Slot::default() };
        Processes(Arc::new(Mutex::new((0..plan.process.of).map(slot).collect())))
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// What is known of this process by looking: chunks that wait, where it serves HTTP, and the logs of all, by process and source.
    pub fn know(&self, queue_chunks: Arc<AtomicU64>, http: Option<String>, logs: &[Vec<Arc<LogStatus>>]) {
        let mut slots = self.slots();
        if let Some(own) = slots.iter_mut().find(|slot| slot.own) {
            (own.queue_chunks, own.http) = (queue_chunks, http);
        }
        slots.iter_mut().zip(logs).for_each(|(slot, logs)| slot.logs.clone_from(logs));
    }

    /// What another process shows.
    pub fn show(&self, index: usize, memory_bytes: u64, queue_chunks: u64, http: Option<String>) {
        if let Some(slot) = self.slots().get_mut(index) {
            slot.queue_chunks.store(queue_chunks, Ordering::Relaxed);
            (slot.memory_bytes, slot.http) = (memory_bytes, http);
        }
    }

    pub fn list(&self) -> Vec<Process> {
        let of = |slot: &Slot| Process {
            memory_bytes: if slot.own { memory::held() } else { slot.memory_bytes },
            queue_chunks: slot.queue_chunks.load(Ordering::Relaxed),
            http: slot.http.clone(),
            sources: slot.logs.iter().enumerate().filter_map(|(source, log)| reads(source, log)).collect(),
        };
        self.slots().iter().map(of).collect()
    }
}

fn reads(source: usize, log: &LogStatus) -> Option<Reads> {
    let view = log.view();
    let has = !view.partitions.is_empty() || view.trouble.is_some();
    has.then_some(Reads { source, partitions: view.partitions, behind_bytes: view.behind_bytes, trouble: view.trouble })
}
