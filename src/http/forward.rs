//! HTTP of a process that does not lead: its own life and metrics are its own, everything else is asked of the one that leads,
//! so that any process answers for the whole, right for one tick, and is as ready as the whole is. What goes between them goes over the cluster's connections.
//!
//! ```text
//!  client ─▶ Own ─────── Word ──▶ the one that leads: Guests ─▶ router
//!         ◀──── Forward ◀── Piece ─────────────────────────────┘
//! ```

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request as HttpRequest, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_stream::{Stream, StreamExt};
use tower::ServiceExt;

use super::{App, answer::Notices, problem::Problem};
use crate::telemetry;

/// A request that another process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub uri: String,
    pub headers: Vec<(String, String)>,
}

/// What is said of an answer to the process that gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// What is asked.
    Ask(Request),
    /// The client has taken so many bytes of the answer: as many more may come.
    Taken(u32),
    /// Nobody waits for it any more.
    Gone,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    Head {
        status: u16,
        headers: Vec<(String, String)>,
    },
    Body(#[serde(with = "serde_bytes")] Vec<u8>),
    End,
    /// It ends here, and is not whole.
    Broken,
}

/// Bytes of an answer that may be under way to its client; who answers waits until some are taken, so a client that reads slowly
/// slows its own answer down, as it does with one process.
const WINDOW: u32 = 256 << 10;
/// The longest piece, and how much is taken before that is said.
const PIECE_MAX: usize = 64 << 10;
/// Requests that may be under way: with what waits of their answers, 256 MiB.
const REQUESTS_MAX: usize = 1024;

/// How long a question about readiness waits for the one that leads: probes themselves often wait for a second.
const PATIENCE: Duration = Duration::from_millis(800);
/// And the longest answer to it.
const NOTICES_MAX: usize = 1 << 20;

/// Headers that are between two neighbours only.
const OWN_HEADERS: [HeaderName; 4] = [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];

fn headers(of: &axum::http::HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_string()));
    of.iter().filter(|(name, _)| !OWN_HEADERS.contains(name)).filter_map(text).collect()
}

/// Says something of an answer, by its number.
type Say = Box<dyn Fn(u64, Word) + Send + Sync>;

/// Questions that are under way to the one that leads.
pub struct Forward {
    say: Say,
    next: AtomicU64,
    /// By number, those whose clients have not got all of it.
    waiting: Mutex<BTreeMap<u64, mpsc::UnboundedSender<Piece>>>,
}

impl Forward {
    pub fn new(say: impl Fn(u64, Word) + Send + Sync + 'static) -> Forward {
        Forward { say: Box::new(say), next: AtomicU64::new(1), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, mpsc::UnboundedSender<Piece>>> {
        self.waiting.lock().expect("nobody panics while holding it")
    }

    /// Takes a part of an answer.
    pub fn answered(&self, id: u64, piece: Piece) {
        let begins = matches!(piece, Piece::Head { .. });
        // Of a client that has left its answer says so itself, unless it was not asked for yet.
        let known = self.waiting().get(&id).map(|pieces| pieces.send(piece)).is_some();
        if begins && !known {
            (self.say)(id, Word::Gone);
        }
    }

    /// Saying may have to wait for the connection.
    async fn say(self: &Arc<Self>, id: u64, word: Word) {
        let forward = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || (forward.say)(id, word)).await;
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, from) = mpsc::unbounded_channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= REQUESTS_MAX {
                let why = format!("{REQUESTS_MAX} requests are under way from this process to the one that leads the cluster");
                return Problem::unavailable("no_worker", why, "ask again, or the process that leads; end subscriptions that nobody reads").into_response();
            }
            waiting.insert(id, to);
        }
        let mut pieces = Pieces { from, taken: 0, over: false, forward: Arc::clone(&self), id };
        self.say(id, Word::Ask(request)).await;
        let Some(Piece::Head { status, headers }) = pieces.from.recv().await else {
            return Problem::unavailable("no_worker", "the process that leads the cluster does not answer", "see /readyz and the log").into_response();
        };
        let mut response = Response::new(Body::from_stream(pieces));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// The body of an answer, as it comes. One that is cut off is an error, so that the client's connection breaks: its end would
/// look like that of the whole.
struct Pieces {
    from: mpsc::UnboundedReceiver<Piece>,
    /// Bytes that the client has taken since that was said.
    taken: u32,
    over: bool,
    forward: Arc<Forward>,
    id: u64,
}

impl Stream for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match ready!(self.from.poll_recv(context)) {
            Some(Piece::Body(bytes)) => {
                self.taken += bytes.len() as u32;
                if self.taken as usize >= PIECE_MAX {
                    let (forward, id, taken) = (Arc::clone(&self.forward), self.id, std::mem::take(&mut self.taken));
                    tokio::spawn(async move { forward.say(id, Word::Taken(taken)).await });
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            end => {
                self.over = true;
                let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "the process that leads the cluster has cut its answer off");
                Poll::Ready((end != Some(Piece::End)).then_some(Err(broken)))
            }
        }
    }
}

/// Until then it counts as under way, since what has come of it is kept for its client.
impl Drop for Pieces {
    fn drop(&mut self) {
        self.forward.waiting().remove(&self.id);
        if !self.over {
            let (forward, id) = (Arc::clone(&self.forward), self.id);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move { forward.say(id, Word::Gone).await })),
                Err(_) => (forward.say)(id, Word::Gone),
            }
        }
    }
}

