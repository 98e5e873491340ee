//! Tells the brokers how far checkpoints cover topics, as offsets of a consumer group: for those who watch lags, and for
//! nobody else. tieout never starts from them.
//!
//! The group is `tieout-NAME`, or the connection's `group.id`. It is never joined. Where two sources read one topic, the one
//! that is behind counts. One thread a connection commits, since librdkafka does not tell what became of a commit that is not
//! waited for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
};

use super::client::{self, Context};
use crate::plan::{ConnectionId, ConnectionKind, LogSpec, Plan};

/// How long a run that ends waits until the brokers know its last checkpoint.
const PATIENCE_AT_END: Duration = Duration::from_secs(2);
/// How often a client that has nothing to do is served: its token may end.
const SERVE: Duration = Duration::from_secs(1);

/// What one source has read, by partition: the next position.
type Positions = [(i32, i64)];
/// What a group is to know: the next position by topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

/// The groups of all Kafka connections that are read.
pub struct Groups(Vec<Group>);

struct Group {
    /// Sources with their topics.
    sources: Vec<(usize, String)>,
    to: Sender<Offsets>,
    /// Nothing is ever said: it ends with the thread.
    done: Receiver<()>,
}

impl Groups {
    /// The groups of a plan. Nothing connects before there is something to tell.
    pub fn of(plan: &Plan) -> Groups {
        let mut topics: BTreeMap<ConnectionId, Vec<(usize, String)>> = BTreeMap::new();
        for (id, source) in plan.sources.iter().enumerate() {
            if let LogSpec::Topic { topic, .. } = &source.log {
                topics.entry(source.connection).or_default().push((id, topic.clone()));
            }
        }
        let group = |(connection, sources): (ConnectionId, Vec<(usize, String)>)| {
            let declared = &plan.connections[connection];
            let ConnectionKind::Kafka { brokers, properties, .. } = &declared.kind else { return None };
            let mut config = client::config(brokers, properties);
            if !properties.contains_key("group.id") {
                config.set("group.id", format!("tieout-{}", plan.name));
            }
            config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("allow.auto.create.topics", "false");
            // Readers with the same properties were opened before this: they tell of settings that can't be.
            Some(Group::start(declared.name.clone(), sources, config.consumer(|client| client).ok()?))
        };
        Groups(topics.into_iter().filter_map(group).collect())
    }

    /// A checkpoint covers these positions, by source. Waits for nobody.
    pub fn cover<'a>(&self, positions: impl Fn(usize) -> &'a Positions) {
        for group in &self.0 {
            let mut least = Offsets::new();
            for (source, topic) in &group.sources {
                for (partition, next) in positions(*source) {
                    least.entry((topic.clone(), *partition)).and_modify(|known| *known = (*known).min(*next)).or_insert(*next);
                }
            }
            if !least.is_empty() {
                let _ = group.to.send(least);
            }
        }
    }

    /// Waits a moment for what is under way.
    pub fn finish(self) {
        let until = Instant::now() + PATIENCE_AT_END;
        let done: Vec<Receiver<()>> = self.0.into_iter().map(|group| group.done).collect();
        for done in done {
            let _ = done.recv_deadline(until);
        }
    }
}

impl Group {
    fn start(connection: String, sources: Vec<(usize, String)>, consumer: BaseConsumer<Context>) -> Group {
        let (to, offsets) = unbounded();
        let (ends, done) = bounded(0);
        let run = move || {
            tell(&connection, &consumer, &offsets);
            drop(ends);
        };
        std::thread::Builder::new().name("group".into()).spawn(run).expect("the operating system starts a thread");
        Group { sources, to, done }
    }
}

/// Commits the newest of what comes, until nothing more will.
fn tell(connection: &str, consumer: &BaseConsumer<Context>, offsets: &Receiver<Offsets>) {
    let mut told = false;
    loop {
        let next = offsets.recv_timeout(SERVE);
        // It is never assigned anything: this renews its token, if it has one.
        _ = consumer.poll(Duration::ZERO);
        match next {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(first) => {
                let newest = offsets.try_iter().last().unwrap_or(first);
                if let Err(error) = commit(consumer, &newest)
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!(connection, "how far topics are read can't be told to the consumer group, which only monitoring misses: {error}");
                }
            }
        }
    }
}

fn commit(consumer: &BaseConsumer<Context>, offsets: &Offsets) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

#[cfg(test)]
mod tests;
