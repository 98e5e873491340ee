//! The workers of a script, spread over as many processes as it asks for: those of a cluster, but all in this one.
//!
//! They exchange what real processes exchange, byte by byte, over sockets; each source is read by one of them.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::{
    checkpoint::Changes,
    engine::{Again, Chunk, Command, Give, Renumbered, Report, SideOf, Tick, workers::Workers},
    plan::{Plan, SourceId},
};

/// The workers of all processes.
pub struct Processes(Vec<Workers>);

impl Processes {
    /// Starts the plan's workers in each of so many processes.
    ///
    /// # Panics
    /// When the operating system has no threads or sockets left.
    pub fn start(plan: &Arc<Plan>, processes: usize, reports: &Sender<Report>) -> Processes {
        if processes <= 1 {
            return Processes(vec![Workers::start(Arc::clone(plan), reports.clone())]);
        }
        #[cfg(not(unix))]
        panic!("several processes in one need sockets of Unix");
        #[cfg(unix)]
        {
            use std::os::unix::net::UnixStream;
            let mut links: Vec<Vec<Option<UnixStream>>> = (0..processes).map(|_| (0..processes).map(|_| None).collect()).collect();
            for (a, b) in (0..processes).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let (of_a, of_b) = UnixStream::pair().expect("the operating system has a pair of sockets");
                (links[a][b], links[b][a]) = (Some(of_a), Some(of_b));
            }
            let start = |(process, links)| Workers::start_among(Arc::clone(plan), reports.clone(), process, links).expect("sockets can be used");
            Processes(links.into_iter().enumerate().map(start).collect())
        }
    }

    /// How many workers each process has.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(Workers::count)
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.counts().sum()
    }

    /// The process that reads a source.
    fn reads(&self, source: SourceId) -> &Workers {
        &self.0[source % self.0.len()]
    }

    pub fn chunk(&self, chunk: Chunk, seq: u64, incomplete: Option<Arc<str>>) {
        self.reads(chunk.source).chunk(chunk, seq, incomplete);
    }

    pub fn chunk_again(&self, chunk: Chunk, seq: u64, sides: &Arc<[SideOf]>) {
        self.reads(chunk.source).chunk_again(chunk, seq, sides);
    }

    pub fn all(&self, command: &Command) {
        self.0.iter().for_each(|workers| workers.all(command));
    }

    pub fn restore(&self, entries: &[u8], give: &Arc<[Give]>, numbers: Option<&Arc<Renumbered>>) {
        self.0.iter().for_each(|workers| workers.restore(entries.to_vec(), Arc::clone(give), numbers.map(Arc::clone)));
    }

    pub fn restored(&self, tick: Tick, again: &[Again]) {
        self.0.iter().for_each(|workers| workers.restored(tick, again));
    }

    pub fn make_blind(&self, changes: &Changes) {
        self.0.iter().for_each(|workers| changes.make_blind(workers));
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Nobody leaves before all are told to: what one holds others wait for.
        self.all(&Command::Stop);
        for workers in std::mem::take(&mut self.0) {
            // What a worker panicked with was said; whoever waits for its reports notices.
            let _ = workers.stop();
        }
    }
}
