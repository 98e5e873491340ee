//! A Kafka topic as a log: all its partitions, by one consumer of its own.
//!
//! Partitions are assigned by hand: no consumer group is joined, and where to go on is known from the checkpoint (`group`
//! tells the brokers of it, for those who watch lags). Offset gaps are normal (transaction markers, compaction), so a position is "the next
//! offset to ask for", never a count.
//!
//! ```text
//! consumer ─ poll ─▶ one open buffer a partition ─ full, or poll is dry ─▶ Chunk
//!     └─ watcher thread: ends, partitions, topic id, heartbeat topic ─▶ Seen
//! ```
//!
//! - A chunk leaves when it is full, or as soon as a poll finds nothing: at low rates a message waits for nothing.
//! - *Caught up*: all positions have reached the ends that the leaders reported at one moment. Transaction markers at the
//!   end are passed by asking the client for its position when it reports the end of a partition.
//! - A *heartbeat* says how far the connector is, but lies in another topic: table messages that were produced before it
//!   may be read after it. So the ends of the table's partitions are asked after it was received, and it is let through
//!   when they have been read.
//! - A topic that does not exist is waited for (the view says so) when the log is followed, and an error otherwise.
//! - A topic that shrank, was replaced, has fewer partitions, or lacks the position to start from is a named stop.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::{
    Message as _, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use self::{
    client::{Config, Context, Denied},
    watch::{Identity, Last, Seen, Watch},
};
use super::{Feed, Guard, LogError, LogHandle, PartitionView, QUEUE_CHUNKS, SourceTime, UNKNOWN, Until, wall_ms};
use crate::{
    engine::{Chunk, MessageAt, Payload, chunk},
    format::Message,
    plan::{Heartbeat, Properties, Registry, Share, SourceId, Start},
    registry::Lookup,
};

pub mod client;
pub mod group;
mod token;
pub mod topic_id;
pub(crate) mod watch;
mod watermark;

/// A chunk is full at so many messages,
const CHUNK_MESSAGES: usize = 1000;
/// or at so many bytes of keys and values.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a poll waits for a message before the reader looks at other things.
const POLL: Duration = Duration::from_millis(20);
/// How long one question at the start may take, and how long the reader waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a heartbeat topic is waited for at the end of the table.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(2);
/// Heartbeats that wait for the table; more than that means that the table is far behind, and the newest will do.
const HEARTBEATS_MAX: usize = 256;

/// A topic to read, with all that is declared about it.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// The connection's name, for messages.
    pub connection: String,
    pub brokers: String,
    /// librdkafka's own settings.
    pub properties: Properties,
    pub topic: String,
    pub start: Start,
    /// The id of the topic that `start` was said of, if it is known: another topic of the same name is not read.
    pub identity: Option<String>,
    /// The partitions that this process reads.
    pub share: Share,
    /// `start` is how far the topic was read before: a partition that it does not name is new since then.
    pub goes_on: bool,
    /// It is read again, up to here by partition: what retention has taken since it was read first can't come again.
    pub again: BTreeMap<i32, i64>,
    pub heartbeat: Heartbeat,
    /// Where the schemas of messages are, for the formats in Avro.
    pub registry: Option<Arc<Registry>>,
}

impl TopicSpec {
    /// The topic whose messages move the table's source time, beside the table's own.
    fn heartbeat_topic(&self) -> Option<String> {
        match &self.heartbeat {
            Heartbeat::None => None,
            Heartbeat::Topic(topic) => Some(topic.clone()).filter(|topic| *topic != self.topic),
            Heartbeat::Auto => Heartbeat::of(&self.topic),
        }
    }
}

/// How often the cluster is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For the ends of partitions.
    pub ask_every: Duration,
    /// For new partitions, the topic's id and the heartbeat topic.
    pub refresh_every: Duration,
    /// How long a log that is read once is tried when no broker answers.
    pub give_up_after: Duration,
    /// After so long without an answer the client is made anew.
    pub renew_after: Duration,
    /// Whether to ask for the topic's id. Only the mock cluster, which never answers that, is better not asked.
    pub identify: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            ask_every: Duration::from_millis(500),
            refresh_every: Duration::from_secs(5),
            give_up_after: Duration::from_secs(30),
            renew_after: Duration::from_secs(10),
            identify: true,
        }
    }
}

/// Opens a topic. See [`super::open`] for what fails here and what shows later.
///
/// # Errors
/// librdkafka does not take the connection's properties.
pub fn open(source: SourceId, spec: TopicSpec, until: Until, source_time: SourceTime, guard: Option<Guard>, pace: Pace) -> Result<LogHandle, LogError> {
    let mut config = client::config(&spec.brokers, &spec.properties);
    // A group is needed by librdkafka, though it is never joined.
    if !spec.properties.contains_key("group.id") {
        config.set("group.id", "tieout");
    }
    for (name, value) in [
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", "16384"),
        // Unless told so, a full queue makes librdkafka pause a partition for a whole second.
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.error.backoff.ms", "100"),
        // A broker answers one request of a connection at a time: while it waits for messages, questions about ends wait.
        ("fetch.wait.max.ms", "100"),
    ] {
        if !spec.properties.contains_key(name) {
            config.set(name, value);
        }
    }
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("allow.auto.create.topics", "false"),
    ] {
        config.set(name, value);
    }
    let consumer = client(&config, &spec)?;
    let name = spec.topic.clone();
    Ok(super::spawn(source, &name, QUEUE_CHUNKS, move |feed| {
        feed.watch(guard, until);
        read(feed, spec, (config, consumer), until, source_time, pace)
    }))
}

