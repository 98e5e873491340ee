//! Sinks: closed ticks, written whole.
//!
//! ```text
//! ledger ─ TickOutput ─▶ bounded channel ─▶ writer thread: encode ─▶ SinkBatch ─▶ Kafka topic, file
//! ```
//!
//! One writer thread an output; all outputs of a Kafka connection have one together when they are written exactly once
//! (`exact`). A slow sink fills its channel, that blocks the ledger, and the engine behind it. A tick
//! counts as written when all of its records are ([`Sink::flush`]); ticks that wait together are flushed together.
//!
//! This file owns the contract, the threads and the errors; `encode` makes records, `kafka` and `file` write them,
//! `progress` says of transactions what they are.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    engine::Tick,
    ledger::TickOutput,
    plan::{ConnectionKind, Plan},
    row,
};

pub mod encode;
pub mod exact;
pub mod file;
pub mod kafka;
pub mod progress;

pub use file::Keep;

/// Ticks that may wait for a writer.
const QUEUE_TICKS: usize = 16;

/// What one output writes of one tick, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkBatch {
    pub tick: Tick,
    pub records: Vec<SinkRecord>,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkRecord {
    pub key: Vec<u8>,
    /// `None`: the key is gone.
    pub value: Option<Vec<u8>>,
    /// The same for the same fact, however often it is produced.
    pub id: [u8; 16],
    /// The version of the mapping that it follows from.
    pub mapping: Arc<str>,
}

impl SinkRecord {
    /// The id in hex, as headers and files have it.
    pub fn id_text(&self) -> String {
        row::hex(&self.id)
    }
}

/// Where records go.
pub trait Sink: Send {
    /// Takes the records of a tick. They may still be on their way when this returns.
    ///
    /// # Errors
    /// Something could not be written; nothing of this sink counts as written since the last flush.
    fn apply(&mut self, batch: &SinkBatch) -> Result<(), SinkError>;

    /// Returns when everything that was applied is written.
    ///
    /// # Errors
    /// As for [`Sink::apply`].
    fn flush(&mut self) -> Result<(), SinkError>;

    /// The file, if it is one, and how long it is with everything that was applied.
    fn file(&self) -> Option<(&std::path::Path, u64)> {
        None
    }
}

/// Why an output can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// A stable name, e.g. `TOPIC_NOT_CREATED`.
    pub code: &'static str,
    pub message: String,
    /// What the user can do.
    pub remedy: String,
    /// Whether the same attempt may work later (exit code 75).
    pub retry: bool,
}

impl std::fmt::Display for SinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

impl std::error::Error for SinkError {}

/// Opens one output; `keep` is what stays of a file.
///
/// # Errors
/// It can't be written: settings, rights, a topic that can't be created, a folder that can't be.
pub fn open(plan: &Plan, output: usize, keep: Keep) -> Result<Box<dyn Sink>, SinkError> {
    let output = &plan.outputs[output];
    let connection = &plan.connections[output.connection];
    Ok(match &connection.kind {
        ConnectionKind::Kafka { brokers, properties, .. } => Box::new(kafka::KafkaSink::open(&connection.name, brokers, properties, &output.to)?),
        ConnectionKind::File { dir } => Box::new(file::FileSink::open(&dir.join(&output.to), keep)?),
        ConnectionKind::Demo { .. } => {
            return Err(SinkError {
                code: "OUTPUT_UNSUPPORTED",
                message: format!("connection `{}` is the demo's, and takes no output `{}`", connection.name, output.to),
                remedy: "write to a connection of kind kafka or file".into(),
                retry: false,
            });
        }
    })
}

/// How far one output is written, or all of a connection.
#[derive(Debug, Default)]
pub struct WriterStatus {
    /// The newest tick that is written whole; 0 before the first.
    tick: AtomicU64,
    records: AtomicU64,
    failed: Mutex<Option<SinkError>>,
    /// Why nothing is written now.
    trouble: Mutex<Option<String>>,
    /// The oldest checkpoint's tick: what progress records say of it and before is not needed.
    needed: AtomicU64,
    /// The cluster's name for itself, of a connection that is written exactly once, and its names for the topics.
    cluster: OnceLock<(String, BTreeMap<String, String>)>,
    /// Nothing more will come: the writer should not wait for ever.
    closing: AtomicBool,
    /// Of a file, how long it is.
    length: Mutex<Option<Length>>,
}

