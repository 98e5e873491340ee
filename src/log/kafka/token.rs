//! Tokens for SASL/OAUTHBEARER: asked of an authority by the grant *client credentials* (RFC 6749, 4.4), as OpenID Connect's
//! providers answer it, and kept until most of their time has passed.
//!
//! librdkafka has this of its own only where libcurl is built in. It asks for a new token by an event, which the contexts of
//! `client` answer; the first is given to each client when it is made, since some of them ask a broker before they look at events.

use std::{
    ffi::CString,
    sync::Mutex,
    time::{Duration, Instant},
};

use rdkafka::{bindings as c, client::OAuthToken, types::RDKafka};
use serde_json::Value as Json;
use ureq::Agent;

use super::client::Denied;
use crate::{
    http_client::{self, escaped},
    log::wall_ms,
    plan::{Properties, cluster::Secret},
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;
/// How long a token holds of which nobody says it.
const HOLDS: u64 = 300;

/// Who asks for tokens, and where.
#[derive(Debug)]
pub struct Login {
    url: String,
    id: String,
    secret: Secret,
    scope: Option<String>,
    agent: Agent,
    known: Mutex<Option<Known>>,
}

/// A token, and until when nobody is asked for another one.
struct Known {
    token: String,
    /// Milliseconds since 1970.
    ends_ms: i64,
    keep: Instant,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("ends_ms", &self.ends_ms).finish_non_exhaustive()
    }
}

impl Login {
    /// Takes what it needs out of the settings of a client, if they say that it logs in with tokens.
    pub fn of(properties: &mut Properties) -> Option<Login> {
        let mechanism = properties.get("sasl.mechanism").or_else(|| properties.get("sasl.mechanisms"))?;
        if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            return None;
        }
        let mut take = |names: &[&str]| names.iter().fold(None, |found: Option<String>, name| properties.take(&format!("sasl.oauthbearer.{name}")).or(found));
        take(&["method", "grant.type"]);
        let id = take(&["client.credentials.client.id", "client.id"]).unwrap_or_default();
        let secret = Secret::new(take(&["client.credentials.client.secret", "client.secret"]).unwrap_or_default());
        let (scope, url) = (take(&["scope"]), take(&["token.endpoint.url"]).unwrap_or_default());
        let agent = http_client::agent(|config| config.timeout_global(Some(PATIENCE)));
        Some(Login { url, id, secret, scope, agent, known: Mutex::default() })
    }

    /// A token that holds for a while.
    ///
    /// # Errors
    /// The authority does not answer, or refuses.
    pub fn token(&self) -> Result<OAuthToken, Denied> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.keep <= Instant::now()) {
            *known = Some(self.ask()?);
        }
        let known = known.as_ref().expect("just asked for");
        Ok(OAuthToken { token: known.token.clone(), principal_name: self.id.clone(), lifetime_ms: known.ends_ms })
    }

    fn ask(&self) -> Result<Known, Denied> {
        let unreachable = |why: String| Denied { code: "TOKEN_UNREACHABLE", reason: format!("{} does not answer: {why}", self.url), retry: true };
        // Both are escaped as in a form first (RFC 6749, 2.3.1).
        let secret = escaped(std::str::from_utf8(self.secret.bytes()).unwrap_or_default());
        let scope = self.scope.as_ref().map_or(String::new(), |scope| format!("&scope={}", escaped(scope)));
        let request = self
            .agent
            .post(&self.url)
            .header("authorization", http_client::basic(escaped(&self.id).as_bytes(), secret.as_bytes()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json");
        let mut answer = request.send(format!("grant_type=client_credentials{scope}")).map_err(|e| unreachable(e.to_string()))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(|e| unreachable(e.to_string()))?;
        let said: Json = serde_json::from_str(&text).unwrap_or(Json::Null);
        // Too many ask at once, or it was too slow.
        if status >= 500 || [408, 429].contains(&status) {
            return Err(unreachable(format!("it says {status}")));
        }
        let Some(token) = said["access_token"].as_str().filter(|_| status == 200) else {
            // What an error may say (RFC 6749, 5.2); nothing else of an answer is shown, since it may be a token.
            let why = [&said["error"], &said["error_description"]].into_iter().filter_map(Json::as_str).collect::<Vec<_>>().join(": ");
            let why = if why.is_empty() { "it gives no `access_token`".into() } else { why.replace(char::is_control, " ") };
            return Err(Denied { code: "TOKEN_REFUSED", reason: format!("{} says {status} to client `{}`: {why}", self.url, self.id), retry: false });
        };
        let holds = said["expires_in"].as_u64().or_else(|| said["expires_in"].as_str()?.parse().ok()).unwrap_or(HOLDS).clamp(1, 86_400 * 365);
        Ok(Known {
            token: token.to_string(),
            ends_ms: wall_ms() + i64::try_from(holds * 1000).unwrap_or(i64::MAX),
            keep: Instant::now() + Duration::from_secs(holds) * 3 / 4,
        })
    }

    /// Gives a client its first token.
    ///
    /// # Errors
    /// There is none, or librdkafka does not take it.
    pub fn give(&self, client: *mut RDKafka) -> Result<(), Denied> {
        let OAuthToken { token, principal_name, lifetime_ms } = self.token()?;
        let odd = |why: String| Denied { code: "TOKEN_REFUSED", reason: format!("the token of {} can't be used: {why}", self.url), retry: false };
        let (token, principal) = CString::new(token).and_then(|token| Ok((token, CString::new(principal_name)?))).map_err(|e| odd(e.to_string()))?;
        let mut why = [0 as std::ffi::c_char; 512];
        // Safety: the client lives as long as the caller's, all texts live longer than the call, which copies them, and `why`
        // has the room that it is said to have.
        let code = unsafe {
            c::rd_kafka_oauthbearer_set_token(client, token.as_ptr(), lifetime_ms, principal.as_ptr(), std::ptr::null_mut(), 0, why.as_mut_ptr(), why.len())
        };
        if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        // librdkafka's sentence may quote the token.
        Err(odd(format!("librdkafka answers {code:?}")))
    }
}

#[cfg(test)]
mod tests;
