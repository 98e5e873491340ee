//! Answers that come straight from the ledger: comparisons, sources, rejects, the graph, health, metrics, and the page.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    engine::Reject,
    http::{
        App,
        answer::{AsOf, ComparisonAnswer, ComparisonInfo, ComparisonsAnswer, Notices, ReadyAnswer, RejectInfo, RejectsAnswer, SourcesAnswer, now_ms},
        graph::{Graph, GraphAnswer},
        problem::{Names, Params, Problem},
    },
    ledger::Ledger,
    plan::Plan,
    telemetry,
};

/// Rejects in an answer, unless `limit` says otherwise.
const REJECTS: usize = 1000;

/// All comparisons with their states and counts.
#[utoipa::path(get, path = "/api/v1/comparisons", tag = "comparisons", responses((status = 200, body = ComparisonsAnswer)))]
pub async fn comparisons(State(app): State<App>) -> Json<ComparisonsAnswer> {
    Json(ComparisonsAnswer::of(&app.ledger.read()))
}

/// One comparison with its state and counts.
#[utoipa::path(get, path = "/api/v1/comparisons/{name}", tag = "comparisons",
    params(("name" = String, Path, description = "The comparison.")),
    responses(
        (status = 200, body = ComparisonAnswer),
        (status = 400, body = Problem, description = "The name is no text."),
        (status = 404, body = Problem, description = "There is no such comparison.")))]
pub async fn comparison(State(app): State<App>, Names(name): Names<String>) -> Result<Json<ComparisonAnswer>, Problem> {
    let id = app.comparison(&name)?;
    let ledger = app.ledger.read();
    Ok(Json(ComparisonAnswer { as_of: AsOf::of(&ledger), comparison: ComparisonInfo::of(&ledger, id, now_ms()) }))
}

/// How far each source is read.
#[utoipa::path(get, path = "/api/v1/sources", tag = "sources", responses((status = 200, body = SourcesAnswer)))]
pub async fn sources(State(app): State<App>) -> Json<SourcesAnswer> {
    Json(SourcesAnswer::of(&app.ledger.read()))
}

/// Which rejects.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RejectsQuery {
    /// Only of this source.
    pub source: Option<String>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only of this key of the source, as it is shown.
    pub key: Option<String>,
    /// At most so many; 1000 if left off.
    pub limit: Option<usize>,
}

impl RejectInfo {
    pub fn of(plan: &Plan, reject: &Reject, count: i64) -> RejectInfo {
        RejectInfo {
            source: plan.sources[reject.source].name.clone(),
            code: reject.code.to_string(),
            cause: reject.cause.clone(),
            key: reject.key.clone(),
            partition: (reject.partition >= 0).then_some(reject.partition),
            offset: (reject.offset >= 0).then_some(reject.offset),
            target: reject.target.map(|target| plan.targets[target].name.clone()),
            count,
        }
    }
}

/// Messages and rows that could not be decoded, mapped or validated, and were not mended since.
#[utoipa::path(get, path = "/api/v1/rejects", tag = "sources", params(RejectsQuery),
    responses(
        (status = 200, body = RejectsAnswer),
        (status = 400, body = Problem, description = "A parameter does not hold."),
        (status = 404, body = Problem, description = "There is no such source.")))]
pub async fn rejects(State(app): State<App>, Params(query): Params<RejectsQuery>) -> Result<Json<RejectsAnswer>, Problem> {
    let sources = &app.plan.sources;
    let source = query.source.as_deref().map(|name| {
        let found = sources.iter().position(|s| s.name == name);
        found.ok_or_else(|| Problem::unknown("source", name, sources.iter().map(|s| s.name.as_str())))
    });
    let source = source.transpose()?;
    let limit = query.limit.unwrap_or(REJECTS);
    let ledger = app.ledger.read();
    let asked = |reject: &Reject| {
        source.is_none_or(|id| reject.source == id)
            && query.code.as_ref().is_none_or(|code| reject.code == code)
            && query.key.as_ref().is_none_or(|key| reject.key.as_ref() == Some(key))
    };
    let mut answer = RejectsAnswer { as_of: AsOf::of(&ledger), total: 0, rejects: Vec::new() };
    for (reject, count) in ledger.rejects().filter(|(reject, _)| asked(reject)) {
        answer.total += count;
        if answer.rejects.len() < limit {
            answer.rejects.push(RejectInfo::of(&app.plan, reject, count));
        }
    }
    Ok(Json(answer))
}