/// How long a file was as of a tick, which is the newest checkpoint's, and is.
#[derive(Clone, Debug)]
struct Length {
    path: String,
    tick: Tick,
    then: u64,
    now: u64,
}

impl Length {
    fn of(sink: &dyn Sink) -> Option<Length> {
        sink.file().map(|(path, now)| Length { path: path.display().to_string(), tick: 0, then: now, now })
    }
}

impl WriterStatus {
    /// Sets why nothing is written now; whether that has begun, or ended.
    fn turn(&self, trouble: Option<String>) -> bool {
        let mut now = self.trouble.lock().expect("nobody panics while holding it");
        let turned = now.is_some() != trouble.is_some();
        *now = trouble;
        turned
    }

    /// Why nothing is written now, if so; the writer keeps trying.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nobody panics while holding it").clone()
    }

    pub fn tick(&self) -> Tick {
        self.tick.load(Ordering::Acquire)
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> Option<SinkError> {
        self.failed.lock().expect("nobody panics while holding it").clone()
    }
}

#[derive(Debug)]
struct Writer {
    /// Of the output, or of the Kafka connection that is written exactly once.
    name: String,
    exact: bool,
    ticks: Sender<Arc<TickOutput>>,
    status: Arc<WriterStatus>,
    thread: JoinHandle<()>,
}

/// The writers of all outputs of a plan.
#[derive(Debug)]
pub struct Writers(Vec<Writer>);

impl Writers {
    /// Opens every output and starts its writer; those of the connections in `exact` are written exactly once. `of` is what
    /// all that is written follows from, `keep` what stays of an output's file.
    ///
    /// # Errors
    /// The first output that can't be opened.
    pub fn start(plan: &Arc<Plan>, exact: Vec<(exact::Exact, exact::From)>, of: &str, keep: impl Fn(usize) -> Keep) -> Result<Writers, SinkError> {
        encode::avro::register(plan)?;
        let others = (0..plan.outputs.len()).filter(|output| exact.iter().all(|(of, _)| of.connection != plan.outputs[*output].connection));
        let sinks = others.map(|output| Ok((output, open(plan, output, keep(output))?))).collect::<Result<Vec<_>, SinkError>>()?;
        let mut writers: Vec<Writer> =
            sinks.into_iter().map(|(output, sink)| Writer::start(&plan.outputs[output].to, encode::Encoder::new(plan.clone(), output), sink)).collect();
        writers.extend(exact.into_iter().map(|(exact, from)| Writer::exact(plan, exact, from, of)));
        Ok(Writers(writers))
    }

    /// What tells how far everything is written, also after this has gone.
    pub fn written(&self) -> Written {
        Written(self.0.iter().map(|writer| (writer.name.clone(), writer.exact, writer.status.clone())).collect())
    }

    /// Hands a closed tick to every writer; waits for slow ones.
    ///
    /// # Errors
    /// The failure of a writer, which has ended.
    pub fn send(&self, output: &Arc<TickOutput>) -> Result<(), SinkError> {
        for writer in &self.0 {
            if writer.ticks.send(output.clone()).is_err() {
                return Err(writer.status.failed().expect("a writer ends early only by a failure"));
            }
        }
        Ok(())
    }

    /// How far everything is written: the outputs by themselves in the plan's order, then connections.
    pub fn status(&self) -> impl Iterator<Item = &Arc<WriterStatus>> {
        self.0.iter().map(|writer| &writer.status)
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first failure.
    pub fn finish(self) -> Result<(), SinkError> {
        self.written().closing();
        let mut result = Ok(());
        for writer in self.0 {
            drop(writer.ticks);
            writer.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(writer.status.failed().map_or(Ok(()), Err));
        }
        result
    }
}

impl Writer {
    fn start(name: &str, mut encoder: encode::Encoder, mut sink: Box<dyn Sink>) -> Writer {
        Writer::spawn(name, false, |status| {
            *status.length.lock().expect("nobody panics while holding it") = Length::of(&*sink);
            move |received: &Receiver<_>| write(received, &mut encoder, &mut *sink, &status)
        })
    }

    fn exact(plan: &Arc<Plan>, exact: exact::Exact, from: exact::From, of: &str) -> Writer {
        let name = plan.connections[exact.connection].name.clone();
        Writer::spawn(&name, true, |status| {
            let mut writer = exact::ExactWriter::new(plan, exact, from, of, status);
            move |received: &Receiver<_>| writer.run(received)
        })
    }

