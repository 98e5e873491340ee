//! `/comparisons/{name}/differences`: filters, pages that stay stable while differences come and go, three formats.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    http::{
        App,
        answer::{AsOf, DifferenceInfo, DifferencesAnswer, Shower, held_back},
        problem::{Names, Params, Problem},
    },
    ledger::{self, Counts, DIFFERENCE_COLUMNS, Difference, Kind, State as DifferenceState, show},
    plan::Comparison,
    row,
};

/// Differences on a page of JSON, unless `limit` says otherwise; NDJSON and CSV have no limit of their own.
const PAGE: usize = 100;
/// The largest page of JSON.
const PAGE_MAX: usize = 10_000;
/// Differences formatted at a time when all are asked for.
const CHUNK: usize = 512;

/// Which differences; several kinds or states are separated by commas.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DifferencesQuery {
    /// `missing`, `unexpected`, `mismatched`, `duplicate`.
    pub kind: Option<String>,
    /// `undetermined`, `in_flight`, `confirmed`.
    pub state: Option<String>,
    /// Exactly this key: the value of its one column, or a JSON array of several.
    pub key: Option<String>,
    /// Keys whose text begins with this.
    pub key_prefix: Option<String>,
    /// Only mismatches in this field.
    pub field: Option<String>,
    /// At most so many; 100 for JSON (at most 10000), otherwise all.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// `json`, `ndjson` or `csv`; otherwise the Accept header says it.
    pub format: Option<String>,
}

/// A question that holds.
#[derive(Clone, Debug)]
pub struct Filter {
    kinds: Vec<Kind>,
    states: Vec<DifferenceState>,
    key: Option<Vec<u8>>,
    key_prefix: Option<String>,
    /// Place in the comparison's fields.
    field: Option<usize>,
}

/// Names separated by commas, each of which must be one of `all`.
fn names<T: Copy>(text: Option<&str>, what: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Vec<T>, Problem> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(all.to_vec()) };
    let one = |word: &str| {
        let found = all.iter().copied().find(|item| name(*item) == word.trim());
        found.ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|item| name(*item)).collect();
            Problem::parameter(format!("`{}` is no {what} of differences", word.trim()), format!("known are {}", known.join(", ")))
        })
    };
    text.split(',').map(one).collect()
}

impl Filter {
    /// Understands the filters of a query.
    ///
    /// # Errors
    /// The first that does not hold, with what would.
    pub fn of(query: &DifferencesQuery, comparison: &Comparison) -> Result<Filter, Problem> {
        let field = query.field.as_deref().map(|name| {
            let found = comparison.fields.iter().position(|f| f.name == name);
            found.ok_or_else(|| Problem { status: 400, ..Problem::unknown("field", name, comparison.fields.iter().map(|f| f.name.as_str())) })
        });
        let key = query.key.as_deref().map(|text| {
            let hint = "give the value of a one-column key as it is shown, that of several columns as a JSON array";
            show::parse_comparison_key(comparison, text).map_err(|e| Problem::parameter(e, hint))
        });
        Ok(Filter {
            kinds: names(query.kind.as_deref(), "kind", &Kind::ALL, Kind::name)?,
            states: names(query.state.as_deref(), "state", &DifferenceState::ALL, DifferenceState::name)?,
            key: key.transpose()?,
            key_prefix: query.key_prefix.clone().filter(|p| !p.is_empty()),
            field: field.transpose()?,
        })
    }

    /// How many of all differences match, where the counts by kind and state tell it.
    fn count(&self, counts: &Counts) -> Option<u64> {
        let by_counts = self.key.is_none() && self.key_prefix.is_none() && self.field.is_none();
        by_counts.then(|| self.kinds.iter().flat_map(|kind| self.states.iter().map(|state| counts.of(*kind, *state))).sum())
    }

