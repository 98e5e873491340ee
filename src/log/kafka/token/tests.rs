//! An authority of this machine, and what is asked of it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread::{Builder, JoinHandle},
};

use super::*;

const ID: &str = "tie out";
const SECRET: &str = "s+cr%t";

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().name("end".into()).spawn(body).expect("a thread starts")
}

/// An authority that gives these answers, one a question; where it is, and what it was asked.
fn authority(answers: Vec<(u16, &'static str)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let asked = spawn(move || {
        let answer = |(status, body): (u16, &str)| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut said, mut piece) = (String::new(), [0; 4096]);
            while !said.contains("grant_type") {
                let n = stream.read(&mut piece).unwrap();
                said += std::str::from_utf8(&piece[..n]).unwrap();
            }
            let text = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(text.as_bytes()).unwrap();
            said
        };
        answers.into_iter().map(answer).collect()
    });
    (url, asked)
}

fn login(url: &str) -> Login {
    let all = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", ID),
        ("sasl.oauthbearer.client.secret", SECRET),
        ("sasl.oauthbearer.scope", "kafka write"),
        ("sasl.oauthbearer.token.endpoint.url", url),
    ];
    let mut properties: Properties = all.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let login = Login::of(&mut properties).unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["sasl.mechanism"], "librdkafka would not know what to do with the others");
    login
}

#[test]
fn a_token_is_asked_for_once_and_again_when_its_time_passes() {
    let (url, asked) = authority(vec![(200, r#"{"access_token":"first","expires_in":3600}"#), (200, r#"{"access_token":"second","expires_in":"2"}"#)]);
    let one = login(&url);
    let token = one.token().unwrap();
    assert_eq!((token.token.as_str(), token.principal_name.as_str()), ("first", ID));
    assert!((3_590_000..=3_600_000).contains(&(token.lifetime_ms - wall_ms())));
    assert_eq!(one.token().unwrap().token, "first");
    one.known.lock().unwrap().as_mut().unwrap().keep = Instant::now();
    assert_eq!(one.token().unwrap().token, "second");
    let keep = one.known.lock().unwrap().as_ref().unwrap().keep;
    assert!(keep.saturating_duration_since(Instant::now()) < Duration::from_secs(2));
    let asked = asked.join().unwrap();
    for said in asked {
        // `tie%20out:s%2Bcr%25t`, as RFC 6749 (2.3.1) has it.
        assert!(said.contains("Basic dGllJTIwb3V0OnMlMkJjciUyNXQ="), "{said}");
        assert!(said.ends_with("grant_type=client_credentials&scope=kafka%20write"), "{said}");
    }
}

#[test]
fn what_an_authority_says_instead_is_told_without_secrets() {
    let refusals = vec![
        (401, r#"{"error":"invalid_client","error_description":"who\nare you"}"#),
        (400, "no JSON, but s+cr%t"),
        (200, r#"{"token":"s+cr%t"}"#),
        (503, "later"),
    ];
    let (url, asked) = authority(refusals);
    let one = login(&url);
    for (code, retry, words) in [
        ("TOKEN_REFUSED", false, "401 to client `tie out`: invalid_client: who are you"),
        ("TOKEN_REFUSED", false, "it gives no `access_token`"),
        ("TOKEN_REFUSED", false, "it gives no `access_token`"),
        ("TOKEN_UNREACHABLE", true, "503"),
    ] {
        let denied = one.token().err().unwrap();
        assert_eq!((denied.code, denied.retry), (code, retry));
        assert!(denied.reason.contains(words) && denied.reason.contains(&url) && !denied.reason.contains(SECRET), "{}", denied.reason);
    }
    asked.join().unwrap();
    assert_eq!(one.token().err().unwrap().code, "TOKEN_UNREACHABLE", "nobody listens any more");
    assert!(!format!("{one:?}").contains(SECRET));
}
