//! Errors as people and programs want them: a code, a sentence, a way out, and the names that would have been right.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{http::describe::PROBLEM, reference};

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable, for programs.
    pub code: String,
    /// What was tried on which object, and why it failed.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Names that are known where an unknown one was given, the most similar one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    #[serde(skip, default = "not_found_status")]
    #[schema(ignore)]
    pub status: u16,
}

fn not_found_status() -> u16 {
    404
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Problem {
        let (code, known) = (code.to_string(), Vec::new());
        Problem { code, message: message.into(), remedy: remedy.into(), known, status: status.as_u16() }
    }

    /// A parameter that does not hold.
    pub fn parameter(message: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", message, remedy)
    }

    /// Something that has no such name; `known` are the names that there are.
    pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
        let mut known: Vec<String> = known.map(str::to_string).collect();
        known.sort_by(|a, b| strsim::jaro(b, name).total_cmp(&strsim::jaro(a, name)).then_with(|| a.cmp(b)));
        let remedy = match known.first() {
            None => format!("no {what} is declared; add one to a dataflow file"),
            Some(first) => format!("did you mean `{first}`? known are {}", known.join(", ")),
        };
        let message = format!("there is no {what} `{name}`");
        Problem { known, ..Problem::new(StatusCode::NOT_FOUND, &format!("unknown_{what}"), message, remedy) }
    }

    /// What can't be answered now, but may be soon.
    pub fn unavailable(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, message, remedy)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        debug_assert!(reference::HTTP.iter().any(|(s, code, _)| (*s, *code) == (self.status, &self.code)), "{} {} is in no reference", self.status, self.code);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, PROBLEM)], Json(self)).into_response()
    }
}

/// Parameters of a query; what does not parse is a [`Problem`].
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(e) => {
                let said = e.body_text();
                let why = said.trim_start_matches("Failed to deserialize query string: ");
                Err(Problem::parameter(format!("the query does not hold: {why}"), "the parameters of every path are listed in /api/v1/openapi.json"))
            }
        }
    }
}

/// The names in a path; what is no text is a [`Problem`].
pub struct Names<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Names(names)),
            Err(e) => Err(Problem::parameter(format!("the path does not hold: {}", e.body_text()), "escape names as UTF-8, a byte as `%` and two hex digits")),
        }
    }
}
