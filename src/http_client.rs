//! How this program asks others over HTTP, from threads that may wait: a schema registry, who gives tokens, a tieout that runs.

use std::time::Duration;

use ureq::{
    Agent,
    config::ConfigBuilder,
    tls::{RootCerts, TlsConfig, TlsProvider},
    typestate::AgentScope,
};

use crate::format::encode;

/// One that believes the authorities of the system, or of SSL_CERT_FILE, asks no proxy (what the configuration does not say does
/// not happen), and takes every status for an answer. Its callers say how long they wait.
pub fn agent(patience: impl FnOnce(ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope>) -> Agent {
    let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
    patience(Agent::config_builder().http_status_as_error(false).proxy(None).tls_config(tls)).build().new_agent()
}

/// The header `authorization` of a user (RFC 7617).
pub fn basic(user: &[u8], password: &[u8]) -> String {
    let mut header = b"Basic ".to_vec();
    encode::push_base64(&mut header, &[user, b":", password].concat());
    String::from_utf8_lossy(&header).into_owned()
}

/// A text as a part of a path, a query or a form: all but letters, digits and `-._~` escaped (RFC 3986, 2.3).
pub fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How long a tieout may take to begin an answer, and to end one.
const BEGINS: Duration = Duration::from_secs(30);
const ENDS: Duration = Duration::from_secs(600);

/// An answer's status and body.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Gets `path` of the tieout at `url`, all of it however large.
///
/// # Errors
/// What went wrong on the way.
pub fn get(url: &str, path: &str) -> Result<Answer, ureq::Error> {
    let agent = agent(|config| config.timeout_connect(Some(BEGINS)).timeout_recv_response(Some(BEGINS)).timeout_recv_body(Some(ENDS)));
    let mut answer = agent.get(format!("{}{path}", url.trim_end_matches('/'))).call()?;
    let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
    Ok(Answer { status: answer.status().as_u16(), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_users_encoded() {
        assert_eq!(escaped("a b/ü-._~*"), "a%20b%2F%C3%BC-._~%2A");
        assert_eq!(basic(b"Aladdin", b"open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
