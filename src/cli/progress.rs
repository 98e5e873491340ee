//! The progress of long reads, on stderr and only where that is a terminal; and the demo's line of what stands.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    ledger::{Ledger, State},
    pipeline::Live,
};

const EVERY: Duration = Duration::from_millis(200);
/// A read that ends before this was no long one.
const SILENCE: Duration = Duration::from_millis(700);
const CLEAR_LINE: &str = "\r\x1b[K";

/// A line that is kept up to date until this is dropped.
pub struct Progress {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows how far the logs are read; a run that goes on is quiet once its backlog is read. `None`: not a terminal.
    pub fn start(live: Live, goes_on: bool) -> Option<Progress> {
        let began = Instant::now();
        Progress::every(move || {
            let ledger = live.ledger.read();
            if goes_on && ledger.hydrated() {
                return None;
            }
            Some(if began.elapsed() < SILENCE { String::new() } else { reading(&live, &ledger, began.elapsed()) })
        })
    }

    /// Shows what stands, over and over.
    pub fn standing(live: Live) -> Option<Progress> {
        Progress::every(move || Some(standing(&live.ledger.read())))
    }

    /// Writes the line that `text` gives, until it gives none.
    fn every(text: impl Fn() -> Option<String> + Send + 'static) -> Option<Progress> {
        if !stderr().is_terminal() {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(line) = text() else { break };
                let _ = write!(stderr(), "{CLEAR_LINE}{line}");
                std::thread::park_timeout(EVERY);
            }
            let _ = write!(stderr(), "{CLEAR_LINE}");
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(body).ok()?;
        Some(Progress { stop, thread: Some(thread) })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// `reading  62 % of 812 MB   1 204 113 events/s   3 s`.
fn reading(live: &Live, ledger: &Ledger, elapsed: Duration) -> String {
    let (mut read, mut behind) = (0, 0);
    for view in live.logs.iter().map(|log| log.view()) {
        read += view.read_bytes;
        behind += view.behind_bytes;
    }
    let total = read + behind;
    let events: u64 = ledger.sources().iter().map(|s| s.counts().read).sum();
    let phase = if behind == 0 { "closing" } else { "reading" };
    let share = (read * 100).checked_div(total).unwrap_or(100);
    let rate = grouped((events as f64 / elapsed.as_secs_f64()) as u64);
    format!("{phase} {share:>3} % of {}   {} events   {rate} events/s   {} s", bytes(total), grouped(events), elapsed.as_secs())
}

/// `orders_in_erp 12 confirmed, 31 in flight   …`.
fn standing(ledger: &Ledger) -> String {
    let plan = ledger.plan();
    let parts = plan.comparisons.iter().enumerate().map(|(id, comparison)| {
        let status = ledger.status(id);
        let of = |state| status.counts.of_state(state);
        format!("{}: {} confirmed, {} in flight", comparison.name, of(State::Confirmed), of(State::InFlight))
    });
    let events: u64 = ledger.sources().iter().map(|s| s.counts().read).sum();
    format!("{}   {} events", parts.collect::<Vec<_>>().join("   "), grouped(events))
}

/// `1 204 113`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `812 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{} kB", n / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", n / 1_000_000),
        _ => format!("{} GB", n / 1_000_000_000),
    }
}