/// The dataflow: connections, sources, targets, comparisons, outputs, and what goes where.
#[utoipa::path(get, path = "/api/v1/graph", tag = "tables", responses((status = 200, body = GraphAnswer)))]
pub async fn graph(State(app): State<App>) -> Json<GraphAnswer> {
    let graph = Graph::of(&app.plan);
    let as_of = AsOf::of(&app.ledger.read());
    Json(GraphAnswer { as_of, text: graph.text(), nodes: graph.nodes, edges: graph.edges })
}

/// Is the process alive? Restart it if not.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = AsOf)))]
pub async fn livez(State(app): State<App>) -> Json<AsOf> {
    Json(AsOf::of(&app.ledger.read()))
}

/// Are its answers to be believed now?
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = ReadyAnswer), (status = 503, body = ReadyAnswer, description = "No; the reasons are named.")))]
pub async fn readyz(State(app): State<App>) -> Response {
    let ledger = app.ledger.read();
    let notices = notices(&app, &ledger);
    let ready = notices.reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyAnswer { as_of: AsOf::of(&ledger), ready, notices })).into_response()
}

/// What somebody should know now.
pub fn notices(app: &App, ledger: &Ledger) -> Notices {
    let mut reasons = Vec::new();
    if !ledger.hydrated() {
        if ledger.as_of() == 0 && ledger.resumed() {
            reasons.push("hydrating: the checkpoint is read".into());
        }
        if !ledger.rebuilding().is_empty() {
            reasons.push(format!("hydrating: the dataflow changed, and for what it touches these sources are read again: {}", ledger.rebuilding().join(", ")));
        }
        let behind: u64 = ledger.sources().iter().map(|s| s.behind_bytes).sum();
        let unread: Vec<&str> = ledger.sources().iter().zip(&app.plan.sources).filter(|(s, _)| !s.caught_up).map(|(_, p)| p.name.as_str()).collect();
        reasons.push(match (behind, unread.as_slice()) {
            (0, []) => "hydrating: the backlog is read; the tick that closes it is not closed yet".into(),
            (0, unread) => format!("hydrating: it is not known yet how much there is to read of {}", unread.join(", ")),
            (behind, unread) => format!("hydrating: {behind} bytes of the backlog that is known are still to be read, of {}", unread.join(", ")),
        });
    }
    for (source, declared) in ledger.sources().iter().zip(&app.plan.sources) {
        if source.replaying.is_some() && !ledger.hydrated() {
            reasons.push(format!("source {}: its connector sends a range again, whose end is waited for", declared.name));
        }
        if let Some(trouble) = &source.trouble {
            reasons.push(format!("source {} can't be read: {trouble}", declared.name));
        }
    }
    if let Some(failure) = ledger.failure() {
        reasons.push(format!("a mapping asked to stop: {failure}"));
    }
    reasons.extend(app.watched.list().iter().map(ToString::to_string));
    Notices { reasons, warnings: app.watched.warnings() }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn metrics(State(app): State<App>) -> Response {
    let page = telemetry::page(&app.ledger.read(), now_ms());
    ([(header::CONTENT_TYPE, telemetry::TEXT_FORMAT)], page).into_response()
}

/// The page for people.
#[utoipa::path(get, path = "/", tag = "health", responses((status = 200, content_type = "text/html", body = String)))]
pub async fn page() -> Response {
    // All of the page is in the one file: it loads nothing, and talks only to this process.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../board/index.html"))).into_response()
}
