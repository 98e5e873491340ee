//! A Kafka topic as a sink: an idempotent producer, one topic an output, ticks in order.
//!
//! Transactions, and with them exactly-once across a restart, come later; until then a restart may write records again, with
//! the same `tieout-id`. A topic that does not exist is created, compacted, if the broker lets us.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::{Sink, SinkBatch, SinkError};
use crate::log::kafka::client::{self, Context};

/// How long the cluster may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one poll waits while the queue is full or on its way.
const POLL: Duration = Duration::from_millis(20);

/// A topic that is written to.
pub struct KafkaSink {
    connection: String,
    topic: String,
    producer: BaseProducer<Deliveries>,
}

/// Collects what became of the messages.
#[derive(Debug, Default)]
struct Deliveries {
    client: Context,
    /// The first message that was not delivered since the last flush.
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.client.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.lock().expect("nobody panics while holding it").get_or_insert_with(|| error.clone());
        }
    }
}

impl KafkaSink {
    /// Connects, and creates the topic if there is none.
    ///
    /// # Errors
    /// librdkafka does not take the properties, no broker answers, or the topic can neither be found nor created.
    pub fn open(connection: &str, brokers: &str, properties: &BTreeMap<String, String>, topic: &str) -> Result<KafkaSink, SinkError> {
        let mut config = client::config(brokers, properties);
        for (name, value) in [
            ("compression.type", "zstd"),
            ("linger.ms", "2"),
            ("queue.buffering.max.kbytes", "32768"),
            // The partitions that the Java client would choose, so that consumers can join topics by partition.
            ("partitioner", "murmur2_random"),
        ] {
            if !properties.contains_key(name) {
                config.set(name, value);
            }
        }
        // A topic that is created by being written to would have the broker's clean-up policy, not ours.
        config.set("enable.idempotence", "true").set("acks", "all").set("allow.auto.create.topics", "false");
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|e| from_log(client::misconfigured(connection, &e)))?;
        let sink = KafkaSink { connection: connection.into(), topic: topic.into(), producer };
        sink.need_topic(&config, brokers)?;
        Ok(sink)
    }

    fn need_topic(&self, config: &ClientConfig, brokers: &str) -> Result<(), SinkError> {
        let begun = Instant::now();
        loop {
            self.producer.poll(Duration::ZERO);
            match self.producer.client().fetch_metadata(Some(&self.topic), Duration::from_secs(1)) {
                Ok(metadata) => match metadata.topics().first().and_then(|t| t.error()).map(RDKafkaErrorCode::from) {
                    None => return Ok(()),
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition) => self.create(config)?,
                    Some(code) if client::refused(code) => return Err(self.refused(&code.to_string())),
                    Some(_) => {}
                },
                Err(error) if error.rdkafka_error_code().is_some_and(client::refused) => {
                    return Err(self.refused(&error.to_string()));
                }
                Err(error) if begun.elapsed() > PATIENCE => {
                    let reason = self.producer.context().client.last_error().unwrap_or_else(|| error.to_string());
                    return Err(SinkError {
                        code: "BROKER_UNREACHABLE",
                        message: format!("no answer from Kafka at {brokers} about topic `{}`: {reason}", self.topic),
                        remedy: format!("check that the brokers of connection `{}` run and can be reached", self.connection),
                        retry: true,
                    });
                }
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn create(&self, config: &ClientConfig) -> Result<(), SinkError> {
        let mut config = config.clone();
        for name in ["enable.idempotence", "acks", "compression.type", "linger.ms", "queue.buffering.max.kbytes", "partitioner"] {
            config.remove(name);
        }
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(|e| from_log(client::misconfigured(&self.connection, &e)))?;
        // Partitions and replicas as the broker has them by default.
        let topic = NewTopic::new(&self.topic, -1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let why = match runtime.block_on(admin.create_topics([&topic], &options)) {
            Ok(results) => match results.into_iter().next() {
                None | Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    tracing::info!(topic = self.topic, "created, compacted");
                    return Ok(());
                }
                Some(Err((_, code))) => code.to_string(),
            },
            Err(error) => error.to_string(),
        };
        Err(SinkError {
            code: "TOPIC_NOT_CREATED",
            message: format!("topic `{}` does not exist, and could not be created on connection `{}`: {why}", self.topic, self.connection),
            remedy: format!("create it: kafka-topics.sh --create --topic {} --config cleanup.policy=compact", self.topic),
            retry: false,
        })
    }

    fn refused(&self, reason: &str) -> SinkError {
        let reason = self.producer.context().client.last_error().unwrap_or_else(|| reason.to_string());
        from_log(client::refusal(&self.connection, &format!("writing topic `{}`", self.topic), &reason))
    }

    fn undelivered(&self, error: &KafkaError) -> SinkError {
        let code = error.rdkafka_error_code();
        if code.is_some_and(client::refused) {
            return self.refused(&error.to_string());
        }
        let too_large = code == Some(RDKafkaErrorCode::MessageSizeTooLarge);
        SinkError {
            code: "NOT_DELIVERED",
            message: format!("topic `{}` of connection `{}` did not take a record: {error}", self.topic, self.connection),
            remedy: if too_large {
                "raise `max.message.bytes` of the topic, and `message.max.bytes` of the connection".into()
            } else {
                "the brokers did not answer for `message.timeout.ms`; start again when they do".into()
            },
            retry: !too_large,
        }
    }

    fn check(&self) -> Result<(), SinkError> {
        match self.producer.context().failed.lock().expect("nobody panics while holding it").take() {
            Some(error) => Err(self.undelivered(&error)),
            None => Ok(()),
        }
    }
}

fn from_log(error: crate::log::LogError) -> SinkError {
    SinkError { code: error.code, message: error.message, remedy: error.remedy, retry: error.retry }
}

impl Sink for KafkaSink {
    fn apply(&mut self, batch: &SinkBatch) -> Result<(), SinkError> {
        let tick = batch.tick.to_string();
        for record in &batch.records {
            let id = record.id_text();
            let headers = OwnedHeaders::new_with_capacity(3)
                .insert(Header { key: "tieout-tick", value: Some(&tick) })
                .insert(Header { key: "tieout-id", value: Some(&id) })
                .insert(Header { key: "tieout-mapping", value: Some(&*record.mapping) });
            let mut message = BaseRecord::<[u8], [u8]>::to(&self.topic).key(&record.key).headers(headers);
            message.payload = record.value.as_deref();
            loop {
                match self.producer.send(message) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        self.producer.poll(POLL);
                        self.check()?;
                        message = back;
                    }
                    Err((error, _)) => return Err(self.undelivered(&error)),
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        loop {
            let flushed = self.producer.flush(Duration::from_millis(500));
            self.check()?;
            match flushed {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
                Err(error) => return Err(self.undelivered(&error)),
            }
        }
    }
}