    fn spawn<B>(name: &str, exact: bool, body: impl FnOnce(Arc<WriterStatus>) -> B) -> Writer
    where
        B: FnMut(&Receiver<Arc<TickOutput>>) -> Result<(), SinkError> + Send + 'static,
    {
        let (ticks, received) = bounded::<Arc<TickOutput>>(QUEUE_TICKS);
        let status = Arc::new(WriterStatus::default());
        let (mut body, shared, output) = (body(status.clone()), status.clone(), name.to_string());
        let thread = std::thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn(move || {
                if let Err(error) = body(&received) {
                    tracing::error!(output, "{error}");
                    *shared.failed.lock().expect("nobody panics while holding it") = Some(error);
                }
            })
            .expect("the operating system starts a thread");
        Writer { name: name.to_string(), exact, ticks, status, thread }
    }
}

/// How far everything is written, for checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Written(Vec<(String, bool, Arc<WriterStatus>)>);

impl Written {
    /// The tick up to which all outputs are written; `None`: a writer has failed. Without outputs that is every tick.
    pub fn tick(&self) -> Option<Tick> {
        let failed = self.all().any(|(_, status)| status.failed().is_some());
        (!failed).then(|| self.all().map(|(_, status)| status.tick()).min().unwrap_or(Tick::MAX))
    }

    /// Nothing more will come: writers that can't write give up after a while, so that a run that is asked to stop does.
    pub fn closing(&self) {
        self.all().for_each(|(_, status)| status.closing.store(true, Ordering::Relaxed));
    }

    /// The oldest checkpoint is of this tick: progress records up to it are not needed.
    pub fn needed_from(&self, tick: Tick) {
        self.all().for_each(|(_, status)| status.needed.store(tick, Ordering::Relaxed));
    }

    /// By Kafka connection that is written exactly once: the newest tick that is committed.
    pub fn progress(&self) -> BTreeMap<String, Tick> {
        self.0.iter().filter(|(_, exact, _)| *exact).map(|(name, _, status)| (name.clone(), status.tick())).collect()
    }

    /// By Kafka connection that is written exactly once: its cluster's name for itself, where it gives one.
    pub fn clusters(&self) -> BTreeMap<String, String> {
        self.0.iter().filter_map(|(name, _, status)| Some((name.clone(), status.cluster.get()?.0.clone()))).collect()
    }

    /// By Kafka connection that is written exactly once: the cluster's names for the topics, where it gives some.
    pub fn topics(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.0.iter().filter_map(|(name, _, status)| Some((name.clone(), status.cluster.get()?.1.clone()))).collect()
    }

    /// By file: how long it was as of this tick (it may not be on the disk yet), which is the newest checkpoint's, or the last one of all.
    pub fn lengths(&self, tick: Tick) -> BTreeMap<String, u64> {
        let length = |status: &WriterStatus| status.length.lock().expect("nobody panics while holding it").clone();
        self.all().filter_map(|(_, status)| length(status)).map(|of| (of.path, if of.tick == tick { of.then } else { of.now })).collect()
    }

    /// The writers by name: of an output, or of a Kafka connection that is written exactly once.
    pub fn all(&self) -> impl Iterator<Item = (&str, &WriterStatus)> {
        self.0.iter().map(|(name, _, status)| (name.as_str(), &**status))
    }
}

fn write(ticks: &Receiver<Arc<TickOutput>>, encoder: &mut encode::Encoder, sink: &mut dyn Sink, status: &WriterStatus) -> Result<(), SinkError> {
    while let Ok(first) = ticks.recv() {
        let (mut last, mut records, mut cut) = (first.tick, 0, None);
        for tick in std::iter::once(first).chain(ticks.try_iter().take(QUEUE_TICKS)) {
            last = tick.tick;
            let batch = encoder.encode(&tick);
            records += batch.records.len() as u64;
            if !batch.records.is_empty() {
                sink.apply(&batch)?;
            }
            if tick.save.is_some() {
                cut = Some((last, sink.file().map_or(0, |(_, length)| length)));
            }
        }
        if records > 0 {
            sink.flush()?;
        }
        if let (Some(length), Some((_, now))) = (&mut *status.length.lock().expect("nobody panics while holding it"), sink.file()) {
            let (tick, then) = cut.unwrap_or((length.tick, length.then));
            (length.tick, length.then, length.now) = (tick, then.min(now), now);
        }
        status.records.fetch_add(records, Ordering::Relaxed);
        status.tick.store(last, Ordering::Release);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