    pub fn matches(&self, shower: &Shower, difference: &Difference) -> bool {
        self.kinds.contains(&difference.kind)
            && self.states.contains(&difference.state)
            && self.key.as_ref().is_none_or(|key| **key == *difference.key)
            && self.key_prefix.as_ref().is_none_or(|prefix| shower.key(&difference.key).starts_with(prefix))
            && self.field.is_none_or(|field| difference.fields(shower.comparison()).iter().any(|d| d.field == field))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Ndjson,
    Csv,
}

impl Format {
    fn of(query: &DifferencesQuery, headers: &HeaderMap) -> Result<Format, Problem> {
        let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("");
        match query.format.as_deref() {
            Some("json") => Ok(Format::Json),
            Some("ndjson") => Ok(Format::Ndjson),
            Some("csv") => Ok(Format::Csv),
            Some(other) => Err(Problem::parameter(format!("there is no format `{other}`"), "known are json, ndjson, csv")),
            None if accept.contains("ndjson") => Ok(Format::Ndjson),
            None if accept.contains("text/csv") => Ok(Format::Csv),
            None => Ok(Format::Json),
        }
    }
}

/// The first byte of a cursor: the version of its make.
const CURSOR: u8 = 1;

/// What tells a cursor behind `key` from one that was not given for this comparison and its key columns.
fn seal(comparison: &Comparison, key: &[u8]) -> [u8; 8] {
    let mut sealed = comparison.name.clone().into_bytes();
    for column in &comparison.key {
        sealed.extend_from_slice(format!("\n{} {}", column.name, column.ty).as_bytes());
    }
    sealed.push(0);
    sealed.extend_from_slice(key);
    xxh3_64(&sealed).to_le_bytes()
}

/// A key as a cursor: in hex the version, the seal and the key.
fn cursor_of(comparison: &Comparison, key: &[u8]) -> String {
    row::hex(&[&[CURSOR], &seal(comparison, key)[..], key].concat())
}

fn parse_cursor(comparison: &Comparison, text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = row::unhex(text.as_bytes()).unwrap_or_default();
    match bytes.split_first_chunk::<9>() {
        Some((head, key)) if head[0] == CURSOR && head[1..] == seal(comparison, key) => Ok(key.to_vec()),
        _ => {
            let remedy = "pass `next` of the page before as it was given, to the same comparison; or leave `cursor` off to begin again";
            Err(Problem::parameter(format!("`{text}` is no cursor of {}", comparison.name), remedy))
        }
    }
}

/// The differences of a comparison, in the order of keys.
///
/// A page says where the next one starts by its last key, so that pages neither repeat nor skip a key that stands all the
/// while, whatever comes and goes between them.
#[utoipa::path(get, path = "/api/v1/comparisons/{name}/differences", tag = "differences",
    params(("name" = String, Path, description = "The comparison."), DifferencesQuery),
    responses(
        (status = 200, content((DifferencesAnswer = "application/json"), (DifferenceInfo = "application/x-ndjson"), (String = "text/csv")), description = "A page as JSON. As NDJSON (a difference a line) or CSV (a differing field a line) the tick and the cursor are in the headers `tieout-as-of` and `tieout-cursor`."),
        (status = 400, body = Problem, description = "A parameter does not hold."),
        (status = 404, body = Problem, description = "There is no such comparison.")))]
pub async fn differences(
    State(app): State<App>,
    Names(name): Names<String>,
    Params(query): Params<DifferencesQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = app.comparison(&name)?;
    let format = Format::of(&query, &headers)?;
    let comparison = &app.plan.comparisons[id];
    let filter = Filter::of(&query, comparison)?;
    let after = query.cursor.as_deref().map(|cursor| parse_cursor(comparison, cursor)).transpose()?;
    let limit = match (format, query.limit) {
        (Format::Json, Some(n)) if n > PAGE_MAX => {
            let remedy = "ask for pages with `cursor`, or for `format=ndjson`, which has no limit";
            return Err(Problem::parameter(format!("a page has at most {PAGE_MAX} differences, not {n}"), remedy));
        }
        (_, Some(0)) => return Err(Problem::parameter("a page of 0 differences never ends", "leave `limit` off, or ask for 1 or more")),
        (Format::Json, limit) => limit.unwrap_or(PAGE),
        (_, limit) => limit.unwrap_or(usize::MAX),
    };
    let plan = app.plan.clone();
    // The lock is held to pick; formatting comes after it.
    let (as_of, status, mut found) = {
        let ledger = app.ledger.read();
        let status = ledger.status(id);
        let shower = Shower { plan: &plan, id };
        let found: Vec<Arc<Difference>> = match &filter.key {
            Some(key) => ledger.difference(id, key).into_iter().filter(|d| filter.matches(&shower, d)).cloned().collect(),
            None => {
                let behind = ledger.differences(id, after.as_deref());
                behind.filter(|d| filter.matches(&shower, d)).take(limit.saturating_add(1)).cloned().collect()
            }
        };
        (AsOf::of(&ledger), status, found)
    };
    let next = (found.len() > limit).then(|| cursor_of(comparison, &found[limit - 1].key));
    found.truncate(limit);
    if format == Format::Json {
        let shower = Shower { plan: &plan, id };
        let differences: Vec<DifferenceInfo> = found.iter().map(|d| shower.difference(d)).collect();
        let total = if filter.key.is_some() { Some(differences.len() as u64) } else { filter.count(&status.counts) };
        let held_back = held_back(&plan, &status);
        return Ok(Json(DifferencesAnswer { as_of, comparison: name, differences, total, held_back, next }).into_response());
    }
    let chunks = found.chunks(CHUNK).map(<[_]>::to_vec).collect::<Vec<_>>();
    let head = (format == Format::Csv).then(|| Bytes::from(DIFFERENCE_COLUMNS.join(",") + "\n"));
    let body = chunks.into_iter().map(move |chunk| {
        let shower = Shower { plan: &plan, id };
        let mut out = Vec::new();
        match format {
            Format::Csv => {
                for line in chunk.iter().flat_map(|d| ledger::difference_lines(&plan, id, d)) {
                    ledger::write_csv(&mut out, line.iter().map(Option::as_deref)).expect("writing to memory does not fail");
                }
            }
            _ => {
                for difference in chunk {
                    serde_json::to_writer(&mut out, &shower.difference(&difference)).expect("an answer is JSON");
                    out.push(b'\n');
                }
            }
        }
        Bytes::from(out)
    });
    let body = head.into_iter().chain(body).map(Ok::<_, std::convert::Infallible>);
    let mut response = Body::from_stream(tokio_stream::iter(body)).into_response();
    let headers = response.headers_mut();
    let content = if format == Format::Csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert("tieout-as-of", HeaderValue::from(as_of.as_of));
    if let Some(next) = next {
        headers.insert("tieout-cursor", HeaderValue::from_str(&next).expect("hex digits are valid in a header"));
    }
    Ok(response)
}