fn client(config: &Config, spec: &TopicSpec) -> Result<Arc<BaseConsumer<Context>>, LogError> {
    config.consumer(|client| client).map(Arc::new).map_err(|e| client::misconfigured(&spec.connection, &e))
}

/// What the reader knows of one partition.
#[derive(Debug, Default)]
struct Partition {
    /// Where reading began.
    start: i64,
    /// The next offset to send: everything before it has been sent.
    next: i64,
    /// So many offsets right before `next` hold no message.
    blank: i64,
    /// The end when the reader started.
    start_end: i64,
    /// Messages that have been polled and not sent.
    bytes: Vec<u8>,
    index: Vec<MessageAt>,
    /// A message has been read.
    touched: bool,
}

/// A reader at work.
struct Reader<'a> {
    feed: &'a Feed,
    spec: TopicSpec,
    config: Config,
    consumer: Arc<BaseConsumer<Context>>,
    /// Since when there has been no answer from any broker, or the client is new.
    silent: Option<Instant>,
    /// A position is not in the topic, as the client said, and this asks why: when to ask again.
    astray: Option<Instant>,
    /// How often in a row the topic was not there, or had fewer partitions; watchers come and go.
    lost: Arc<AtomicU32>,
    until: Until,
    source_time: SourceTime,
    partitions: Vec<Partition>,
    /// Messages and bytes in all open buffers, and sent.
    open: usize,
    read_messages: u64,
    read_bytes: u64,
    /// A partition has reported its end since positions were last asked of the client.
    at_end: bool,
    heartbeats: Heartbeats,
    /// For the formats in Avro.
    lookup: Option<Lookup>,
    give_up_after: Duration,
}

/// Heartbeats on their way. A heartbeat's time is in milliseconds.
#[derive(Debug, Default)]
struct Heartbeats {
    topic: Option<String>,
    /// The end of the heartbeat topic at the start, by partition, while it has not been reached.
    backlog: BTreeMap<i32, i64>,
    /// The partitions that are followed, and from where; none: it has not been found yet.
    followed: Vec<(i32, i64)>,
    /// Received, with when.
    fresh: VecDeque<(Instant, i64)>,
    /// Waiting for these positions of the table, which were asked after the heartbeat was received.
    waiting: VecDeque<(Vec<i64>, i64)>,
    /// The same as they were asked last.
    upto: Vec<i64>,
    /// The newest that was let through.
    passed: i64,
}

enum End {
    Stopped,
    /// The client gives no answer any more.
    Silent,
    Failed(LogError),
}

impl From<LogError> for End {
    fn from(error: LogError) -> End {
        End::Failed(error)
    }
}

impl From<super::Stopped> for End {
    fn from(_: super::Stopped) -> End {
        End::Stopped
    }
}

type Client = (Config, Arc<BaseConsumer<Context>>);

fn read(feed: &Feed, spec: TopicSpec, (config, consumer): Client, until: Until, source_time: SourceTime, pace: Pace) -> Result<(), LogError> {
    let heartbeats = Heartbeats { topic: spec.heartbeat_topic(), passed: i64::MIN, ..Heartbeats::default() };
    let lookup = spec.registry.as_ref().map(|registry| Lookup::new(&spec.connection, registry));
    let mut reader = Reader {
        feed,
        spec,
        config,
        consumer,
        silent: None,
        astray: None,
        lost: Arc::default(),
        until,
        source_time,
        partitions: Vec::new(),
        open: 0,
        read_messages: 0,
        read_bytes: 0,
        at_end: false,
        heartbeats,
        lookup,
        give_up_after: pace.give_up_after,
    };
    let mut watched = reader.start(pace);
    loop {
        match watched.and_then(|(poke, seen)| reader.follow(&poke, &seen, pace)) {
            Ok(()) | Err(End::Stopped) => return Ok(()),
            Err(End::Silent) => watched = reader.renew(pace),
            Err(End::Failed(error)) => return Err(error),
        }
    }
}

