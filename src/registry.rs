//! A schema registry that speaks Confluent's REST API: asked for the schemas of messages, and told those of outputs.
//!
//! Its callers are plain threads that may wait: readers before they hand a message on, writers before their first record.
//! What is learnt goes into `format::avro::Schemas`; nobody else needs the registry.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use ureq::{Agent, Body, http::Response};

use crate::{
    format::avro::{Known, Schemas, schema::Schema, schema_id},
    http_client::{self, escaped},
    plan::Registry,
};

/// How long one question may take. A reader that should end waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a schema that is unknown stays so before it is asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// So many of these are remembered.
const UNKNOWN_MAX: usize = 10_000;
/// The largest answer that is read.
const ANSWER_MAX: u64 = 16 << 20;
/// Schemas that one schema may refer to, all in all.
const REFERENCES_MAX: usize = 200;
const MIME: &str = "application/vnd.schemaregistry.v1+json";

/// Why the registry gave no answer, or none that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable name, e.g. `REGISTRY_UNREACHABLE`.
    pub code: &'static str,
    pub message: String,
    /// What the user can do.
    pub remedy: String,
    /// Whether the same attempt may work later without anybody changing tieout's settings.
    pub retry: bool,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

impl std::error::Error for Failure {}

/// Asks one registry.
#[derive(Debug)]
pub struct Client {
    /// The name of the connection, for messages.
    connection: String,
    url: String,
    authorization: Option<String>,
    agent: Agent,
}

impl Client {
    pub fn new(connection: &str, registry: &Registry) -> Client {
        let agent = http_client::agent(|config| config.timeout_global(Some(PATIENCE)));
        let authorization = registry.user.as_ref().map(|(user, password)| http_client::basic(user.as_bytes(), password.bytes()));
        Client { connection: connection.into(), url: registry.url.clone(), authorization, agent }
    }

    /// The schema of an id, with those that it refers to; `None` if there is none.
    ///
    /// # Errors
    /// The registry does not answer, or not as one.
    pub fn schema(&self, id: u32) -> Result<Option<Known>, Failure> {
        let Some(answer) = self.get(&format!("/schemas/ids/{id}"), 40403)? else { return Ok(None) };
        let unreadable = |why: String| Ok(Some(Known::Unreadable(why.into())));
        if let Some(other) = answer["schemaType"].as_str().filter(|ty| *ty != "AVRO") {
            return unreadable(format!("it is of type {other}, not AVRO"));
        }
        let Some(text) = answer["schema"].as_str() else { return Err(self.odd("an answer without `schema`")) };
        let mut references = References::default();
        if let Err(why) = self.references(&answer, &mut references)? {
            return unreadable(why);
        }
        match Schema::parse(text, &references.texts) {
            Ok(schema) => Ok(Some(Known::Schema(Arc::new(schema)))),
            Err(why) => unreadable(why),
        }
    }

