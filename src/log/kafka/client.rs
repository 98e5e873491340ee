//! What readers and writers of Kafka share: how clients are made, librdkafka's log lines, and the meaning of its errors.
//!
//! Every client is made here, so that what a connection says of encryption and logins holds for all of them.

use std::{
    error::Error,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::AdminClient,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, DeliveryResult, Producer, ProducerContext},
    types::{RDKafka, RDKafkaErrorCode},
};

use super::token::Login;
use crate::{log::LogError, plan::Properties};

/// How many events of a client are looked at for what its brokers say of it.
pub const EVENTS: usize = 64;

/// What a broker says of a client's certificate.
const ALERTS: [&str; 5] = ["alert bad certificate", "alert certificate required", "alert certificate expired", "alert certificate unknown", "alert unknown ca"];

/// What clients of a connection are made with. Callers add what they depend on.
#[derive(Clone)]
pub struct Config {
    settings: ClientConfig,
    login: Option<Arc<Login>>,
}

impl Deref for Config {
    type Target = ClientConfig;

    fn deref(&self) -> &ClientConfig {
        &self.settings
    }
}

impl DerefMut for Config {
    fn deref_mut(&mut self) -> &mut ClientConfig {
        &mut self.settings
    }
}

/// The settings of a connection.
pub fn config(brokers: &str, properties: &Properties) -> Config {
    let (mut properties, mut settings) = (properties.clone(), ClientConfig::new());
    let login = Login::of(&mut properties).map(Arc::new);
    settings.set("client.id", "tieout");
    // A broker that is back should be seen within a second, not after librdkafka's ten.
    settings.set("reconnect.backoff.max.ms", "1000");
    // Where the system's authorities are is known to the system, not to the OpenSSL that is built in.
    if properties.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl")) {
        settings.set("ssl.ca.location", "probe");
    }
    for (name, value) in properties.iter() {
        settings.set(name, value);
    }
    settings.set("bootstrap.servers", brokers);
    Config { settings, login }
}

impl Config {
    /// A consumer; `context` is made around what all clients have.
    ///
    /// # Errors
    /// librdkafka does not take the settings.
    pub fn consumer<C: ConsumerContext>(&self, context: impl FnOnce(Context) -> C) -> KafkaResult<BaseConsumer<C>> {
        let client = self.context();
        let told = Arc::clone(&client.told);
        let made: BaseConsumer<C> = self.settings.create_with_context(context(client))?;
        self.log_in(made.client().native_ptr(), &told);
        Ok(made)
    }

    /// A producer, likewise.
    ///
    /// # Errors
    /// As [`Config::consumer`].
    pub fn producer<C: ProducerContext>(&self, context: impl FnOnce(Context) -> C) -> KafkaResult<BaseProducer<C>> {
        let client = self.context();
        let told = Arc::clone(&client.told);
        let made: BaseProducer<C> = self.settings.create_with_context(context(client))?;
        self.log_in(made.client().native_ptr(), &told);
        Ok(made)
    }

    /// A client for questions about the cluster. It does not live long: nobody renews its token.
    ///
    /// # Errors
    /// As [`Config::consumer`].
    pub fn admin(&self) -> KafkaResult<AdminClient<Context>> {
        let client = self.context();
        let told = Arc::clone(&client.told);
        let made: AdminClient<Context> = self.settings.create_with_context(client)?;
        self.log_in(made.inner().native_ptr(), &told);
        Ok(made)
    }

    fn context(&self) -> Context {
        Context { told: Arc::default(), login: self.login.clone() }
    }

    /// Where there is no token yet, librdkafka asks again by itself.
    fn log_in(&self, client: *mut RDKafka, told: &Mutex<Told>) {
        if let Some(Err(denied)) = self.login.as_ref().map(|login| login.give(client)) {
            told.lock().expect("nobody panics while holding it").denied = Some(denied);
        }
    }
}

/// Why a client is not let in.
#[derive(Clone, Debug)]
pub struct Denied {
    /// `ACCESS_REFUSED`, `BROKER_UNTRUSTED`, `TOKEN_REFUSED` or `TOKEN_UNREACHABLE`.
    pub code: &'static str,
    pub reason: String,
    /// Trying again may help.
    pub retry: bool,
}

/// Keeps what librdkafka reported by itself, for the text of a trouble; forwards its log lines to `tracing`; renews tokens.
#[derive(Debug, Default)]
pub struct Context {
    told: Arc<Mutex<Told>>,
    login: Option<Arc<Login>>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<String>,
    denied: Option<Denied>,
    broke: bool,
}

impl Context {
    /// Was a connection lost that had been there, since this was last asked?
    pub fn broke(&self) -> bool {
        std::mem::take(&mut self.told.lock().expect("nobody panics while holding it").broke)
    }

    /// The last error since this was last asked.
    pub fn last_error(&self) -> Option<String> {
        self.told.lock().expect("nobody panics while holding it").last.take()
    }

