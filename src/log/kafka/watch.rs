//! Asks the cluster what a reader should know beside the messages: ends, new partitions, the heartbeat topic.
//!
//! Its own thread, because each question is a round trip that may hang for seconds while a broker is away, and messages
//! that are there must not wait for it. It only asks and tells; what follows from an answer is the reader's business.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    metadata::MetadataTopic,
    types::RDKafkaErrorCode,
};

use super::{Context, Pace, watermark};
use crate::log::{LogStatus, UNKNOWN, wall_ms};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that the reader asks for come no closer than this, so that fast heartbeats don't become a storm.
const APART: Duration = Duration::from_millis(25);

/// An answer.
#[derive(Debug)]
pub enum Seen {
    /// The end of each partition. `shrunk` lists partitions whose end lies before what had been read when it was asked, with both positions;
    /// `held` those behind whose ends a transaction that is not over had written something, and up to where ([`UNKNOWN`]: that is not known).
    Ends { asked: Instant, asked_ms: i64, ends: Vec<i64>, held: Vec<(i32, i64)>, shrunk: Vec<(i32, i64, i64)> },
    /// Partitions that are new, with the position of their first message.
    Grown(Vec<(i32, i64)>),
    /// There are fewer partitions than there were, or (0) no topic any more.
    Fewer(usize),
    /// The topic has another identity than at the start.
    Replaced { was: String, is: String },
    /// The heartbeat topic exists, with where its last messages are.
    Heartbeats(Vec<Last>),
    /// A question was not answered.
    Silence(KafkaError),
}

/// Where the last message of a partition is; of an empty one `at` is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub partition: i32,
    pub at: i64,
    /// The position of the first message that is there.
    pub low: i64,
    /// The position after it.
    pub end: i64,
}

/// What is known of the topic's id.
pub enum Identity {
    Unasked {
        tries: u8,
    },
    /// The cluster gives none.
    None,
    Is(String),
}

/// What the watcher looks at.
pub struct Watch {
    pub consumer: Arc<BaseConsumer<Context>>,
    pub status: Arc<LogStatus>,
    pub topic: String,
    pub topic_id: Identity,
    /// Followed as soon as it exists; `None`: there is none, or the reader has it already.
    pub heartbeat: Option<String>,
    pub partitions: usize,
    /// How often in a row the topic was not there, or had fewer partitions.
    pub lost: Arc<AtomicU32>,
    pub pace: Pace,
}

/// A topic that was not there, or had fewer partitions, so many times is believed: a broker that has just started may know less
/// than it will in a moment.
const LOST: u32 = 3;

/// Starts the watcher; it ends when the reader drops what this returns. Sending on the first channel asks for the ends now.
pub fn start(watch: Watch, name: &str) -> (Sender<()>, Receiver<Seen>) {
    let (poke, poked) = bounded(1);
    let (tell, told) = bounded(64);
    std::thread::Builder::new().name(format!("watch {name}")).spawn(move || watch.run(&poked, &tell)).expect("the operating system starts a thread");
    (poke, told)
}