    /// Collects the schemas that one refers to, each after those that it refers to itself. The inner error says why they can't
    /// be had, however often the registry is asked.
    fn references(&self, answer: &Json, into: &mut References) -> Result<Result<(), String>, Failure> {
        for reference in answer["references"].as_array().into_iter().flatten() {
            let (subject, version) = (reference["subject"].as_str().unwrap_or_default(), reference["version"].as_i64().unwrap_or(-1));
            let name = (subject.to_string(), version);
            if into.seen.contains(&name) {
                continue;
            }
            if into.seen.len() == REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} others")));
            }
            into.seen.push(name);
            let path = format!("/subjects/{}/versions/{version}", escaped(subject));
            let Some(other) = self.get(&path, 40401)? else {
                return Ok(Err(format!("it refers to version {version} of `{subject}`, which the registry does not have")));
            };
            if let Err(why) = self.references(&other, into)? {
                return Ok(Err(why));
            }
            into.texts.push(other["schema"].as_str().unwrap_or_default().to_string());
        }
        Ok(Ok(()))
    }

    /// Registers a schema under a subject (the same one again is no change); its id.
    ///
    /// # Errors
    /// `SCHEMA_INCOMPATIBLE`; the registry does not answer, or not as one.
    pub fn register(&self, subject: &str, schema: &Json) -> Result<u32, Failure> {
        let body = json!({ "schema": schema.to_string() }).to_string();
        let mut request = self.agent.post(format!("{}/subjects/{}/versions", self.url, escaped(subject))).header("content-type", MIME).header("accept", MIME);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let (status, answer) = self.read(request.send(body))?;
        match status {
            200 => answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.odd("an answer without `id`")),
            409 => Err(Failure {
                code: "SCHEMA_INCOMPATIBLE",
                message: format!("{}: subject `{subject}` has a schema that the new one is not compatible with: {}", self.who(), said(&answer)),
                remedy: "write to another topic, keep the columns' names and types, or lower the subject's compatibility in the registry".into(),
                retry: false,
            }),
            status => Err(self.unexpected(status, &answer, &format!("registering subject `{subject}`"))),
        }
    }

    /// An answer; `None` where it says by this code (or the one of a subject) that there is no such thing.
    fn get(&self, path: &str, absent: u64) -> Result<Option<Json>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.url)).header("accept", format!("{MIME}, application/json"));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let (status, answer) = self.read(request.call())?;
        match (status, answer["error_code"].as_u64()) {
            (200, _) => Ok(Some(answer)),
            (404, Some(code)) if code == absent || code == 40402 => Ok(None),
            _ => Err(self.unexpected(status, &answer, path)),
        }
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<(u16, Json), Failure> {
        let unreachable = |error: ureq::Error| Failure {
            code: "REGISTRY_UNREACHABLE",
            message: format!("{} does not answer: {error}", self.who()),
            remedy: match self.url.starts_with("https") {
                true => "check that it runs and can be reached, and that an authority of the system, or of SSL_CERT_FILE, vouches for it".into(),
                false => "check that it runs and can be reached".into(),
            },
            retry: true,
        };
        let mut answer = answer.map_err(unreachable)?;
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(unreachable)?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Json::String(text))))
    }

    fn unexpected(&self, status: u16, answer: &Json, what: &str) -> Failure {
        match status {
            401 | 403 => Failure {
                code: "REGISTRY_REFUSED",
                message: format!("{} refuses {what}: {}", self.who(), said(answer)),
                remedy: "check the connection's `registry.username` and `registry.password`, and the rights of that user".into(),
                retry: false,
            },
            500.. => Failure {
                code: "REGISTRY_UNREACHABLE",
                message: format!("{} answers {status} to {what}: {}", self.who(), said(answer)),
                remedy: "check that it runs and can be reached".into(),
                retry: true,
            },
            _ => self.odd(&format!("{status} to {what}: {}", said(answer))),
        }
    }

    /// An answer that no registry gives: mostly the address is that of something else, which may also stand in for a while.
    fn odd(&self, what: &str) -> Failure {
        Failure {
            code: "REGISTRY_ANSWER",
            message: format!("{} answers {what}", self.who()),
            remedy: "check the connection's `registry.url`; some registries have the API below a path, such as /apis/ccompat/v7".into(),
            retry: true,
        }
    }

    fn who(&self) -> String {
        format!("the registry of connection `{}` at {}", self.connection, self.url)
    }
}

#[derive(Default)]
struct References {
    seen: Vec<(String, i64)>,
    texts: Vec<String>,
}

/// What the registry says of a failure, cut to a line.
fn said(answer: &Json) -> String {
    let text = answer["message"].as_str().or_else(|| answer.as_str()).map_or_else(|| answer.to_string(), str::to_string);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 300 { line.chars().take(297).chain("...".chars()).collect() } else { line }
}

/// Sees to it that the schemas of messages are known before the messages are handed on.
#[derive(Debug)]
pub struct Lookup {
    client: Client,
    schemas: Arc<Schemas>,
    /// Ids that need not be asked for.
    known: Vec<u32>,
    /// Ids that the registry did not know, and when.
    unknown: HashMap<u32, Instant>,
}

impl Lookup {
    pub fn new(connection: &str, registry: &Registry) -> Lookup {
        Lookup { client: Client::new(connection, registry), schemas: registry.schemas.clone(), known: Vec::new(), unknown: HashMap::new() }
    }

    /// Asks for the schema of a message's key or value, if it is not known.
    ///
    /// # Errors
    /// The registry does not answer; the message must wait.
    #[inline]
    pub fn ensure(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match schema_id(bytes) {
            Some(id) if !self.known.contains(&id) => self.ask(id),
            _ => Ok(()),
        }
    }

    #[cold]
    fn ask(&mut self, id: u32) -> Result<(), Failure> {
        if self.unknown.get(&id).is_some_and(|asked| asked.elapsed() < UNKNOWN_FOR) {
            return Ok(());
        }
        if self.schemas.get(id).is_none() {
            let Some(known) = self.client.schema(id)? else {
                // What is no Avro at all may look like any number of ids.
                if self.unknown.len() == UNKNOWN_MAX {
                    self.unknown.clear();
                }
                self.unknown.insert(id, Instant::now());
                return Ok(());
            };
            self.schemas.put(id, known);
        }
        self.known.push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
