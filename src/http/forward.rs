//! HTTP of a process that does not lead: its own health and metrics are its own, everything else is asked of the one that leads,
//! so that any process answers for the whole, right for one tick. What goes between them goes over the cluster's connections.
//!
//! ```text
//!  client ─▶ Own ── Request ──▶ the one that leads: Guests ─▶ router
//!         ◀──── Forward ◀── Pieces ──────────────────────────┘
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request as HttpRequest, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tower::ServiceExt;

use super::{App, problem::Problem};
use crate::telemetry;

/// A request that another process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub uri: String,
    pub headers: Vec<(String, String)>,
}

/// A part of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    Head { status: u16, headers: Vec<(String, String)> },
    Body(#[serde(with = "serde_bytes")] Vec<u8>),
    End,
}

/// Bytes of an answer that may wait for a client; one that reads more slowly is cut.
const WAITING_MAX: u64 = 256 << 20;

/// Headers that are between two neighbours only.
const OWN_HEADERS: [HeaderName; 4] = [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];

fn headers(of: &axum::http::HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_string()));
    of.iter().filter(|(name, _)| !OWN_HEADERS.contains(name)).filter_map(text).collect()
}

/// Says a request, or (none) that nobody waits for it any more.
type Ask = Box<dyn Fn(u64, Option<Request>) + Send + Sync>;

/// Questions that are under way to the one that leads.
pub struct Forward {
    ask: Ask,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Guest>>,
}

struct Guest {
    pieces: mpsc::UnboundedSender<Piece>,
    bytes: Arc<AtomicU64>,
}

impl Forward {
    pub fn new(ask: impl Fn(u64, Option<Request>) + Send + Sync + 'static) -> Forward {
        Forward { ask: Box::new(ask), next: AtomicU64::new(1), waiting: Mutex::default() }
    }

    /// Takes a part of an answer.
    pub fn answered(&self, id: u64, piece: Piece) {
        let mut waiting = self.waiting.lock().expect("nobody panics while holding it");
        let Some(guest) = waiting.get(&id) else { return };
        let over = piece == Piece::End;
        let bytes = if let Piece::Body(bytes) = &piece { bytes.len() as u64 } else { 0 };
        let slow = guest.bytes.fetch_add(bytes, Ordering::Relaxed) > WAITING_MAX;
        let gone = slow || guest.pieces.send(piece).is_err();
        if gone || over {
            waiting.remove(&id);
        }
        drop(waiting);
        if gone {
            (self.ask)(id, None);
        }
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, mut pieces) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicU64::new(0));
        self.waiting.lock().expect("nobody panics while holding it").insert(id, Guest { pieces: to, bytes: Arc::clone(&bytes) });
        let forward = Arc::clone(&self);
        // Saying may have to wait for the connection.
        let _ = tokio::task::spawn_blocking(move || (forward.ask)(id, Some(request))).await;
        let Some(Piece::Head { status, headers }) = pieces.recv().await else {
            return Problem::unavailable("no_leader", "the process that leads the cluster does not answer", "see /readyz and the log").into_response();
        };
        let body = body(UnboundedReceiverStream::new(pieces), bytes, Leaving { forward: self, id });
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

fn body(pieces: impl Stream<Item = Piece> + Send + 'static, waiting: Arc<AtomicU64>, leaving: Leaving) -> Body {
    let bytes = pieces.filter_map(move |piece| {
        let _until_the_end = &leaving;
        match piece {
            Piece::Body(bytes) => {
                waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                Some(Ok::<_, std::convert::Infallible>(bytes))
            }
            Piece::Head { .. } | Piece::End => None,
        }
    });
    Body::from_stream(bytes)
}

/// Says that nobody waits any more, if the answer is not over when the client leaves.
struct Leaving {
    forward: Arc<Forward>,
    id: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let under_way = self.forward.waiting.lock().is_ok_and(|mut waiting| waiting.remove(&self.id).is_some());
        if under_way {
            (self.forward.ask)(self.id, None);
        }
    }
}

