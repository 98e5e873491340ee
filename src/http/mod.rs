//! HTTP: the live view for programs (`/api/v1`), for people (`/`), and for those who watch (`/livez`, `/readyz`, `/metrics`).
//!
//! Everything is read from the ledger under one look, so each answer is right for its `as_of`; a row alone is asked of the
//! worker that holds it (`rows`). Nothing here is waited for by the ledger or a worker.
//!
//! | file | what |
//! | --- | --- |
//! | `answer` | the shapes of answers |
//! | `status` | comparisons, sources, rejects, graph, health, metrics, the page |
//! | `differences` | the differences of a comparison: filters, pages, formats |
//! | `subscribe` | the same as server-sent events |
//! | `rows` | the row of a target |
//! | `forward` | the same at a process that does not lead, and its own health |
//! | `graph` | the dataflow as nodes and edges |
//! | `processes` | who runs it |
//! | `problem` | errors |
//! | `describe` | the description of all this, as OpenAPI |

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
    serve::ListenerExt,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    ledger::SharedLedger,
    plan::{ComparisonId, Plan},
    processes::Processes,
    telemetry,
    watchdog::Watched,
};

pub mod answer;
pub mod describe;
pub mod differences;
pub mod forward;
pub mod graph;
pub mod problem;
pub mod processes;
pub mod rows;
pub mod status;
pub mod subscribe;

pub use axum::Router;
pub use rows::RowLookup;

use problem::Problem;

/// What every request can reach. Clones are the same.
#[derive(Clone)]
pub struct App {
    pub plan: Arc<Plan>,
    pub ledger: SharedLedger,
    pub rows: Arc<dyn RowLookup>,
    /// What stands still.
    pub watched: Watched,
    /// Who runs it.
    pub processes: Processes,
}

impl App {
    pub fn new(ledger: SharedLedger, rows: impl RowLookup + 'static, watched: Watched, processes: Processes) -> App {
        let plan = ledger.read().plan().clone();
        App { plan, ledger, rows: Arc::new(rows), watched, processes }
    }

    fn comparison(&self, name: &str) -> Result<ComparisonId, Problem> {
        let all = &self.plan.comparisons;
        let found = all.iter().position(|c| c.name == name);
        found.ok_or_else(|| Problem::unknown("comparison", name, all.iter().map(|c| c.name.as_str())))
    }
}

/// Every path and what answers it.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/", get(status::page)),
        ("/livez", get(status::livez)),
        ("/readyz", get(status::readyz)),
        ("/metrics", get(status::metrics)),
        ("/api/v1/openapi.json", get(describe::openapi)),
        ("/api/v1/comparisons", get(status::comparisons)),
        ("/api/v1/comparisons/{name}", get(status::comparison)),
        ("/api/v1/comparisons/{name}/differences", get(differences::differences)),
        ("/api/v1/comparisons/{name}/subscribe", get(subscribe::subscribe)),
        ("/api/v1/subscribe", get(subscribe::overview)),
        ("/api/v1/targets/{name}/rows/{key}", get(rows::row)),
        ("/api/v1/sources", get(status::sources)),
        ("/api/v1/processes", get(processes::processes)),
        ("/api/v1/rejects", get(status::rejects)),
        ("/api/v1/graph", get(status::graph)),
    ]
}

/// Answers to all paths.
pub fn router(app: App) -> Router {
    let all = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods.fallback(wrong_method)));
    all.fallback(unknown_path).layer(middleware::from_fn_with_state(app.clone(), around)).with_state(app)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::unknown("path", uri.path(), routes().iter().map(|(path, _)| *path))
}

async fn wrong_method(uri: Uri) -> Problem {
    let message = format!("{} is only to be read", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, "use GET")
}

/// Around every answer: refuses to speak for a broken ledger, says of which tick it is, and counts.
async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_string();
    let mut response = if app.ledger.is_sound() {
        next.run(request).await
    } else {
        let message = "the ledger broke an invariant, so no answer can be believed";
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken_invariant", message, "restart; the log says which one");
        problem.into_response()
    };
    let as_of = HeaderValue::from(*app.ledger.closed().borrow());
    response.headers_mut().entry("tieout-as-of").or_insert(as_of);
    telemetry::HttpAnswered { path: &path, status: response.status().as_u16() }.emit();
    response
}

/// How long answers that are under way may take once the process stops; subscriptions never end on their own.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until `stop` is there. Segments are not held back (Nagle off): a change reaches its subscribers when its tick is
/// closed.
///
/// # Errors
/// Those of the listener.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    });
    let (stopping, stopped) = watch::channel(false);
    let graceful = async move {
        let mut stopped = stopped;
        // A sender that is gone means the same.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(graceful).into_future();
    let leaving = async move {
        stop.await;
        stopping.send_replace(true);
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = serving => served,
        () = leaving => Ok(()),
    }
}

#[cfg(test)]
mod tests;
