//! Kafka connections: what `tls`, `sasl` and `properties` come to together, in librdkafka's words.

use super::Resolver;
use crate::{
    config::{Need, cause, codes::Code, yaml::At},
    plan::Properties,
};

/// Keys of `tls`, and what librdkafka calls them.
const TLS: [(&str, &str); 4] =
    [("ca", "ssl.ca.location"), ("certificate", "ssl.certificate.location"), ("key", "ssl.key.location"), ("key_password", "ssl.key.password")];
/// Keys of `sasl`, likewise.
const SASL: [(&str, &str); 7] = [
    ("mechanism", "sasl.mechanism"),
    ("username", "sasl.username"),
    ("password", "sasl.password"),
    ("token_url", TOKEN_URL),
    ("client_id", "sasl.oauthbearer.client.id"),
    ("client_secret", "sasl.oauthbearer.client.secret"),
    ("scope", "sasl.oauthbearer.scope"),
];
const TOKENS: &str = "OAUTHBEARER";
const TOKEN_URL: &str = "sasl.oauthbearer.token.endpoint.url";

impl Resolver<'_> {
    /// The settings of the clients of a connection.
    pub(super) fn kafka(&mut self, body: At) -> Properties {
        let given = body.get("properties").into_iter().flat_map(At::entries);
        let mut properties: Properties = given.map(|(key, value)| (key.key().to_string(), value.text().unwrap_or_default().to_string())).collect();
        let tls = body.get("tls").filter(|at| at.text() != Some("none"));
        let sasl = body.get("sasl").filter(|at| at.is_map());
        self.at_odds(body, tls.is_some(), sasl.is_some());
        if let Some(at) = tls {
            self.files(at);
            put(&mut properties, at, &TLS);
        }
        if let Some(at) = sasl {
            self.login(at, tls.is_some());
            put(&mut properties, at, &SASL);
        }
        if body.get("tls").is_some() || sasl.is_some() {
            let protocol = match (tls, sasl) {
                (None, None) => "plaintext",
                (Some(_), None) => "ssl",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), Some(_)) => "sasl_ssl",
            };
            properties.set("security.protocol", protocol);
        }
        properties
    }

    /// Properties that say what `tls` or `sasl` says, or that nothing would look at.
    fn at_odds(&mut self, body: At, tls: bool, sasl: bool) {
        let Some(properties) = body.get("properties") else { return };
        let said = ["tls", "sasl"].into_iter().find(|key| body.get(key).is_some());
        let protocol = properties.get_text("security.protocol").unwrap_or_default().to_ascii_lowercase();
        for (key, value) in properties.entries() {
            let name = key.key();
            if ["sasl.mechanism", "sasl.mechanisms"].contains(&name)
                && value.text().is_some_and(|text| text.eq_ignore_ascii_case(TOKENS))
                && properties.get(TOKEN_URL).is_none()
            {
                self.report
                    .error(Code::MissingKey, &key.place(), format!("`{TOKENS}` needs somebody who gives tokens"))
                    .hint(format!("write `sasl: {{ mechanism: {TOKENS}, token_url: …, client_id: …, client_secret: \"${{env:…}}\" }}`, without the property"));
            }
            let of_tls = TLS.iter().any(|(_, known)| *known == name);
            let of_sasl = name.starts_with("sasl.");
            if let Some(said) = said
                && (name == "security.protocol" || (of_tls && tls) || (of_sasl && sasl))
            {
                let said = if of_sasl { "sasl" } else { said };
                self.report
                    .error(Code::ConflictingKeys, &key.place(), format!("`{name}` cannot stand beside `{said}`"))
                    .hint("`tls` and `sasl` of the connection say it; remove the property");
            } else if of_sasl && !sasl && !protocol.starts_with("sasl_") {
                self.report
                    .error(Code::ConflictingKeys, &key.place(), format!("`{name}` does nothing: the connection does not log in"))
                    .hint("write `sasl: { mechanism: SCRAM-SHA-512, username: …, password: \"${env:…}\" }`, without the property");
            } else if of_tls && !tls && !protocol.ends_with("ssl") {
                self.report
                    .error(Code::ConflictingKeys, &key.place(), format!("`{name}` does nothing: the connection is not encrypted"))
                    .hint("write `tls: system`, or `tls: { ca: … }`, without the property");
            }
        }
    }

    /// Looks whether the files of `tls` can be read from here.
    fn files(&mut self, at: At) {
        for key in ["ca", "certificate", "key"] {
            let Some(value) = at.get(key) else { continue };
            let path = value.text().unwrap_or_default();
            if self.need == Need::Connections
                && let Err(error) = std::fs::File::open(path)
            {
                self.report
                    .warning(Code::Unreadable, &value.place(), format!("cannot read `{path}`: {}", cause(&error)))
                    .hint("the path is relative to the working directory of `tieout run`");
            }
        }
    }

    fn login(&mut self, at: At, tls: bool) {
        let Some(mechanism) = at.get("mechanism") else { return };
        let name = mechanism.text().unwrap_or_default();
        let known = at.get("username").or_else(|| at.get("password"));
        match (name, known) {
            (TOKENS, Some(_)) => {
                for (key, _) in at.entries().filter(|(key, _)| ["username", "password"].contains(&key.key())) {
                    self.report
                        .error(Code::ConflictingKeys, &key.place(), format!("`{}` is not for `mechanism: {TOKENS}`", key.key()))
                        .hint("tokens are asked for with `token_url`, `client_id` and `client_secret`");
                }
            }
            ("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512", None) => {
                self.report
                    .error(Code::MissingKey, &mechanism.place(), format!("`{name}` needs `username` and `password`"))
                    .hint("`username: tieout` and `password: \"${env:KAFKA_PASSWORD}\"`");
            }
            _ => {}
        }
        if !tls && ["PLAIN", TOKENS].contains(&name) {
            let what = if name == TOKENS { "the token" } else { "the password" };
            self.report
                .warning(Code::BadValue, &mechanism.place(), format!("without `tls`, {what} passes as it is, for everybody on the way to see"))
                .hint("add `tls: system`, or `tls: { ca: … }`; or use SCRAM-SHA-512");
        }
        if let Some(url) = at.get("token_url") {
            self.url(url, "of a token endpoint", "https://login.example.com/oauth2/token");
        }
    }

    /// Looks whether a text is an address of HTTP that tells nobody a secret when it is shown.
    pub(super) fn url(&mut self, at: At, what: &str, example: &str) {
        let text = at.text().unwrap_or_default();
        let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).filter(|rest| !rest.contains(['?', '#', ' '])) else {
            let message = format!("`{}` is not the address {what}", text.rsplit('@').next().unwrap_or_default());
            self.report.error(Code::BadValue, &at.place(), message).hint(format!("an address begins with http:// or https://, for example `{example}`"));
            return;
        };
        if rest.split('/').next().is_some_and(|host| host.contains('@')) {
            self.report.blot_out(&at.place());
            self.report
                .error(Code::BadValue, &at.place(), "an address is shown in messages, and this one has a login in it")
                .hint("remove what stands before the `@`; keys beside the address say who logs in");
        }
    }
}

fn put(properties: &mut Properties, at: At, names: &[(&str, &str)]) {
    for (key, name) in names {
        if let Some(text) = at.get_text(key) {
            properties.set(name, text);
        }
    }
}