    /// Why the client is not let in, if a broker, or whoever gives tokens, has said so.
    pub fn denied(&self) -> Option<Denied> {
        self.told.lock().expect("nobody panics while holding it").denied.clone()
    }

    /// Does it log in with tokens? One that is refused may have ended on its way; the next one will not have.
    pub fn renews(&self) -> bool {
        self.login.is_some()
    }

    fn deny(&self, denied: Denied) {
        let mut told = self.told.lock().expect("nobody panics while holding it");
        // That there is no token says more than that nobody is let in without.
        if !told.denied.as_ref().is_some_and(|known| known.code.starts_with("TOKEN_")) {
            told.denied = Some(denied);
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(login) = &self.login else { return Err("the connection does not say where tokens come from".into()) };
        let token = login.token();
        let mut told = self.told.lock().expect("nobody panics while holding it");
        told.denied = token.as_ref().err().cloned();
        token.map_err(|denied| denied.reason.into())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // The client tells of this in its log only; connections that nobody uses end more quietly.
        if facility == "FAIL" && line.contains("in state UP") {
            self.told.lock().expect("nobody panics while holding it").broke = true;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{line}")
            }
            // Properties of a connection are given to all clients, and each warns of those that are for others.
            _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{line}"),
            // A broker that can't be reached is reported once, as the trouble of its source, not once per attempt.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(target: "librdkafka", facility, "{line}")
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        // "all brokers down" says less than the reason before it.
        let code = error.rdkafka_error_code();
        if !matches!(code, Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AllBrokersDown)) {
            self.told.lock().expect("nobody panics while holding it").last = Some(reason.to_string());
        }
        match code {
            Some(code) if refused(code) => self.deny(Denied { code: "ACCESS_REFUSED", reason: reason.into(), retry: false }),
            Some(RDKafkaErrorCode::SSL) if reason.contains("certificate verify failed") => {
                self.deny(Denied { code: "BROKER_UNTRUSTED", reason: reason.into(), retry: false });
            }
            // What a broker says that asks for a certificate, and gets none, or none that it knows.
            _ if reason.contains("SSL routines") && ALERTS.iter().any(|alert| reason.contains(alert)) => {
                self.deny(Denied { code: "ACCESS_REFUSED", reason: reason.into(), retry: false });
            }
            _ => {}
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, _: ()) {}
}

/// Why a producer is not let in, as far as it has heard.
pub fn denied_producer<C: ProducerContext>(producer: &BaseProducer<C>, of: impl Fn(&C) -> &Context) -> Option<Denied> {
    (0..EVENTS).for_each(|_| producer.poll(std::time::Duration::ZERO));
    of(producer.context()).denied()
}

/// Why a consumer that reads nothing now is not let in, as far as it has heard.
pub fn denied_consumer(consumer: &BaseConsumer<Context>) -> Option<Denied> {
    (0..EVENTS).for_each(|_| drop(consumer.poll(std::time::Duration::ZERO)));
    consumer.context().denied()
}

/// The user (or certificate) is not let in: trying again would only lock accounts.
pub fn refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        Authentication
            | SaslAuthenticationFailed
            | UnsupportedSASLMechanism
            | IllegalSASLState
            | TopicAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
    )
}

/// The error of a connection that does not let us do `what`.
pub fn refusal(connection: &str, what: &str, denied: &Denied) -> LogError {
    let Denied { code, reason, retry } = denied;
    let (why, remedy) = match *code {
        "BROKER_UNTRUSTED" => (
            "was not tried, since nobody vouches for the broker",
            "name the authority that signed its certificate as `tls.ca` of the connection, and the brokers as their certificates do",
        ),
        "TOKEN_REFUSED" => ("needs a token, and there is none", "check `sasl.token_url`, `sasl.client_id` and `sasl.client_secret` of the connection"),
        "TOKEN_UNREACHABLE" => ("needs a token, and there is none", "check that `sasl.token_url` of the connection can be reached from here"),
        _ => ("was refused", "check the connection's `tls` and `sasl` (or its properties of these names), and the rights of its user"),
    };
    LogError { code, message: format!("connection `{connection}`: {what} {why}: {reason}"), remedy: remedy.into(), retry: *retry }
}

/// The error of settings that librdkafka does not take.
pub fn misconfigured(connection: &str, error: &KafkaError) -> LogError {
    // No value is shown: a secret may stand under a name that is spelled wrong, or that only Java knows.
    let text = match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("{text} (`{name}`)"),
        other => other.to_string(),
    };
    LogError {
        code: "CONNECTION_SETTINGS",
        message: format!("connection `{connection}`: librdkafka does not take its settings: {text}"),
        remedy: "check the connection's `tls` and `sasl`; properties are librdkafka's own settings, see its CONFIGURATION.md for their names and values".into(),
        retry: false,
    }
}

/// The topics whose names are most like this one, best first.
pub fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> =
        names.filter(|name| !name.starts_with("__")).map(|name| (strsim::jaro_winkler(wanted, name), name)).filter(|(score, _)| *score > 0.7).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
