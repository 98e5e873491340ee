//! A process that leads and one that does not, in one runtime: what a client of the second gets.

use std::{convert::Infallible, time::Duration};

use super::*;

/// More than may be under way, by far.
const LARGE: usize = 20 * WINDOW as usize;

/// What answers at the second process, and how much the first has said so far.
fn both(router: Router) -> (Router, Arc<AtomicU64>) {
    let (guests, mut pieces) = Guests::over(router, Handle::current());
    let guests = Arc::new(guests);
    let forward = Arc::new(Forward::new(move |id, word| guests.hear(1, id, word)));
    let (said, answers) = (Arc::new(AtomicU64::new(0)), Arc::clone(&forward));
    let count = Arc::clone(&said);
    tokio::spawn(async move {
        while let Some((_, id, piece)) = pieces.recv().await {
            if let Piece::Body(bytes) = &piece {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            answers.answered(id, piece);
        }
    });
    (Own { index: 1, of: 2, ready: Arc::new(AtomicBool::new(true)), forward }.router(), said)
}

async fn get_of(own: &Router, path: &str) -> Response {
    own.clone().oneshot(HttpRequest::get(path).body(Body::empty()).expect("a request")).await.unwrap_or_else(|never| match never {})
}

fn large() -> Router {
    Router::new().route("/large", get(|| async { vec![7_u8; LARGE] }))
}

#[tokio::test]
async fn a_client_that_waits_holds_its_answer_up_and_gets_all_of_it() {
    let (own, said) = both(large());
    let response = get_of(&own, "/large").await;
    while said.load(Ordering::Relaxed) < u64::from(WINDOW) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(said.load(Ordering::Relaxed), u64::from(WINDOW), "no more is said than was taken");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("it is whole");
    assert!(bytes.len() == LARGE && bytes.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn what_is_cut_off_does_not_look_whole() {
    let cut = || async {
        let pieces = [Ok(vec![7_u8; 10]), Err(io::Error::other("the file is gone"))];
        Body::from_stream(tokio_stream::iter(pieces))
    };
    let panics = || async {
        let bytes = tokio_stream::iter(0..3).map(|n| if n < 2 { Ok::<_, Infallible>(vec![7_u8]) } else { panic!("a bug") });
        Body::from_stream(bytes)
    };
    let (own, _) = both(Router::new().route("/cut", get(cut)).route("/panics", get(panics)));
    for path in ["/cut", "/panics"] {
        let response = get_of(&own, path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(axum::body::to_bytes(response.into_body(), usize::MAX).await.is_err(), "{path}");
    }
}

/// Who is sent to any process must not be sent to one whose answers are not to be believed, and read why.
#[tokio::test]
async fn each_is_as_ready_as_the_one_that_leads_says() {
    let said = |said: &'static str| Router::new().route("/readyz", get(move || async move { said }));
    let silent = Router::new().route("/readyz", get(std::future::pending::<()>));
    for (leads, ready, text) in [
        (said(r#"{"tick":7,"ready":true,"reasons":[],"warnings":["disk"]}"#), true, r#""warnings":["disk"]"#),
        (said(r#"{"tick":7,"ready":false,"reasons":["PARTITION_STUCK at process 1"],"warnings":[]}"#), false, r#"["PARTITION_STUCK at process 1"]"#),
        (silent, false, "does not answer"),
        (Router::new(), false, "does not say whether it is ready"),
    ] {
        let response = get_of(&both(leads).0, "/readyz").await;
        assert_eq!(response.status() == StatusCode::OK, ready, "{text}");
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("it is whole");
        let answer = String::from_utf8(bytes.to_vec()).expect("a text");
        assert!(answer.contains(text) && answer.contains(r#""process":1"#), "{answer}");
    }
}

#[tokio::test]
async fn who_leaves_is_not_answered_any_more() {
    let (own, said) = both(large());
    drop(get_of(&own, "/large").await);
    let response = get_of(&own, "/large").await;
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("it is whole");
    assert_eq!(bytes.len(), LARGE);
    assert!(said.load(Ordering::Relaxed) <= LARGE as u64 + u64::from(WINDOW));
}

#[tokio::test]
async fn no_more_are_asked_than_can_be_held() {
    // All of it has come, and waits for who does not read it.
    let (own, said) = both(Router::new().route("/small", get(|| async { "12345" })));
    let mut held = Vec::new();
    for _ in 0..REQUESTS_MAX {
        held.push(get_of(&own, "/small").await);
    }
    while said.load(Ordering::Relaxed) < 5 * REQUESTS_MAX as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(get_of(&own, "/small").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    held.pop();
    assert_eq!(get_of(&own, "/small").await.status(), StatusCode::OK);
}