impl Reader<'_> {
    /// Finds the topic, resolves where to start, assigns, and starts the watcher.
    fn start(&mut self, pace: Pace) -> Result<(Sender<()>, Receiver<Seen>), End> {
        let begun = Instant::now();
        loop {
            let attempt = self.find(pace);
            self.serve_errors()?;
            if self.feed.stopped() {
                return Err(End::Stopped);
            }
            match attempt {
                Ok(true) => break,
                Ok(false) if self.until == Until::End => return Err(self.unknown_topic().into()),
                Ok(false) => self.trouble(format!("topic `{}` does not exist yet", self.spec.topic)),
                // A broker that has just started may know less than it will in a moment.
                Err(End::Failed(error)) if error.code == "PARTITIONS_FEWER" && begun.elapsed() < pace.refresh_every => self.trouble(error.message),
                Err(End::Failed(error)) if error.retry => {
                    if self.until == Until::End && begun.elapsed() >= pace.give_up_after {
                        return Err(End::Failed(error));
                    }
                    self.trouble(error.message);
                    if self.silent.get_or_insert_with(Instant::now).elapsed() >= pace.renew_after {
                        (self.consumer, self.silent) = (client(&self.config, &self.spec)?, None);
                    }
                }
                Err(end) => return Err(end),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.silent = None;
        self.feed.update(|view| view.trouble = None);
        Ok(self.watch(pace))
    }

    /// Goes on where it is with a client of its own making: librdkafka does not always find back to brokers that were away
    /// from their cluster for a while, and then never does.
    fn renew(&mut self, pace: Pace) -> Result<(Sender<()>, Receiver<Seen>), End> {
        tracing::info!(topic = self.spec.topic, "no answer for {} s: the client is made anew", pace.renew_after.as_secs());
        self.send_all()?;
        (self.consumer, self.at_end, self.silent, self.astray) = (client(&self.config, &self.spec)?, false, Some(Instant::now()), None);
        // From its last message on, when it is found again.
        self.heartbeats.followed.clear();
        let places: Vec<(i32, i64)> = self.own().map(|(partition, place)| (partition, place.next)).collect();
        self.assign(&self.spec.topic.clone(), &places)?;
        Ok(self.watch(pace))
    }

    fn watch(&self, pace: Pace) -> (Sender<()>, Receiver<Seen>) {
        let identity = self.spec.identity.clone().or_else(|| self.feed.status.view().identity.clone());
        let watch = Watch {
            consumer: self.consumer.clone(),
            status: self.feed.status.clone(),
            topic: self.spec.topic.clone(),
            topic_id: match identity {
                Some(id) => Identity::Is(id),
                None if pace.identify => Identity::Unasked { tries: 0 },
                None => Identity::None,
            },
            heartbeat: self.heartbeats.topic.clone().filter(|_| self.heartbeats.followed.is_empty() && self.until == Until::Forever),
            partitions: self.partitions.len(),
            lost: Arc::clone(&self.lost),
            pace,
        };
        watch::start(watch, &self.spec.topic)
    }

    /// One attempt to find the topic and to assign its partitions; whether it is there.
    fn find(&mut self, pace: Pace) -> Result<bool, End> {
        let consumer = self.consumer.clone();
        let topic = self.spec.topic.clone();
        let asked = |answer: KafkaResult<Vec<i64>>| answer.map_err(|e| self.unanswered(&e));
        let Some(count) = watch::partitions(&consumer, &topic, PATIENCE).map_err(|e| self.unanswered(&e))? else {
            return Ok(false);
        };
        match self.spec.identity.clone() {
            Some(was) => {
                if let Some(is) = topic_id::ask(consumer.client(), &topic, PATIENCE).filter(|is| *is != was) {
                    return Err(self.replaced(&was, &is).into());
                }
                self.feed.update(|view| view.identity = Some(was));
            }
            // Before anything is read: of processes that read topics of two clusters nothing is to be shown.
            None if pace.identify => {
                let is = topic_id::ask(consumer.client(), &topic, PATIENCE / 4);
                self.feed.update(|view| view.identity = is);
            }
            None => {}
        }
        // Heartbeats first: those before these ends were sent before the table's ends were asked.
        let mut beats = None;
        if let Some(beat) = &self.heartbeats.topic
            && let Some(places) = watch::last(&consumer, beat, PATIENCE).map_err(|e| self.unanswered(&e))?
        {
            beats = Some(places);
        }
        let lows = asked(watch::ask(&consumer, &topic, count, Offset::Beginning, PATIENCE))?;
        let asked_ms = wall_ms();
        let ends = asked(watch::ask(&consumer, &topic, count, Offset::End, PATIENCE))?;
        let starts = match &self.spec.start {
            Start::Beginning => lows.clone(),
            Start::End => ends.clone(),
            Start::Time(ms) => {
                let found = asked(watch::ask(&consumer, &topic, count, Offset::Offset((*ms).max(0)), PATIENCE))?;
                found.iter().zip(&ends).map(|(at, end)| if *at < 0 { *end } else { *at }).collect()
            }
            Start::Offsets(offsets) => self.at_offsets(offsets, &lows, &ends)?,
        };
        self.partitions = (0..count).map(|p| Partition { start: starts[p], next: starts[p], start_end: ends[p], ..Partition::default() }).collect();
        let places: Vec<(i32, i64)> = (0..count as i32).zip(starts).filter(|(partition, _)| self.spec.share.has(*partition)).collect();
        self.assign(&topic, &places)?;
        if let Some(places) = beats {
            self.follow_heartbeats(&places)?;
        }
        // Nothing was fetched that would tell what is held back.
        let held: Vec<(i32, i64)> = self.own().map(|(partition, _)| (partition, UNKNOWN)).collect();
        self.publish(Some((asked_ms, &ends, &held)));
        Ok(true)
    }

    /// Positions to start from, checked against what the topic holds.
    fn at_offsets(&self, offsets: &BTreeMap<i32, i64>, lows: &[i64], ends: &[i64]) -> Result<Vec<i64>, LogError> {
        let mut starts = lows.to_vec();
        if self.spec.goes_on {
            let known = offsets.keys().max().map_or(0, |last| *last as usize + 1);
            if known > lows.len() {
                return Err(self.fewer(lows.len(), known));
            }
            let new = |partition: &i32| !offsets.contains_key(partition) && self.spec.share.has(*partition);
            (0..).zip(lows).filter(|(partition, _)| new(partition)).try_for_each(|(partition, low)| self.unread(partition, *low))?;
        }
        for (&partition, &offset) in offsets {
            let Some(start) = starts.get_mut(partition as usize) else {
                return Err(self.unfit("PARTITION_UNKNOWN", format!("has {} partitions, and none of number {partition} to start from", lows.len())));
            };
            let (low, end) = (lows[partition as usize], ends[partition as usize]);
            if !self.spec.share.has(partition) {
                continue;
            }
            if offset < low {
                // What was never read must be there; what was read and is gone since is gone for good.
                let Some(until) = self.was_read_up_to(partition).filter(|until| low <= *until) else {
                    if !self.spec.goes_on {
                        return Err(self.unfit("OFFSET_GONE", format!("partition {partition} begins at {low}, behind the position {offset} to start from")));
                    }
                    return Err(self.gone(partition, self.was_read_up_to(partition).unwrap_or(offset), low));
                };
                tracing::warn!(
                    "topic `{}` is read again, and partition {partition} begins at {low}: what only its messages from {offset} on gave is not made again (it had been read up to {until})",
                    self.spec.topic
                );
                *start = low;
                continue;
            }
            if offset > end && !self.spec.goes_on {
                return Err(self.unfit("POSITION_BEYOND_END", format!("partition {partition} ends at {end}, before the position {offset} to start from")));
            }
            if offset > end {
                return Err(self.stop(
                    "POSITION_BEYOND_END",
                    format!("partition {partition} ends at {end}, before the position {offset} to start from; it has been truncated, or created again"),
                ));
            }
            *start = offset;
        }
        Ok(starts)
    }

    /// Where a partition that is read again had come to.
    fn was_read_up_to(&self, partition: i32) -> Option<i64> {
        self.spec.again.get(&partition).copied()
    }

    /// Polls, sends, and acts on what the watcher tells, until the end.
    fn follow(&mut self, poke: &Sender<()>, seen: &Receiver<Seen>, pace: Pace) -> Result<(), End> {
        let mut table_done: Option<Instant> = None;
        loop {
            if self.feed.stopped() {
                return Err(End::Stopped);
            }
            self.poll(poke)?;
            while let Ok(seen) = seen.try_recv() {
                self.see(seen)?;
            }
            if self.silent.is_some_and(|since| since.elapsed() >= pace.renew_after) {
                return Err(End::Silent);
            }
            if self.astray.is_some_and(|at| at <= Instant::now()) {
                self.out_of_range()?;
            }
            self.let_heartbeats_through()?;
            if self.until == Until::End && self.backlog_done() {
                // The heartbeats of the start belong to what is read once, but nobody waits long for them.
                let since = *table_done.get_or_insert_with(Instant::now);
                if self.heartbeats.backlog.is_empty() || since.elapsed() > HEARTBEAT_PATIENCE {
                    return self.end();
                }
            }
        }
    }

    /// Takes messages until there are none, or until the chunk limit makes room for other work; waits for the first.
    fn poll(&mut self, poke: &Sender<()>) -> Result<(), End> {
        let consumer = self.consumer.clone();
        let mut wait = POLL;
        for _ in 0..16 * CHUNK_MESSAGES {
            match consumer.poll(wait) {
                None => {
                    self.send_all()?;
                    if std::mem::take(&mut self.at_end) {
                        self.pass_markers();
                    }
                    return Ok(());
                }
                Some(Ok(message)) if message.topic() == self.spec.topic => {
                    let timestamp = match message.timestamp() {
                        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) if ms >= 0 => Some(ms),
                        _ => None,
                    };
                    self.know_schemas(message.key(), message.payload())?;
                    self.take(message.partition(), message.offset(), timestamp, message.key(), message.payload())?;
                }
                Some(Ok(message)) => {
                    self.know_schemas(None, message.payload())?;
                    if let Some(ms) = message.payload().and_then(|value| self.heartbeat_time(value)) {
                        if self.heartbeats.fresh.len() == HEARTBEATS_MAX {
                            self.heartbeats.fresh.pop_front();
                        }
                        self.heartbeats.fresh.push_back((Instant::now(), ms));
                    }
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    self.heartbeats.backlog.retain(|p, end| *p != partition || next < *end);
                    let _ = poke.try_send(());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) => self.complaint(&error)?,
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Waits until the schemas of a message are known, so that workers need not ask for them.
    #[inline]
    fn know_schemas(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), End> {
        let Some(mut lookup) = self.lookup.take() else { return Ok(()) };
        let known = key.into_iter().chain(value).try_for_each(|bytes| self.know_schema(&mut lookup, bytes));
        self.lookup = Some(lookup);
        known
    }

    fn know_schema(&mut self, lookup: &mut Lookup, bytes: &[u8]) -> Result<(), End> {
        let Err(mut failure) = lookup.ensure(bytes) else { return Ok(()) };
        let (begun, mut wait) = (Instant::now(), Duration::from_millis(100));
        // What has been read before need not wait.
        self.send_all()?;
        loop {
            if !failure.retry || (self.until == Until::End && begun.elapsed() >= self.give_up_after) {
                return Err(End::Failed(failure.into()));
            }
            self.trouble(failure.to_string());
            self.feed.update(|view| view.caught_up = false);
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if self.feed.stopped() {
                    return Err(End::Stopped);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            wait = (wait * 2).min(Duration::from_secs(5));
            match lookup.ensure(bytes) {
                Ok(()) => break,
                Err(again) => failure = again,
            }
        }
        self.feed.update(|view| view.trouble = None);
        Ok(())
    }

    /// The time of a heartbeat, in JSON or as the table's messages are written.
    fn heartbeat_time(&self, value: &[u8]) -> Option<i64> {
        if self.lookup.is_some() && crate::format::avro::schema_id(value).is_some() {
            return (self.source_time)(Message { value: Some(value), ..Message::default() });
        }
        heartbeat_time(value)
    }

    /// Adds a message to its partition's buffer; sends that when it is full.
    fn take(&mut self, partition: i32, offset: i64, timestamp: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), End> {
        let Some(place) = self.partitions.get_mut(partition as usize) else { return Ok(()) };
        if self.until == Until::End && offset >= place.start_end {
            if place.next < place.start_end {
                self.send_partition(partition as usize)?;
                self.partitions[partition as usize].next = self.partitions[partition as usize].start_end;
                self.publish(None);
            }
            return Ok(());
        }
        place.touched = true;
        let start = place.bytes.len() as u32;
        place.bytes.extend_from_slice(key.unwrap_or_default());
        place.bytes.extend_from_slice(value.unwrap_or_default());
        let len = |bytes: &[u8]| bytes.len() as u32;
        place.index.push(MessageAt { start, key_len: key.map(len), value_len: value.map(len), offset, timestamp });
        self.open += 1;
        if place.index.len() >= CHUNK_MESSAGES || place.bytes.len() >= CHUNK_BYTES {
            self.send_partition(partition as usize)?;
            self.publish(None);
        }
        Ok(())
    }

    fn send_all(&mut self) -> Result<(), End> {
        if self.open == 0 {
            return Ok(());
        }
        for partition in 0..self.partitions.len() {
            self.send_partition(partition)?;
        }
        self.publish(None);
        Ok(())
    }

    fn send_partition(&mut self, partition: usize) -> Result<(), End> {
        let place = &mut self.partitions[partition];
        let (Some(first), Some(last)) = (place.index.first().copied(), place.index.last()) else { return Ok(()) };
        let next = last.offset + 1;
        let full = place.bytes.len();
        // The next chunk is likely to be of this size.
        let bytes = std::mem::replace(&mut place.bytes, Vec::with_capacity(full.min(CHUNK_BYTES)));
        let index = std::mem::replace(&mut place.index, Vec::with_capacity(CHUNK_MESSAGES.min(self.open)));
        self.open -= index.len();
        self.read_messages += index.len() as u64;
        self.read_bytes += bytes.len() as u64;
        let source_time = (self.source_time)(chunk::message(&bytes, first)).or(first.timestamp);
        self.feed.send(Chunk { source: self.feed.source, partition: partition as i32, payload: Payload::Messages { bytes, index }, source_time, next })?;
        (place.next, place.blank) = (next, 0);
        Ok(())
    }

    /// Moves positions over what holds no message (transaction markers), as far as the client has come. Nothing may be in
    /// the buffers.
    fn pass_markers(&mut self) {
        let Ok(positions) = self.consumer.position() else { return };
        let mut moved = false;
        for element in positions.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            if element.topic() == self.spec.topic {
                if let Some(place) = self.partitions.get_mut(element.partition() as usize)
                    && offset > place.next
                {
                    // What lies after the end of the start was polled and left out.
                    let next = if self.until == Until::End { offset.min(place.start_end.max(place.next)) } else { offset };
                    place.blank += next - place.next;
                    place.next = next;
                    moved = true;
                }
            } else {
                self.heartbeats.backlog.retain(|p, end| *p != element.partition() || offset < *end);
            }
        }
        if moved {
            self.publish(None);
        }
    }

    fn see(&mut self, seen: Seen) -> Result<(), End> {
        match seen {
            Seen::Ends { asked, asked_ms, ends, held, shrunk } => {
                if let Some((partition, next, end)) = shrunk.first() {
                    return Err(self
                        .stop("LOG_SHRUNK", format!("partition {partition} ends at {end}, but was read up to {next}; it has been truncated, or created again"))
                        .into());
                }
                // What is held back was produced before the heartbeat, too.
                let mut upto = ends.clone();
                held.iter().for_each(|(partition, held)| upto[*partition as usize] = *held);
                while !upto.contains(&UNKNOWN) && self.heartbeats.fresh.front().is_some_and(|(received, _)| *received <= asked) {
                    let (_, ms) = self.heartbeats.fresh.pop_front().expect("there is a front");
                    if self.heartbeats.waiting.len() == HEARTBEATS_MAX {
                        self.heartbeats.waiting.pop_back();
                    }
                    self.heartbeats.waiting.push_back((upto.clone(), ms));
                }
                self.heartbeats.upto = upto;
                self.silent = None;
                self.feed.update(|view| view.trouble = None);
                self.publish(Some((asked_ms, &ends, &held)));
            }
            Seen::Grown(new) => {
                if self.until == Until::Forever {
                    let own: Vec<(i32, i64)> = new.iter().copied().filter(|(partition, _)| self.spec.share.has(*partition)).collect();
                    own.iter().try_for_each(|(partition, low)| self.unread(*partition, *low))?;
                    for (partition, low) in &new {
                        tracing::info!(topic = self.spec.topic, partition, "new partition");
                        self.partitions.push(Partition { start: *low, next: *low, start_end: *low, ..Partition::default() });
                    }
                    let topic = self.spec.topic.clone();
                    self.assign(&topic, &own)?;
                    self.publish(None);
                }
            }
            Seen::Fewer(0) => return Err(self.stop("TOPIC_GONE", "does not exist any more".into()).into()),
            Seen::Fewer(n) => {
                return Err(self.fewer(n, self.partitions.len()).into());
            }
            Seen::Replaced { was, is } => {
                return Err(self.replaced(&was, &is).into());
            }
            Seen::Heartbeats(places) => self.follow_heartbeats(&places)?,
            Seen::Silence(error) => match self.unanswered(&error) {
                error if error.retry => {
                    self.silent.get_or_insert_with(Instant::now);
                    self.trouble(error.message);
                }
                error => return Err(error.into()),
            },
        }
        Ok(())
    }

    fn let_heartbeats_through(&mut self) -> Result<(), End> {
        let mut pass = None;
        while let Some((ends, ms)) = self.heartbeats.waiting.front() {
            // What is there no more is not waited for.
            let end = |p: i32| ends.get(p as usize).map(|end| self.heartbeats.upto.get(p as usize).map_or(*end, |now| *end.min(now)));
            if self.own().any(|(partition, p)| end(partition).is_some_and(|end| p.next < end)) {
                break;
            }
            pass = pass.max(Some(*ms));
            self.heartbeats.waiting.pop_front();
        }
        match pass {
            Some(ms) => self.heartbeat(ms),
            None => Ok(()),
        }
    }

    fn heartbeat(&mut self, ms: i64) -> Result<(), End> {
        if ms <= self.heartbeats.passed {
            return Ok(());
        }
        self.send_all()?;
        self.heartbeats.passed = ms;
        let next = self.partitions.first().map_or(0, |p| p.next);
        let payload = Payload::Heartbeat(ms);
        self.feed.send(Chunk { source: self.feed.source, partition: 0, payload, source_time: Some(ms), next })?;
        Ok(())
    }

    /// Follows the heartbeat topic from its last messages on.
    fn follow_heartbeats(&mut self, places: &[Last]) -> Result<(), LogError> {
        let Some(topic) = self.heartbeats.topic.clone().filter(|_| self.heartbeats.followed.is_empty()) else { return Ok(()) };
        self.heartbeats.followed = places.iter().map(|last| (last.partition, last.at)).collect();
        self.heartbeats.backlog = places.iter().filter(|last| last.at < last.end).map(|last| (last.partition, last.end)).collect();
        self.assign(&topic, &self.heartbeats.followed)
    }

    /// Follows the heartbeat topic anew where what was to be read next is not there any more, since it was emptied or created again;
    /// whether it was that.
    fn follow_heartbeats_anew(&mut self, topic: &str) -> Result<bool, End> {
        let Some(places) = watch::last(&self.consumer, topic, PATIENCE).map_err(|e| self.unanswered(&e))? else {
            // It may be on its way back.
            self.astray = Some(Instant::now() + PATIENCE);
            return Ok(true);
        };
        let positions = self.consumer.position().unwrap_or_default();
        let next = |partition: i32, from: i64| match positions.find_partition(topic, partition).map(|place| place.offset()) {
            Some(Offset::Offset(next)) => next,
            _ => from,
        };
        let is_there = |(partition, next): (i32, i64)| places.iter().any(|of| of.partition == partition && (of.low..=of.end).contains(&next));
        if self.heartbeats.followed.iter().all(|(partition, from)| is_there((*partition, next(*partition, *from)))) {
            return Ok(false);
        }
        tracing::info!(topic = self.spec.topic, heartbeats = topic, "the heartbeat topic lost what was to be read next; it is followed from its end");
        let mut list = TopicPartitionList::new();
        for (partition, _) in std::mem::take(&mut self.heartbeats.followed) {
            list.add_partition(topic, partition);
        }
        let _ = self.consumer.incremental_unassign(&list);
        self.follow_heartbeats(&places)?;
        Ok(true)
    }

    fn assign(&self, topic: &str, places: &[(i32, i64)]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        places
            .iter()
            .try_for_each(|(partition, offset)| list.add_partition_offset(topic, *partition, Offset::Offset(*offset)))
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|e| self.stop("ASSIGNMENT", format!("could not be assigned: {e}")))
    }

    /// Everything that was asked for has been read: passes the last heartbeat on, if it belongs to that.
    fn end(&mut self) -> Result<(), End> {
        self.send_all()?;
        // The ends of the table were asked after those of the heartbeats, so these are covered.
        let last = self.heartbeats.fresh.iter().map(|(_, ms)| *ms).chain(self.heartbeats.waiting.iter().map(|(_, ms)| *ms)).max();
        if let Some(ms) = last {
            self.heartbeat(ms)?;
        }
        self.publish(None);
        Ok(())
    }

    fn backlog_done(&self) -> bool {
        self.own().all(|(_, p)| p.next >= p.start_end)
    }

    /// The partitions that are read here, with their numbers.
    fn own(&self) -> impl Iterator<Item = (i32, &Partition)> {
        (0..).zip(&self.partitions).filter(|(partition, _)| self.spec.share.has(*partition))
    }

    /// Writes the view: positions, and the ends if they were asked anew.
    fn publish(&self, ends: Option<(i64, &[i64], &[(i32, i64)])>) {
        let done = self.backlog_done();
        self.feed.update(|view| {
            for (at, (partition, place)) in self.own().enumerate() {
                match view.partitions.get_mut(at) {
                    Some(known) => (known.next, known.blank) = (place.next, place.blank),
                    None => {
                        let (start, next, blank) = (place.start, place.next, place.blank);
                        view.partitions.push(PartitionView { partition, start, next, blank, end: None, held: Some(UNKNOWN) });
                    }
                }
            }
            if let Some((asked_ms, ends, held)) = ends {
                view.asked_ms = Some(asked_ms);
                for known in &mut view.partitions {
                    known.end = ends.get(known.partition as usize).copied();
                    known.held = held.iter().find(|(partition, _)| *partition == known.partition).map(|(_, held)| *held);
                }
            }
            view.caught_up = view.partitions.iter().all(PartitionView::caught_up);
            view.backlog_done |= done;
            view.read_messages = self.read_messages;
            view.read_bytes = self.read_bytes;
            view.behind_messages = view.partitions.iter().map(|p| p.end.map_or(0, |end| (end - p.next).max(0) as u64)).sum();
            let mean = self.read_bytes.checked_div(self.read_messages).unwrap_or(500);
            view.behind_bytes = view.behind_messages * mean;
        });
    }

    fn trouble(&self, text: String) {
        self.feed.update(|view| {
            if view.trouble.as_ref() != Some(&text) {
                tracing::warn!(topic = self.spec.topic, "{text}");
                view.trouble = Some(text);
            }
        });
    }

    /// Hands what librdkafka has to say by itself to [`Reader::complaint`], while nothing is assigned.
    fn serve_errors(&mut self) -> Result<(), End> {
        if self.partitions.is_empty() {
            let consumer = self.consumer.clone();
            // A line for the log is an event, too, and looks as if there were none.
            for _ in 0..client::EVENTS {
                if let Some(Err(error)) = consumer.poll(Duration::ZERO) {
                    self.complaint(&error)?;
                }
            }
        }
        Ok(())
    }

    /// An error that came in place of a message. Most are about connections, which librdkafka mends by itself; the
    /// watcher's questions tell when it can't.
    fn complaint(&mut self, error: &KafkaError) -> Result<(), End> {
        let code = error.rdkafka_error_code();
        if let Some(denied) = self.denied(error)
            && !denied.retry
        {
            return Err(self.refused(&denied).into());
        }
        match (error, code) {
            (KafkaError::MessageConsumptionFatal(_), _) => Err(self.failure("CLIENT_FAILED", format!("the client gave up: {error}")).into()),
            (_, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) => self.out_of_range(),
            _ => {
                tracing::debug!(topic = self.spec.topic, %error, "kafka consumer");
                Ok(())
            }
        }
    }

    /// A position is not in a topic: looks which it is, and why. Who asks at a moment when no broker answers asks again.
    fn out_of_range(&mut self) -> Result<(), End> {
        self.astray = None;
        match self.look_out_of_range() {
            Err(End::Failed(error)) if error.code == "BROKER_UNREACHABLE" => {
                self.silent.get_or_insert_with(Instant::now);
                self.trouble(error.message);
                self.astray = Some(Instant::now() + PATIENCE);
                Ok(())
            }
            done => done,
        }
    }

    /// A partition that is read from its beginning, and of which nothing has been read, may begin elsewhere now.
    fn look_out_of_range(&mut self) -> Result<(), End> {
        let count = self.partitions.len();
        let ask = |at| watch::ask(&self.consumer, &self.spec.topic, count, at, PATIENCE).map_err(|e| self.unanswered(&e));
        let (lows, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        for (partition, place) in self.own() {
            let (p, polled) = (partition as usize, place.index.last().map_or(place.next, |m| m.offset + 1));
            let may_begin = self.spec.start == Start::Beginning || self.was_read_up_to(partition).is_some_and(|until| lows[p] <= until);
            if polled < lows[p] && !place.touched && may_begin {
                let mut list = TopicPartitionList::new();
                list.add_partition(&self.spec.topic, partition);
                let _ = self.consumer.incremental_unassign(&list);
                self.assign(&self.spec.topic, &[(partition, lows[p])])?;
                return Ok(());
            }
            if polled < lows[p] {
                return Err(self.gone(partition, polled, lows[p]).into());
            }
            if polled > ends[p] {
                return Err(self
                    .stop(
                        "LOG_SHRUNK",
                        format!("partition {partition} ends at {}, but was read up to {polled}; it has been truncated, or created again", ends[p]),
                    )
                    .into());
            }
        }
        if let Some(topic) = self.heartbeats.topic.clone().filter(|_| !self.heartbeats.followed.is_empty())
            && self.follow_heartbeats_anew(&topic)?
        {
            return Ok(());
        }
        Err(self.failure("OFFSET_OUT_OF_RANGE", "refused a position that it holds".into()).into())
    }

    /// A partition that is new is read from its beginning; has it lost that already?
    fn unread(&self, partition: i32, low: i64) -> Result<(), LogError> {
        if low > 0 { Err(self.gone(partition, 0, low)) } else { Ok(()) }
    }

    fn fewer(&self, is: usize, was: usize) -> LogError {
        self.stop("PARTITIONS_FEWER", format!("has {is} partitions where it had {was}"))
    }

    fn replaced(&self, was: &str, is: &str) -> LogError {
        let (old, new) = (topic_id::cluster(was), topic_id::cluster(is));
        if old != new {
            let brokers = &self.spec.brokers;
            let what = format!("was read from the cluster {old}, and the brokers at {brokers} are of the cluster {new}");
            let stop = self.stop("CLUSTER_CHANGED", what);
            return LogError { remedy: format!("name the brokers of that cluster in the connection's `brokers`; if it was replaced, {}", stop.remedy), ..stop };
        }
        self.stop("TOPIC_REPLACED", format!("is another topic of the same name (id {is}, was {was})"))
    }

    fn stop(&self, code: &'static str, what: String) -> LogError {
        LogError {
            code,
            message: format!("topic `{}` {what}", self.spec.topic),
            remedy:
                "what was computed from it no longer follows from it: start again from a place that it holds, by `tieout run --fresh`, with empty output topics"
                    .into(),
            retry: false,
        }
    }

    /// What the source declares does not fit what the topic holds.
    fn unfit(&self, code: &'static str, what: String) -> LogError {
        LogError { remedy: "correct the source's `start`".into(), ..self.stop(code, what) }
    }

    fn gone(&self, partition: i32, next: i64, low: i64) -> LogError {
        self.stop("OFFSET_GONE", format!("partition {partition} begins at {low}: messages from {next} on are gone from its retention"))
    }

    fn failure(&self, code: &'static str, what: String) -> LogError {
        LogError { code, message: format!("topic `{}`: {what}", self.spec.topic), remedy: "try again".into(), retry: true }
    }

    /// Does the error mean that we are not let in? A broker whose certificate fails while others are read may be mended, and a
    /// token may have ended on its way: these are an end at the start only.
    fn denied(&self, error: &KafkaError) -> Option<Denied> {
        let context = self.consumer.context();
        let said = || context.last_error().unwrap_or_else(|| error.to_string());
        match error.rdkafka_error_code() {
            Some(code) if client::refused(code) && context.renews() && !self.partitions.is_empty() => None,
            Some(code) if client::refused(code) => Some(context.denied().unwrap_or_else(|| Denied { code: "ACCESS_REFUSED", reason: said(), retry: false })),
            _ => context.denied().filter(|_| self.partitions.is_empty()),
        }
    }

    fn refused(&self, denied: &Denied) -> LogError {
        client::refusal(&self.spec.connection, &format!("reading topic `{}`", self.spec.topic), denied)
    }

    /// A question without an answer.
    fn unanswered(&self, error: &KafkaError) -> LogError {
        if let Some(denied) = self.denied(error) {
            return self.refused(&denied);
        }
        let reason = self.consumer.context().last_error().unwrap_or_else(|| error.to_string());
        LogError {
            code: "BROKER_UNREACHABLE",
            message: format!("no answer from Kafka at {} about topic `{}`: {reason}", self.spec.brokers, self.spec.topic),
            remedy: format!("check that the brokers of connection `{}` run and can be reached", self.spec.connection),
            retry: true,
        }
    }

    fn unknown_topic(&self) -> LogError {
        let topic = &self.spec.topic;
        let metadata = self.consumer.fetch_metadata(None, PATIENCE).ok();
        let names = metadata.iter().flat_map(|m| m.topics()).map(|t| t.name());
        let known = names.clone().filter(|n| !n.starts_with("__")).count();
        let near = client::similar(topic, names);
        let hint = if near.is_empty() { format!("it has {known} topics, none of a similar name") } else { format!("did you mean `{}`?", near.join("`, `")) };
        LogError {
            code: "TOPIC_UNKNOWN",
            message: format!("there is no topic `{topic}` on {}; {hint}", self.spec.brokers),
            remedy: "correct the source's `topic`, or create it; without --once tieout waits for it".into(),
            retry: false,
        }
    }
}

/// The `ts_ms` of a Debezium heartbeat, with or without its schema around it; of a change of a table that the connector itself
/// writes to (`heartbeat.action.query`) when it was committed.
fn heartbeat_time(value: &[u8]) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_slice(value).ok()?;
    let message = value.get("payload").filter(|payload| payload.is_object()).unwrap_or(&value);
    message.get("source").and_then(|source| source.get("ts_ms")).or_else(|| message.get("ts_ms"))?.as_i64()
}

#[cfg(test)]
mod tests;