/// What a process that does not lead answers with.
#[derive(Clone)]
pub struct Own {
    pub index: usize,
    pub of: usize,
    /// Differences are shown.
    pub ready: Arc<AtomicBool>,
    pub forward: Arc<Forward>,
}

impl Own {
    pub fn router(self) -> Router {
        let own = |own: &Own| json!({ "process": own.index, "processes": own.of });
        let livez = move |State(of): State<Own>| async move { Json(own(&of)) };
        let readyz = move |State(of): State<Own>| async move {
            let ready = of.ready.load(Ordering::Relaxed);
            let reasons: &[&str] = if ready { &[] } else { &["hydrating: /api/v1/sources shows how far the sources are read"] };
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, Json(json!({ "process": of.index, "processes": of.of, "ready": ready, "reasons": reasons })))
        };
        let metrics = || async { ([(header::CONTENT_TYPE, telemetry::TEXT_FORMAT)], telemetry::own_page()) };
        let forward = |State(of): State<Own>, request: HttpRequest| async move {
            let uri = request.uri().path_and_query().map_or_else(|| "/".into(), ToString::to_string);
            let asked = Request { method: request.method().to_string(), uri, headers: headers(request.headers()) };
            let response = of.forward.answer(asked).await;
            telemetry::HttpAnswered { path: request.uri().path(), status: response.status().as_u16() }.emit();
            response
        };
        Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics)).fallback(forward).with_state(self)
    }
}

/// Requests of other processes, at the one that leads.
pub struct Guests {
    router: Router,
    runtime: Handle,
    answers: mpsc::Sender<(usize, u64, Piece)>,
    under_way: Mutex<BTreeMap<(usize, u64), AbortHandle>>,
}

/// Parts of answers that wait for the connection to another process.
const PIECES_MAX: usize = 64;

impl Guests {
    /// `runtime` answers; what the answers have is received, and said to whom it is for: process, number, piece.
    pub fn new(app: App, runtime: Handle) -> (Guests, mpsc::Receiver<(usize, u64, Piece)>) {
        let (answers, pieces) = mpsc::channel(PIECES_MAX);
        (Guests { router: super::router(app), runtime, answers, under_way: Mutex::default() }, pieces)
    }

    /// Answers a request of a process.
    pub fn ask(&self, from: usize, id: u64, request: Request) {
        let (router, answers) = (self.router.clone(), self.answers.clone());
        let task = self.runtime.spawn(async move {
            // Who can't be told has gone.
            let _ = answer(router, request, |piece| {
                let answers = answers.clone();
                async move { answers.send((from, id, piece)).await.is_ok() }
            })
            .await;
        });
        let mut under_way = self.under_way.lock().expect("nobody panics while holding it");
        under_way.retain(|_, task| !task.is_finished());
        under_way.insert((from, id), task.abort_handle());
    }

    /// Nobody waits for this any more.
    pub fn hang_up(&self, from: usize, id: u64) {
        if let Some(task) = self.under_way.lock().expect("nobody panics while holding it").remove(&(from, id)) {
            task.abort();
        }
    }
}

async fn answer<F: Future<Output = bool>>(router: Router, request: Request, say: impl Fn(Piece) -> F) -> Option<()> {
    let mut asked = HttpRequest::builder().method(Method::from_bytes(request.method.as_bytes()).ok()?).uri(request.uri);
    for (name, value) in request.headers {
        asked = asked.header(name, value);
    }
    let response = match asked.body(Body::empty()) {
        Ok(asked) => router.oneshot(asked).await.unwrap_or_else(|never| match never {}),
        Err(error) => Problem::parameter(format!("this is no request: {error}"), "ask as the description of the API says").into_response(),
    };
    let head = Piece::Head { status: response.status().as_u16(), headers: headers(response.headers()) };
    let mut there = say(head).await;
    let mut body = response.into_body().into_data_stream();
    while there && let Some(Ok(bytes)) = body.next().await {
        there = say(Piece::Body(bytes.to_vec())).await;
    }
    say(Piece::End).await.then_some(())
}
