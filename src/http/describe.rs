//! The description of the API: the handlers say what is their own, this adds what holds for all of them.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{Content, Ref, RefOr, Response, path::Operation},
};

use super::{differences, problem::Problem, rows, status, subscribe};

/// The media type of a problem.
pub const PROBLEM: &str = "application/problem+json";

/// The description of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "tieout",
        description = "Live reconciliation: the tables that should exist, and where they disagree with what does.\n\n\
                       Integers of tables and keys are JSON numbers and may be as large as 64 bits hold: read them with a parser \
                       that keeps integers beyond 2^53 (JavaScript's `JSON.parse` does not). Decimals are texts."
    ),
    paths(
        status::page,
        status::livez,
        status::readyz,
        status::metrics,
        openapi,
        status::comparisons,
        status::comparison,
        differences::differences,
        subscribe::subscribe,
        subscribe::overview,
        rows::row,
        status::sources,
        super::processes::processes,
        status::rejects,
        status::graph
    ),
    components(schemas(subscribe::SnapshotEvent, subscribe::ProgressEvent, subscribe::CutEvent, Problem)),
    modifiers(&OfAll)
)]
pub struct Api;

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}

/// What holds for every path: problems have their own media type, every answer has a description, no path can be written to,
/// and nothing is said for a broken ledger.
struct OfAll;

impl Modify for OfAll {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        api.paths.paths.values_mut().filter_map(|path| path.get.as_mut()).for_each(complete);
    }
}

fn complete(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, what) in [("405", "The path is only to be read."), ("500", "The ledger broke an invariant, so no answer can be believed.")] {
        responses.entry(status.into()).or_insert_with(|| RefOr::T(problem(what)));
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let of_problem = |content: &RefOr<Content>| serde_json::to_string(content).is_ok_and(|text| text.contains("/Problem\""));
        if status.as_str() >= "400" && response.content.values().any(of_problem) {
            *response = problem(&response.description);
        }
        if response.description.is_empty() {
            response.description = operation.summary.clone().unwrap_or_else(|| "The answer.".into());
        }
    }
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    Response::builder().description(description).content(PROBLEM, content).build()
}