/// What a process that does not lead answers with.
#[derive(Clone)]
pub struct Own {
    pub index: usize,
    pub of: usize,
    /// It serves, and differences are shown.
    pub ready: Arc<AtomicBool>,
    pub forward: Arc<Forward>,
}

impl Own {
    /// What the one that leads says, which looks at all processes.
    async fn notices(&self) -> Notices {
        let because = |why: &str| Notices { reasons: vec![why.into()], ..Notices::default() };
        if !self.ready.load(Ordering::Relaxed) {
            return because("hydrating: /api/v1/sources shows how far the sources are read");
        }
        let asked = Request { method: Method::GET.to_string(), uri: "/readyz".into(), headers: Vec::new() };
        let said = async { to_bytes(Arc::clone(&self.forward).answer(asked).await.into_body(), NOTICES_MAX).await };
        let said = tokio::time::timeout(PATIENCE, said).await.ok().and_then(Result::ok);
        let Some(said) = said else { return because("the process that leads the cluster does not answer") };
        let problem = || serde_json::from_slice::<Problem>(&said).map_or_else(|_| "its answer can't be read".into(), |problem| problem.message);
        serde_json::from_slice(&said)
            .unwrap_or_else(|_| because(&format!("the process that leads the cluster does not say whether it is ready: {}", problem())))
    }

    pub fn router(self) -> Router {
        let own = |own: &Own| json!({ "process": own.index, "processes": own.of });
        let livez = move |State(of): State<Own>| async move { Json(own(&of)) };
        let readyz = move |State(of): State<Own>| async move {
            let notices = of.notices().await;
            let ready = notices.reasons.is_empty();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let Notices { reasons, warnings } = notices;
            (status, Json(json!({ "process": of.index, "processes": of.of, "ready": ready, "reasons": reasons, "warnings": warnings })))
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
    under_way: Mutex<BTreeMap<(usize, u64), Guest>>,
}

/// One of them.
struct Guest {
    answering: AbortHandle,
    /// Bytes that may still be said of its answer.
    window: Arc<Semaphore>,
}

/// Parts of answers that wait for the connection to another process.
const PIECES_MAX: usize = 64;

impl Guests {
    /// `runtime` answers; what the answers have is received, and said to whom it is for: process, number, piece.
    pub fn new(app: App, runtime: Handle) -> (Guests, mpsc::Receiver<(usize, u64, Piece)>) {
        Guests::over(super::router(app), runtime)
    }

    fn over(router: Router, runtime: Handle) -> (Guests, mpsc::Receiver<(usize, u64, Piece)>) {
        let (answers, pieces) = mpsc::channel(PIECES_MAX);
        (Guests { router, runtime, answers, under_way: Mutex::default() }, pieces)
    }

    /// Hears what a process says of an answer to it.
    pub fn hear(&self, from: usize, id: u64, word: Word) {
        let mut under_way = self.under_way.lock().expect("nobody panics while holding it");
        match word {
            Word::Ask(request) => {
                under_way.retain(|_, guest| !guest.answering.is_finished());
                let window = Arc::new(Semaphore::new(WINDOW as usize));
                let answering = self.answer(from, id, request, Arc::clone(&window));
                under_way.insert((from, id), Guest { answering, window });
            }
            Word::Taken(bytes) => {
                let _ = under_way.get(&(from, id)).map(|guest| guest.window.add_permits(bytes.min(WINDOW) as usize));
            }
            Word::Gone => {
                let _ = under_way.remove(&(from, id)).map(|guest| guest.answering.abort());
            }
        }
    }

    fn answer(&self, from: usize, id: u64, request: Request, window: Arc<Semaphore>) -> AbortHandle {
        let (router, answers) = (self.router.clone(), self.answers.clone());
        let to = self.answers.clone();
        let answering = self.runtime.spawn(async move {
            let say = |piece| {
                let answers = answers.clone();
                async move { answers.send((from, id, piece)).await.is_ok() }
            };
            // Who can't be told has gone.
            let _ = answer(router, request, &window, say).await;
        });
        let abort = answering.abort_handle();
        self.runtime.spawn(async move {
            // A panic must not leave anybody waiting.
            if answering.await.is_err() {
                let _ = to.send((from, id, Piece::Broken)).await;
            }
        });
        abort
    }
}

async fn answer<F: Future<Output = bool>>(router: Router, request: Request, window: &Semaphore, say: impl Fn(Piece) -> F) -> Option<()> {
    let asked = Method::from_bytes(request.method.as_bytes()).map_err(axum::http::Error::from).and_then(|method| {
        let asked = HttpRequest::builder().method(method).uri(request.uri);
        request.headers.into_iter().fold(asked, |asked, (name, value)| asked.header(name, value)).body(Body::empty())
    });
    let response = match asked {
        Ok(asked) => router.oneshot(asked).await.unwrap_or_else(|never| match never {}),
        Err(error) => Problem::parameter(format!("this is no request: {error}"), "ask as the description of the API says").into_response(),
    };
    let head = Piece::Head { status: response.status().as_u16(), headers: headers(response.headers()) };
    say(head).await.then_some(())?;
    let mut body = response.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        let Ok(bytes) = bytes else { return say(Piece::Broken).await.then_some(()) };
        for piece in bytes.chunks(PIECE_MAX) {
            window.acquire_many(piece.len() as u32).await.ok()?.forget();
            say(Piece::Body(piece.to_vec())).await.then_some(())?;
        }
    }
    say(Piece::End).await.then_some(())
}

#[cfg(test)]
mod tests;