impl Watch {
    /// Answers that find the channel full are dropped: the next ones say the same, later.
    fn run(mut self, poked: &Receiver<()>, tell: &Sender<Seen>) {
        let mut refreshed = Instant::now();
        self.identify(tell);
        loop {
            match poked.recv_timeout(self.pace.ask_every) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) => std::thread::sleep(APART),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let _ = tell.try_send(self.ends());
            if refreshed.elapsed() >= self.pace.refresh_every {
                refreshed = Instant::now();
                self.refresh(tell);
            }
        }
    }

    /// Compares the topic's id with the first one. A cluster that gives none at first is not asked again.
    fn identify(&mut self, tell: &Sender<Seen>) {
        match &self.topic_id {
            Identity::Unasked { tries } => {
                let id = super::topic_id::ask(self.consumer.client(), &self.topic, PATIENCE / 4);
                let none = if *tries < 3 { Identity::Unasked { tries: tries + 1 } } else { Identity::None };
                self.status.update(|view| view.identity.clone_from(&id));
                self.topic_id = id.map_or(none, Identity::Is);
            }
            Identity::Is(was) => {
                if let Some(is) = super::topic_id::ask(self.consumer.client(), &self.topic, PATIENCE)
                    && *was != is
                {
                    let _ = tell.try_send(Seen::Replaced { was: was.clone(), is });
                }
            }
            Identity::None => {}
        }
    }

    fn ends(&self) -> Seen {
        let before = self.status.view().positions();
        // Known from what was fetched before the question: what has come since then may just be committed.
        let high = |partition: i32| watermark::high(self.consumer.client(), &self.topic, partition).unwrap_or(UNKNOWN);
        let highs: Vec<(i32, i64)> = before.iter().map(|(partition, _)| (*partition, high(*partition))).collect();
        let (asked, asked_ms) = (Instant::now(), wall_ms());
        match ask(&self.consumer, &self.topic, self.partitions, Offset::End, PATIENCE) {
            Err(error) => Seen::Silence(error),
            Ok(ends) => {
                let shrunk = before.into_iter().filter_map(|(p, next)| ends.get(p as usize).filter(|end| **end < next).map(|end| (p, next, *end))).collect();
                let held = highs.into_iter().filter(|(p, high)| ends.get(*p as usize).is_some_and(|end| end < high)).collect();
                Seen::Ends { asked, asked_ms, ends, held, shrunk }
            }
        }
    }

    fn refresh(&mut self, tell: &Sender<Seen>) {
        // First of all: of another topic of the same name the partitions are of no meaning.
        self.identify(tell);
        match partitions(&self.consumer, &self.topic, PATIENCE) {
            Ok(Some(n)) if n > self.partitions => {
                if let Ok(lows) = ask(&self.consumer, &self.topic, n, Offset::Beginning, PATIENCE) {
                    let new = (self.partitions..n).map(|p| (p as i32, lows[p])).collect();
                    if tell.try_send(Seen::Grown(new)).is_ok() {
                        self.partitions = n;
                    }
                }
                self.lost.store(0, Ordering::Relaxed);
            }
            Ok(n) if n.unwrap_or(0) < self.partitions => {
                if self.lost.fetch_add(1, Ordering::Relaxed) + 1 >= LOST {
                    let _ = tell.try_send(Seen::Fewer(n.unwrap_or(0)));
                }
            }
            Ok(_) => self.lost.store(0, Ordering::Relaxed),
            Err(error) => drop(tell.try_send(Seen::Silence(error))),
        }
        if let Some(topic) = &self.heartbeat
            && let Ok(Some(places)) = last(&self.consumer, topic, PATIENCE)
            && tell.try_send(Seen::Heartbeats(places)).is_ok()
        {
            self.heartbeat = None;
        }
    }
}

/// Asks for a place (`Beginning`, `End`, or a time as `Offset`) in each of the topic's partitions. A time after the last
/// message gives -1.
///
/// The question goes to the leaders, with the consumer's isolation level: for `read_committed` the end is where the first
/// open transaction starts.
pub fn ask(consumer: &BaseConsumer<Context>, topic: &str, partitions: usize, at: Offset, patience: Duration) -> KafkaResult<Vec<i64>> {
    let mut list = TopicPartitionList::with_capacity(partitions);
    for partition in 0..partitions as i32 {
        list.add_partition_offset(topic, partition, at)?;
    }
    let answer = consumer.offsets_for_times(list, patience)?;
    let mut found = vec![-1; partitions];
    for element in answer.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            found[element.partition() as usize] = offset;
        }
    }
    Ok(found)
}

/// Where the last message of each partition is; `None` if there is no such topic.
pub fn last(consumer: &BaseConsumer<Context>, topic: &str, patience: Duration) -> KafkaResult<Option<Vec<Last>>> {
    let Some(n) = partitions(consumer, topic, patience)? else { return Ok(None) };
    let ends = ask(consumer, topic, n, Offset::End, patience)?;
    // What was there may be gone: then reading goes on where the next one will be.
    let lows = ask(consumer, topic, n, Offset::Beginning, patience)?;
    Ok(Some((0..).zip(lows.iter().zip(ends)).map(|(partition, (low, end))| Last { partition, at: (end - 1).max(*low).min(end), low: *low, end }).collect()))
}

/// How many partitions a topic has; `None` if there is no such topic.
pub fn partitions(consumer: &BaseConsumer<Context>, topic: &str, patience: Duration) -> KafkaResult<Option<usize>> {
    let metadata = consumer.fetch_metadata(Some(topic), patience)?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    match error_of(found) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
        None => Ok(Some(found.partitions().len())),
    }
}

fn error_of(topic: &MetadataTopic) -> Option<RDKafkaErrorCode> {
    topic.error().map(RDKafkaErrorCode::from)
}
