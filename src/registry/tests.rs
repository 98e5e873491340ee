//! The client against a small server of its own that gives the answers of registries, good and bad. (A real one: `tests/real/avro`.)

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Mutex,
};

use super::*;

/// Answers each request by the path with (status, body), and keeps what was asked: request line, and the header of authorization.
fn serve(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let run = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let line = text.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_string();
            let user = text.lines().find(|l| l.to_ascii_lowercase().starts_with("authorization:")).map_or(String::new(), |l| format!(" {}", l[15..].trim()));
            kept.lock().unwrap().push(format!("{line}{user}"));
            let (status, body) = answer(line.split(' ').nth(1).unwrap_or_default());
            let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        }
    };
    std::thread::Builder::new().name("registry".into()).spawn(run).expect("a thread");
    (url, asked)
}

fn registry(url: &str, user: Option<(&str, &str)>) -> Registry {
    Registry { url: url.into(), user: user.map(|(u, p)| (u.to_string(), crate::plan::cluster::Secret::new(p))), schemas: Arc::default() }
}

#[test]
fn a_schema_comes_with_those_that_it_refers_to() {
    let (url, asked) = serve(|path| {
        match path {
        "/schemas/ids/1" => (200, r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"p\",\"type\":\"c.P\"}]}","references":[{"name":"c.P","subject":"p/1","version":3}]}"#.into()),
        "/subjects/p%2F1/versions/3" => (200, r#"{"schema":"{\"type\":\"fixed\",\"name\":\"c.P\",\"size\":2}","references":[{"name":"R","subject":"p/1","version":3}]}"#.into()),
        "/schemas/ids/2" => (200, r#"{"schema":"message M {}","schemaType":"PROTOBUF"}"#.into()),
        "/schemas/ids/3" => (200, r#"{"schema":"\"strin\""}"#.into()),
        "/schemas/ids/4" => (200, r#"{"schema":"\"string\"","references":[{"name":"x","subject":"gone","version":1}]}"#.into()),
        "/subjects/gone/versions/1" => (404, r#"{"error_code":40401,"message":"Subject not found"}"#.into()),
        _ => (404, r#"{"error_code":40403,"message":"Schema not found"}"#.into()),
    }
    });
    let client = Client::new("bus", &registry(&url, Some(("me", "secret"))));
    assert!(matches!(client.schema(1), Ok(Some(Known::Schema(schema))) if schema.record(schema.root).is_some()));
    let why = |id| match client.schema(id) {
        Ok(Some(Known::Unreadable(why))) => why.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(why(2), "it is of type PROTOBUF, not AVRO");
    assert_eq!(why(3), "there is no type `strin`");
    assert_eq!(why(4), "it refers to version 1 of `gone`, which the registry does not have");
    assert!(matches!(client.schema(5), Ok(None)));
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..2], ["GET /schemas/ids/1 Basic bWU6c2VjcmV0", "GET /subjects/p%2F1/versions/3 Basic bWU6c2VjcmV0"]);
}

#[test]
fn a_schema_is_asked_for_once_and_an_unknown_one_again_later() {
    let (url, asked) = serve(|path| match path {
        "/schemas/ids/1" => (200, r#"{"schema":"\"long\""}"#.into()),
        _ => (404, r#"{"error_code":40403,"message":"Schema not found"}"#.into()),
    });
    let of = registry(&url, None);
    let mut lookup = Lookup::new("bus", &of);
    for _ in 0..3 {
        lookup.ensure(&[0, 0, 0, 0, 1, 2]).unwrap();
        lookup.ensure(&[0, 0, 0, 0, 7, 2]).unwrap();
        // Not in the wire format: nothing to ask for.
        lookup.ensure(b"{}").unwrap();
        lookup.ensure(&[0, 0]).unwrap();
    }
    assert_eq!(*asked.lock().unwrap(), ["GET /schemas/ids/1", "GET /schemas/ids/7"]);
    assert!(of.schemas.get(7).is_none() && of.schemas.get(1).is_some());
    // Another reader of the same connection need not ask for what is known.
    let mut other = Lookup::new("bus", &of);
    other.ensure(&[0, 0, 0, 0, 1]).unwrap();
    other.ensure(&[0, 0, 0, 0, 7]).unwrap();
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[test]
fn failures_have_a_name_and_a_way_out() {
    let (url, _) = serve(|path| match path {
        "/schemas/ids/1" => (401, "Unauthorized".into()),
        "/schemas/ids/2" => (503, "<html>  down\n</html>".into()),
        "/schemas/ids/3" => (404, "<html>no such page</html>".into()),
        "/schemas/ids/4" => (200, "{}".into()),
        "/subjects/a-key/versions" => (200, r#"{"id":12}"#.into()),
        _ => (409, r#"{"error_code":409,"message":"reader has a field without default"}"#.into()),
    });
    let client = Client::new("bus", &registry(&url, None));
    let code = |id| client.schema(id).map(|_| ()).map_err(|failure| (failure.code, failure.retry)).unwrap_err();
    assert_eq!(code(1), ("REGISTRY_REFUSED", false));
    assert_eq!(code(2), ("REGISTRY_UNREACHABLE", true));
    assert_eq!(code(3), ("REGISTRY_ANSWER", true));
    assert_eq!(code(4), ("REGISTRY_ANSWER", true));
    assert!(client.schema(2).unwrap_err().message.ends_with("answers 503 to /schemas/ids/2: <html> down </html>"));
    assert_eq!(client.register("a-key", &json!("long")), Ok(12));
    let refused = client.register("a-value", &json!("long")).unwrap_err();
    assert_eq!((refused.code, refused.retry), ("SCHEMA_INCOMPATIBLE", false));
    assert!(refused.message.contains("subject `a-value`") && refused.message.ends_with("reader has a field without default"), "{}", refused.message);
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Client::new("bus", &registry(&format!("http://{nobody}"), None)).schema(1).unwrap_err();
    assert_eq!((silent.code, silent.retry), ("REGISTRY_UNREACHABLE", true));
    assert!(silent.message.starts_with("the registry of connection `bus` at http://127.0.0.1:"), "{}", silent.message);
}
